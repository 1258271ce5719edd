package store

import (
	"context"

	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// event is what the world is told of a fact.
func event(ctx context.Context, f payment.Fact) outbox.Event {
	p, at := f.Payment, timestamppb.New(f.At)
	amount := func(minor int64) *paymentsv1.Money {
		return &paymentsv1.Money{AmountMinor: minor, Currency: p.Currency}
	}
	var m proto.Message
	switch p.Status {
	case payment.Authorized:
		m = &paymentsv1.PaymentAuthorized{OrderId: p.Order, PaymentId: p.ID, Amount: amount(p.Authorized), AuthorizedAt: at}
	case payment.Captured:
		m = &paymentsv1.PaymentCaptured{OrderId: p.Order, PaymentId: p.ID, Amount: amount(p.Captured), CapturedAt: at}
	case payment.Refunded:
		m = &paymentsv1.PaymentRefunded{OrderId: p.Order, PaymentId: p.ID, Amount: amount(p.Refunded), RefundedAt: at}
	case payment.Declined:
		m = &paymentsv1.PaymentDeclined{OrderId: p.Order, PaymentId: p.ID, DeclineCode: p.Decline, DeclinedAt: at}
	default:
		m = &paymentsv1.PaymentVoided{OrderId: p.Order, PaymentId: p.ID, VoidedAt: at}
	}
	return outbox.New(ctx, m, p.Order, f.At)
}
