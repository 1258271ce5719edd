package stock

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Room is a working set: the rows that a batch of commands is about, as they were when the batch began, and then as
// each command leaves them. The caller adds every row that a command could touch before it decides the first; a SKU
// or reservation that was not added is taken not to exist. It is not safe for use from several goroutines.
type Room struct {
	now          time.Time
	shelves      map[string]*shelf
	reservations map[string]*held
	outcomes     map[string]*Outcome
	changes      Changes
}

// shelf is an item in the room, and what of it has changed.
type shelf struct {
	item    Item
	renamed bool // title or tracked
	touched bool // any level
}

type held struct {
	Reservation
	changed bool
	was     State // in the room's beginning; "" if it was not there
}

// Changes are the rows to write after the decisions, each once, in the state that the last command left it in.
type Changes struct {
	Items        []Item          // new, or with another title or tracking
	Stock        []Item          // with a new or changed level; all levels of such an item are listed
	Reservations []Reservation   // new, with Created at At, or changed: then only State, Shortages and Changed are
	Movements    []Movement      // to append, without Seq and ID
	Outcomes     []KeptOutcome   // to add
	Live         map[Owner]int64 // how many more reservations are live than before; 0 or nothing where that stays
	At           time.Time
}

// NewRoom returns an empty room whose decisions happen at now.
func NewRoom(now time.Time) *Room {
	return &Room{now: now, shelves: map[string]*shelf{}, reservations: map[string]*held{}, outcomes: map[string]*Outcome{}}
}

// Now is when the decisions happen.
func (r *Room) Now() time.Time { return r.now }

// AddLevel puts one more level of an item into the room. Levels are added in order of location.
func (r *Room) AddLevel(sku string, tracked bool, l Level) {
	s, ok := r.shelves[sku]
	if !ok {
		s = &shelf{item: Item{SKU: sku, Tracked: tracked}}
		r.shelves[sku] = s
	}
	s.item.Levels = append(s.item.Levels, l)
}

// SetTitle completes an item whose levels were added.
func (r *Room) SetTitle(sku, title string) {
	if s, ok := r.shelves[sku]; ok {
		s.item.Title = title
	}
}

// AddReservation puts a reservation with its lines into the room.
func (r *Room) AddReservation(v Reservation) {
	r.reservations[v.ID] = &held{Reservation: v, was: v.State}
}

// AddOutcome puts the stored answer under an idempotency key into the room.
func (r *Room) AddOutcome(key string, o Outcome) { r.outcomes[key] = &o }

// Changes returns what the decisions so far have changed.
func (r *Room) Changes() Changes {
	c := r.changes
	c.At, c.Live = r.now, map[Owner]int64{}
	for _, s := range r.shelves {
		if s.renamed {
			c.Items = append(c.Items, s.item)
		}
		if s.touched {
			c.Stock = append(c.Stock, s.item)
		}
	}
	for _, h := range r.reservations {
		if h.changed {
			c.Reservations = append(c.Reservations, h.Reservation)
			if h.State == Reserved {
				c.Live[h.Owner]++
			}
			if h.was == Reserved {
				c.Live[h.Owner]--
			}
		}
	}
	// In key order: pages of the tables are touched once, and engines with row locks take them in one order.
	slices.SortFunc(c.Items, func(a, b Item) int { return strings.Compare(a.SKU, b.SKU) })
	slices.SortFunc(c.Stock, func(a, b Item) int { return strings.Compare(a.SKU, b.SKU) })
	slices.SortFunc(c.Reservations, func(a, b Reservation) int { return strings.Compare(a.ID, b.ID) })
	return c
}

// level returns the level of a shelf at a location, or nil.
func (s *shelf) level(location string) *Level {
	for i := range s.item.Levels {
		if s.item.Levels[i].Location == location {
			return &s.item.Levels[i]
		}
	}
	return nil
}

// Ask is a demand for units.
type Ask struct {
	ID            string
	Owner         Owner
	Lines         []Line        // as Sum returns them
	ExpiresIn     time.Duration // of a hold; zero for a reservation that lives until it is released
	CorrelationID string
	Forget        bool // a refusal is not kept, because nobody could ask for it again
}

