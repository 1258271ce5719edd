package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"pgregory.net/rapid"
)

func TestPlace(t *testing.T) {
	t.Parallel()
	lose := func(call string, before bool) chaos {
		return func(c string) (error, error) {
			if c != call {
				return nil, nil
			}
			if before {
				return errLost, nil
			}
			return nil, errLost
		}
	}
	stranger := func(call string) chaos {
		return func(c string) (error, error) {
			if c == call {
				return fault.ErrContract, nil
			}
			return nil, nil
		}
	}
	refuse := func(call string, f *fault.Error) chaos {
		return func(c string) (error, error) {
			if c == call {
				return f, nil
			}
			return nil, nil
		}
	}
	overflow, nameless := fault.New(fault.Invalid, "quantity_overflow", "Too many."), fault.New(fault.Conflict, "", "No.")
	unknown := func(c string) (error, error) {
		if c == "authorize" {
			return nil, errOutcomeUnknown
		}
		return nil, nil
	}
	for _, tc := range []struct {
		name    string
		p       Placement
		chaos   chaos
		decline bool
		state   State
		code    string
		err     error
	}{
		{name: "confirms a free order without a payment", p: placement(1, 0), state: Confirmed},
		{name: "confirms a paid order", p: placement(2, 500), state: Confirmed},
		{name: "rejects what is not there", p: placement(11, 500), state: Rejected, code: "out_of_stock"},
		{name: "sums the lines of one SKU before it says yes", state: Rejected, code: "out_of_stock",
			p: Placement{Lines: []Line{{SKU: "BOOK-001", Qty: 6}, {SKU: "BOOK-001", Qty: 5}}}},
		{name: "names an unknown SKU", p: Placement{Lines: []Line{{SKU: "NONE", Qty: 1}}}, state: Rejected, code: "unknown_sku"},
		{name: "gives the units back when the payment is declined", p: placement(1, 500), decline: true, state: Rejected, code: "payment_declined"},
		{name: "leaves an unknown payment pending", p: placement(1, 500), chaos: unknown, state: Pending},
		{name: "leaves the order pending when Payments is away", p: placement(1, 500), chaos: lose("authorize", true), state: Pending},
		{name: "does not take an order when Inventory is away", p: placement(1, 500), chaos: lose("reserve", true), err: ErrNoStock},
		{name: "does not take an order when Inventory's answer is lost", p: placement(1, 500), chaos: lose("reserve", false), err: ErrNoStock},
		{name: "does not take an order when Inventory speaks another contract", p: placement(1, 500), chaos: stranger("reserve"), err: fault.ErrContract},
		{name: "leaves the order pending when Payments speaks another contract", p: placement(1, 500), chaos: stranger("authorize"), state: Pending},
		{name: "rejects what Inventory can never reserve", p: placement(1, 500), chaos: refuse("reserve", overflow), state: Rejected, code: "quantity_overflow"},
		{name: "rejects what Payments refuses without a code", p: placement(1, 500), chaos: refuse("authorize", nameless), state: Rejected, code: "conflict"},
		{name: "does not take an order that cannot be recorded", p: placement(1, 500), chaos: lose("begin", true), err: errLost},
		{name: "refuses for certain while the units cannot be given back", p: placement(1, 500), decline: true, chaos: lose("release", true), state: Undoing, code: "payment_declined"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := tc.chaos
			if c == nil {
				c = calm
			}
			s := newShop(10, c)
			s.till.decline = tc.decline
			r, err := s.Place(t.Context(), tc.p)
			if !errors.Is(err, tc.err) {
				t.Fatalf("got error %v, want %v", err, tc.err)
			}
			if f := (*fault.Error)(nil); errors.As(tc.err, &f) && fault.Of(err).Code != f.Code {
				t.Errorf("the caller is told %s, want %s", fault.Of(err).Code, f.Code)
			}
			if tc.err == nil {
				code := ""
				if r.Order.Rejection != nil {
					code = r.Order.Rejection.Code
				}
				if r.Order.State != tc.state || code != tc.code {
					t.Errorf("got %s %q, want %s %q", r.Order.State, code, tc.state, tc.code)
				}
			}
			// Whatever went wrong passes, and every order reaches an end that keeps the promises.
			s.store.chaos, s.shelf.chaos, s.till.chaos = calm, calm, calm
			s.pass(time.Minute)
			s.settle(t)
			s.promises(t, 10)
			if tc.err == ErrNoStock || tc.err == fault.ErrContract {
				for id, o := range s.store.orders {
					if o.State != Rejected {
						t.Errorf("order %s became %s though its caller was told that it was not taken", id, o.State)
					}
				}
			}
		})
	}
}

func TestAnInventoryThatHangsTakesNoOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop(10, calm)
		s.stock = hung{s.shelf}
		p := placement(1, 500)
		p.Key = "k"
		if r, err := s.Place(t.Context(), p); !errors.Is(err, ErrNoStock) {
			t.Fatalf("got %+v, %v; want ErrNoStock", r.Order, err)
		}
		s.stock = s.shelf
		if r := mustPlace(t, s, p); r.Order.State != Confirmed || r.Replayed {
			t.Errorf("got %s, replayed %v; want a new order, confirmed", r.Order.State, r.Replayed)
		}
		s.settle(t)
		s.promises(t, 10)
	})
}

func TestKey(t *testing.T) {
	t.Parallel()
	t.Run("a repeat gives the first answer, also after a cancellation", func(t *testing.T) {
		t.Parallel()
		s := newShop(10, calm)
		p := placement(1, 500)
		p.Key = "k"
		first := mustPlace(t, s, p)
		if _, err := s.Cancel(t.Context(), first.Order.ID, "changed my mind"); err != nil {
			t.Fatal(err)
		}
		again := mustPlace(t, s, p)
		if again.Order.ID != first.Order.ID || !again.Replayed || again.Order.Rejection != nil {
			t.Errorf("got %+v, want the first order, replayed", again)
		}
		if s.shelf.units["BOOK-001"] != 9 {
			t.Errorf("%d units left, want 9: only one order was placed", s.shelf.units["BOOK-001"])
		}
	})
	t.Run("a refusal is an answer too", func(t *testing.T) {
		t.Parallel()
		s := newShop(0, calm)
		p := placement(1, 0)
		p.Key = "k"
		first := mustPlace(t, s, p)
		s.shelf.units["BOOK-001"] = 5
		again := mustPlace(t, s, p)
		if again.Order.Rejection == nil || again.Order.Rejection.Code != "out_of_stock" || again.Order.ID != first.Order.ID {
			t.Errorf("got %+v, want the stored refusal", again.Order)
		}
	})
	t.Run("another payload is refused", func(t *testing.T) {
		t.Parallel()
		s := newShop(10, calm)
		p := placement(1, 0)
		p.Key = "k"
		mustPlace(t, s, p)
		p.Lines[0].Qty = 2
		if _, err := s.Place(t.Context(), p); !errors.Is(err, ErrReused) {
			t.Errorf("got %v, want ErrReused", err)
		}
	})
	t.Run("an attempt in flight is said to be so", func(t *testing.T) {
		t.Parallel()
		inside, goOn := make(chan struct{}), make(chan struct{})
		s := newShop(10, calm)
		s.shelf.chaos = func(string) (error, error) { close(inside); <-goOn; return nil, nil }
		p := placement(1, 0)
		p.Key = "k"
		var first sync.WaitGroup
		first.Go(func() { mustPlace(t, s, p) })
		<-inside
		_, err := s.Place(t.Context(), p)
		close(goOn)
		first.Wait()
		if !errors.Is(err, ErrInFlight) {
			t.Errorf("got %v, want ErrInFlight", err)
		}
	})
	t.Run("is free again when Inventory was away", func(t *testing.T) {
		t.Parallel()
		s := newShop(10, calm)
		s.shelf.chaos = func(string) (error, error) { return errLost, nil }
		p := placement(1, 500)
		p.Key = "k"
		if _, err := s.Place(t.Context(), p); !errors.Is(err, ErrNoStock) {
			t.Fatalf("got %v, want ErrNoStock", err)
		}
		s.shelf.chaos = calm
		if r := mustPlace(t, s, p); r.Order.State != Confirmed || r.Replayed {
			t.Errorf("got %s, replayed %v; want a new order, confirmed", r.Order.State, r.Replayed)
		}
		s.settle(t)
		s.promises(t, 10)
	})
}

