package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// clock is set by hand.
type clock struct{ at atomic.Pointer[time.Time] }

func (c *clock) set(at time.Time) { c.at.Store(&at) }

func (c *clock) now() time.Time { return *c.at.Load() }

// setupAt is setup with a clock that stands at noon.
func setupAt(t *testing.T, e dbtest.Engine) (*bundle, *clock) {
	t.Helper()
	b, c := setup(t, e), &clock{}
	c.set(noon)
	b.now = c.now
	return b, c
}

// hold holds units for a minute.
func (b *bundle) hold(id, sku string, qty int64) stock.Answer {
	b.t.Helper()
	a, err := b.Reserve(b.ctx, Wait, stock.Ask{ID: id, Owner: stock.Direct, Lines: []stock.Line{{SKU: sku, Qty: qty}}, ExpiresIn: time.Minute})
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// state is what the row of a reservation says, whatever the time is.
func (b *bundle) state(id string) (state stock.State) {
	b.t.Helper()
	if err := b.db.QueryRow(b.ctx, `SELECT state FROM reservations WHERE id = $1`, id).Scan(&state); err != nil {
		b.t.Fatal(err)
	}
	return state
}

// Nobody sweeps here: whoever looks, or wants units, judges expiry for himself.
func TestExpiryIsJudgedWithoutASweeper(t *testing.T) {
	t.Parallel()
	reserve := func(b *bundle) error {
		if a := b.reserve(newID(b.t), "BOOK", 50); a.State != stock.Reserved {
			return stock.ErrInsufficient
		}
		return nil
	}
	adjust := func(b *bundle) error {
		a, err := b.Adjust(b.ctx, Wait, stock.Adjustment{SKU: "BOOK", Location: stock.Default, Delta: -50, Reason: "lost", Actor: "x"})
		if err == nil && a.Item.Available() != 0 {
			err = fmt.Errorf("the answer says that %d are available", a.Item.Available())
		}
		return err
	}
	load := func(b *bundle) error {
		_, err := b.Import(b.ctx, strings.NewReader("sku,title,on_hand,tracked\nBOOK,A book,0,true\n"))
		return err
	}
	check := func(b *bundle) error {
		short, err := b.Check(b.ctx, []stock.Line{{SKU: "BOOK", Qty: 50}})
		if len(short) > 0 {
			err = stock.ErrInsufficient
		}
		return err
	}
	// available checks what a reader gets.
	available := func(i stock.Item) error {
		switch l := i.Levels[0]; {
		case i.SKU != "BOOK":
			return nil
		case l == stock.Level{Location: stock.Default, OnHand: 50}:
			return nil
		case l == stock.Level{Location: stock.Default, OnHand: 50, Reserved: 50}:
			return stock.ErrInsufficient
		default:
			return fmt.Errorf("%+v", l)
		}
	}
	item := func(b *bundle) error {
		i, err := b.Item(b.ctx, "BOOK")
		return errors.Join(err, available(i))
	}
	list := func(b *bundle) error {
		all, _, err := b.Items(b.ctx, "", 1)
		return errors.Join(err, available(all[0]))
	}
	export := func(b *bundle) error { return b.Export(b.ctx, available) }
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		for _, tt := range []struct {
			name   string
			do     func(*bundle) error
			writes bool
			before error
		}{
			{"a reservation", reserve, true, stock.ErrInsufficient},
			{"an adjustment", adjust, true, stock.ErrInsufficient},
			{"an import", load, true, stock.ErrInvalidCSV},
			{"a check", check, false, stock.ErrInsufficient},
			{"an item", item, false, stock.ErrInsufficient},
			{"a list", list, false, stock.ErrInsufficient},
			{"an export", export, false, stock.ErrInsufficient},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				b, clock := setupAt(t, e)
				id, other := newID(t), newID(t)
				b.hold(id, "BOOK", 50)
				b.hold(other, "GIFT", 1)
				clock.set(noon.Add(time.Minute - time.Microsecond))
				if err := tt.do(b); !errors.Is(err, tt.before) {
					t.Errorf("just before it expires: %v, want %v", err, tt.before)
				}
				clock.set(noon.Add(time.Minute))
				b.sound() // expired, and not noted anywhere
				if err := tt.do(b); err != nil {
					t.Errorf("at the instant at which it expires: %v", err)
				}
				if want := map[bool]stock.State{true: stock.Released, false: stock.Reserved}[tt.writes]; b.state(id) != want {
					t.Errorf("the hold's row says %s, want %s", b.state(id), want)
				}
				if b.state(other) != stock.Reserved {
					t.Errorf("a hold that is in nobody's way is %s", b.state(other))
				}
				if v, err := b.Reservation(b.ctx, id); err != nil || v.State != stock.Released || !v.Expired() || !v.Expires.Equal(noon.Add(time.Minute)) {
					t.Errorf("the hold is %+v, %v", v, err)
				}
				b.sound()
			})
		}
	})
}