// Answer is the first answer to an Ask.
type Answer struct {
	State     State // Reserved, Refused, or Released if a release came before this answer was asked for
	Lines     []Line
	Shortages []Shortage
	Expires   time.Time // of a hold
	Expired   bool      // Released, because its time was up
	Replayed  bool
}

// Reserve holds all lines or none. The id alone names the reservation: whoever repeats it gets the first answer, with the
// first lines and the first expiry, whatever the repeat brings. A commit or a return does not change that answer; a release does, and so
// does the expiry of a hold. The errors are ErrOverflow, and ErrOtherKind for a hold where the id's reservation is none, and the other
// way round: who needs units until it gives them back must not be answered with units that expire.
func (r *Room) Reserve(ask Ask) (Answer, error) {
	if prior, ok := r.reservations[ask.ID]; ok {
		return prior.again(ask)
	}
	var short []Shortage
	for _, l := range ask.Lines {
		s, level := r.at(l.SKU)
		switch {
		case level == nil:
			short = append(short, Shortage{SKU: l.SKU, Requested: l.Qty, Unknown: true})
		case s.item.Tracked && level.Available() < l.Qty:
			short = append(short, Shortage{SKU: l.SKU, Requested: l.Qty, Available: level.Available()})
		case level.Reserved > MaxUnits-l.Qty:
			return Answer{}, ErrOverflow.Detailf("More than 2^53 - 1 units of %s would be reserved.", l.SKU)
		}
	}
	v := Reservation{ID: ask.ID, Owner: ask.Owner, State: Reserved, CorrelationID: ask.CorrelationID, Created: r.now, Changed: r.now}
	if len(short) > 0 {
		v.State, v.Shortages = Refused, short
		if !ask.Forget {
			r.reservations[v.ID] = &held{Reservation: v, changed: true}
		}
		return Answer{State: Refused, Shortages: short}, nil
	}
	for _, l := range ask.Lines {
		s, level := r.at(l.SKU)
		level.Reserved += l.Qty
		s.touched = true
	}
	v.Lines = ask.Lines
	if ask.ExpiresIn > 0 {
		v.Expires = r.now.Add(ask.ExpiresIn).UTC().Truncate(time.Microsecond) // as the store keeps it, so that a repeat says the same
	}
	r.reservations[v.ID] = &held{Reservation: v, changed: true}
	return Answer{State: Reserved, Lines: v.Lines, Expires: v.Expires}, nil
}

// again is the answer to a repeat.
func (v Reservation) again(ask Ask) (Answer, error) {
	a := Answer{State: v.State, Lines: v.Lines, Shortages: v.Shortages, Expires: v.Expires, Expired: v.Expired(), Replayed: true}
	if a.State == Committed || a.State == Returned {
		a.State = Reserved
	}
	switch hold := !v.Expires.IsZero(); {
	case a.State != Reserved || hold == (ask.ExpiresIn > 0):
		return a, nil
	case hold:
		return Answer{}, ErrOtherKind.Detailf("%s is a hold that expires. Reserve under another id, or with expiresIn.", v.ID)
	}
	return Answer{}, ErrOtherKind.Detailf("%s is the reservation of an order, or was made without an expiry, and cannot get one. Leave expiresIn out, or reserve under another id.", v.ID)
}

// at returns the shelf of a SKU and its level at the default location, from which all reservations are made.
func (r *Room) at(sku string) (*shelf, *Level) {
	s, ok := r.shelves[sku]
	if !ok {
		return nil, nil
	}
	return s, s.level(Default)
}

