package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	api "github.com/orderkeep/orderkeep/orders/v1/rest"
)

type orderCmd struct {
	Place    orderPlaceCmd    `cmd:"" help:"Place an order."`
	Get      orderGetCmd      `cmd:"" help:"Look up an order."`
	List     orderListCmd     `cmd:"" help:"List orders, newest first."`
	Cancel   orderCancelCmd   `cmd:"" help:"Cancel an order."`
	Fulfil   orderFulfilCmd   `cmd:"" help:"Mark a confirmed order as handed over: its units leave on hand, its money is captured."`
	Return   orderReturnCmd   `cmd:"" help:"Take a fulfilled order back: its units come back on hand, its money is refunded."`
	Timeline orderTimelineCmd `cmd:"" help:"Show everything that happened to an order."`
}

type orderPlaceCmd struct {
	Item     []line `sep:"none" xor:"what" required:"" placeholder:"SKU=QTY[@PRICE]" help:"A line; the price of a unit in minor units. Once for each line."`
	File     string `xor:"what" required:"" placeholder:"FILE" help:"The order as the JSON that POST /v1/orders takes; - for standard input."`
	Currency string `placeholder:"CODE" help:"ISO 4217, such as GBP. Needed if the total is above 0."`
	Customer string `placeholder:"NAME" help:"Your name for the customer."`
	Provider string `default:"simulated" help:"Who moves the money."`
	Token    string `placeholder:"TOKEN" help:"The provider's token, such as pm_card_visa. Needed if the total is above 0."`
	Key      string `placeholder:"KEY" help:"Idempotency key; the same key never acts twice. Made if absent."`
}

// line is a line of an order as the command line has it.
type line struct {
	sku        string
	qty, price int64
	priced     bool
}

// UnmarshalText reads SKU=QTY or SKU=QTY@PRICE. A SKU may itself hold "=" and "@": the last "=" counts.
func (l *line) UnmarshalText(text []byte) error {
	s := string(text)
	i := strings.LastIndexByte(s, '=')
	if i < 1 {
		return fmt.Errorf("%q is not SKU=QTY or SKU=QTY@PRICE", s)
	}
	qty, price, priced := strings.Cut(s[i+1:], "@")
	var err error
	if l.qty, err = strconv.ParseInt(qty, 10, 64); err != nil || l.qty < 1 {
		return fmt.Errorf("%q: the quantity must be a whole number above 0", s)
	}
	if priced {
		if l.price, err = strconv.ParseInt(price, 10, 64); err != nil || l.price < 0 {
			return fmt.Errorf("%q: the price must be a whole number of minor units, such as 1299", s)
		}
	}
	l.sku, l.priced = s[:i], priced
	return nil
}

func (c *orderPlaceCmd) Run(s *session) error {
	req, err := c.order(s)
	if err != nil {
		return err
	}
	cl, err := s.client(1, false)
	if err != nil {
		return err
	}
	key := attemptKey(c.Key)
	res, err := cl.orders.PlaceOrder(s.ctx, req, api.PlaceOrderParams{IdempotencyKey: api.NewOptString(key)})
	if err := answer(res, err); err != nil {
		return repeatable(cl, err, key)
	}
	switch r := res.(type) {
	case *api.PlaceOrderCreated:
		return s.order(&r.Response)
	case *api.PlaceOrderAccepted:
		fmt.Fprintf(s.err, "The payment's outcome is not known yet. Look again: orderkeep order get %s\n", r.Response.OrderId)
		return s.order(&r.Response)
	}
	return fmt.Errorf("an answer that the contract does not name: %T", res)
}

func (c *orderPlaceCmd) order(s *session) (*api.NewOrder, error) {
	req := &api.NewOrder{}
	if c.File != "" {
		if c.Currency != "" || c.Customer != "" || c.Token != "" {
			return nil, usage("--file holds the whole order: leave out --currency, --customer and --token")
		}
		f, err := s.open(c.File)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		text, err := io.ReadAll(f)
		if err != nil {
			return nil, err
		}
		if err := req.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("%s is not an order as POST /v1/orders takes it: %w", c.File, err)
		}
		return req, nil
	}
	for _, l := range c.Item {
		i := api.NewOrderItem{Sku: l.sku, Qty: l.qty}
		if l.priced {
			i.UnitPrice = api.NewOptInt64(l.price)
		}
		req.Items = append(req.Items, i)
	}
	if c.Currency != "" {
		req.Currency = api.NewOptString(c.Currency)
	}
	if c.Customer != "" {
		req.Customer = api.NewOptString(c.Customer)
	}
	if c.Token != "" {
		req.Payment = api.NewOptNewPayment(api.NewPayment{Provider: c.Provider, Token: c.Token})
	}
	return req, nil
}

// orderID is an argument that names an order.
type orderID struct {
	ID uuid.UUID `arg:"" name:"order-id" help:"The order."`
}

type orderGetCmd struct {
	orderID
}

func (c *orderGetCmd) Run(s *session) error {
	cl, err := s.client(1, false)
	if err != nil {
		return err
	}
	res, err := cl.orders.GetOrder(s.ctx, api.GetOrderParams{OrderId: c.ID})
	if err := cl.explain(answer(res, err)); err != nil {
		return err
	}
	return s.order(res.(*api.Order))
}

