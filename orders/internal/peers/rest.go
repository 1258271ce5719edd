package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	inventoryrest "github.com/orderkeep/orderkeep/inventory/v1/rest"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	paymentsrest "github.com/orderkeep/orderkeep/payments/v1/rest"
)

// RESTStock is Inventory over REST.
//
// An Inventory that knows only the first contract is found out by its 404 for a reservation by id and its answer to POST
// /reserve, and spoken to in that contract from then on: one call a line, SKUs summed. That contract has no release, no
// answer to how many there are, and no way to ask for the first answer again: what was reserved before a later line is refused
// stays reserved there, and so does what a repeat after a crash reserves a second time, unless that Inventory honours the
// Idempotency-Key that each call carries (order id and SKU). What it took is in the order's Kept, SKU by SKU; docs/resilience.md
// has the limits.
type RESTStock struct {
	c      *inventoryrest.Client
	base   string
	client *http.Client
	log    *slog.Logger
	speaks dialect
}

// NewRESTStock speaks to the Inventory at the base URL, with the policy that client has around its calls.
func NewRESTStock(url string, client *http.Client, log *slog.Logger) (*RESTStock, error) {
	c, err := inventoryrest.NewClient(url, inventoryrest.WithClient(spotter{client}))
	if err != nil {
		return nil, err
	}
	return &RESTStock{c: c, base: strings.TrimSuffix(url, "/"), client: client, log: log}, nil
}

