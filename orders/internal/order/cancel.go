package order

import (
	"context"
	"slices"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
)

// Cancel takes an order back. A confirmed order becomes cancelled, and by its event Inventory and Payments give back
// what it held; Cancel waits a little for that, and returns the order either way. A pending one is given up. Repeating it
// does nothing more.
//
// Errors: ErrNotFound; ErrFinal when the order was rejected for another reason.
func (s *Service) Cancel(ctx context.Context, id ID, reason string) (*Order, error) {
	o, err := s.records.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if o.State == Confirmed {
		err = s.end(ctx, o, Move{To: Cancelled, At: s.now(), CancelReason: reason, ReservedAt: o.ReservedAt})
	} else if o.State == Pending {
		err = s.giveUp(ctx, o, Rejection{Kind: fault.Conflict, Code: codeCancelled, Detail: "The order was cancelled before it was confirmed."})
		if err != nil && o.State == Undoing {
			s.park(ctx, o, err) // given up for certain; the way back is recovery's
			err = nil
		}
	}
	if err != nil {
		return nil, err
	}
	switch {
	case o.State == Confirmed:
		// It was pending a moment ago and its own driver was faster.
		return s.Cancel(ctx, id, reason)
	case o.State == Cancelled:
		return s.awaitUndo(ctx, o)
	case o.Rejection != nil && o.Rejection.Code == codeCancelled:
		return o, nil
	}
	return nil, ErrFinal.Detailf("The order was rejected (%s); there is nothing to cancel.", o.Rejection.Code)
}

const codeCancelled = "cancelled"

// awaitUndo looks at the order until everything is given back, for as long as a caller may be kept waiting.
func (s *Service) awaitUndo(ctx context.Context, o *Order) (*Order, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.UndoWait)
	defer cancel()
	// The answers come within a few commits; 5 ms is about two of them.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !o.Undone() {
		select {
		case <-ctx.Done():
			return o, nil
		case <-tick.C:
		}
		latest, err := s.records.Get(ctx, o.ID)
		if err != nil {
			return o, nil // cancelled it is; that it cannot be read again just now changes nothing
		}
		o = latest
	}
	return o, nil
}

// Timeline is everything that happened to an order, oldest first.
func Timeline(o *Order, notes []Note) []Note {
	var t []Note
	add := func(at time.Time, what, detail string) {
		if !at.IsZero() {
			t = append(t, Note{At: at, What: what, Detail: detail})
		}
	}
	add(o.PlacedAt, "placed", "")
	add(o.ReservedAt, "reserved", "")
	add(o.AuthorizedAt, "authorized", "")
	switch {
	case o.State == Rejected:
		add(o.DecidedAt, "rejected", o.Rejection.Code)
	case o.State != Pending && o.State != Undoing:
		add(o.DecidedAt, "confirmed", "")
	}
	add(o.CancelledAt, "cancelled", o.CancelReason)
	t = append(t, notes...)
	slices.SortStableFunc(t, func(a, b Note) int { return a.At.Compare(b.At) })
	return t
}
