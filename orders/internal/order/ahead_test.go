package order

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
)

// counted notes the calls of stores and peers.
type counted struct{ calls []string }

func (c *counted) chaos(call string) (error, error) {
	c.calls = append(c.calls, call)
	return nil, nil
}

// written are the calls that write, since it was asked last.
func (c *counted) written() string {
	var w []string
	for _, call := range c.calls {
		if slices.Contains([]string{"begin", "reserve", "authorize", "move", "set leave", "end leave"}, call) {
			w = append(w, call)
		}
	}
	c.calls = nil
	return strings.Join(w, " ")
}

func free() Placement { return placement(1, 0) }

// granted is a shop whose process has a leave.
func granted(t *testing.T, units int64, c chaos) *shop {
	t.Helper()
	s := newShop(units, calm)
	mustPlace(t, s, free())
	s.renewLeave(t.Context())
	s.store.chaos, s.shelf.chaos, s.till.chaos = c, c, c
	return s
}

func TestOnlyWhatNobodyAsksForIsReservedFirst(t *testing.T) {
	t.Parallel()
	c := &counted{}
	s := newShop(10, c.chaos)
	keyed := free()
	keyed.Key = "k"
	for _, step := range []struct {
		name  string
		p     Placement
		state State
		wrote string
	}{
		{"nobody has asked for a leave", free(), Confirmed, "begin reserve move"},
		{"", Placement{}, None, "set leave"},
		{"with a leave", free(), Confirmed, "reserve move"},
		{"it is sold out", placement(11, 0), Rejected, "reserve move"},
		{"it has a key", keyed, Confirmed, "begin reserve move"},
		{"it has a price", placement(1, 500), Confirmed, "begin reserve authorize move"},
	} {
		if step.name == "" {
			s.renewLeave(t.Context())
			s.renewLeave(t.Context()) // there is enough of it
		} else {
			r := mustPlace(t, s, step.p)
			if o, err := s.store.Get(t.Context(), r.Order.ID); r.Order.State != step.state || err != nil || o.State != step.state || o.DecidedAt.IsZero() || (o.State == Confirmed) == o.ReservedAt.IsZero() {
				t.Errorf("%s: %+v, recorded %+v, %v; want %s", step.name, r.Order, o, err, step.state)
			}
		}
		if w := c.written(); w != step.wrote {
			t.Errorf("%s: wrote %s; want %s", step.name, w, step.wrote)
		}
	}
	s.settle(t)
	s.promises(t, 10)
}

func TestALeaveLastsAsLongAsOrdersCome(t *testing.T) {
	t.Parallel()
	c := &counted{}
	s := granted(t, 100, c.chaos)
	for range 10 {
		s.pass(5 * time.Second)
		mustPlace(t, s, free())
		s.renewLeave(t.Context())
	}
	if w := c.written(); strings.Count(w, "set leave") != 5 || strings.Contains(w, "begin") {
		t.Errorf("wrote %s; want the leave renewed every 10 s, and no order begun first", w)
	}
	s.pass(s.cfg.Lease + time.Second)
	mustPlace(t, s, free()) // nobody has renewed it
	s.ahead.wanted = false
	s.renewLeave(t.Context())
	if w := c.written(); w != "begin reserve move end leave" || len(s.store.leaves) != 0 {
		t.Errorf("wrote %s, and there are leaves %v", w, s.store.leaves)
	}
	mustPlace(t, s, free())
	s.renewLeave(t.Context())
	s.endLeave(t.Context()) // the process ends
	if len(s.store.leaves) != 0 {
		t.Errorf("it ended in order and left %v", s.store.leaves)
	}
	mustPlace(t, s, free())
	if w := c.written(); w != "begin reserve move set leave end leave begin reserve move" {
		t.Errorf("wrote %s", w)
	}
}

// What is under way stays within the leave, whatever the clock does.
func TestALeaveCoversWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{-time.Hour, -time.Second, 0, 10 * time.Second, time.Hour} {
		s := granted(t, 10, calm)
		o, err := New(free(), s.now())
		if err != nil || !s.ahead.enter(o, s.mono()) {
			t.Fatal(err)
		}
		s.pass(by)
		mustPlace(t, s, free())
		s.renewLeave(t.Context())
		for _, l := range s.store.leaves {
			if !l.covers(o.PlacedAt) || !l.covers(s.now()) {
				t.Errorf("the clock was set by %v: %v to %v does not cover %v and %v", by, l.Since, l.Until, o.PlacedAt, s.now())
			}
		}
		if r := mustPlace(t, s, free()); r.Order.State != Confirmed || !s.ahead.leave.covers(r.Order.PlacedAt) {
			t.Errorf("the clock was set by %v: there is no leave for now", by)
		}
		if len(s.ahead.entered) != 1 || len(s.store.leaves) != 1 {
			t.Errorf("under way %v, with the leaves %v", s.ahead.entered, s.store.leaves)
		}
		s.ahead.wanted = false
		s.pass(2 * time.Hour)
		s.renewLeave(t.Context())
		s.endLeave(t.Context())
		if len(s.store.leaves) != 1 {
			t.Error("it was ended with an order under way")
		}
	}
}

