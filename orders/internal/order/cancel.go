package order

import (
	"context"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/lab"
)

// Cancel takes an order back. A confirmed order becomes cancelled, and by its event Inventory and Payments give back
// what it held; Cancel waits a little for that, and returns the order either way. A pending one is given up. Repeating it
// does nothing more.
//
// Errors: ErrReason and ErrCardInText about the reason; ErrNotFound; ErrFinal when the order was rejected for another reason,
// or is fulfilled.
func (s *Service) Cancel(ctx context.Context, id ID, reason string) (*Order, error) {
	if err := checkReason(reason); err != nil {
		return nil, err
	}
	o, err := s.records.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if o.State == Confirmed {
		err = s.end(ctx, o, Move{To: Cancelled, At: s.now(), Reason: reason, ReservedAt: o.ReservedAt})
		lab.Point("orders.cancelled")
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
		return s.await(ctx, o), nil
	case o.State == Fulfilled:
		return nil, ErrFinal.Detailf("The order is fulfilled; return it instead.")
	case o.State == Returned:
		return nil, ErrFinal.Detailf("The order was fulfilled and returned; there is nothing left to cancel.")
	case o.Rejection != nil && o.Rejection.Code == codeCancelled:
		return o, nil
	}
	return nil, ErrFinal.Detailf("The order was rejected (%s); there is nothing to cancel.", o.Rejection.Code)
}

const codeCancelled = "cancelled"
