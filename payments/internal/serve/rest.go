package serve

import (
	"context"
	"net/http"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	"github.com/orderkeep/orderkeep/payments/v1/rest"
)

// REST answers the operations of openapi.yaml.
type REST struct {
	payments *payment.Service
	records  Records
}

// Records reads payments with their attempts, for people.
type Records interface {
	// Payments returns up to limit of orders before an id ("" for the newest), newest order first.
	Payments(ctx context.Context, before string, limit int) ([]payment.Record, error)
	// Record returns payment.ErrNotFound if the order has no payment.
	Record(ctx context.Context, order string) (payment.Record, error)
}

// NewREST returns the handler of all REST paths but the feed.
func NewREST(payments *payment.Service, records Records) (http.Handler, error) {
	return rest.NewServer(&REST{payments, records}, rest.WithErrorHandler(httpd.ErrorHandler),
		rest.WithNotFound(httpd.NotFound), rest.WithMethodNotAllowed(httpd.MethodNotAllowed))
}

var (
	errDeclined = fault.New(fault.Conflict, "payment_declined", "")
	errVoided   = fault.New(fault.Conflict, "payment_voided", "The payment was voided; nothing will be held for this order any more.")
)

// AuthorizePayment implements rest.Handler.
func (h *REST) AuthorizePayment(ctx context.Context, req *rest.NewPayment, params rest.AuthorizePaymentParams) (rest.AuthorizePaymentRes, error) {
	p, err := h.payments.Authorize(ctx, payment.Request{
		Order: params.OrderId.String(), Amount: req.AmountMinor, Currency: req.Currency, Provider: req.Provider, Token: telemetry.Secret(req.Token),
	})
	if err != nil {
		return nil, err
	}
	out := asPayment(p)
	switch p.Status {
	case payment.Pending:
		return (*rest.AuthorizePaymentAccepted)(&out), nil
	case payment.Declined:
		return nil, errDeclined.Detailf("The provider declined the payment (%s). Nothing is held.", p.Decline).
			With(fault.Item{Field: "token", Detail: p.Decline})
	case payment.Voided, payment.Voiding, payment.Refunding, payment.Refunded:
		return nil, errVoided
	}
	return (*rest.AuthorizePaymentOK)(&out), nil
}

// GetPayment implements rest.Handler.
func (h *REST) GetPayment(ctx context.Context, params rest.GetPaymentParams) (rest.GetPaymentRes, error) {
	p, err := h.payments.Payment(ctx, params.OrderId.String())
	return result(p, err)
}

// CapturePayment implements rest.Handler.
func (h *REST) CapturePayment(ctx context.Context, params rest.CapturePaymentParams) (rest.CapturePaymentRes, error) {
	p, err := h.payments.Capture(ctx, params.OrderId.String())
	return result(p, err)
}

// VoidPayment implements rest.Handler.
func (h *REST) VoidPayment(ctx context.Context, params rest.VoidPaymentParams) (rest.VoidPaymentRes, error) {
	ctx = trail.By(ctx, trail.VoidPayment, params.Actor.Value, params.Reason.Value)
	p, err := h.payments.Void(ctx, params.OrderId.String())
	return result(p, err)
}

// RefundPayment implements rest.Handler.
func (h *REST) RefundPayment(ctx context.Context, params rest.RefundPaymentParams) (rest.RefundPaymentRes, error) {
	p, err := h.payments.Refund(ctx, params.OrderId.String())
	return result(p, err)
}

func result(p payment.Payment, err error) (*rest.Payment, error) {
	if err != nil {
		return nil, err
	}
	out := asPayment(p)
	return &out, nil
}

// statuses are a payment's as callers see them; those under way are what they still are.
var statuses = map[payment.Status]rest.PaymentStatus{
	payment.Pending: rest.PaymentStatusUnknown, payment.Authorized: rest.PaymentStatusAuthorized, payment.Declined: rest.PaymentStatusDeclined,
	payment.Capturing: rest.PaymentStatusAuthorized, payment.Captured: rest.PaymentStatusCaptured, payment.Voiding: rest.PaymentStatusAuthorized,
	payment.Voided: rest.PaymentStatusVoided, payment.Refunding: rest.PaymentStatusCaptured, payment.Refunded: rest.PaymentStatusRefunded,
}

func asPayment(p payment.Payment) rest.Payment {
	id, err := uuid.Parse(p.Order)
	if err != nil {
		id = uuid.Nil // the edges take only UUIDs
	}
	out := rest.Payment{
		PaymentId: p.ID, OrderId: id, Status: statuses[p.Status], Currency: p.Currency, AuthorizedMinor: p.Authorized,
		CapturedMinor: p.Captured, VoidedMinor: p.Voided, RefundedMinor: p.Refunded, Provider: p.Provider,
	}
	if p.Status == payment.Voiding && p.Authorized == 0 {
		out.Status = rest.PaymentStatusUnknown // whether anything is held, the provider has not said
	}
	if p.Decline != "" {
		out.DeclineCode = rest.NewOptString(p.Decline)
	}
	return out
}
