// Package serve is the v1 contract of Orders over REST and gRPC: it turns requests into the domain's commands and their
// results into answers. Errors leave as faults; internal/httpd and internal/node put them on the wire.
package serve

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	"github.com/orderkeep/orderkeep/orders/v1/rest"
)

// Records looks orders up, and notes what people do to them by hand.
type Records interface {
	order.Records
	// Act notes the act that ctx is about.
	Act(ctx context.Context, id order.ID) error
}

// REST answers the operations of openapi.yaml.
type REST struct {
	orders  *order.Service
	records Records
}

// NewREST returns the handler of all REST paths but the feed.
func NewREST(orders *order.Service, records Records) (http.Handler, error) {
	return rest.NewServer(&REST{orders, records}, rest.WithErrorHandler(httpd.ErrorHandler),
		rest.WithNotFound(httpd.NotFound), rest.WithMethodNotAllowed(httpd.MethodNotAllowed))
}

// PlaceOrder implements rest.Handler.
func (h *REST) PlaceOrder(ctx context.Context, req *rest.NewOrder, params rest.PlaceOrderParams) (rest.PlaceOrderRes, error) {
	r, err := h.place(ctx, req, params.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	o, location, replayed := asPlaced(r.Order), rest.NewOptString("/v1/orders/"+string(r.Order.ID)), replayed(r)
	if r.Order.State.Live() {
		return &rest.PlaceOrderAccepted{IdempotentReplayed: replayed, Location: location, Response: o}, nil
	}
	return &rest.PlaceOrderCreated{IdempotentReplayed: replayed, Location: location, Response: o}, nil
}

// PlacePlainOrder implements rest.Handler: the first contract.
func (h *REST) PlacePlainOrder(ctx context.Context, req *rest.NewOrder, params rest.PlacePlainOrderParams) (rest.PlacePlainOrderRes, error) {
	r, err := h.place(ctx, req, params.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	o := rest.PlainOrder{OrderId: asUUID(r.Order.ID), Status: rest.OrderStatus(placed(r.Order.State).Status())}
	if r.Order.State.Live() {
		return &rest.PlacePlainOrderAccepted{IdempotentReplayed: replayed(r), Response: o}, nil
	}
	return &rest.PlacePlainOrderCreated{IdempotentReplayed: replayed(r), Response: o}, nil
}

// place returns an order that will be served or may still be; a rejection comes as a fault.
func (h *REST) place(ctx context.Context, req *rest.NewOrder, key rest.OptString) (order.Result, error) {
	p := order.Placement{
		Key: key.Value, Lines: make([]order.Line, len(req.Items)), Currency: req.Currency.Value, Customer: telemetry.Secret(req.Customer.Value),
		Provider: req.Payment.Value.Provider, Token: telemetry.Secret(req.Payment.Value.Token), CorrelationID: telemetry.Correlation(ctx),
	}
	if key.Set && key.Value == "" {
		return order.Result{}, order.ErrKey
	}
	for i, l := range req.Items {
		p.Lines[i] = order.Line{SKU: l.Sku, Qty: l.Qty, UnitPriceMinor: l.UnitPrice.Value}
		if l.Currency.Set {
			if p.LineCurrency == nil {
				p.LineCurrency = make([]string, len(req.Items))
			}
			p.LineCurrency[i] = l.Currency.Value
		}
	}
	r, err := h.orders.Place(ctx, p)
	if err != nil {
		return order.Result{}, err
	}
	if r.Order.Rejection != nil {
		return order.Result{}, Refused(r.Order, r.Replayed)
	}
	return r, nil
}

// Refused is a rejected order as the answer to its placement.
func Refused(o *order.Order, replayed bool) error {
	r := o.Rejection
	f := &fault.Error{Kind: r.Kind, Code: r.Code, Detail: r.Detail, OrderID: string(o.ID), Replayed: replayed}
	for _, s := range r.Shortages {
		f.Items = append(f.Items, fault.Item{SKU: s.SKU, Requested: s.Requested, Available: s.Available})
	}
	if r.Code == "unknown_sku" {
		f.Detail += " Unknown: " + few(r.Shortages) + "."
	}
	return f
}

// few names at most three in a sentence; items have them all.
func few(shortages []order.Shortage) string {
	names := make([]string, 0, 3)
	for _, s := range shortages[:min(len(shortages), 3)] {
		names = append(names, strconv.Quote(s.SKU))
	}
	out := strings.Join(names, ", ")
	if more := len(shortages) - len(names); more > 0 {
		out += " and " + strconv.Itoa(more) + " more"
	}
	return out
}

// GetOrder implements rest.Handler.
func (h *REST) GetOrder(ctx context.Context, params rest.GetOrderParams) (rest.GetOrderRes, error) {
	o, err := h.records.Get(ctx, order.ID(params.OrderId.String()))
	if err != nil {
		return nil, err
	}
	out := asOrder(o)
	return &out, nil
}

// ListOrders implements rest.Handler. The cursor is the id of the last order of the page before.
func (h *REST) ListOrders(ctx context.Context, params rest.ListOrdersParams) (rest.ListOrdersRes, error) {
	f := order.Filter{
		Customer: params.Customer.Value, Correlation: params.CorrelationId.Value, PlacedFrom: params.PlacedFrom.Value, PlacedBefore: params.PlacedBefore.Value,
		Limit: int(params.Limit.Value),
	}
	if params.Status.Set {
		states, err := order.ParseStatus(string(params.Status.Value))
		if err != nil {
			return nil, fault.New(fault.Invalid, "invalid_request", "%s", err.Error())
		}
		f.States = states
	}
	if params.Cursor.Set {
		id, err := uuid.Parse(params.Cursor.Value)
		if err != nil || id.String() != params.Cursor.Value {
			return nil, fault.New(fault.Invalid, "invalid_cursor", "The cursor is not one that a page gave. Start without one.")
		}
		f.Before = order.ID(id.String())
	}
	limit := f.Limit
	f.Limit++ // one more tells whether there is a next page
	orders, err := h.records.List(ctx, f)
	if err != nil {
		return nil, err
	}
	page := &rest.OrderPage{}
	if len(orders) > limit {
		orders = orders[:limit]
		page.NextCursor = rest.NewOptString(string(orders[limit-1].ID))
	}
	page.Orders = make([]rest.Order, len(orders))
	for i, o := range orders {
		page.Orders[i] = asOrder(o)
	}
	return page, nil
}

// CancelOrder implements rest.Handler.
func (h *REST) CancelOrder(ctx context.Context, req rest.OptCancellation, params rest.CancelOrderParams) (rest.CancelOrderRes, error) {
	ctx = trail.By(ctx, trail.CancelOrder, params.Actor.Value, params.Reason.Or(req.Value.Reason.Value))
	o, err := h.orders.Cancel(ctx, order.ID(params.OrderId.String()), req.Value.Reason.Value)
	if err != nil {
		return nil, err
	}
	out := asOrder(o)
	return &out, nil
}

// FulfilOrder implements rest.Handler.
func (h *REST) FulfilOrder(ctx context.Context, params rest.FulfilOrderParams) (rest.FulfilOrderRes, error) {
	ctx = trail.By(ctx, trail.FulfilOrder, params.Actor.Value, params.Reason.Value)
	o, err := h.orders.Fulfil(ctx, order.ID(params.OrderId.String()))
	if err != nil {
		return nil, err
	}
	out := asOrder(o)
	return &out, nil
}

// ReturnOrder implements rest.Handler.
func (h *REST) ReturnOrder(ctx context.Context, req rest.OptOrderReturn, params rest.ReturnOrderParams) (rest.ReturnOrderRes, error) {
	ctx = trail.By(ctx, trail.ReturnOrder, params.Actor.Value, params.Reason.Or(req.Value.Reason.Value))
	o, err := h.orders.Return(ctx, order.ID(params.OrderId.String()), req.Value.Reason.Value)
	if err != nil {
		return nil, err
	}
	out := asOrder(o)
	return &out, nil
}

// DriveOrder implements rest.Handler.
func (h *REST) DriveOrder(ctx context.Context, params rest.DriveOrderParams) (rest.DriveOrderRes, error) {
	id := order.ID(params.OrderId.String())
	o, err := h.records.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if o.State.Live() {
		if err := h.records.Act(trail.By(ctx, trail.DriveOrder, params.Actor.Value, params.Reason.Value), id); err != nil {
			return nil, err
		}
		h.orders.Drive(ctx, o)
	}
	out := asOrder(o)
	return &out, nil
}

// GetOrderTimeline implements rest.Handler.
func (h *REST) GetOrderTimeline(ctx context.Context, params rest.GetOrderTimelineParams) (rest.GetOrderTimelineRes, error) {
	id := order.ID(params.OrderId.String())
	o, err := h.records.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	notes, err := h.records.Notes(ctx, id)
	if err != nil {
		return nil, err
	}
	t := &rest.Timeline{OrderId: params.OrderId, Entries: []rest.TimelineEntry{}}
	for _, n := range order.Timeline(o, notes) {
		e := rest.TimelineEntry{At: n.At, What: n.What}
		if n.Detail != "" {
			e.Detail = rest.NewOptString(n.Detail)
		}
		t.Entries = append(t.Entries, e)
	}
	return t, nil
}

func asOrder(o *order.Order) rest.Order {
	out := rest.Order{
		OrderId: asUUID(o.ID), Status: rest.OrderStatus(o.State.Status()), Currency: o.Currency, TotalMinor: o.TotalMinor,
		Items: make([]rest.OrderItem, len(o.Lines)), CorrelationId: o.CorrelationID, PlacedAt: o.PlacedAt,
		DecidedAt: optTime(o.DecidedAt), CancelledAt: optTime(o.CancelledAt), FulfilledAt: optTime(o.FulfilledAt), ReturnedAt: optTime(o.ReturnedAt),
		Reason: optString(reason(o)), Customer: optString(string(o.Customer)), PaymentId: optString(o.Payment.ID),
	}
	for i, l := range o.Lines {
		out.Items[i] = rest.OrderItem{Sku: l.SKU, Qty: l.Qty, UnitPrice: l.UnitPriceMinor}
	}
	switch o.State {
	case order.Cancelled, order.Returned:
		out.Undo = rest.NewOptOrderUndo(rest.OrderUndoPending)
		if o.Undone() {
			out.Undo = rest.NewOptOrderUndo(rest.OrderUndoDone)
		}
	case order.Fulfilled:
		out.Settlement = rest.NewOptOrderSettlement(rest.OrderSettlement(o.Settlement()))
	}
	return out
}

// reason is why the order is not, or no longer, served: a stable code if we said so, else the words of whoever did.
func reason(o *order.Order) string {
	switch {
	case o.Rejection != nil:
		return o.Rejection.Code
	case o.State == order.Returned:
		return o.ReturnReason
	}
	return o.CancelReason
}

// asPlaced is the order as it was when its placement was answered: what came after the confirmation does not change the
// stored answer.
func asPlaced(o *order.Order) rest.Order {
	then := *o
	then.State = placed(o.State)
	then.CancelledAt, then.FulfilledAt, then.ReturnedAt = time.Time{}, time.Time{}, time.Time{}
	then.CancelReason, then.ReturnReason = "", ""
	return asOrder(&then)
}

// placed is the state with which a placement was answered.
func placed(s order.State) order.State {
	switch s {
	case order.Cancelled, order.Fulfilled, order.Returned:
		return order.Confirmed
	}
	return s
}

func replayed(r order.Result) rest.OptBool {
	if !r.Replayed {
		return rest.OptBool{}
	}
	return rest.NewOptBool(true)
}

func asUUID(id order.ID) uuid.UUID {
	u, err := uuid.Parse(string(id))
	if err != nil {
		return uuid.Nil // ids are made as UUIDs and checked at the edge
	}
	return u
}

func optString(s string) rest.OptString {
	if s == "" {
		return rest.OptString{}
	}
	return rest.NewOptString(s)
}

func optTime(t time.Time) rest.OptDateTime {
	if t.IsZero() {
		return rest.OptDateTime{}
	}
	return rest.NewOptDateTime(t)
}
