// Package peers is Inventory and Payments as Orders needs them, over the wires that their v1 contracts have.
//
// Over gRPC, in this process or not, a peer is spoken to in its whole contract. Over REST too, and an Inventory that knows only
// the first contract's POST /reserve is served as far as that goes; see REST. Errors come as faults, with the policy of
// internal/call around every call.
package peers

import (
	"context"

	"github.com/orderkeep/orderkeep/internal/fault"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc"
)

// Stock is Inventory over gRPC.
type Stock struct {
	c inventoryv1.InventoryServiceClient
}

// NewStock speaks Inventory's contract over conn.
func NewStock(conn grpc.ClientConnInterface) Stock {
	return Stock{inventoryv1.NewInventoryServiceClient(conn)}
}

// Reserve implements order.Stock.
func (s Stock) Reserve(ctx context.Context, o *order.Order) (bool, []order.Shortage, error) {
	r, err := s.c.Reserve(ctx, &inventoryv1.ReserveRequest{ReservationId: string(o.ID), Lines: protoLines(o.Lines)})
	if err != nil {
		return false, nil, fault.FromGRPC(err)
	}
	switch r.State {
	case inventoryv1.ReservationState_RESERVATION_STATE_RESERVED, inventoryv1.ReservationState_RESERVATION_STATE_COMMITTED:
		return true, nil, nil
	case inventoryv1.ReservationState_RESERVATION_STATE_REFUSED:
		return false, named(shortages(r.Shortages), o.Lines), nil
	case inventoryv1.ReservationState_RESERVATION_STATE_RELEASED:
		return false, nil, nil
	}
	// A newer Inventory knows states that we do not; to take one of them for a refusal could end an order for nothing.
	return false, nil, offContract("reserve: state %v", r.State)
}

// Release implements order.Stock.
func (s Stock) Release(ctx context.Context, id order.ID, reason string) error {
	_, err := s.c.Release(ctx, &inventoryv1.ReleaseRequest{ReservationId: string(id), Reason: reason})
	return fault.FromGRPC(err)
}

// Check implements order.Stock.
func (s Stock) Check(ctx context.Context, lines []order.Line) ([]order.Shortage, error) {
	r, err := s.c.Check(ctx, &inventoryv1.CheckRequest{Lines: protoLines(lines)})
	if err != nil {
		return nil, fault.FromGRPC(err)
	}
	return shortages(r.Shortages), nil
}

// Held implements order.Lister.
func (s Stock) Held(ctx context.Context, after, before order.ID) ([]order.Holding, order.ID, error) {
	r, err := s.c.ListReservations(ctx, &inventoryv1.ListReservationsRequest{After: string(after), Before: string(before)})
	if err != nil {
		return nil, "", fault.FromGRPC(err)
	}
	held := make([]order.Holding, len(r.Reservations))
	for i, v := range r.Reservations {
		h := order.Holding{ID: order.ID(v.ReservationId), CorrelationID: v.CorrelationId}
		for _, l := range v.Lines {
			h.Lines = append(h.Lines, order.Line{SKU: l.Sku, Qty: l.Qty})
		}
		held[i] = h
	}
	return held, order.ID(r.NextAfter), nil
}

func protoLines(lines []order.Line) []*inventoryv1.Line {
	out := make([]*inventoryv1.Line, len(lines))
	for i, l := range lines {
		out[i] = &inventoryv1.Line{Sku: l.SKU, Qty: l.Qty}
	}
	return out
}

func shortages(in []*inventoryv1.Shortage) []order.Shortage {
	var out []order.Shortage
	for _, s := range in {
		out = append(out, order.Shortage{SKU: s.Sku, Requested: s.Requested, Available: s.Available, Unknown: s.Unknown})
	}
	return out
}

// Cashier is Payments over gRPC.
type Cashier struct {
	c paymentsv1.PaymentsServiceClient
}

// NewCashier speaks Payments' contract over conn.
func NewCashier(conn grpc.ClientConnInterface) Cashier {
	return Cashier{paymentsv1.NewPaymentsServiceClient(conn)}
}

// Authorize implements order.Cashier.
func (c Cashier) Authorize(ctx context.Context, o *order.Order) (order.Authorization, error) {
	r, err := c.c.Authorize(ctx, &paymentsv1.AuthorizeRequest{
		OrderId: string(o.ID), Amount: &paymentsv1.Money{AmountMinor: o.TotalMinor, Currency: o.Currency},
		Provider: o.Payment.Provider, Token: string(o.Payment.Token),
	})
	if err != nil {
		return order.Authorization{}, fault.FromGRPC(err)
	}
	a := order.Authorization{PaymentID: r.PaymentId, DeclineCode: r.DeclineCode}
	switch r.State {
	case paymentsv1.PaymentState_PAYMENT_STATE_AUTHORIZED, paymentsv1.PaymentState_PAYMENT_STATE_CAPTURED:
		a.Outcome = order.Authorized
	case paymentsv1.PaymentState_PAYMENT_STATE_DECLINED:
		a.Outcome = order.Declined
	case paymentsv1.PaymentState_PAYMENT_STATE_VOIDED, paymentsv1.PaymentState_PAYMENT_STATE_REFUNDED:
		a.Outcome = order.Voided
	}
	return a, nil
}

// Void implements order.Cashier.
func (c Cashier) Void(ctx context.Context, id order.ID, reason string) error {
	_, err := c.c.Void(ctx, &paymentsv1.VoidRequest{OrderId: string(id), Reason: reason})
	return fault.FromGRPC(err)
}

// Refund implements order.Cashier.
func (c Cashier) Refund(ctx context.Context, id order.ID, reason string) error {
	_, err := c.c.Refund(ctx, &paymentsv1.RefundRequest{OrderId: string(id), Reason: reason})
	return fault.FromGRPC(err)
}
