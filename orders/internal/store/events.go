package store

import (
	"context"

	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// event is what the world is told when an order has come to its present state, in the span that traceParent names.
func event(o *order.Order, traceParent string) outbox.Event {
	var m proto.Message
	at := o.DecidedAt
	switch o.State {
	case order.Confirmed:
		m = &ordersv1.OrderConfirmed{
			OrderId: string(o.ID), Currency: o.Currency, TotalMinor: o.TotalMinor, Lines: Lines(o.Lines), Customer: string(o.Customer),
			ConfirmedAt: timestamppb.New(at),
		}
	case order.Rejected:
		m = &ordersv1.OrderRejected{
			OrderId: string(o.ID), Reason: o.Rejection.Code, Shortages: Shortages(o.Rejection.Shortages), RejectedAt: timestamppb.New(at),
		}
	case order.Cancelled:
		at = o.CancelledAt
		m = &ordersv1.OrderCancelled{OrderId: string(o.ID), Reason: o.CancelReason, CancelledAt: timestamppb.New(at), Paid: o.Paid()}
	case order.Fulfilled:
		at = o.FulfilledAt
		m = &ordersv1.OrderFulfilled{OrderId: string(o.ID), FulfilledAt: timestamppb.New(at), Paid: o.Paid()}
	case order.Returned:
		at = o.ReturnedAt
		m = &ordersv1.OrderReturned{OrderId: string(o.ID), Reason: o.ReturnReason, ReturnedAt: timestamppb.New(at), Paid: o.Paid()}
	}
	// The order keeps its correlation id for life, whoever drives it on.
	ctx := telemetry.WithCorrelation(context.Background(), o.CorrelationID)
	e := outbox.New(ctx, m, string(o.ID), at)
	e.TraceParent = traceParent
	return e
}

// Lines are an order's lines in the contract's form.
func Lines(lines []order.Line) []*ordersv1.OrderLine {
	out := make([]*ordersv1.OrderLine, len(lines))
	for i, l := range lines {
		out[i] = &ordersv1.OrderLine{Sku: l.SKU, Qty: l.Qty, UnitPriceMinor: l.UnitPriceMinor}
	}
	return out
}

// Shortages are a rejection's shortages in the contract's form.
func Shortages(shortages []order.Shortage) []*ordersv1.Shortage {
	out := make([]*ordersv1.Shortage, len(shortages))
	for i, s := range shortages {
		out[i] = &ordersv1.Shortage{Sku: s.SKU, Requested: s.Requested, Available: s.Available}
	}
	return out
}
