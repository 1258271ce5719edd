package peers

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	inventoryrest "github.com/orderkeep/orderkeep/inventory/v1/rest"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	paymentsrest "github.com/orderkeep/orderkeep/payments/v1/rest"
)

// RESTStock is Inventory over REST.
//
// A foreign Inventory that answers 404 to a reservation by id is spoken to in the first contract from then on: POST
// /reserve, one call a line, SKUs summed. That contract has no release, and no way to ask for the first answer again: what was
// reserved before a later line is refused stays reserved there, and so does what a repeat after a crash reserves a
// second time, unless that Inventory honours the Idempotency-Key that each call carries (order id and SKU).
type RESTStock struct {
	c       *inventoryrest.Client
	base    string
	client  *http.Client
	log     *slog.Logger
	foreign atomic.Bool
}

// NewRESTStock speaks to the Inventory at the base URL.
func NewRESTStock(url string, client *http.Client, log *slog.Logger) (*RESTStock, error) {
	c, err := inventoryrest.NewClient(url, inventoryrest.WithClient(spotter{client}))
	if err != nil {
		return nil, err
	}
	return &RESTStock{c: c, base: strings.TrimSuffix(url, "/"), client: client, log: log}, nil
}

// Reserve implements order.Stock.
func (s *RESTStock) Reserve(ctx context.Context, o *order.Order) (bool, []order.Shortage, error) {
	if s.foreign.Load() {
		return s.reservePlain(ctx, o)
	}
	key, err := uuid.Parse(string(o.ID))
	if err != nil {
		return false, nil, err
	}
	req := &inventoryrest.NewReservation{Lines: make([]inventoryrest.Line, len(o.Lines))}
	for i, l := range o.Lines {
		req.Lines[i] = inventoryrest.Line{Sku: l.SKU, Qty: l.Qty}
	}
	res, err := s.c.Reserve(ctx, req, inventoryrest.ReserveParams{ReservationId: key})
	if errors.Is(err, errForeign) {
		s.log.InfoContext(ctx, "inventory knows only the first contract: reserving line by line, without release")
		s.foreign.Store(true)
		return s.reservePlain(ctx, o)
	}
	if err != nil {
		return false, nil, unavailable(err)
	}
	if p, ok := res.(*inventoryrest.ProblemStatusCodeWithHeaders); ok {
		switch p.Response.Error {
		case "out_of_stock", "unknown_sku":
			return false, restShortages(p.Response), nil
		case "reservation_released":
			return false, nil, nil
		}
		return false, nil, fault.FromHTTP(p.StatusCode, p.Response.Error, p.Response.Detail)
	}
	return true, nil, nil
}

func (s *RESTStock) reservePlain(ctx context.Context, o *order.Order) (bool, []order.Shortage, error) {
	if !o.ReservedAt.IsZero() {
		return true, nil, nil // asking again would reserve again
	}
	for _, l := range perSKU(o.Lines) {
		held, err := plainReserve(ctx, s.client, s.base, string(o.ID)+":"+l.SKU, l.SKU, l.Qty)
		if err != nil {
			return false, nil, err
		}
		if !held {
			// How many there are is not part of the first contract.
			return false, []order.Shortage{{SKU: l.SKU, Requested: l.Qty}}, nil
		}
	}
	return true, nil, nil
}

// perSKU sums the lines of each SKU, in order of first appearance.
func perSKU(lines []order.Line) []order.Line {
	at := map[string]int{}
	var out []order.Line
	for _, l := range lines {
		if i, ok := at[l.SKU]; ok {
			out[i].Qty += l.Qty
			continue
		}
		at[l.SKU] = len(out)
		out = append(out, order.Line{SKU: l.SKU, Qty: l.Qty})
	}
	return out
}

// Release implements order.Stock. A foreign Inventory keeps what it reserved.
func (s *RESTStock) Release(ctx context.Context, id order.ID, reason string) error {
	if s.foreign.Load() {
		s.log.WarnContext(ctx, "units stay reserved: inventory's contract has no release", "orderId", id, "reason", reason)
		return nil
	}
	key, err := uuid.Parse(string(id))
	if err != nil {
		return err
	}
	res, err := s.c.Release(ctx, inventoryrest.ReleaseParams{ReservationId: key})
	if errors.Is(err, errForeign) {
		s.foreign.Store(true)
		return s.Release(ctx, id, reason)
	}
	if err != nil {
		return unavailable(err)
	}
	if p, ok := res.(*inventoryrest.ProblemStatusCodeWithHeaders); ok {
		return fault.FromHTTP(p.StatusCode, p.Response.Error, p.Response.Detail)
	}
	return nil
}