func TestAnExpiredHoldIsNotCommitted(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b, clock := setupAt(t, e)
		early, late := newID(t), newID(t)
		b.hold(early, "BOOK", 2)
		b.hold(late, "BOOK", 3)
		if err := b.Commit(b.ctx, Wait, early); err != nil {
			t.Errorf("before it expires: %v", err)
		}
		clock.set(noon.Add(time.Minute))
		for range 2 {
			if err := b.Commit(b.ctx, Wait, late); !errors.Is(err, stock.ErrExpired) {
				t.Errorf("once it has expired: %v, want ErrExpired", err)
			}
		}
		if err := errors.Join(b.Commit(b.ctx, Wait, early), b.Release(b.ctx, Wait, late)); err != nil {
			t.Errorf("repeated: %v", err)
		}
		if l := b.level("BOOK"); l.OnHand != 48 || l.Reserved != 0 || b.state(late) != stock.Released {
			t.Errorf("%+v, the hold is %s", l, b.state(late))
		}
		clock.set(noon)
		if err := b.Commit(b.ctx, Wait, late); !errors.Is(err, stock.ErrExpired) {
			t.Errorf("with the clock set back: %v, want ErrExpired", err)
		}
		b.sound()
	})
}

func TestAHoldSurvivesARestart(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b, clock := setupAt(t, e)
		clock.set(noon.Add(123 * time.Nanosecond)) // a database keeps microseconds
		id := newID(t)
		first := b.hold(id, "BOOK", 2)
		first.Replayed = true
		b.reopen()
		b.now = clock.now
		clock.set(noon.Add(30 * time.Second))
		if diff := cmp.Diff(first, b.hold(id, "GIFT", 9)); diff != "" {
			t.Errorf("a repeat (-want +got):\n%s", diff)
		}
		clock.set(noon.Add(2 * time.Minute))
		if a := b.hold(id, "BOOK", 2); a.State != stock.Released || !a.Expired || !a.Expires.Equal(first.Expires) {
			t.Errorf("a repeat once it has expired: %+v", a)
		}
		b.sound()
	})
}

// The clocks of two replicas are a minute apart: to the one that commits no hold has expired, to the one that sells all have.
func TestACommitAndASaleDoNotBothGetTheUnits(t *testing.T) {
	t.Parallel()
	b, _ := setupAt(t, dbtest.Postgres)
	ahead := b.replica()
	ahead.now = func() time.Time { return noon.Add(time.Minute) }
	var holds []string
	for range 50 {
		id := newID(t)
		b.hold(id, "BOOK", 1)
		holds = append(holds, id)
	}
	var wait sync.WaitGroup
	var committed, sold atomic.Int64
	for _, id := range holds {
		wait.Go(func() {
			switch err := b.Commit(b.ctx, Wait, id); {
			case err == nil:
				committed.Add(1)
			case !errors.Is(err, stock.ErrExpired):
				t.Error(err)
			}
		})
		order := newID(t)
		wait.Go(func() {
			a, err := ahead.Reserve(b.ctx, Wait, stock.Ask{ID: order, Owner: stock.ByOrder, Lines: []stock.Line{{SKU: "BOOK", Qty: 1}}})
			switch {
			case err != nil:
				t.Error(err)
			case a.State == stock.Reserved:
				sold.Add(1)
			}
		})
	}
	wait.Wait()
	if committed.Load()+sold.Load() != 50 {
		t.Errorf("%d committed and %d sold of 50 units", committed.Load(), sold.Load())
	}
	if l := b.level("BOOK"); l.OnHand != 50-committed.Load() || l.Reserved != sold.Load() {
		t.Errorf("%+v", l)
	}
	b.sound()
}

