// Package serve turns Inventory's contracts, REST and gRPC and the events that it consumes, into calls of its domain and
// its answers back. It decides nothing about stock.
package serve

import (
	"context"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
	"github.com/orderkeep/orderkeep/inventory/internal/store"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// GRPC is the service of inventory.proto. Its commands are later steps of orders that are under way, so they wait for
// room in the queue for as long as their deadline lets them.
type GRPC struct {
	inventoryv1.UnimplementedInventoryServiceServer
	store *store.Store
}

// NewGRPC returns the service over a store.
func NewGRPC(s *store.Store) *GRPC { return &GRPC{store: s} }

// Reserve holds all lines or none; want of stock is an answer.
func (g *GRPC) Reserve(ctx context.Context, req *inventoryv1.ReserveRequest) (*inventoryv1.ReserveResponse, error) {
	id, err := reservationID(req.GetReservationId())
	if err != nil {
		return nil, err
	}
	lines, err := stock.Sum(fromProto(req.GetLines()))
	if err != nil {
		return nil, err
	}
	ask, err := demand(ctx, id, lines, req.GetExpiresInSeconds())
	if err != nil {
		return nil, err
	}
	a, err := g.store.Reserve(ctx, store.Wait, ask)
	if err != nil {
		return nil, err
	}
	r := &inventoryv1.ReserveResponse{State: protoState[a.State], Shortages: protoShortages(a.Shortages)}
	if !a.Expires.IsZero() {
		r.ExpiresAt = timestamppb.New(a.Expires)
	}
	return r, nil
}

// demand is an order's, or with a number of seconds a hold's.
func demand(ctx context.Context, id string, lines []stock.Line, expiresIn int64) (stock.Ask, error) {
	ask := stock.Ask{ID: id, Owner: stock.ByOrder, Lines: lines, CorrelationID: telemetry.Correlation(ctx)}
	if expiresIn == 0 {
		return ask, nil
	}
	var err error
	ask.Owner = stock.Direct
	ask.ExpiresIn, err = stock.Expiry(expiresIn)
	return ask, err
}

// Release puts the units back, or leaves a tombstone.
func (g *GRPC) Release(ctx context.Context, req *inventoryv1.ReleaseRequest) (*inventoryv1.ReleaseResponse, error) {
	id, err := reservationID(req.GetReservationId())
	if err != nil {
		return nil, err
	}
	if err := g.store.Release(ctx, store.Wait, id); err != nil {
		return nil, err
	}
	return &inventoryv1.ReleaseResponse{}, nil
}

// Commit takes the units off the shelf.
func (g *GRPC) Commit(ctx context.Context, req *inventoryv1.CommitRequest) (*inventoryv1.CommitResponse, error) {
	id, err := reservationID(req.GetReservationId())
	if err != nil {
		return nil, err
	}
	if err := g.store.Commit(ctx, store.Wait, id); err != nil {
		return nil, err
	}
	return &inventoryv1.CommitResponse{}, nil
}

// Check says what could not be reserved now.
func (g *GRPC) Check(ctx context.Context, req *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
	lines, err := stock.Sum(fromProto(req.GetLines()))
	if err != nil {
		return nil, err
	}
	short, err := g.store.Check(ctx, lines)
	if err != nil {
		return nil, err
	}
	return &inventoryv1.CheckResponse{Shortages: protoShortages(short)}, nil
}

// ListReservations says what orders hold.
func (g *GRPC) ListReservations(ctx context.Context, req *inventoryv1.ListReservationsRequest) (*inventoryv1.ListReservationsResponse, error) {
	after, err := reservationID(req.GetAfter())
	if err != nil {
		return nil, err
	}
	before, err := reservationID(req.GetBefore())
	if err != nil {
		return nil, err
	}
	live, next, err := g.store.LiveOfOrders(ctx, after, before)
	if err != nil {
		return nil, err
	}
	r := &inventoryv1.ListReservationsResponse{NextAfter: next}
	for _, v := range live {
		lines := make([]*inventoryv1.Line, len(v.Lines))
		for i, l := range v.Lines {
			lines[i] = &inventoryv1.Line{Sku: l.SKU, Qty: l.Qty}
		}
		r.Reservations = append(r.Reservations, &inventoryv1.Reservation{ReservationId: v.ID, Lines: lines, CorrelationId: v.CorrelationID})
	}
	return r, nil
}

var protoState = map[stock.State]inventoryv1.ReservationState{
	stock.Reserved:  inventoryv1.ReservationState_RESERVATION_STATE_RESERVED,
	stock.Refused:   inventoryv1.ReservationState_RESERVATION_STATE_REFUSED,
	stock.Released:  inventoryv1.ReservationState_RESERVATION_STATE_RELEASED,
	stock.Committed: inventoryv1.ReservationState_RESERVATION_STATE_COMMITTED,
	stock.Returned:  inventoryv1.ReservationState_RESERVATION_STATE_RETURNED,
}

// reservationID returns the one form of a UUID, so that two spellings do not make two reservations.
func reservationID(s string) (string, error) {
	id, err := uuid.Parse(s)
	if err != nil {
		return "", stock.ErrInvalidReservationID.Because(err)
	}
	return id.String(), nil
}

func fromProto(lines []*inventoryv1.Line) []stock.Line {
	out := make([]stock.Line, len(lines))
	for i, l := range lines {
		out[i] = stock.Line{SKU: l.GetSku(), Qty: l.GetQty()}
	}
	return out
}

func protoShortages(short []stock.Shortage) []*inventoryv1.Shortage {
	out := make([]*inventoryv1.Shortage, len(short))
	for i, s := range short {
		out[i] = &inventoryv1.Shortage{Sku: s.SKU, Requested: s.Requested, Available: s.Available, Unknown: s.Unknown}
	}
	return out
}