func TestSoldOut(t *testing.T) {
	t.Parallel()
	s := newShop(1, calm)
	mustPlace(t, s, placement(1, 0))
	mustPlace(t, s, placement(1, 0)) // refused the long way, and remembered
	recorded := len(s.store.orders)
	r := mustPlace(t, s, placement(1, 0))
	if r.Order.Rejection == nil || r.Order.ID != "" || len(s.store.orders) != recorded {
		t.Errorf("a sold-out answer without a key recorded something: %+v", r.Order)
	}
	p := placement(1, 0)
	p.Key = "k"
	if r := mustPlace(t, s, p); r.Order.Rejection == nil || len(s.store.orders) != recorded+1 {
		t.Errorf("a sold-out answer under a key is not recorded")
	}
	s.shelf.mu.Lock()
	s.shelf.units["BOOK-001"] = 2
	s.shelf.mu.Unlock()
	if r := mustPlace(t, s, placement(1, 0)); r.Order.State != Confirmed {
		t.Errorf("after a delivery: %s, want confirmed", r.Order.State)
	}
	checks := s.shelf.checks
	if r := mustPlace(t, s, placement(1, 0)); r.Order.State != Confirmed || s.shelf.checks != checks {
		t.Errorf("after a delivery Inventory is still asked twice")
	}
}

// An order of total 0 has no payment to wait for: what it did not get in time is its units.
func TestDeadlineOfAFreeOrder(t *testing.T) {
	t.Parallel()
	s := newShop(10, func(call string) (error, error) {
		if call == "reserve" {
			return errLost, nil
		}
		return nil, nil
	})
	move := s.store.chaos
	s.store.chaos = func(call string) (error, error) {
		if call == "move" {
			return errLost, nil // so that it is not given up at once
		}
		return nil, nil
	}
	r := mustPlace(t, s, placement(1, 0))
	if r.Order.State != Pending {
		t.Fatalf("placed: %+v", r.Order)
	}
	s.store.chaos = move
	s.settle(t)
	o := s.store.orders[r.Order.ID]
	if o.State != Rejected || o.Rejection.Code != "inventory_timeout" || o.Rejection.Kind != fault.Conflict || strings.Contains(o.Rejection.Detail, "payment") {
		t.Errorf("got %s %+v, want rejected with inventory_timeout, a conflict", o.State, o.Rejection)
	}
	if waited := o.DecidedAt.Sub(o.PlacedAt); waited < 15*time.Minute {
		t.Errorf("it was given up after %v", waited)
	}
	s.promises(t, 10)
}

