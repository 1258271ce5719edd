package serve

import (
	"context"
	"net/http"
	"slices"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
	"github.com/orderkeep/orderkeep/inventory/internal/store"
	"github.com/orderkeep/orderkeep/inventory/v1/rest"
)

// REST is the operations of openapi.yaml but the feed. A write is the first of its client's request, so it is refused
// with 503 when the queue is full.
type REST struct{ store *store.Store }

// NewREST returns the handler of all REST paths but the feed.
func NewREST(s *store.Store) (http.Handler, error) {
	return rest.NewServer(&REST{s}, rest.WithErrorHandler(httpd.ErrorHandler),
		rest.WithNotFound(httpd.NotFound), rest.WithMethodNotAllowed(httpd.MethodNotAllowed))
}

// GetStock implements rest.Handler.
func (h *REST) GetStock(ctx context.Context, params rest.GetStockParams) (rest.GetStockRes, error) {
	i, err := h.store.Item(ctx, params.Sku)
	if err != nil {
		return nil, err
	}
	out := restStock(i)
	return &out, nil
}

// ListStock implements rest.Handler.
func (h *REST) ListStock(ctx context.Context, params rest.ListStockParams) (rest.ListStockRes, error) {
	after, err := skuCursor(params.Cursor)
	if err != nil {
		return nil, err
	}
	list := h.store.Items
	if params.AvailableAtMost.Set {
		list = func(ctx context.Context, after string, limit int) ([]stock.Item, bool, error) {
			return h.store.Short(ctx, after, limit, params.AvailableAtMost.Value)
		}
	}
	items, more, err := list(ctx, after, int(params.Limit.Value))
	if err != nil {
		return nil, err
	}
	page := &rest.StockPage{Items: make([]rest.Stock, len(items))}
	for i, item := range items {
		page.Items[i] = restStock(item)
	}
	if more {
		page.NextCursor = rest.NewOptString(encodeCursor(items[len(items)-1].SKU))
	}
	return page, nil
}

// ListMovements implements rest.Handler.
func (h *REST) ListMovements(ctx context.Context, params rest.ListMovementsParams) (rest.ListMovementsRes, error) {
	before, err := placeCursor(params.Cursor)
	if err != nil {
		return nil, err
	}
	movements, more, err := h.store.Movements(ctx, params.Sku, before, int(params.Limit.Value))
	if err != nil {
		return nil, err
	}
	page := &rest.MovementPage{Movements: make([]rest.Movement, len(movements))}
	for i, m := range movements {
		page.Movements[i] = rest.Movement{
			MovementId: m.ID, Sku: m.SKU, Location: m.Location, Delta: m.Delta, OnHand: m.OnHand, Reason: m.Reason, Actor: m.Actor,
			OrderId: optional(m.OrderID), CorrelationId: optional(m.CorrelationID), At: m.At,
		}
	}
	if more {
		page.NextCursor = rest.NewOptString(encodePlace(movements[len(movements)-1].Seq))
	}
	return page, nil
}

