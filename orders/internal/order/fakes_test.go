package order

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
)

// chaos decides, before and after each call of a peer or the store, whether the caller sees an error. After means that
// the call took effect and its answer was lost.
type chaos func(call string) (before, after error)

func calm(string) (error, error) { return nil, nil }

var errLost = fault.New(fault.Unavailable, "lost", "injected")

// memory is a Store and Records that keeps what it was told, as the real one promises.
type memory struct {
	mu     sync.Mutex
	orders map[ID]Order
	keys   map[string]ID
	leaves map[string]Leave
	chaos  chaos
}

func (m *memory) do(call string, f func()) error {
	before, after := m.chaos(call)
	if before != nil {
		return before
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	return after
}

func (m *memory) Begin(_ context.Context, o *Order) (existing *Order, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before, _ := m.chaos("begin"); before != nil {
		return nil, before
	}
	if existing, err = m.known(o); existing != nil || err != nil {
		return existing, err
	}
	if o.Key != "" {
		m.keys[o.Key] = o.ID
	}
	m.orders[o.ID] = *o
	return nil, nil
}

// known is with the lock.
func (m *memory) known(o *Order) (existing *Order, err error) {
	id, ok := m.keys[o.Key]
	if !ok || o.Key == "" {
		return nil, nil
	}
	e := m.orders[id]
	if e.Payload != o.Payload {
		return nil, ErrReused
	}
	return &e, nil
}

func (m *memory) Known(_ context.Context, o *Order) (existing *Order, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before, _ := m.chaos("known"); before != nil {
		return nil, before
	}
	return m.known(o)
}

func (m *memory) Move(ctx context.Context, o *Order, mv Move) (ok bool, err error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if !Allowed(o.State, mv.To) {
		return false, errors.New("no step from " + string(o.State) + " to " + string(mv.To))
	}
	err = m.do("move", func() {
		row, there := m.orders[o.ID]
		if ok = row.State == o.State && there == (o.State != None); !ok {
			return
		}
		next := *o
		next.Apply(mv)
		next.Attempts, next.Kept = row.Attempts, row.Kept
		m.orders[o.ID] = next
		if mv.FreeKey {
			delete(m.keys, o.Key)
		}
	})
	return ok && err == nil, err
}

func (m *memory) Park(_ context.Context, o *Order, from time.Time) error {
	return m.do("park", func() {
		row := m.orders[o.ID]
		row.Lease, row.ReservedAt = Lease{Until: from}, o.ReservedAt
		m.orders[o.ID] = row
	})
}

func (m *memory) Keep(_ context.Context, o *Order) error {
	return m.do("keep", func() {
		row := m.orders[o.ID]
		row.Kept = o.Kept
		m.orders[o.ID] = row
	})
}

func (m *memory) Claim(_ context.Context, owner string, now, until time.Time, n int) (claimed []*Order, err error) {
	err = m.do("claim", func() {
		for id, o := range m.orders {
			if len(claimed) < n && o.State.Live() && !o.Lease.Until.After(now) {
				o.Lease, o.Attempts = Lease{owner, until}, o.Attempts+1
				m.orders[id] = o
				claimed = append(claimed, &o)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

func (m *memory) SetLeave(_ context.Context, l Leave) error {
	return m.do("set leave", func() {
		if m.leaves == nil {
			m.leaves = map[string]Leave{}
		}
		m.leaves[l.Name] = l
	})
}

func (m *memory) Leaves(context.Context) (all []Leave, err error) {
	err = m.do("leaves", func() {
		for _, l := range m.leaves {
			all = append(all, l)
		}
	})
	return all, err
}

func (m *memory) EndLeave(_ context.Context, l Leave) error {
	return m.do("end leave", func() {
		if m.leaves[l.Name].Until.Equal(l.Until) {
			delete(m.leaves, l.Name)
		}
	})
}

func (m *memory) Missing(_ context.Context, ids []ID) (missing []ID, err error) {
	err = m.do("missing", func() {
		for _, id := range ids {
			if _, ok := m.orders[id]; !ok {
				missing = append(missing, id)
			}
		}
	})
	return missing, err
}

func (m *memory) Get(_ context.Context, id ID) (*Order, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.orders[id]
	if !ok {
		return nil, ErrNotFound
	}
	return &o, nil
}

func (m *memory) List(context.Context, Filter) ([]*Order, error) { return nil, nil }
func (m *memory) Notes(context.Context, ID) ([]Note, error)      { return nil, nil }

// shelf is a Stock with any number of SKUs that all have the same units.
type shelf struct {
	mu       sync.Mutex
	units    map[string]int64
	held     map[ID][]Line
	refused  map[ID][]Shortage
	released map[ID]bool
	chaos    chaos
	checks   int
}

func (s *shelf) Reserve(_ context.Context, o *Order) (bool, []Shortage, error) {
	id, lines := o.ID, o.Lines
	before, after := s.chaos("reserve")
	if before != nil {
		return false, nil, before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.released[id]:
		return false, nil, after
	case s.refused[id] != nil:
		return false, s.refused[id], after
	case s.held[id] != nil:
		return true, nil, after
	}
	if short := s.short(lines); short != nil {
		s.refused[id] = short
		return false, short, after
	}
	for _, l := range lines {
		s.units[l.SKU] -= l.Qty
	}
	s.held[id] = lines
	return true, nil, after
}

// Held gives one reservation a page.
func (s *shelf) Held(_ context.Context, after, before ID) (held []Holding, next ID, err error) {
	if before, _ := s.chaos("held"); before != nil {
		return nil, "", before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.held)) {
		if id <= after || id >= before {
			continue
		}
		if len(held) == 1 {
			return held, held[0].ID, nil
		}
		held = append(held, Holding{ID: id, Lines: s.held[id]})
	}
	return held, "", nil
}

// hung is a Stock that never answers.
type hung struct{ *shelf }

func (hung) Reserve(ctx context.Context, _ *Order) (bool, []Shortage, error) {
	<-ctx.Done()
	return false, nil, errLost.Because(ctx.Err())
}

// forgetful is a Stock that does not know an order again, as one whose contract is POST /reserve: asked twice, it takes
// twice. It knows no release either, and keeps what it took.
type forgetful struct{ *shelf }

func (s forgetful) Reserve(_ context.Context, o *Order) (bool, []Shortage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !o.ReservedAt.IsZero() {
		return true, nil, nil
	}
	if short := s.short(o.Lines); short != nil {
		return false, short, nil
	}
	for _, l := range o.Lines {
		s.units[l.SKU] -= l.Qty
		o.Kept = fmt.Sprintf("%d %s", l.Qty, l.SKU)
	}
	return true, nil, nil
}

func (s *shelf) short(lines []Line) []Shortage {
	want := map[string]int64{}
	for _, l := range lines {
		want[l.SKU] += l.Qty
	}
	var short []Shortage
	for sku, n := range want {
		have, known := s.units[sku]
		if have < n {
			short = append(short, Shortage{SKU: sku, Requested: n, Available: have, Unknown: !known})
		}
	}
	return short
}

func (s *shelf) Release(_ context.Context, id ID, _ string) error {
	before, after := s.chaos("release")
	if before != nil {
		return before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.held[id] {
		s.units[l.SKU] += l.Qty
	}
	delete(s.held, id)
	s.released[id] = true
	return after
}

func (s *shelf) Check(_ context.Context, lines []Line) ([]Shortage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks++
	return s.short(lines), nil
}

// till is a Cashier whose provider may not know, for a while, what became of a payment.
type till struct {
	mu      sync.Mutex
	outcome map[ID]Outcome
	decline bool
	taken   map[ID]bool // captured
	charges map[ID]int  // how often the provider was really charged
	chaos   chaos
}

func (t *till) Authorize(_ context.Context, o *Order) (Authorization, error) {
	before, after := t.chaos("authorize")
	if before != nil {
		return Authorization{}, before
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.outcome[o.ID] == Unknown {
		t.outcome[o.ID] = Authorized
		if t.decline {
			t.outcome[o.ID] = Declined
		} else {
			t.charges[o.ID]++
		}
	}
	if errors.Is(after, errOutcomeUnknown) {
		return Authorization{Outcome: Unknown}, nil
	}
	return Authorization{Outcome: t.outcome[o.ID], PaymentID: "pay-" + string(o.ID), DeclineCode: "insufficient_funds"}, after
}

func (t *till) Void(_ context.Context, id ID, _ string) error {
	before, after := t.chaos("void")
	if before != nil {
		return before
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken[id] {
		return ErrCaptured
	}
	if t.outcome[id] != Declined {
		t.outcome[id] = Voided
	}
	return after
}

func (t *till) Refund(_ context.Context, id ID, _ string) error {
	before, after := t.chaos("refund")
	if before != nil {
		return before
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.taken[id] {
		return fault.New(fault.Conflict, "not_captured", "There is nothing to refund.")
	}
	t.taken[id] = false
	t.outcome[id] = Voided
	return after
}

// shop is all of it, with a clock that only moves when a test moves it.
type shop struct {
	*Service
	store *memory
	shelf *shelf
	till  *till
	mu    sync.Mutex
	clock time.Time
}

func newShop(units int64, c chaos) *shop {
	s := &shop{
		store: &memory{orders: map[ID]Order{}, keys: map[string]ID{}, chaos: c},
		shelf: &shelf{units: map[string]int64{"BOOK-001": units, "BOOK-002": units}, held: map[ID][]Line{}, refused: map[ID][]Shortage{}, released: map[ID]bool{}, chaos: c},
		till:  &till{outcome: map[ID]Outcome{}, taken: map[ID]bool{}, charges: map[ID]int{}, chaos: c},
		clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	s.Service = NewService(s.store, s.store, s.shelf, s.till, Config{Now: s.time, AnswerWait: time.Nanosecond}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	s.mono = s.time
	return s
}

func (s *shop) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

func (s *shop) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

// settle lets recovery work until nothing is live, as hours go by.
func (s *shop) settle(t interface{ Fatalf(string, ...any) }) {
	for range 200 {
		s.sweep(context.Background(), false)
		s.recoverSome(context.Background())
		s.store.mu.Lock()
		live := len(s.store.leaves) > 0
		for _, o := range s.store.orders {
			live = live || o.State.Live()
		}
		s.store.mu.Unlock()
		if !live {
			return
		}
		s.pass(time.Minute)
	}
	t.Fatalf("orders are still live after 200 minutes of recovery")
}

// promises fails t if anything is held for an order that is not confirmed, or missing for one that is.
func (s *shop) promises(t interface{ Errorf(string, ...any) }, opening int64) {
	sold := map[string]int64{}
	for id, o := range s.store.orders {
		held, money := s.shelf.held[id] != nil, s.till.outcome[id] == Authorized
		switch o.State {
		case Confirmed, Cancelled: // what a cancelled order held is given back by events, which nobody consumes here
			if !held || money != o.Paid() {
				t.Errorf("order %s was confirmed: units held %v, money held %v, paid %v", id, held, money, o.Paid())
			}
			for _, l := range o.Lines {
				sold[l.SKU] += l.Qty
			}
		case Rejected:
			if held || money {
				t.Errorf("order %s is rejected (%s): units held %v, money held %v", id, o.Rejection.Code, held, money)
			}
		}
		if s.till.charges[id] > 1 {
			t.Errorf("order %s was charged %d times", id, s.till.charges[id])
		}
	}
	for id := range s.shelf.held {
		if _, ok := s.store.orders[id]; !ok {
			t.Errorf("units are held for %s, which is no order", id)
		}
	}
	for sku, left := range s.shelf.units {
		if left < 0 || left+sold[sku] != opening {
			t.Errorf("%s: %d left and %d sold of %d", sku, left, sold[sku], opening)
		}
	}
}

func placement(qty, price int64) Placement {
	p := Placement{Lines: []Line{{SKU: "BOOK-001", Qty: qty, UnitPriceMinor: price}}, CorrelationID: "c-1"}
	if price > 0 {
		p.Currency, p.Provider, p.Token = "GBP", "simulated", "pm_card_visa"
	}
	return p
}

func mustPlace(t *testing.T, s *shop, p Placement) Result {
	t.Helper()
	r, err := s.Place(t.Context(), p)
	if err != nil {
		t.Fatalf("place: %v", err)
	}
	return r
}
