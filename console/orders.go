package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
)

// pageSize is as many rows as fit on a screen or two.
const pageSize = 50

type ordersPage struct {
	Status, Customer, From, Before, Find string
	Statuses                             []string
	Orders                               []ordersapi.Order
	Next                                 string // the query of the next page
	First                                bool   // this is the first page
	Searched                             bool   // something narrows the list down
	Correlation                          bool   // Find was taken for a correlation id or a customer
	Wrong                                string
	Trouble                              *trouble
}

func (c *console) orders(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p := ordersPage{
		Status: q.Get("status"), Customer: q.Get("customer"), From: q.Get("from"), Before: q.Get("before"), Find: strings.TrimSpace(q.Get("find")),
		First: q.Get("cursor") == "",
	}
	for _, s := range ordersapi.OrderStatus("").AllValues() {
		p.Statuses = append(p.Statuses, string(s))
	}
	p.Searched = p.Status != "" || p.Customer != "" || p.From != "" || p.Before != "" || p.Find != ""
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if p.Find != "" && p.First && c.find(ctx, w, r, &p) {
		return
	}
	if p.Orders == nil && p.Trouble == nil {
		c.listOrders(ctx, q, &p, "")
	}
	status := http.StatusOK
	if p.Wrong != "" {
		status = http.StatusUnprocessableEntity
	}
	c.show(w, r, status, "orders", "Orders", p)
}

// find goes to the order that has the id, or fills the page with those of a correlation id or else of a customer. It reports
// whether it has answered.
func (c *console) find(ctx context.Context, w http.ResponseWriter, r *http.Request, p *ordersPage) bool {
	if id, err := uuid.Parse(p.Find); err == nil {
		res, err := c.peers.orders.GetOrder(ctx, ordersapi.GetOrderParams{OrderId: id})
		_, bad := told[*ordersapi.Order]("orders", res, err)
		if bad == nil {
			http.Redirect(w, r, "/console/orders/"+id.String(), http.StatusSeeOther)
			return true
		}
		if bad.Gone() {
			p.Trouble = bad
			return false
		}
	}
	if c.listOrders(ctx, r.URL.Query(), p, "correlation"); len(p.Orders) == 0 && p.Trouble == nil && p.Wrong == "" {
		c.listOrders(ctx, r.URL.Query(), p, "customer")
	}
	if p.Orders == nil {
		p.Orders = []ordersapi.Order{}
	}
	return false
}

// listOrders fills the page; by says what Find is taken for.
func (c *console) listOrders(ctx context.Context, q url.Values, p *ordersPage, by string) {
	params := ordersapi.ListOrdersParams{Limit: ordersapi.NewOptInt32(pageSize)}
	if p.Status != "" {
		params.Status = ordersapi.NewOptOrderStatus(ordersapi.OrderStatus(p.Status))
	}
	if p.Customer != "" {
		params.Customer = ordersapi.NewOptString(p.Customer)
	}
	if by == "" && p.Find != "" {
		by = q.Get("by") // of the page before
	}
	switch by {
	case "correlation":
		params.CorrelationId = ordersapi.NewOptString(p.Find)
	case "customer":
		params.Customer = ordersapi.NewOptString(p.Find)
	}
	for _, day := range []struct {
		text string
		to   *ordersapi.OptDateTime
		add  int
	}{{p.From, &params.PlacedFrom, 0}, {p.Before, &params.PlacedBefore, 1}} {
		if day.text == "" {
			continue
		}
		at, err := time.Parse(time.DateOnly, day.text)
		if err != nil {
			p.Wrong = "A day is written like 2026-03-02."
			return
		}
		*day.to = ordersapi.NewOptDateTime(at.AddDate(0, 0, day.add))
	}
	if cursor := q.Get("cursor"); cursor != "" {
		params.Cursor = ordersapi.NewOptString(cursor)
	}
	res, err := c.peers.orders.ListOrders(ctx, params)
	page, bad := told[*ordersapi.OrderPage]("orders", res, err)
	if bad != nil && bad.Gone() {
		p.Trouble = bad
		return
	} else if bad != nil {
		p.Wrong = bad.Detail
		return
	}
	p.Orders = page.Orders
	if page.NextCursor.Set {
		next := url.Values{"cursor": {page.NextCursor.Value}, "by": {by}}
		for _, name := range []string{"status", "customer", "from", "before", "find"} {
			if v := q.Get(name); v != "" {
				next.Set(name, v)
			}
		}
		p.Next = next.Encode()
	}
}