// Reserve implements order.Stock.
func (s *RESTStock) Reserve(ctx context.Context, o *order.Order) (bool, []order.Shortage, error) {
	if s.speaks.is(first) {
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
	if errors.Is(err, errForeign) && !s.speaks.is(ours) {
		return s.reservePlain(ctx, o)
	}
	if err != nil {
		return false, nil, unavailable(err)
	}
	switch r := res.(type) {
	case *inventoryrest.Reservation:
		s.speaks.heard(ours)
		switch r.State {
		case inventoryrest.ReservationStateReserved, inventoryrest.ReservationStateCommitted:
			return true, nil, nil
		case inventoryrest.ReservationStateReleased:
			return false, nil, nil
		}
		return false, nil, offContract("reserve: state %s", r.State)
	case *inventoryrest.ProblemStatusCodeWithHeaders:
		s.speaks.heard(ours)
		switch r.Response.Error {
		case "out_of_stock", "unknown_sku":
			return false, named(restShortages(r.Response), o.Lines), nil
		case "reservation_released":
			return false, nil, nil
		}
		return false, nil, problem(r.StatusCode, r.Response.Error, r.Response.Detail, r.RetryAfter.Value)
	}
	return false, nil, offContract("reserve: %T", res)
}

func (s *RESTStock) reservePlain(ctx context.Context, o *order.Order) (bool, []order.Shortage, error) {
	if !o.ReservedAt.IsZero() {
		return true, nil, nil // asking again would reserve again
	}
	for _, l := range perSKU(o.Lines) {
		took, short, err := plainReserve(ctx, s.client, s.base, string(o.ID)+":"+l.SKU, l)
		if err == nil && s.speaks.heard(first) {
			s.log.InfoContext(ctx, "inventory knows only the first contract: reserving line by line, without release")
		}
		keep(o, l, took)
		if err != nil {
			return false, nil, err
		}
		if took == no {
			return false, []order.Shortage{short}, nil
		}
	}
	return true, nil, nil
}

// keep adds to what a foreign Inventory has taken for an order. What repeats perhaps take again is said once.
func keep(o *order.Order, l order.Line, took taking) {
	units := fmt.Sprintf("%d %s", l.Qty, l.SKU)
	if took == perhaps {
		units = "perhaps " + units
	}
	switch {
	case took == no || took == perhaps && strings.HasSuffix(o.Kept, units):
	case o.Kept == "":
		o.Kept = units
	default:
		o.Kept += ", " + units
	}
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

// Release implements order.Stock. A foreign Inventory has nothing to give back by this contract. As long as nothing was heard from a peer
// that only the first contract says, a path that is not there is taken for something between us and it, which passes.
func (s *RESTStock) Release(ctx context.Context, id order.ID, _ string) error {
	key, err := uuid.Parse(string(id))
	if err != nil {
		return err
	}
	res, err := s.c.Release(ctx, inventoryrest.ReleaseParams{ReservationId: key})
	if errors.Is(err, errFirst) {
		s.speaks.heard(first)
	}
	if errors.Is(err, errForeign) && s.speaks.is(first) {
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	s.speaks.heard(ours)
	if p, ok := res.(*inventoryrest.ProblemStatusCodeWithHeaders); ok {
		return problem(p.StatusCode, p.Response.Error, p.Response.Detail, p.RetryAfter.Value)
	}
	return nil
}

// Check implements order.Stock. REST has no such call: every order goes the long way.
func (s *RESTStock) Check(context.Context, []order.Line) ([]order.Shortage, error) { return nil, nil }

func restShortages(p inventoryrest.Problem) []order.Shortage {
	var out []order.Shortage
	for _, i := range p.Items {
		if i.Sku.Value == "" {
			continue
		}
		out = append(out, order.Shortage{
			SKU: i.Sku.Value, Requested: i.Requested.Value, Available: i.Available.Value, Unknown: p.Error == "unknown_sku",
		})
	}
	return out
}

// named says which SKUs a refusal is about: those that the peer named, or else all that were asked for.
func named(short []order.Shortage, lines []order.Line) []order.Shortage {
	if len(short) > 0 {
		return short
	}
	for _, l := range perSKU(lines) {
		short = append(short, order.Shortage{SKU: l.SKU, Requested: l.Qty})
	}
	return short
}

// RESTCashier is Payments over REST.
type RESTCashier struct{ c *paymentsrest.Client }

// NewRESTCashier speaks to the Payments at the base URL, with the policy that client has around its calls.
func NewRESTCashier(url string, client *http.Client) (*RESTCashier, error) {
	c, err := paymentsrest.NewClient(url, paymentsrest.WithClient(client))
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
		AmountMinor: o.TotalMinor, Currency: o.Currency, Provider: o.Payment.Provider, Token: string(o.Payment.Token),
	}, paymentsrest.AuthorizePaymentParams{OrderId: key})
	if err != nil {
		return order.Authorization{}, unavailable(err)
	}
	switch r := res.(type) {
	case *paymentsrest.AuthorizePaymentOK:
		switch r.Status {
		case paymentsrest.PaymentStatusAuthorized, paymentsrest.PaymentStatusCaptured:
			return order.Authorization{Outcome: order.Authorized, PaymentID: r.PaymentId}, nil
		}
		return order.Authorization{}, offContract("authorize: 200 with status %s", r.Status)
	case *paymentsrest.AuthorizePaymentAccepted:
		return order.Authorization{Outcome: order.Unknown, PaymentID: r.PaymentId}, nil
	case *paymentsrest.ProblemStatusCodeWithHeaders:
		switch r.Response.Error {
		case "payment_declined":
			return order.Authorization{Outcome: order.Declined, DeclineCode: declineCode(r.Response)}, nil
		case "payment_voided":
			return order.Authorization{Outcome: order.Voided}, nil
		}
		return order.Authorization{}, problem(r.StatusCode, r.Response.Error, r.Response.Detail, r.RetryAfter.Value)
	}
	return order.Authorization{}, offContract("authorize: %T", res)
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
		return problem(p.StatusCode, p.Response.Error, p.Response.Detail, p.RetryAfter.Value)
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
		return problem(p.StatusCode, p.Response.Error, p.Response.Detail, p.RetryAfter.Value)
	}
	return nil
}

// problem is a peer's problem document as a fault. retryAfter is in seconds, 0 if it was not said.
func problem(status int, code, detail string, retryAfter int) error {
	f := fault.FromHTTP(status, code, detail)
	if f.Kind == fault.Unavailable {
		f.RetryAfter = time.Duration(min(max(retryAfter, 0), longestRetry)) * time.Second
	}
	return f
}

// unavailable gives an error of the wire its kind: whether the peer acted is not known. The caller's own cancellation stays
// what it is.
func unavailable(err error) error {
	var f *fault.Error
	if errors.As(err, &f) || errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, errForeign) {
		return fault.ErrContract.Because(err)
	}
	return errPeer.Because(err)
}

// offContract is the fault of an answer that the contract does not have.
func offContract(what string, args ...any) error { return errPeer.Because(fmt.Errorf(what, args...)) }

// longestRetry, in seconds, is where a peer's Retry-After stops being advice.
const longestRetry = 3600

var errPeer = fault.New(fault.Unavailable, "peer_unavailable", "The peer did not answer as its contract says.")
