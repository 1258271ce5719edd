package payment

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

const (
	orderA = "0197b7b0-0000-7000-8000-00000000000a"
	sim    = "sim"
)

// memory is a store that keeps records for as long as a test.
type memory struct {
	mu      sync.Mutex
	records map[string]*Record
	facts   []Fact
	fail    int // the how-manieth decision from now fails, and changes nothing; 0 for none
}

var errDisk = errors.New("the disk is full")

func (m *memory) Decide(ctx context.Context, order string, f func(*Record) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if m.fail > 0 {
		if m.fail--; m.fail == 0 {
			return errDisk
		}
	}
	before := m.records[order]
	if before == nil {
		before = NewRecord(order)
	}
	// A batch may decide twice; only the last run counts.
	_ = f(before.Clone())
	r := before.Clone()
	if err := f(r); err != nil {
		return err
	}
	m.facts = append(m.facts, r.Facts...)
	if r.Payment.Status != None {
		m.records[order] = r.Clone()
	}
	return nil
}

func (m *memory) TryDecide(ctx context.Context, order string, f func(*Record) error) error {
	return m.Decide(ctx, order, f)
}

func (m *memory) Payment(_ context.Context, order string) (Payment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.records[order]; r != nil {
		return r.Payment, nil
	}
	return Payment{}, ErrNotFound
}

func (m *memory) Due(_ context.Context, now, tooLate time.Time, n int) ([]Payment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var due []Payment
	for _, r := range m.records {
		if at := r.Payment.Due; len(due) < n && !at.IsZero() && (!now.Before(at) || at.After(tooLate)) {
			due = append(due, r.Payment)
		}
	}
	return due, nil
}

func (m *memory) record(order string) *Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.records[order]; r != nil {
		return r.Clone()
	}
	return NewRecord(order)
}

// told lists the statuses that the world was told of, in order.
func (m *memory) told() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Status
	for _, f := range m.facts {
		all = append(all, f.Payment.Status)
	}
	return all
}

// trouble is what becomes of one call to the provider.
type trouble int

const (
	none    trouble = iota
	away            // it did nothing
	unheard         // it was not reached, and the caller does not know
	unsaid          // it acted, and the answer was lost
)

// book is a provider with a record of its own.
type book struct {
	mu      sync.Mutex
	charges map[string]Outcome
	decline string
	trouble trouble                      // of every call
	seen    func(step string, c *Charge) // before each call
	held    int                          // how often money was held
	calls   []string
}

func (b *book) act(step, key string, c *Charge, f func(*Outcome)) (Outcome, error) {
	if b.seen != nil {
		b.seen(step, c)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, step)
	switch b.trouble {
	case away:
		return Outcome{}, ErrUnavailable
	case unheard:
		return Outcome{}, ErrUnknownOutcome
	}
	o := b.charges[key]
	f(&o)
	if o.State != StateAbsent {
		o.Ref = "ref"
		b.charges[key] = o
	}
	if b.trouble == unsaid {
		return Outcome{}, context.DeadlineExceeded
	}
	return o, nil
}

func (b *book) Authorize(_ context.Context, c Charge) (Outcome, error) {
	return b.act("authorize", c.Key, &c, func(o *Outcome) {
		if o.State != StateAbsent {
			return
		}
		if b.decline != "" {
			o.State, o.Decline = StateDeclined, b.decline
			return
		}
		o.State, o.Authorized = StateAuthorized, c.Amount
		b.held++
	})
}

func (b *book) Lookup(_ context.Context, key string) (Outcome, error) {
	return b.act("lookup", key, nil, func(*Outcome) {})
}

func (b *book) Capture(_ context.Context, key string) (Outcome, error) {
	return b.act("capture", key, nil, captured)
}

func (b *book) Void(_ context.Context, key string) (Outcome, error) {
	return b.act("void", key, nil, voided)
}

func (b *book) Refund(_ context.Context, key string) (Outcome, error) {
	return b.act("refund", key, nil, refunded)
}

func captured(o *Outcome) {
	if o.State == StateAuthorized {
		o.State, o.Captured = StateCaptured, o.Authorized
	}
}

func voided(o *Outcome) {
	if o.State == StateAuthorized || o.State == StateAbsent {
		o.State, o.Voided = StateVoided, o.Authorized
	}
}

func refunded(o *Outcome) {
	if o.State == StateCaptured {
		o.State, o.Refunded = StateRefunded, o.Captured
	}
}

// byHand is somebody at the provider's own console.
func (b *book) byHand(f func(*Outcome)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.charges[ChargeKey(orderA)]
	if o.State == StateAbsent {
		return
	}
	f(&o)
	b.charges[ChargeKey(orderA)] = o
}

func (b *book) outcome(order string) Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.charges[ChargeKey(order)]
}

// holds is what the provider has of an order: held, or taken and not given back.
func (b *book) holds(order string) int64 {
	o := b.outcome(order)
	return o.Authorized - o.Voided - o.Refunded
}

func (b *book) did() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.calls...)
}

type bundle struct {
	*Service
	memory *memory
	book   *book
}

func setup() *bundle {
	m := &memory{records: map[string]*Record{}}
	b := &book{charges: map[string]Outcome{}}
	return &bundle{NewService(m, map[string]Provider{sim: b}), m, b}
}

func ask() Request {
	return Request{Order: orderA, Amount: 1000, Currency: "EUR", Provider: sim, Token: "pm_card_visa"}
}

func (b *bundle) authorize(t *testing.T) Payment {
	t.Helper()
	p, err := b.Authorize(t.Context(), ask())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// giveBack is GiveBack with the store's own Decide as the last one.
func (b *bundle) giveBack(ctx context.Context) error { return b.GiveBack(ctx, orderA, b.memory.Decide) }

// collect is Collect, likewise.
func (b *bundle) collect(ctx context.Context) error { return b.Collect(ctx, orderA, b.memory.Decide) }