// order prints one order.
func (s *session) order(o *api.Order) error {
	if s.json {
		return s.document(o)
	}
	fact := func(name, value string) {
		if value != "" {
			fmt.Fprintf(s.out, "%-12s %s\n", name, value)
		}
	}
	fact("order", o.OrderId.String())
	status := string(o.Status)
	if o.Reason.Value != "" {
		status += " (" + o.Reason.Value + ")"
	}
	fact("status", status)
	fact("total", money(o.TotalMinor, o.Currency))
	fact("customer", o.Customer.Value)
	fact("payment", o.PaymentId.Value)
	fact("settlement", string(o.Settlement.Value))
	fact("undo", string(o.Undo.Value))
	fact("placed", at(o.PlacedAt))
	fact("decided", at(o.DecidedAt.Value))
	fact("cancelled", at(o.CancelledAt.Value))
	fact("fulfilled", at(o.FulfilledAt.Value))
	fact("returned", at(o.ReturnedAt.Value))
	fact("correlation", o.CorrelationId)
	fmt.Fprintln(s.out)
	rows := make([][]string, len(o.Items))
	for n, i := range o.Items {
		rows[n] = []string{i.Sku, strconv.FormatInt(i.Qty, 10), strconv.FormatInt(i.UnitPrice, 10)}
	}
	return table(s.out, []string{"SKU", ">QTY", ">UNIT PRICE"}, rows)
}

// money writes minor units as they are: how many digits a currency has is not the command line's to know.
func money(minor int64, currency string) string {
	return strings.TrimSpace(strconv.FormatInt(minor, 10) + " " + currency)
}

func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

type orderListCmd struct {
	Status   *string   `enum:"pending,confirmed,rejected,cancelled,fulfilled,returned" placeholder:"STATUS" help:"Only orders of this status: pending, confirmed, rejected, cancelled, fulfilled or returned."`
	Customer string    `placeholder:"NAME" help:"Only this customer's orders."`
	From     time.Time `placeholder:"TIME" help:"Only orders placed at or after this time (RFC 3339)."`
	Before   time.Time `placeholder:"TIME" help:"Only orders placed before this time (RFC 3339)."`
	page
}

func (c *orderListCmd) Run(s *session) error {
	cl, err := s.client(1, false)
	if err != nil {
		return err
	}
	p := api.ListOrdersParams{}
	if c.Status != nil {
		p.Status = api.NewOptOrderStatus(api.OrderStatus(*c.Status))
	}
	if c.Customer != "" {
		p.Customer = api.NewOptString(c.Customer)
	}
	if !c.From.IsZero() {
		p.PlacedFrom = api.NewOptDateTime(c.From)
	}
	if !c.Before.IsZero() {
		p.PlacedBefore = api.NewOptDateTime(c.Before)
	}
	all := api.OrderPage{Orders: []api.Order{}}
	more, err := c.pages(func(cursor string, size int32) (int, string, error) {
		p.Limit = api.NewOptInt32(size)
		if cursor != "" {
			p.Cursor = api.NewOptString(cursor)
		}
		res, err := cl.orders.ListOrders(s.ctx, p)
		if err := cl.explain(answer(res, err)); err != nil {
			return 0, "", err
		}
		got := res.(*api.OrderPage)
		all.Orders = append(all.Orders, got.Orders...)
		return len(got.Orders), got.NextCursor.Value, nil
	})
	if err != nil {
		return err
	}
	if more != "" {
		all.NextCursor = api.NewOptString(more)
	}
	if s.json {
		return s.document(&all)
	}
	rows := make([][]string, len(all.Orders))
	for n, o := range all.Orders {
		rows[n] = []string{o.OrderId.String(), string(o.Status), money(o.TotalMinor, o.Currency), strconv.Itoa(len(o.Items)), at(o.PlacedAt), o.Customer.Value}
	}
	if err := table(s.out, []string{"ORDER", "STATUS", ">TOTAL", ">LINES", "PLACED", "CUSTOMER"}, rows); err != nil {
		return err
	}
	s.more(more)
	return nil
}

type orderCancelCmd struct {
	orderID
	Reason string `placeholder:"TEXT" help:"Why."`
}

func (c *orderCancelCmd) Run(s *session) error {
	cl, err := s.client(1, false)
	if err != nil {
		return err
	}
	var why api.OptCancellation
	if c.Reason != "" {
		why = api.NewOptCancellation(api.Cancellation{Reason: api.NewOptString(c.Reason)})
	}
	res, err := cl.orders.CancelOrder(s.ctx, why, api.CancelOrderParams{OrderId: c.ID})
	return s.changed(cl, res, err)
}

type orderFulfilCmd struct {
	orderID
}

func (c *orderFulfilCmd) Run(s *session) error {
	cl, err := s.client(1, false)
	if err != nil {
		return err
	}
	res, err := cl.orders.FulfilOrder(s.ctx, api.FulfilOrderParams{OrderId: c.ID})
	return s.changed(cl, res, err)
}

type orderReturnCmd struct {
	orderID
	Reason string `placeholder:"TEXT" help:"Why."`
}

func (c *orderReturnCmd) Run(s *session) error {
	cl, err := s.client(1, false)
	if err != nil {
		return err
	}
	var why api.OptOrderReturn
	if c.Reason != "" {
		why = api.NewOptOrderReturn(api.OrderReturn{Reason: api.NewOptString(c.Reason)})
	}
	res, err := cl.orders.ReturnOrder(s.ctx, why, api.ReturnOrderParams{OrderId: c.ID})
	return s.changed(cl, res, err)
}

// changed prints the order after a command on it.
func (s *session) changed(cl *client, res any, err error) error {
	if err := cl.explain(answer(res, err)); err != nil {
		return err
	}
	o, ok := res.(*api.Order)
	if !ok {
		return errors.New("an answer that the contract does not name")
	}
	return s.order(o)
}