func TestTheSweeperTidiesUpInBatches(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b, clock := setupAt(t, e)
		var wait sync.WaitGroup
		for range sweepBatch + 3 {
			id := newID(t)
			wait.Go(func() { b.hold(id, "GIFT", 1) })
		}
		wait.Wait()
		order, longer := newID(t), newID(t)
		b.reserve(order, "GIFT", 1)
		clock.set(noon.Add(time.Second))
		b.hold(longer, "GIFT", 1)
		var got []int
		for _, at := range []time.Duration{time.Minute - time.Microsecond, time.Minute, time.Minute, time.Minute, 0} {
			clock.set(noon.Add(at))
			n, err := b.Expire(b.ctx)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
		}
		if diff := cmp.Diff([]int{0, sweepBatch, 3, 0, 0}, got); diff != "" {
			t.Errorf("it found (-want +got):\n%s", diff)
		}
		if l := b.level("GIFT"); l.Reserved != 2 {
			t.Errorf("reserved %d, want those of the order and of the longer hold", l.Reserved)
		}
		if b.state(order) != stock.Reserved || b.state(longer) != stock.Reserved {
			t.Errorf("the order's reservation is %s, the longer hold %s", b.state(order), b.state(longer))
		}
		b.sound()
	})
}

// More holds have expired than a decision looks at: it refuses rather than read all of them, and sells nothing that is held.
func TestADecisionLooksAtSoManyExpiredHoldsOnly(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b, clock := setupAt(t, e)
		var wait sync.WaitGroup
		for range expiredMost {
			id := newID(t)
			wait.Go(func() { b.hold(id, "GIFT", 1) })
		}
		wait.Wait()
		clock.set(noon.Add(time.Second))
		one, other := newID(t), newID(t)
		b.hold(one, "BOOK", 25)
		b.hold(other, "BOOK", 25)
		clock.set(noon.Add(time.Hour))
		if a := b.reserve(newID(t), "BOOK", 1); a.State != stock.Refused {
			t.Errorf("behind %d older ones an expired hold is found: %v", expiredMost, a)
		}
		if err := b.Commit(b.ctx, Wait, one); !errors.Is(err, stock.ErrExpired) {
			t.Errorf("a hold that has expired and that nobody has released yet is committed: %v", err)
		}
		if a := b.reserve(newID(t), "BOOK", 26); a.State != stock.Refused {
			t.Errorf("one hold has been looked at, and the units of both are to be had: %v", a)
		}
		if a := b.reserve(newID(t), "GIFT", 1); a.State != stock.Reserved { // who wants units of the old ones releases them
			t.Errorf("an order of what has expired: %v", a)
		}
		if a := b.reserve(newID(t), "BOOK", 50); a.State != stock.Reserved {
			t.Errorf("once the older ones are released: %v", a)
		}
		b.sound()
	})
}

func TestWhatTheSweeperReleasedIsOnDisk(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b, clock := setupAt(t, e)
		id := newID(t)
		b.hold(id, "BOOK", 2)
		clock.set(noon.Add(time.Hour))
		// The second look at the clock is the decision's: what it decides is on disk when the store has been closed.
		ctx, cancel := context.WithCancel(b.ctx)
		var looks atomic.Int64
		b.now = func() time.Time {
			if looks.Add(1) == 2 {
				cancel()
			}
			return clock.now()
		}
		b.Sweep(ctx, slog.New(slog.DiscardHandler))
		b.reopen()
		if b.state(id) != stock.Released {
			t.Errorf("the hold is %s", b.state(id))
		}
	})
}