// Check implements order.Stock. REST has no such call: every order goes the long way.
func (s *RESTStock) Check(context.Context, []order.Line) ([]order.Shortage, error) { return nil, nil }

func restShortages(p inventoryrest.Problem) []order.Shortage {
	var out []order.Shortage
	for _, i := range p.Items {
		out = append(out, order.Shortage{
			SKU: i.Sku.Value, Requested: i.Requested.Value, Available: i.Available.Value, Unknown: p.Error == "unknown_sku",
		})
	}
	return out
}

// RESTCashier is Payments over REST.
type RESTCashier struct{ c *paymentsrest.Client }

// NewRESTCashier speaks to the Payments at the base URL.
func NewRESTCashier(url string, client *http.Client) (*RESTCashier, error) {
	c, err := paymentsrest.NewClient(url, paymentsrest.WithClient(spotter{client}))
	if err != nil {
		return nil, err
	}
	return &RESTCashier{c}, nil
}

// Authorize implements order.Cashier.
func (c *RESTCashier) Authorize(ctx context.Context, o *order.Order) (order.Authorization, error) {
	key, err := uuid.Parse(string(o.ID))
	if err != nil {
		return order.Authorization{}, err
	}
	res, err := c.c.AuthorizePayment(ctx, &paymentsrest.NewPayment{
		AmountMinor: o.TotalMinor, Currency: o.Currency, Provider: o.Payment.Provider, Token: o.Payment.Token,
	}, paymentsrest.AuthorizePaymentParams{OrderId: key})
	if err != nil {
		return order.Authorization{}, unavailable(err)
	}
	switch r := res.(type) {
	case *paymentsrest.AuthorizePaymentOK:
		return order.Authorization{Outcome: order.Authorized, PaymentID: r.PaymentId}, nil
	case *paymentsrest.AuthorizePaymentAccepted:
		return order.Authorization{Outcome: order.Unknown, PaymentID: r.PaymentId}, nil
	case *paymentsrest.ProblemStatusCodeWithHeaders:
		switch r.Response.Error {
		case "payment_declined":
			return order.Authorization{Outcome: order.Declined, DeclineCode: declineCode(r.Response)}, nil
		case "payment_voided":
			return order.Authorization{Outcome: order.Voided}, nil
		}
		return order.Authorization{}, fault.FromHTTP(r.StatusCode, r.Response.Error, r.Response.Detail)
	}
	return order.Authorization{}, errors.New("authorize: an answer that the contract does not have")
}

// declineCode is the provider's reason, which the problem document carries as an item about the token.
func declineCode(p paymentsrest.Problem) string {
	for _, i := range p.Items {
		if i.Field.Value == "token" && i.Detail.Value != "" {
			return i.Detail.Value
		}
	}
	return "declined"
}

// Void implements order.Cashier.
func (c *RESTCashier) Void(ctx context.Context, id order.ID, _ string) error {
	key, err := uuid.Parse(string(id))
	if err != nil {
		return err
	}
	res, err := c.c.VoidPayment(ctx, paymentsrest.VoidPaymentParams{OrderId: key})
	if err != nil {
		return unavailable(err)
	}
	if p, ok := res.(*paymentsrest.ProblemStatusCodeWithHeaders); ok {
		return fault.FromHTTP(p.StatusCode, p.Response.Error, p.Response.Detail)
	}
	return nil
}

// Refund implements order.Cashier.
func (c *RESTCashier) Refund(ctx context.Context, id order.ID, _ string) error {
	key, err := uuid.Parse(string(id))
	if err != nil {
		return err
	}
	res, err := c.c.RefundPayment(ctx, paymentsrest.RefundPaymentParams{OrderId: key})
	if err != nil {
		return unavailable(err)
	}
	if p, ok := res.(*paymentsrest.ProblemStatusCodeWithHeaders); ok {
		return fault.FromHTTP(p.StatusCode, p.Response.Error, p.Response.Detail)
	}
	return nil
}

// unavailable gives an error of the wire its kind: whether the peer acted is not known.
func unavailable(err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	return fault.New(fault.Unavailable, "peer_unavailable", "The peer did not answer as its contract says.").Because(err)
}