func TestPaymentDeadline(t *testing.T) {
	t.Parallel()
	s := newShop(10, func(call string) (error, error) {
		if call == "authorize" {
			return nil, errOutcomeUnknown
		}
		return nil, nil
	})
	r := mustPlace(t, s, placement(1, 500))
	s.settle(t)
	o := s.store.orders[r.Order.ID]
	// Unavailable would promise that the same key may be tried again, and this is its answer for good.
	if o.State != Rejected || o.Rejection.Code != "payment_timeout" || o.Rejection.Kind != fault.Conflict {
		t.Errorf("got %s %+v, want rejected with payment_timeout, a conflict", o.State, o.Rejection)
	}
	s.promises(t, 10)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	t.Run("takes a pending order back for good", func(t *testing.T) {
		t.Parallel()
		s := newShop(10, func(call string) (error, error) {
			if call == "authorize" {
				return nil, errOutcomeUnknown
			}
			return nil, nil
		})
		r := mustPlace(t, s, placement(1, 500))
		o, err := s.Cancel(t.Context(), r.Order.ID, "")
		if err != nil || o.State != Rejected || o.Rejection.Code != "cancelled" {
			t.Fatalf("got %+v, %v", o, err)
		}
		s.till.chaos = calm
		s.settle(t)
		s.promises(t, 10)
	})
	t.Run("says yes when what it held cannot be given back yet, and leaves that to recovery", func(t *testing.T) {
		t.Parallel()
		s := newShop(10, func(call string) (error, error) {
			if call == "authorize" {
				return nil, errOutcomeUnknown
			}
			return nil, nil
		})
		r := mustPlace(t, s, placement(1, 500))
		s.shelf.chaos = func(call string) (error, error) {
			if call == "release" {
				return errLost, nil
			}
			return nil, nil
		}
		o, err := s.Cancel(t.Context(), r.Order.ID, "")
		if err != nil || o.State != Undoing || o.Rejection.Code != "cancelled" {
			t.Fatalf("got %+v, %v; want it on its way back, and no error", o, err)
		}
		if lease := s.store.orders[r.Order.ID].Lease; lease.Owner != "" || lease.Until.After(s.time().Add(lastBackoff)) {
			t.Errorf("nobody may take it up: lease %+v", lease)
		}
		s.shelf.chaos, s.till.chaos = calm, calm
		s.settle(t)
		if o := s.store.orders[r.Order.ID]; o.State != Rejected {
			t.Errorf("it ends as %s", o.State)
		}
		s.promises(t, 10)
	})
	t.Run("says that a rejected order cannot be cancelled", func(t *testing.T) {
		t.Parallel()
		s := newShop(0, calm)
		p := placement(1, 0)
		p.Key = "k"
		r := mustPlace(t, s, p)
		if _, err := s.Cancel(t.Context(), r.Order.ID, ""); !errors.Is(err, ErrFinal) {
			t.Errorf("got %v, want ErrFinal", err)
		}
	})
	t.Run("says that there is no such order", func(t *testing.T) {
		t.Parallel()
		if _, err := newShop(0, calm).Cancel(t.Context(), NewID(), ""); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

// Two requests under one key at once, and Inventory is away: the one that found the other's order finds it given up, and is
// told to start anew like the other, not to wait for an order that is about to be rejected.
func TestRepeatOfAnOrderThatWasNotTakenIsNotTaken(t *testing.T) {
	t.Parallel()
	for _, settled := range []bool{false, true} {
		away := true
		s := newShop(3, func(call string) (error, error) {
			if call == "reserve" && away {
				return errLost, nil
			}
			return nil, nil
		})
		p := placement(1, 500)
		p.Key = "k"
		if _, err := s.Place(t.Context(), p); !errors.Is(err, ErrNoStock) {
			t.Fatalf("got %v, want ErrNoStock", err)
		}
		away = false
		if settled {
			s.settle(t)
		}
		var first ID
		for id := range s.store.orders {
			first = id
		}
		s.store.keys["k"] = first // as the second request found it
		if r, err := s.Place(t.Context(), p); !errors.Is(err, ErrNoStock) {
			t.Errorf("got %+v, %v; want ErrNoStock", r.Order, err)
		}
		delete(s.store.keys, "k")
		if r := mustPlace(t, s, p); r.Replayed || r.Order.State != Confirmed {
			t.Errorf("started anew: %+v", r)
		}
	}
}

// Against an Inventory that does not know an order again, recovery must not reserve twice; and where it cannot help it,
// after a crash, a refusal must not keep the money of the first time.
func TestForgetfulInventory(t *testing.T) {
	t.Parallel()
	waiting := func(t *testing.T) (*shop, ID) {
		s := newShop(3, calm)
		s.stock = forgetful{s.shelf}
		s.till.chaos = func(string) (error, error) { return nil, errOutcomeUnknown } // the money is held, and the answer lost
		r := mustPlace(t, s, placement(2, 500))
		if r.Order.State != Pending || s.shelf.units["BOOK-001"] != 1 {
			t.Fatalf("placed: %+v, %d left", r.Order, s.shelf.units["BOOK-001"])
		}
		s.till.chaos = calm
		s.pass(time.Minute)
		return s, r.Order.ID
	}
	t.Run("is asked once for an order that waits for its payment", func(t *testing.T) {
		t.Parallel()
		s, id := waiting(t)
		s.settle(t)
		if o := s.store.orders[id]; o.State != Confirmed || s.shelf.units["BOOK-001"] != 1 {
			t.Errorf("it ends as %s (%+v), with %d left", o.State, o.Rejection, s.shelf.units["BOOK-001"])
		}
	})
	t.Run("refuses after a crash, and the money goes back", func(t *testing.T) {
		t.Parallel()
		s, id := waiting(t)
		o := s.store.orders[id]
		o.ReservedAt = time.Time{} // the crash came before it was written down
		s.store.orders[id] = o
		s.settle(t)
		if o := s.store.orders[id]; o.State != Rejected || s.till.outcome[id] != Voided {
			t.Errorf("it ends as %s, with its money %v", o.State, s.till.outcome[id])
		}
	})
}

// What an Inventory without a release keeps is said once, in the log and in the timeline, and nothing waits for it.
func TestUnitsThatStayReserved(t *testing.T) {
	t.Parallel()
	open := func(units int64) (*shop, *strings.Builder) {
		s, log := newShop(units, calm), &strings.Builder{}
		s.stock, s.log = forgetful{s.shelf}, slog.New(slog.NewTextHandler(log, nil))
		return s, log
	}
	check := func(t *testing.T, s *shop, log *strings.Builder, id ID, state State, kept int) {
		t.Helper()
		o := s.store.orders[id]
		if o.State != state || o.Kept != "2 BOOK-001" || s.shelf.released[id] {
			t.Errorf("it is %s, with %q kept, released %v", o.State, o.Kept, s.shelf.released[id])
		}
		if n := strings.Count(log.String(), "units stay reserved"); n != kept || strings.Count(log.String(), `units="2 BOOK-001"`) != kept {
			t.Errorf("the log says %d times that they stay, want %d:\n%s", n, kept, log)
		}
		var notes []string
		for _, n := range Timeline(&o, nil) {
			if n.What == "units_kept" {
				notes = append(notes, n.Detail)
			}
		}
		if len(notes) != kept || kept > 0 && notes[0] != "2 BOOK-001: Inventory has no release; put them back there by hand" {
			t.Errorf("the timeline says %q", notes)
		}
	}
	t.Run("by an order that is cancelled or returned", func(t *testing.T) {
		t.Parallel()
		s, log := open(2)
		id := mustPlace(t, s, placement(2, 500)).Order.ID
		check(t, s, log, id, Confirmed, 0)
		if o, err := s.Cancel(t.Context(), id, ""); err != nil || o.Undone() {
			t.Errorf("%+v, %v: its money is not back", o, err)
		}
		if _, err := s.Cancel(t.Context(), id, ""); err != nil {
			t.Error(err)
		}
		check(t, s, log, id, Cancelled, 1)
		o := s.store.orders[id]
		if o.MoneyBackAt = s.time(); !o.Undone() {
			t.Errorf("it waits for an Inventory that will say nothing: %+v", o)
		}
		s, log = open(2)
		id = mustPlace(t, s, placement(2, 0)).Order.ID
		if o, err := s.Fulfil(t.Context(), id); err != nil || o.Settlement() != SettlementDone {
			t.Errorf("%+v, %v", o, err)
		}
		check(t, s, log, id, Fulfilled, 0)
		if o, err := s.Return(t.Context(), id, ""); err != nil || !o.Undone() {
			t.Errorf("%+v, %v", o, err)
		}
		check(t, s, log, id, Returned, 1)
	})
	t.Run("by an order that is given up, however often the way back is tried", func(t *testing.T) {
		t.Parallel()
		s, log := open(2)
		away := true
		s.till.chaos = func(call string) (error, error) {
			switch {
			case call == "authorize":
				return fault.New(fault.Invalid, "unknown_provider", ""), nil
			case away:
				return errLost, nil
			}
			return nil, nil
		}
		id := mustPlace(t, s, placement(2, 500)).Order.ID
		for range 5 {
			s.pass(time.Minute)
			s.recoverSome(t.Context())
		}
		check(t, s, log, id, Undoing, 0)
		away = false
		s.settle(t)
		check(t, s, log, id, Rejected, 1)
	})
}

// Somebody at Payments captured what the saga was still asking about; the order is given up all the same.
func TestCapturedMoneyOfAnOrderThatIsGivenUpIsRefunded(t *testing.T) {
	t.Parallel()
	s := newShop(3, calm)
	s.till.chaos = func(string) (error, error) { return nil, errOutcomeUnknown }
	id := mustPlace(t, s, placement(2, 500)).Order.ID
	s.till.chaos = calm
	s.till.taken[id] = true
	s.pass(20 * time.Minute) // past the deadline
	s.settle(t)
	if o := s.store.orders[id]; o.State != Rejected || s.till.taken[id] || s.till.outcome[id] != Voided || s.shelf.units["BOOK-001"] != 3 {
		t.Errorf("it ends as %s (%+v), captured %v, money %v", o.State, o.Rejection, s.till.taken[id], s.till.outcome[id])
	}
}

// Any call may fail before or after it took effect, drivers may overlap, customers may cancel: in the end each order is
// confirmed with everything or rejected with nothing.
func TestPromisesHoldWhateverFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		percent := rapid.IntRange(0, 60).Draw(t, "percent of calls that fail")
		faults := rapid.SliceOfN(rapid.IntRange(0, 299), 64, 64).Draw(t, "faults")
		var mu sync.Mutex
		next := 0
		unruly := func(call string) (error, error) {
			mu.Lock()
			n := faults[next%len(faults)]
			next++
			mu.Unlock()
			if n%100 >= percent {
				return nil, nil
			}
			switch {
			case n < 100:
				return errLost, nil
			case call == "authorize" && n < 200:
				return nil, errOutcomeUnknown
			}
			return nil, errLost
		}
		s := newShop(5, unruly)
		s.till.decline = rapid.Bool().Draw(t, "decline")
		var wg sync.WaitGroup
		var told sync.Map                // orders whose callers were told that they are confirmed
		var notTaken, otherwise sync.Map // keys by what their callers were told
		for i := range rapid.IntRange(1, 8).Draw(t, "buyers") {
			p := placement(rapid.Int64Range(1, 3).Draw(t, "qty"), rapid.SampledFrom([]int64{0, 500}).Draw(t, "price"))
			p.Key = fmt.Sprintf("buyer-%d", i/2) // some buyers are one who presses twice
			cancel := rapid.IntRange(0, 3).Draw(t, "cancel") == 0
			wg.Go(func() {
				r, err := s.Place(context.Background(), p)
				if errors.Is(err, ErrNoStock) {
					notTaken.Store(p.Key, true)
					return
				}
				otherwise.Store(p.Key, true)
				if err != nil {
					return
				}
				if r.Order.State == Confirmed {
					told.Store(r.Order.ID, true)
				}
				if cancel && r.Order.State == Pending {
					_, _ = s.Cancel(context.Background(), r.Order.ID, "")
				}
			})
		}
		wg.Go(func() { s.pass(time.Minute); s.recoverSome(context.Background()) }) // a second driver, too early
		wg.Wait()
		s.store.chaos, s.shelf.chaos, s.till.chaos = calm, calm, calm
		s.pass(time.Minute)
		s.settle(t)
		s.promises(t, 5)
		told.Range(func(id, _ any) bool {
			if o := s.store.orders[id.(ID)]; o.State != Confirmed && o.State != Cancelled {
				t.Errorf("order %s: its caller was told confirmed, and it is %s", id, o.State)
			}
			return true
		})
		for id, o := range s.store.orders {
			_, no := notTaken.Load(o.Key)
			_, more := otherwise.Load(o.Key)
			if no && !more && o.State == Confirmed {
				t.Errorf("order %s is confirmed, and its caller was told that it was not taken", id)
			}
		}
	})
}

