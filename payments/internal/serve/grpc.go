// Package serve is the v1 contract of Payments over REST and gRPC, and the events that Payments listens to: it turns
// requests into the domain's operations and payments into answers. Errors leave as faults; internal/httpd and internal/node
// put them on the wire.
package serve

import (
	"context"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
)

// GRPC answers PaymentsService.
type GRPC struct {
	paymentsv1.UnimplementedPaymentsServiceServer
	payments *payment.Service
}

// NewGRPC returns the gRPC form of the contract.
func NewGRPC(payments *payment.Service) *GRPC { return &GRPC{payments: payments} }

// Authorize implements paymentsv1.PaymentsServiceServer.
func (g *GRPC) Authorize(ctx context.Context, req *paymentsv1.AuthorizeRequest) (*paymentsv1.AuthorizeResponse, error) {
	order, err := parseOrder(req.OrderId)
	if err != nil {
		return nil, err
	}
	p, err := g.payments.Authorize(ctx, payment.Request{
		Order: order, Amount: req.Amount.GetAmountMinor(), Currency: req.Amount.GetCurrency(), Provider: req.Provider, Token: telemetry.Secret(req.Token),
	})
	if err != nil {
		return nil, err
	}
	return &paymentsv1.AuthorizeResponse{State: state(p.Status), PaymentId: p.ID, DeclineCode: p.Decline}, nil
}

// Capture implements paymentsv1.PaymentsServiceServer.
func (g *GRPC) Capture(ctx context.Context, req *paymentsv1.CaptureRequest) (*paymentsv1.CaptureResponse, error) {
	s, err := run(ctx, req.OrderId, g.payments.Capture)
	return &paymentsv1.CaptureResponse{State: s}, err
}

// Void implements paymentsv1.PaymentsServiceServer.
func (g *GRPC) Void(ctx context.Context, req *paymentsv1.VoidRequest) (*paymentsv1.VoidResponse, error) {
	s, err := run(ctx, req.OrderId, g.payments.Void)
	return &paymentsv1.VoidResponse{State: s}, err
}

// Refund implements paymentsv1.PaymentsServiceServer.
func (g *GRPC) Refund(ctx context.Context, req *paymentsv1.RefundRequest) (*paymentsv1.RefundResponse, error) {
	s, err := run(ctx, req.OrderId, g.payments.Refund)
	return &paymentsv1.RefundResponse{State: s}, err
}

func run(ctx context.Context, id string, f func(context.Context, string) (payment.Payment, error)) (paymentsv1.PaymentState, error) {
	order, err := parseOrder(id)
	if err != nil {
		return 0, err
	}
	p, err := f(ctx, order)
	return state(p.Status), err
}

func parseOrder(s string) (string, error) {
	u, err := uuid.Parse(s)
	if err != nil {
		return "", fault.New(fault.Invalid, "invalid_request", "order_id is a UUID.")
	}
	return u.String(), nil
}

// state is a status as the contract has it: an operation under way has not changed what is held yet.
func state(s payment.Status) paymentsv1.PaymentState {
	switch s {
	case payment.Pending:
		return paymentsv1.PaymentState_PAYMENT_STATE_UNKNOWN
	case payment.Authorized, payment.Capturing:
		return paymentsv1.PaymentState_PAYMENT_STATE_AUTHORIZED
	case payment.Declined:
		return paymentsv1.PaymentState_PAYMENT_STATE_DECLINED
	case payment.Captured, payment.Refunding:
		return paymentsv1.PaymentState_PAYMENT_STATE_CAPTURED
	case payment.Voided, payment.Voiding: // one that is to be given back will not be authorized any more
		return paymentsv1.PaymentState_PAYMENT_STATE_VOIDED
	case payment.Refunded:
		return paymentsv1.PaymentState_PAYMENT_STATE_REFUNDED
	}
	return paymentsv1.PaymentState_PAYMENT_STATE_UNSPECIFIED
}