// Release puts the units of a reservation back and returns it; Lines are those freed by this call. One never seen
// becomes a tombstone, a refused one too, so that a late Reserve is refused. Repeating it frees nothing more.
// The error is ErrCommitted once the units have left the shelf, ErrReturned once they have come back.
func (r *Room) Release(id, correlation string) (Reservation, error) {
	h, ok := r.reservations[id]
	if !ok {
		h = &held{Reservation: Reservation{ID: id, Owner: ByOrder, CorrelationID: correlation, Created: r.now}}
		r.reservations[id] = h
	}
	freed := h.Reservation
	freed.Lines, freed.State = nil, Released
	switch h.State {
	case Committed:
		return Reservation{}, ErrCommitted
	case Returned:
		return Reservation{}, ErrReturned
	case Released:
		return freed, nil
	case Reserved:
		freed.Lines = h.Lines
		if err := r.free(h); err != nil {
			return Reservation{}, fmt.Errorf("release %s: %w", id, err)
		}
		return freed, nil
	}
	h.State, h.Shortages, h.Changed, h.changed = Released, nil, r.now, true
	return freed, nil
}

// Commit takes the units of a reservation off the shelf and returns it; Lines are those taken by this call.
// Repeating it takes nothing more, also after they have come back. The errors are ErrNoReservation, ErrReleased, ErrExpired, ErrRefused and ErrOverflow.
func (r *Room) Commit(id, correlation string) (Reservation, error) {
	h, ok := r.reservations[id]
	if !ok {
		return Reservation{}, ErrNoReservation
	}
	taken := h.Reservation
	taken.Lines, taken.State = nil, Committed
	switch h.State {
	case Released:
		return Reservation{}, h.gone()
	case Refused:
		return Reservation{}, ErrRefused
	case Committed, Returned:
		return taken, nil
	}
	for _, l := range h.Lines {
		_, level := r.at(l.SKU)
		if level == nil {
			return Reservation{}, fmt.Errorf("commit %s: it holds %s, which has no stock row", id, l.SKU)
		}
		if level.OnHand-l.Qty < -MaxUnits {
			return Reservation{}, ErrOverflow.Detailf("On hand of %s would fall below -(2^53 - 1).", l.SKU)
		}
	}
	for _, l := range h.Lines {
		s, level := r.at(l.SKU)
		level.Reserved -= l.Qty
		r.move(s, level, Movement{Delta: -l.Qty, Reason: "sold", Actor: "orders", OrderID: h.order(), CorrelationID: correlation})
	}
	h.State, h.Changed, h.changed = Committed, r.now, true
	taken.Lines = h.Lines
	return taken, nil
}

// Return puts the units of a committed reservation back on the shelf and returns it; Lines are those put back by this call.
// Repeating it puts back nothing more. The errors are ErrNoReservation, ErrReleased, ErrExpired, ErrRefused, ErrNotCommitted
// and ErrOverflow.
func (r *Room) Return(id, correlation string) (Reservation, error) {
	h, ok := r.reservations[id]
	if !ok {
		return Reservation{}, ErrNoReservation
	}
	back := h.Reservation
	back.Lines = nil
	switch h.State {
	case Released:
		return Reservation{}, h.gone()
	case Refused:
		return Reservation{}, ErrRefused
	case Reserved:
		return Reservation{}, ErrNotCommitted
	case Returned:
		return back, nil
	}
	for _, l := range h.Lines {
		_, level := r.at(l.SKU)
		if level == nil {
			return Reservation{}, fmt.Errorf("return %s: it had taken %s, which has no stock row", id, l.SKU)
		}
		if outside(level.OnHand + l.Qty) {
			return Reservation{}, ErrOverflow.Detailf("On hand of %s would pass 2^53 - 1.", l.SKU)
		}
	}
	for _, l := range h.Lines {
		s, level := r.at(l.SKU)
		r.move(s, level, Movement{Delta: l.Qty, Reason: "returned", Actor: "orders", OrderID: h.order(), CorrelationID: correlation})
	}
	h.State, h.Changed, h.changed = Returned, r.now, true
	back.State, back.Lines = Returned, h.Lines
	return back, nil
}

// move changes on hand by m.Delta and notes why. It is the only place where on hand changes.
func (r *Room) move(s *shelf, l *Level, m Movement) Movement {
	l.OnHand += m.Delta
	s.touched = true
	m.SKU, m.Location, m.OnHand, m.At = s.item.SKU, l.Location, l.OnHand, r.now
	r.changes.Movements = append(r.changes.Movements, m)
	return m
}
