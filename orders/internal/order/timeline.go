package order

import (
	"slices"
	"time"
)

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
	add(o.FulfilledAt, "fulfilled", "")
	add(o.ReturnedAt, "returned", o.ReturnReason)
	if o.stays() {
		add(slices.MaxFunc([]time.Time{o.DecidedAt, o.CancelledAt, o.ReturnedAt}, time.Time.Compare), "units_kept", o.Kept+": Inventory has no release; put them back there by hand")
	}
	t = append(t, notes...)
	slices.SortStableFunc(t, func(a, b Note) int { return a.At.Compare(b.At) })
	return t
}
