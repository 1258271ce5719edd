package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/httpd"
	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
)

// shop is a working model of a server in memory: what the contracts say about stock, orders and keys, and nothing else. It
// knows the rules from shared documents, not from the code of the contexts.
type shop struct {
	mu       sync.Mutex
	items    map[string]*stockapi.Stock
	orders   []*ordersapi.Order
	stored   map[string]stored
	requests []string // the keys of writes, in order of arrival

	pending map[string]int // by key of an order: how many looks it stays pending
	fail    func(key string) error
}

// stored is the answer under a key.
type stored struct {
	order *ordersapi.Order
	stock stockapi.Stock
	err   *fault.Error
}

var opened = time.Date(2011, 3, 21, 8, 0, 0, 0, time.UTC)

func newShop() *shop {
	return &shop{items: map[string]*stockapi.Stock{}, stored: map[string]stored{}, pending: map[string]int{}}
}

// add puts an item on the shelf.
func (s *shop) add(sku, title string, onHand int64, tracked bool) {
	s.items[sku] = &stockapi.Stock{Sku: sku, Title: title, Tracked: tracked, OnHand: onHand, Available: onHand}
}

// serve answers over HTTP until the test ends.
func (s *shop) serve(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(httpd.New(httpd.Options{Routes: s.routes(t)}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func (s *shop) routes(t *testing.T) map[string]http.Handler {
	t.Helper()
	orders, err := ordersapi.NewServer(&ordersDesk{shop: s}, ordersapi.WithErrorHandler(httpd.ErrorHandler), ordersapi.WithNotFound(httpd.NotFound))
	if err != nil {
		t.Fatal(err)
	}
	stock, err := stockapi.NewServer(&stockDesk{shop: s}, stockapi.WithErrorHandler(httpd.ErrorHandler), stockapi.WithNotFound(httpd.NotFound))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]http.Handler{"/v1/orders": orders, "/v1/stock": stock, "/v1/stock.csv": stock}
}

// begin notes a write and gives the stored answer under its key, or the failure that the test planned.
func (s *shop) begin(key string) (stored, bool, error) {
	if s.fail != nil {
		if err := s.fail(key); err != nil {
			return stored{}, false, err
		}
	}
	s.requests = append(s.requests, key)
	a, ok := s.stored[key]
	return a, ok && key != "", nil
}

func (s *shop) keep(key string, a stored) {
	if key != "" {
		s.stored[key] = a
	}
}

// replay marks a stored refusal as such.
func replayedFault(err *fault.Error) error {
	c := *err
	c.Replayed = true
	return &c
}

// ordersDesk is the shop as Orders. Operations that no command calls are not there.
type ordersDesk struct {
	ordersapi.Handler
	*shop
}

func (d *ordersDesk) PlaceOrder(_ context.Context, req *ordersapi.NewOrder, p ordersapi.PlaceOrderParams) (ordersapi.PlaceOrderRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := p.IdempotencyKey.Value
	a, again, err := d.begin(key)
	if err != nil {
		return nil, err
	}
	if !again {
		a.order, a.err = d.place(req, key)
		d.keep(key, a)
	}
	if a.err != nil {
		if again {
			return nil, replayedFault(a.err)
		}
		return nil, a.err
	}
	answer := ordersapi.OrderHeaders{Response: *a.order}
	if again {
		answer.IdempotentReplayed = ordersapi.NewOptBool(true)
	}
	if a.order.Status == ordersapi.OrderStatusPending {
		accepted := ordersapi.PlaceOrderAccepted(answer)
		return &accepted, nil
	}
	created := ordersapi.PlaceOrderCreated(answer)
	return &created, nil
}

func (d *ordersDesk) place(req *ordersapi.NewOrder, key string) (*ordersapi.Order, *fault.Error) {
	need := map[string]int64{}
	var total int64
	o := &ordersapi.Order{
		OrderId:  uuid.MustParse(fmt.Sprintf("00000000-0000-7000-8000-%012d", len(d.orders)+1)),
		Currency: req.Currency.Value, Customer: req.Customer, CorrelationId: "c-" + strconv.Itoa(len(d.orders)+1),
		PlacedAt: opened.Add(time.Duration(len(d.orders)) * time.Minute), Status: ordersapi.OrderStatusConfirmed,
	}
	o.DecidedAt = ordersapi.NewOptDateTime(o.PlacedAt.Add(time.Second))
	for _, i := range req.Items {
		need[i.Sku] += i.Qty
		total += i.Qty * i.UnitPrice.Value
		o.Items = append(o.Items, ordersapi.OrderItem{Sku: i.Sku, Qty: i.Qty, UnitPrice: i.UnitPrice.Value})
	}
	o.TotalMinor = total
	if total > 0 && !req.Payment.Set {
		return nil, fault.New(fault.Invalid, "payment_required", "An order with a total needs a payment.")
	}
	var short, unknown []fault.Item
	for sku, n := range need {
		item, ok := d.items[sku]
		switch {
		case !ok:
			unknown = append(unknown, fault.Item{SKU: sku, Requested: n})
		case item.Tracked && item.Available < n:
			short = append(short, fault.Item{SKU: sku, Requested: n, Available: item.Available})
		}
	}
	slices.SortFunc(short, func(a, b fault.Item) int { return strings.Compare(a.SKU, b.SKU) })
	if len(unknown) > 0 {
		return nil, fault.New(fault.Conflict, "unknown_sku", "There is no item of that SKU.").With(unknown...)
	}
	if len(short) > 0 {
		return nil, fault.New(fault.Conflict, "out_of_stock", "There is not enough stock for the whole order; nothing was taken.").With(short...)
	}
	if req.Payment.Value.Token == "pm_card_chargeDeclined" {
		return nil, fault.New(fault.Conflict, "payment_declined", "The payment was declined.")
	}
	for sku, n := range need {
		d.items[sku].Reserved += n
		d.items[sku].Available -= n
	}
	if total > 0 {
		o.PaymentId = ordersapi.NewOptString("pay-" + strconv.Itoa(len(d.orders)+1))
	}
	if d.pending[key] > 0 {
		o.Status = ordersapi.OrderStatusPending
		o.DecidedAt = ordersapi.OptDateTime{}
		d.pending[o.OrderId.String()] = d.pending[key]
	}
	d.orders = append(d.orders, o)
	return o, nil
}

var errNoOrder = fault.New(fault.NotFound, "not_found", "There is no order of this id.")

func (d *ordersDesk) find(id uuid.UUID) (*ordersapi.Order, error) {
	for _, o := range d.orders {
		if o.OrderId == id {
			return o, nil
		}
	}
	return nil, errNoOrder
}

func (d *ordersDesk) GetOrder(_ context.Context, p ordersapi.GetOrderParams) (ordersapi.GetOrderRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, err := d.find(p.OrderId)
	if err != nil {
		return nil, err
	}
	c := *o
	if o.Status == ordersapi.OrderStatusPending {
		if d.pending[o.OrderId.String()]--; d.pending[o.OrderId.String()] == 0 {
			o.Status = ordersapi.OrderStatusConfirmed
		}
	}
	return &c, nil
}

func (d *ordersDesk) CancelOrder(_ context.Context, req ordersapi.OptCancellation, p ordersapi.CancelOrderParams) (ordersapi.CancelOrderRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, err := d.find(p.OrderId)
	if err != nil {
		return nil, err
	}
	o.Status, o.Reason = ordersapi.OrderStatusCancelled, req.Value.Reason
	o.Undo = ordersapi.NewOptOrderUndo(ordersapi.OrderUndoDone)
	o.CancelledAt = ordersapi.NewOptDateTime(o.PlacedAt.Add(time.Hour))
	c := *o
	return &c, nil
}

func (d *ordersDesk) FulfilOrder(_ context.Context, p ordersapi.FulfilOrderParams) (ordersapi.FulfilOrderRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, err := d.find(p.OrderId)
	if err != nil {
		return nil, err
	}
	o.Status, o.Settlement = ordersapi.OrderStatusFulfilled, ordersapi.NewOptOrderSettlement(ordersapi.OrderSettlementDone)
	o.FulfilledAt = ordersapi.NewOptDateTime(o.PlacedAt.Add(time.Hour))
	c := *o
	return &c, nil
}

func (d *ordersDesk) ReturnOrder(_ context.Context, req ordersapi.OptOrderReturn, p ordersapi.ReturnOrderParams) (ordersapi.ReturnOrderRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, err := d.find(p.OrderId)
	if err != nil {
		return nil, err
	}
	if o.Status != ordersapi.OrderStatusFulfilled {
		return nil, fault.New(fault.Conflict, "not_returnable", "The order is not fulfilled; cancel it instead.")
	}
	o.Status, o.Reason = ordersapi.OrderStatusReturned, req.Value.Reason
	o.Settlement, o.Undo = ordersapi.OptOrderSettlement{}, ordersapi.NewOptOrderUndo(ordersapi.OrderUndoDone)
	o.ReturnedAt = ordersapi.NewOptDateTime(o.PlacedAt.Add(2 * time.Hour))
	c := *o
	return &c, nil
}

func (d *ordersDesk) GetOrderTimeline(_ context.Context, p ordersapi.GetOrderTimelineParams) (ordersapi.GetOrderTimelineRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, err := d.find(p.OrderId)
	if err != nil {
		return nil, err
	}
	t := &ordersapi.Timeline{OrderId: o.OrderId}
	for i, what := range []string{"placed", "reserved", "authorized", "confirmed"} {
		e := ordersapi.TimelineEntry{At: o.PlacedAt.Add(time.Duration(i) * time.Millisecond), What: what}
		if what == "authorized" {
			e.Detail = ordersapi.NewOptString(o.PaymentId.Value)
		}
		t.Entries = append(t.Entries, e)
	}
	return t, nil
}

// ListOrders takes the number of orders before a page as its cursor.
func (d *ordersDesk) ListOrders(_ context.Context, p ordersapi.ListOrdersParams) (ordersapi.ListOrdersRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []ordersapi.Order
	for _, o := range slices.Backward(d.orders) {
		if (!p.Status.Set || o.Status == p.Status.Value) && (!p.Customer.Set || o.Customer.Value == p.Customer.Value) &&
			(!p.PlacedFrom.Set || !o.PlacedAt.Before(p.PlacedFrom.Value)) && (!p.PlacedBefore.Set || o.PlacedAt.Before(p.PlacedBefore.Value)) {
			all = append(all, *o)
		}
	}
	from, to := cut(p.Cursor.Value, p.Limit.Value, len(all))
	page := &ordersapi.OrderPage{Orders: all[from:to]}
	if to < len(all) {
		page.NextCursor = ordersapi.NewOptString(strconv.Itoa(to))
	}
	return page, nil
}

func cut(cursor string, limit int32, n int) (from, to int) {
	from, _ = strconv.Atoi(cursor)
	from = min(from, n)
	return from, min(from+int(limit), n)
}

// stockDesk is the shop as Inventory.
type stockDesk struct {
	stockapi.Handler
	*shop
}

func (d *stockDesk) AdjustStock(_ context.Context, req *stockapi.Adjustment, p stockapi.AdjustStockParams) (stockapi.AdjustStockRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := p.IdempotencyKey.Value
	a, again, err := d.begin(key)
	if err != nil {
		return nil, err
	}
	if !again {
		a.err = d.adjust(req, p.Sku)
		if item := d.items[p.Sku]; item != nil {
			a.stock = *item
		}
		d.keep(key, a)
	}
	if a.err != nil {
		if again {
			return nil, replayedFault(a.err)
		}
		return nil, a.err
	}
	answer := &stockapi.StockHeaders{Response: a.stock}
	if again {
		answer.IdempotentReplayed = stockapi.NewOptBool(true)
	}
	return answer, nil
}

var errNoItem = fault.New(fault.NotFound, "not_found", "There is no item of this SKU.")

func (d *stockDesk) adjust(req *stockapi.Adjustment, sku string) *fault.Error {
	item, ok := d.items[sku]
	if !ok {
		return errNoItem
	}
	delta := req.Delta.Value
	if req.OnHand.Set {
		if req.ExpectedOnHand.Value != item.OnHand {
			return fault.New(fault.Conflict, "stale_stock", "There are %d units on hand, not %d.", item.OnHand, req.ExpectedOnHand.Value)
		}
		delta = req.OnHand.Value - item.OnHand
	}
	if item.Tracked && item.Available+delta < 0 {
		return fault.New(fault.Conflict, "insufficient_stock", "That many units are not available.").With(fault.Item{SKU: sku, Requested: -delta, Available: item.Available})
	}
	item.OnHand += delta
	item.Available += delta
	return nil
}

func (d *stockDesk) GetStock(_ context.Context, p stockapi.GetStockParams) (stockapi.GetStockRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	item, ok := d.items[p.Sku]
	if !ok {
		return nil, errNoItem
	}
	c := *item
	return &c, nil
}

func (d *stockDesk) sorted() []stockapi.Stock {
	var all []stockapi.Stock
	for _, i := range d.items {
		all = append(all, *i)
	}
	slices.SortFunc(all, func(a, b stockapi.Stock) int { return strings.Compare(a.Sku, b.Sku) })
	return all
}

func (d *stockDesk) ListStock(_ context.Context, p stockapi.ListStockParams) (stockapi.ListStockRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.sorted()
	from, to := cut(p.Cursor.Value, p.Limit.Value, len(all))
	page := &stockapi.StockPage{Items: all[from:to]}
	if to < len(all) {
		page.NextCursor = stockapi.NewOptString(strconv.Itoa(to))
	}
	return page, nil
}

func (d *stockDesk) ExportStock(context.Context) (stockapi.ExportStockRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write([]string{"sku", "title", "on_hand", "reserved", "available", "tracked"})
	for _, i := range d.sorted() {
		_ = w.Write([]string{i.Sku, i.Title, fmt.Sprint(i.OnHand), fmt.Sprint(i.Reserved), fmt.Sprint(i.Available), fmt.Sprint(i.Tracked)})
	}
	w.Flush()
	return &stockapi.ExportStockOK{Data: strings.NewReader(b.String())}, nil
}

func (d *stockDesk) ImportStock(_ context.Context, req stockapi.ImportStockReq, _ stockapi.ImportStockParams) (stockapi.ImportStockRes, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := csv.NewReader(req.Data)
	var bad []fault.Item
	var items []stockapi.Stock
	for row := int64(1); ; row++ {
		f, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if row == 1 {
			continue
		}
		if err != nil || len(f) != 4 {
			bad = append(bad, fault.Item{Row: row, Detail: "not four fields"})
			continue
		}
		n, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			bad = append(bad, fault.Item{Row: row, Field: "on_hand", Detail: "must be a whole number"})
		}
		items = append(items, stockapi.Stock{Sku: f[0], Title: f[1], OnHand: n, Available: n, Tracked: f[3] == "true"})
	}
	if len(bad) > 0 {
		return nil, fault.New(fault.Invalid, "invalid_csv", "The file was not imported: it has bad rows.").With(bad...)
	}
	res := &stockapi.ImportResult{Rows: int64(len(items))}
	for _, i := range items {
		if old, ok := d.items[i.Sku]; !ok {
			res.Created++
		} else if old.OnHand == i.OnHand {
			res.Unchanged++
		} else {
			res.Changed++
		}
		d.add(i.Sku, i.Title, i.OnHand, i.Tracked)
	}
	return res, nil
}
