package stock

import (
	"fmt"
	"time"
)

// Owner says whose a reservation is.
type Owner string

// ByOrder is a reservation whose id is an order's; Direct one that somebody made without an order. Only a Direct one can be a hold
// with an expiry: an order's is released by the order's saga, however long that takes.
const (
	ByOrder Owner = "order"
	Direct  Owner = "direct"
)

// Reservation is units held for somebody: all lines or none.
type Reservation struct {
	ID            string
	Owner         Owner
	State         State
	Lines         []Line     // one for each SKU, by SKU; empty if no units were ever held
	Shortages     []Shortage // of a refused one
	Expires       time.Time  // zero if it lives until it is released
	CorrelationID string
	Created       time.Time
	Changed       time.Time
}

// order is the id of the order that owns the reservation, or "".
func (v Reservation) order() string {
	if v.Owner == ByOrder {
		return v.ID
	}
	return ""
}

// over reports that the hold's time is up and nobody has noted it yet.
func (v Reservation) over(now time.Time) bool {
	return v.State == Reserved && !v.Expires.IsZero() && !now.Before(v.Expires)
}

// Expired reports that the hold was released because its time was up. There is no such state for its own: old readers of the
// contract know the five, and to them the units are back either way.
func (v Reservation) Expired() bool {
	return v.State == Released && !v.Expires.IsZero() && !v.Changed.Before(v.Expires)
}

// At returns the reservation as it is at now: a hold whose time is up has expired, whether that was noted or not.
func (v Reservation) At(now time.Time) Reservation {
	if v.over(now) {
		v.State, v.Changed = Released, now
	}
	return v
}

// gone is why a released reservation holds nothing any more.
func (v Reservation) gone() error {
	if v.Expired() {
		return ErrExpired
	}
	return ErrReleased
}

// Expiry turns seconds, as a contract has them, into the life of a hold, or returns ErrInvalidExpiry.
func Expiry(seconds int64) (time.Duration, error) {
	if seconds < 1 || seconds > int64(MaxExpiry/time.Second) {
		return 0, ErrInvalidExpiry
	}
	return time.Duration(seconds) * time.Second, nil
}

// Expire releases the holds in the room whose time is up, so that their units can be had by whoever is decided about next. It comes
// after the rows were added and before the first decision: all of them happen at one instant, so no hold expires between them.
// What has expired once stays released, even if the clock is set back.
func (r *Room) Expire() error {
	for _, h := range r.reservations {
		if !h.over(r.now) {
			continue
		}
		if err := r.free(h); err != nil {
			return fmt.Errorf("expire %s: %w", h.ID, err)
		}
	}
	return nil
}

// free puts the units that a reservation holds back.
func (r *Room) free(h *held) error {
	for _, l := range h.Lines {
		s, level := r.at(l.SKU)
		if level == nil {
			return fmt.Errorf("it holds %s, which has no stock row", l.SKU)
		}
		level.Reserved -= l.Qty
		s.touched = true
	}
	h.State, h.Shortages, h.Changed, h.changed = Released, nil, r.now, true
	return nil
}