// Between the asking for a leave and its being durable, nobody enters who would be outside of either.
func TestNobodyEntersBehindALeaveThatIsAskedFor(t *testing.T) {
	t.Parallel()
	s := granted(t, 10, calm)
	early, _ := New(free(), s.now())
	s.pass(10 * time.Second)
	mustPlace(t, s, free())
	l, ok := s.ahead.next(s.now(), s.mono(), s.cfg.Lease)
	if !ok || l.covers(early.PlacedAt) || s.ahead.enter(early, s.mono()) {
		t.Errorf("%v, %v: it entered", l, ok)
	}
}

func TestWhatWasNotRecordedIsTakenBack(t *testing.T) {
	t.Parallel()
	died := errors.New("died")
	for name, tc := range map[string]struct {
		before, after error
		state         State
	}{
		"the write was lost":  {died, nil, Rejected},
		"its answer was lost": {nil, died, Confirmed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			once := true
			s := granted(t, 10, func(call string) (error, error) {
				if call == "move" && once {
					once = false
					return tc.before, tc.after
				}
				return nil, nil
			})
			if r, err := s.Place(t.Context(), free()); !errors.Is(err, died) || r.Order != nil {
				t.Fatalf("%+v, %v; want the error of the write", r.Order, err)
			}
			left := len(s.store.leaves)
			c := &counted{}
			s.store.chaos = c.chaos
			mustPlace(t, s, free())
			if w := c.written(); w != "begin move" || left != 1 {
				t.Errorf("wrote %s, with %d leaves; want no trust in a leave of which an order is missing, and that left for who looks", w, left)
			}
			s.sweep(t.Context(), false)
			s.pass(29 * time.Second)
			s.sweep(t.Context(), false)
			if len(s.store.leaves) != 1 {
				t.Error("it was looked at too early")
			}
			s.pass(time.Second)
			s.settle(t)
			s.promises(t, 10)
			var states []State
			for _, o := range s.store.orders {
				states = append(states, o.State)
				if o.State == Rejected && (o.Rejection.Code != ErrInterrupted.Code || len(o.Lines) != 1 || o.PlacedAt.IsZero()) {
					t.Errorf("taken back as %+v", o)
				}
			}
			slices.Sort(states)
			if want := []State{Confirmed, Confirmed, tc.state}; !slices.Equal(states, want) {
				t.Errorf("orders are %v, want %v", states, want)
			}
		})
	}
}

// At its start, a process that is alone takes back at once, and looks again when nothing can come any more.
func TestWhoIsAloneTakesBackAtOnce(t *testing.T) {
	t.Parallel()
	s := granted(t, 10, calm)
	dead, _ := New(free(), s.now())
	if _, _, err := s.shelf.Reserve(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	// Somebody else's, whose ids are of no time, is no sign that anything was forgotten.
	other := &Order{ID: "f15c4a0e-1c53-4a6b-9a51-2f6f0f3f7f11", Lines: free().Lines}
	if _, _, err := s.shelf.Reserve(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if len(s.shelf.held[other.ID]) != 1 {
			t.Error("somebody else's units were taken back")
		}
	}()
	s.sweep(t.Context(), true)
	if o := s.store.orders[dead.ID]; o.State != Undoing || len(s.store.leaves) != 1 {
		t.Errorf("it is %q, and the leaves are %v", o.State, s.store.leaves)
	}
	late, _ := New(free(), s.now())
	if _, _, err := s.shelf.Reserve(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	s.settle(t)
	if s.shelf.units["BOOK-001"] != 8 { // one sold, one of somebody else
		t.Errorf("%d units are left", s.shelf.units["BOOK-001"])
	}
	if s.store.orders[late.ID].State != Rejected {
		t.Error("what came later was not found")
	}
}

func TestWhoIsAloneAsksUntilInventoryAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := granted(t, 10, func(call string) (error, error) {
			if call == "held" {
				if asked++; asked < 4 {
					return errLost, nil
				}
			}
			return nil, nil
		})
		dead, _ := New(free(), s.now())
		if _, _, err := s.shelf.Reserve(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
		s.cfg.Alone = true
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() { s.Recover(ctx); close(over) }()
		time.Sleep(time.Minute)
		cancel()
		<-over
		s.promises(t, 10)
		if o := s.store.orders[dead.ID]; o.State != Rejected || asked > 10 {
			t.Errorf("it is %q after %d questions; want it rejected, and no more questions when it was found", o.State, asked)
		}
	})
}