func TestNewRefusesWithAReason(t *testing.T) {
	t.Parallel()
	change := func(f func(*Placement)) Placement {
		p := placement(1, 500)
		f(&p)
		return p
	}
	lines := func(n int) []Line {
		l := make([]Line, n)
		for i := range l {
			l[i] = Line{SKU: "BOOK-001", Qty: 1}
		}
		return l
	}
	for _, tc := range []struct {
		name string
		p    Placement
		code string
	}{
		{"no lines", change(func(p *Placement) { p.Lines = nil }), "empty_order"},
		{"2,001 lines", change(func(p *Placement) { p.Lines = lines(2001) }), "too_many_items"},
		{"no SKU", change(func(p *Placement) { p.Lines[0].SKU = "" }), "invalid_item"},
		{"a control character in a SKU", change(func(p *Placement) { p.Lines[0].SKU = "A\x00" }), "invalid_item"},
		{"broken UTF-8 in a SKU", change(func(p *Placement) { p.Lines[0].SKU = "A\xff" }), "invalid_item"},
		{"quantity 0", change(func(p *Placement) { p.Lines[0].Qty = 0 }), "invalid_item"},
		{"a negative quantity", change(func(p *Placement) { p.Lines[0].Qty = -1 }), "invalid_item"},
		{"a quantity past 2^31", change(func(p *Placement) { p.Lines[0].Qty = 1 << 31 }), "invalid_item"},
		{"a negative price", change(func(p *Placement) { p.Lines[0].UnitPriceMinor = -1 }), "invalid_item"},
		{"a total past 64 bits", change(func(p *Placement) { p.Lines[0].Qty, p.Lines[0].UnitPriceMinor = MaxQty, MaxTotal }), "total_too_large"},
		{"a sum past 53 bits", change(func(p *Placement) {
			p.Lines = []Line{{SKU: "A", Qty: 1, UnitPriceMinor: MaxTotal}, {SKU: "B", Qty: 1, UnitPriceMinor: 1}}
		}), "total_too_large"},
		{"a currency that is none", change(func(p *Placement) { p.Currency = "XYZ" }), "invalid_currency"},
		{"a lower-case currency", change(func(p *Placement) { p.Currency = "gbp" }), "invalid_currency"},
		{"no currency", change(func(p *Placement) { p.Currency = "" }), "invalid_currency"},
		{"two currencies", change(func(p *Placement) { p.LineCurrency = []string{"EUR"} }), "mixed_currencies"},
		{"no payment", change(func(p *Placement) { p.Token = "" }), "payment_required"},
		{"a card number as token", change(func(p *Placement) { p.Token = "4242424242424242" }), "card_number_refused"},
		{"a card number with spaces as token", change(func(p *Placement) { p.Token = "4242 4242 4242 4242" }), "card_number_refused"},
		{"a card number on a free order", change(func(p *Placement) { p.Lines[0].UnitPriceMinor, p.Token = 0, "4242424242424242" }), "card_number_refused"},
		{"a token with a line break", change(func(p *Placement) { p.Token = "a\nb" }), "invalid_token"},
		{"a key of 256 characters", change(func(p *Placement) { p.Key = strings.Repeat("k", 256) }), "invalid_idempotency_key"},
		{"a key with an umlaut", change(func(p *Placement) { p.Key = "schlüssel" }), "invalid_idempotency_key"},
		{"a customer of 257 characters", change(func(p *Placement) { p.Customer = telemetry.Secret(strings.Repeat("c", 257)) }), "invalid_customer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := New(tc.p, time.Now())
			f := fault.Of(err)
			if err == nil || f.Kind != fault.Invalid || f.Code != tc.code {
				t.Errorf("got %v, want invalid %s", err, tc.code)
			}
			if err != nil && strings.Contains(err.Error(), "4242") {
				t.Errorf("the refusal repeats the card number: %v", err)
			}
		})
	}
	for _, p := range []Placement{
		change(func(p *Placement) { p.Key = strings.Repeat("k", 255) }),
		change(func(p *Placement) { p.Lines = lines(2000) }),
		change(func(p *Placement) { p.Lines[0].Qty, p.Lines[0].UnitPriceMinor = MaxQty, 1 }),
		change(func(p *Placement) { p.LineCurrency = []string{"GBP"} }),
		change(func(p *Placement) { p.Lines[0].UnitPriceMinor = MaxTotal }),
		change(func(p *Placement) { p.Customer = telemetry.Secret(strings.Repeat("ü", maxCustomer)) }),
		change(func(p *Placement) { p.Lines[0].UnitPriceMinor, p.Currency = 0, "" }),
	} {
		o, err := New(p, time.Now())
		if err != nil {
			t.Errorf("refused what is within the limits: %v", err)
			continue
		}
		// A free order has no payment that anybody could ask for, also if it was given one.
		if paid := o.Payment.Token != ""; paid != (o.TotalMinor > 0) {
			t.Errorf("a total of %d with the payment %+v", o.TotalMinor, o.Payment)
		}
	}
}

func TestHashTellsPayloadsApart(t *testing.T) {
	t.Parallel()
	a := Placement{Lines: []Line{{SKU: "AB", Qty: 1}}, Currency: "GBP", Customer: "C"}
	b := Placement{Lines: []Line{{SKU: "A", Qty: 1}}, Currency: "GBP", Customer: "C"}
	c := Placement{Lines: []Line{{SKU: "AB", Qty: 1}}, Currency: "GBPC"}
	again := a
	again.Key, again.CorrelationID = "k", "c" // no part of what was asked for
	if a.hash() == b.hash() || a.hash() == c.hash() || a.hash() != again.hash() {
		t.Error("hash confuses payloads")
	}
}