// Replicas find the same holds, and each is released once.
func TestReplicasSweepAsOne(t *testing.T) {
	t.Parallel()
	b, clock := setupAt(t, dbtest.Postgres)
	replicas := []*Store{b.Store, b.replica(), b.replica()}
	for range 20 {
		b.hold(newID(t), "BOOK", 2)
	}
	clock.set(noon.Add(time.Minute))
	var wait sync.WaitGroup
	for _, s := range replicas {
		s.now = clock.now
		wait.Go(func() {
			if _, err := s.Expire(b.ctx); err != nil {
				t.Error(err)
			}
		})
		wait.Go(func() {
			if _, err := s.Import(b.ctx, strings.NewReader("sku,title,on_hand,tracked\nPEN,A pen,1,true\nBOOK,A book,50,true\n")); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if l := b.level("BOOK"); l.Reserved != 0 {
		t.Errorf("reserved %d", l.Reserved)
	}
	b.sound()
}

// A program of before releases and commits without a look at expiry, by the statements that it has.
func TestAnOlderProgramBesideHolds(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b, clock := setupAt(t, e)
		released, committed := newID(t), newID(t)
		b.hold(released, "BOOK", 2)
		b.hold(committed, "BOOK", 3)
		clock.set(noon.Add(time.Minute))
		at := clock.now().UnixMicro()
		for _, statement := range []string{
			fmt.Sprintf(`INSERT INTO reservations (id, owner, state, refusal, correlation_id, created_at, changed_at)
				VALUES ('%s', 'direct', 'released', '', '', 1, %d), ('%s', 'direct', 'committed', '', '', 1, %d)
				ON CONFLICT (id) DO UPDATE SET state = excluded.state, refusal = excluded.refusal, changed_at = excluded.changed_at`, released, at, committed, at),
			`UPDATE stock SET on_hand = on_hand - 3, reserved = reserved - 5 WHERE sku = 'BOOK'`,
			fmt.Sprintf(`INSERT INTO movements (id, sku, location, delta, on_hand, reason, actor, at) VALUES ('m', 'BOOK', 'default', -3, 47, 'sold', 'orders', %d)`, at),
		} {
			if _, err := dbtest.Raw(t, b.at).Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := b.Expire(b.ctx); n != 0 || err != nil {
			t.Errorf("%d holds are left to expire, %v", n, err)
		}
		if l := b.level("BOOK"); l.OnHand != 47 || l.Reserved != 0 {
			t.Errorf("%+v", l)
		}
		if a := b.reserve(newID(t), "BOOK", 48); a.State != stock.Refused {
			t.Errorf("48 of 47 units are %s", a.State)
		}
		b.kept()
	})
}

// What looks for expired holds goes by time, and not over all that live.
func TestLiveHoldsAreNotReadForTheExpired(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		raw := dbtest.Raw(t, b.at)
		raw.SetMaxOpenConns(1)
		explain := `EXPLAIN QUERY PLAN `
		if e.Name == "postgres" {
			explain = `EXPLAIN `
			// The tables are so small here that it would read them whole.
			if _, err := raw.Exec(`SET enable_seqscan = off`); err != nil {
				t.Fatal(err)
			}
		}
		for name, query := range map[string]string{"a decision": queryExpired, "a reader": `SELECT qty FROM ` + expired + ` e`} {
			rows, err := raw.Query(explain + strings.NewReplacer("$1", "1000", "$2", "256").Replace(query))
			if err != nil {
				t.Fatal(err)
			}
			plan := ""
			columns, err := rows.Columns()
			if err != nil {
				t.Fatal(err)
			}
			line := make([]any, len(columns))
			for i := range line {
				line[i] = new(any)
			}
			for rows.Next() {
				if err := rows.Scan(line...); err != nil {
					t.Fatal(err)
				}
				plan += fmt.Sprintln(*line[len(line)-1].(*any))
			}
			if err := rows.Close(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(plan, "holds_by_expiry") {
				t.Errorf("%s reads more than what has expired:\n%s", name, plan)
			}
		}
	})
}
