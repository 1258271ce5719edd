package order

import (
	"context"
	"time"

	"github.com/orderkeep/orderkeep/internal/lab"
)

// Fulfil hands a confirmed order over, whole. By its event Inventory takes the units off the shelf and Payments captures the
// money; Fulfil waits a little for that, and returns the order either way. Repeating it does nothing more.
//
// Errors: ErrNotFound; ErrNotReady when the order is in any other state, returned included: what came back
// is not handed over again.
func (s *Service) Fulfil(ctx context.Context, id ID) (*Order, error) {
	o, err := s.advance(ctx, id, Confirmed, Move{To: Fulfilled})
	if err != nil {
		return nil, err
	}
	switch o.State {
	case Fulfilled:
		return s.await(ctx, o), nil
	case Pending, Undoing:
		return nil, ErrNotReady.Detailf("The order is not confirmed yet; look at it again in a moment.")
	case Returned:
		return nil, ErrNotReady.Detailf("The order was fulfilled and returned; place a new one.")
	}
	return nil, ErrNotReady.Detailf("The order was %s; only a confirmed order can be fulfilled.", o.State)
}

// Return takes a fulfilled order back, whole. By its event Inventory puts the units back on hand and Payments refunds the
// money; Return waits a little for that, and returns the order either way. Repeating it does nothing more. It need not wait
// for the answers to Fulfil: events of one order are acted on in their order.
//
// Errors: ErrReason and ErrCardInText about the reason; ErrNotFound; ErrNotOut when the order was not fulfilled.
func (s *Service) Return(ctx context.Context, id ID, reason string) (*Order, error) {
	if err := checkReason(reason); err != nil {
		return nil, err
	}
	o, err := s.advance(ctx, id, Fulfilled, Move{To: Returned, Reason: reason})
	if err != nil {
		return nil, err
	}
	switch o.State {
	case Returned:
		return s.await(ctx, o), nil
	case Confirmed:
		return nil, ErrNotOut.Detailf("The order is not fulfilled; cancel it instead.")
	case Pending, Undoing:
		return nil, ErrNotOut.Detailf("The order is not confirmed yet; cancel it instead.")
	}
	return nil, ErrNotOut.Detailf("The order was %s; only a fulfilled order can be returned.", o.State)
}

// advance moves an order that is in the state from, and returns what it is then: moved, by this call or by another one, or
// in a state that m cannot be made from.
func (s *Service) advance(ctx context.Context, id ID, from State, m Move) (*Order, error) {
	o, err := s.records.Get(ctx, id)
	if err != nil || o.State != from {
		return o, err
	}
	m.At, m.ReservedAt = s.now(), o.ReservedAt
	err = s.end(ctx, o, m)
	lab.Point("orders.advanced")
	return o, err
}

// answered reports whether Inventory and Payments have said all that they will say about the order's present state.
func (o *Order) answered() bool {
	switch o.State {
	case Cancelled, Returned:
		return o.Undone()
	case Fulfilled:
		return o.Settlement() != SettlementPending
	}
	return true
}

// await looks at the order until it is answered, for as long as a caller may be kept waiting, and returns it as it was seen
// last. What is awaited happens with and without the caller, so that it cannot be read just now is no error.
func (s *Service) await(ctx context.Context, o *Order) *Order {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AnswerWait)
	defer cancel()
	// The answers come within a few commits; 5 ms is about two of them.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !o.answered() {
		select {
		case <-ctx.Done():
			return o
		case <-tick.C:
		}
		latest, err := s.records.Get(ctx, o.ID)
		if err != nil {
			return o
		}
		o = latest
	}
	return o
}