func TestASlowDriverLosesToTheTakingBack(t *testing.T) {
	t.Parallel()
	s := granted(t, 10, calm)
	s.store.chaos = func(call string) (error, error) {
		if call == "move" {
			s.store.chaos = calm
			s.sweep(context.Background(), true)
		}
		return nil, nil
	}
	if r, err := s.Place(t.Context(), free()); !errors.Is(err, ErrInterrupted) || fault.Of(err).Kind != fault.Unavailable {
		t.Errorf("%+v, %v; want ErrInterrupted", r.Order, err)
	}
	s.settle(t)
	s.promises(t, 10)
}

// An Orders that was restored from an old backup has leaves of then. What was accepted under them later must not be given away.
func TestAnOldBackupTakesNothingBack(t *testing.T) {
	t.Parallel()
	s := granted(t, 10, calm)
	forgotten := mustPlace(t, s, free()).Order.ID
	s.pass(time.Minute)
	later := mustPlace(t, s, free()).Order.ID
	delete(s.store.orders, forgotten)
	delete(s.store.orders, later)
	s.sweep(t.Context(), false)
	s.pass(time.Minute)
	for range 3 {
		s.sweep(t.Context(), false)
	}
	if len(s.store.leaves) != 1 || s.store.orders[forgotten].State != None || !strings.Contains(s.seen[nameOf(s)].said, string(later)) {
		t.Errorf("leaves %v, %v, said %v", s.store.leaves, s.store.orders, s.seen)
	}
	// Another process that reserves first has orders that are not recorded as well, and says so by its own leave.
	s.store.leaves["other"] = Leave{Name: "other", Since: later.Time().Add(-time.Second), Until: s.now().Add(time.Minute)}
	s.sweep(t.Context(), false)
	if s.store.orders[forgotten].State != Undoing {
		t.Error("what a crash left was not taken back beside a process that is well")
	}
}

func nameOf(s *shop) string {
	for name := range s.store.leaves {
		return name
	}
	return ""
}

// An Inventory that cannot be asked what it holds is asked to reserve when the order is recorded.
func TestWithoutAListThereIsNoLeave(t *testing.T) {
	t.Parallel()
	c := &counted{}
	s := newShop(10, c.chaos)
	s.shelf.chaos = func(call string) (error, error) {
		if call == "held" {
			return fault.ErrContract, nil
		}
		return c.chaos(call)
	}
	mustPlace(t, s, free())
	s.renewLeave(t.Context())
	s.Service.stock = struct{ Stock }{s.shelf}
	s.renewLeave(t.Context())
	s.sweep(t.Context(), true)
	mustPlace(t, s, free())
	if w := c.written(); w != "begin reserve move begin reserve move" {
		t.Errorf("wrote %s", w)
	}
}

func TestAnIDTellsItsTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for us := range 2000 {
		if now := at.Add(time.Duration(us) * time.Microsecond); !IDAt(now).Time().Equal(now) {
			t.Fatalf("%v became %v", now, IDAt(now).Time())
		}
	}
	if !ID("x").Time().IsZero() || !ID("6f2c1c0e-3b1f-4a7e-9c55-0d9be1a6f3aa").Time().IsZero() {
		t.Error("an id that is of no time has one")
	}
}

// Clocks jump: what a dead process had sent may still arrive, however late it is by the clock, and a leave lasts no longer than it was
// asked for because a clock stands still.
func TestALeaveGoesByAClockThatNobodySets(t *testing.T) {
	t.Parallel()
	s := granted(t, 10, calm)
	mono := s.time()
	s.mono = func() time.Time { return mono }
	s.ahead.ends = mono.Add(s.cfg.Lease)
	o, _ := New(free(), s.now())
	mono = mono.Add(s.cfg.Lease - 1)
	if !s.ahead.enter(o, s.mono()) {
		t.Error("there is no leave")
	}
	mono = mono.Add(1)
	if s.ahead.enter(o, s.mono()) {
		t.Error("it lasts as long as the clock stands still")
	}
	s.renewLeave(t.Context())
	if !s.ahead.enter(o, s.mono()) {
		t.Error("it was not renewed")
	}
	s.sweep(t.Context(), false)
	s.pass(24 * time.Hour)
	s.sweep(t.Context(), false)
	if len(s.store.leaves) != 1 {
		t.Error("it was ended because a clock jumped")
	}
	mono = mono.Add(2*s.cfg.Lease - 1)
	s.sweep(t.Context(), false)
	if len(s.store.leaves) != 1 {
		t.Error("it was ended too early")
	}
	mono = mono.Add(1)
	s.sweep(t.Context(), false)
	if len(s.store.leaves) != 0 {
		t.Error("it was not ended")
	}
}