// AdjustStock implements rest.Handler.
func (h *REST) AdjustStock(ctx context.Context, req *rest.Adjustment, params rest.AdjustStockParams) (rest.AdjustStockRes, error) {
	key, err := idempotencyKey(params.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	a := stock.Adjustment{
		Key: key, SKU: params.Sku, Location: req.Location.Or(stock.Default), Delta: req.Delta.Value, Set: req.OnHand.Set,
		OnHand: req.OnHand.Value, Expected: req.ExpectedOnHand.Value, Reason: req.Reason, Actor: req.Actor.Or("api"),
		CorrelationID: telemetry.Correlation(ctx),
	}
	switch {
	case req.Delta.Set == req.OnHand.Set:
		return nil, stock.ErrInvalidAdjustment.Detailf("Give either delta, or onHand with expectedOnHand.")
	case req.OnHand.Set != req.ExpectedOnHand.Set:
		return nil, stock.ErrInvalidAdjustment.Detailf("onHand and expectedOnHand go together: the new number, and the one that you saw.")
	}
	ctx = trail.By(ctx, trail.AdjustStock, params.Actor.Value, req.Reason)
	got, err := h.store.Adjust(ctx, store.Refuse, a)
	if err != nil {
		return nil, err
	}
	return &rest.StockHeaders{IdempotentReplayed: replayed(got.Replayed), Response: restStock(got.Item)}, nil
}

// Reserve implements rest.Handler.
func (h *REST) Reserve(ctx context.Context, req *rest.NewReservation, params rest.ReserveParams) (rest.ReserveRes, error) {
	lines := make([]stock.Line, len(req.Lines))
	for i, l := range req.Lines {
		lines[i] = stock.Line{SKU: l.Sku, Qty: l.Qty}
	}
	lines, err := stock.Sum(lines)
	if err != nil {
		return nil, err
	}
	ask, err := demand(ctx, params.ReservationId.String(), lines, req.ExpiresIn.Value)
	if err != nil {
		return nil, err
	}
	a, err := h.store.Reserve(ctx, store.Refuse, ask)
	if err != nil {
		return nil, err
	}
	switch {
	case a.Expired:
		return nil, stock.ErrExpired
	case a.State == stock.Released:
		return nil, stock.ErrReleased
	case a.State == stock.Refused:
		return nil, shortage(a.Shortages)
	}
	out := restReservation(stock.Reservation{ID: ask.ID, State: a.State, Lines: a.Lines, Expires: a.Expires})
	return &out, nil
}

// plainNamespace makes reservation ids of the idempotency keys of the first contract; it stays, or repeats would
// reserve twice.
var plainNamespace = uuid.MustParse("4bb34c3e-5c0c-5d3c-9a53-6d1f5a2b7f10")

// ReservePlain implements rest.Handler: the first contract. Its callers know of one refusal, out_of_stock, so an unknown
// SKU is that too. Without a key nobody can ask again, so a refusal is not kept and costs no write.
func (h *REST) ReservePlain(ctx context.Context, req *rest.Line, params rest.ReservePlainParams) (rest.ReservePlainRes, error) {
	key, err := idempotencyKey(params.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	lines, err := stock.Sum([]stock.Line{{SKU: req.Sku, Qty: req.Qty}})
	if err != nil {
		return nil, err
	}
	var id uuid.UUID
	if key != "" {
		id = uuid.NewSHA1(plainNamespace, []byte(key))
	} else if id, err = uuid.NewV7(); err != nil {
		return nil, err
	}
	ask := stock.Ask{ID: id.String(), Owner: stock.Direct, Lines: lines, CorrelationID: telemetry.Correlation(ctx), Forget: key == ""}
	a, err := h.store.Reserve(ctx, store.Refuse, ask)
	if err != nil {
		return nil, err
	}
	if a.Replayed && !sameDemand(a, lines) {
		return nil, stock.ErrKeyReused
	}
	switch a.State {
	case stock.Released:
		return nil, stock.ErrReleased
	case stock.Refused:
		refusal := outOfStock(a.Shortages)
		refusal.Replayed = a.Replayed
		return nil, refusal
	}
	return &rest.ReservationHeaders{IdempotentReplayed: replayed(a.Replayed), Response: restReservation(stock.Reservation{ID: ask.ID, State: a.State, Lines: a.Lines})}, nil
}

// sameDemand reports that lines are what a replayed answer was given to. A refusal keeps the lines that were short, which
// for the one line of the first contract is all of them; a tombstone keeps none.
func sameDemand(a stock.Answer, lines []stock.Line) bool {
	first := a.Lines
	for _, s := range a.Shortages {
		first = append(first, stock.Line{SKU: s.SKU, Qty: s.Requested})
	}
	return len(first) == 0 || slices.Equal(first, lines)
}

// ListReservations implements rest.Handler. The cursor is the id of the last reservation that was looked at.
func (h *REST) ListReservations(ctx context.Context, params rest.ListReservationsParams) (rest.ListReservationsRes, error) {
	before, err := skuCursor(params.Cursor)
	if err != nil {
		return nil, err
	}
	held, err := h.store.Held(ctx, params.Sku, before, int(params.Limit.Value))
	if err != nil {
		return nil, err
	}
	page := &rest.ReservationPage{Reservations: make([]rest.HeldUnits, len(held.Units)), LookedBackTo: rest.OptDateTime{Value: held.Oldest, Set: !held.Oldest.IsZero()}}
	for i, u := range held.Units {
		page.Reservations[i] = rest.HeldUnits{
			ReservationId: u.ID, Owner: rest.HeldUnitsOwner(u.Owner), Qty: u.Qty, ReservedAt: u.Since,
			ExpiresAt: rest.OptDateTime{Value: u.Expires, Set: !u.Expires.IsZero()},
		}
	}
	if held.More != "" {
		page.NextCursor = rest.NewOptString(encodeCursor(held.More))
	}
	return page, nil
}

// GetReservation implements rest.Handler.
func (h *REST) GetReservation(ctx context.Context, params rest.GetReservationParams) (rest.GetReservationRes, error) {
	v, err := h.store.Reservation(ctx, params.ReservationId.String())
	if err != nil {
		return nil, err
	}
	out := restReservation(v)
	return &out, nil
}

// Release implements rest.Handler.
func (h *REST) Release(ctx context.Context, params rest.ReleaseParams) (rest.ReleaseRes, error) {
	ctx = trail.By(ctx, trail.ReleaseUnits, params.Actor.Value, params.Reason.Value)
	if err := h.store.Release(ctx, store.Refuse, params.ReservationId.String()); err != nil {
		return nil, err
	}
	return &rest.ReleaseNoContent{}, nil
}
