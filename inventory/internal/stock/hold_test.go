package stock

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// counter is shop over time: each command has a room of its own, as with a store, and finds what those before it have left.
type counter struct {
	items        map[string]Item
	reservations map[string]Reservation
}

func newCounter() *counter {
	c := &counter{map[string]Item{}, map[string]Reservation{}}
	for sku, s := range shop().shelves {
		c.items[sku] = s.item
	}
	return c
}

// room holds everything, at now.
func (c *counter) room(t interface{ Fatal(...any) }, now time.Time) *Room {
	r := NewRoom(now)
	for sku, i := range c.items {
		for _, l := range i.Levels {
			r.AddLevel(sku, i.Tracked, l)
		}
	}
	for _, v := range c.reservations {
		r.AddReservation(v)
	}
	if err := r.Expire(); err != nil {
		t.Fatal(err)
	}
	return r
}

// keep takes over what a room changed.
func (c *counter) keep(r *Room) {
	changes := r.Changes()
	for _, i := range changes.Stock {
		c.items[i.SKU] = i
	}
	for _, v := range changes.Reservations {
		c.reservations[v.ID] = v
	}
}

func (c *counter) reserve(t *testing.T, now time.Time, ask Ask) Answer {
	t.Helper()
	r := c.room(t, now)
	a, err := r.Reserve(ask)
	if err != nil {
		t.Fatal(err)
	}
	c.keep(r)
	return a
}

func (c *counter) reserved(sku string) int64 { return c.items[sku].Reserved() }

// hold is a demand for five units of BOOK, which are all there are, for a minute.
func hold(id string) Ask {
	return Ask{ID: id, Owner: Direct, Lines: []Line{{"BOOK", 5}}, ExpiresIn: time.Minute}
}

func TestAHoldExpiresAtItsInstant(t *testing.T) {
	t.Parallel()
	c := newCounter()
	expires := noon.Add(time.Minute)
	want := Answer{State: Reserved, Lines: []Line{{"BOOK", 5}}, Expires: expires}
	if d := cmp.Diff(want, c.reserve(t, noon, hold("a"))); d != "" {
		t.Errorf("the first answer (-want +got):\n%s", d)
	}
	want.Replayed = true
	longer := hold("a")
	longer.ExpiresIn = time.Hour
	if d := cmp.Diff(want, c.reserve(t, expires.Add(-1), longer)); d != "" {
		t.Errorf("a repeat (-want +got):\n%s", d)
	}
	order := Ask{ID: "o", Owner: ByOrder, Lines: []Line{{"BOOK", 1}}, Forget: true}
	if a := c.reserve(t, expires.Add(-1), order); a.State != Refused {
		t.Errorf("just before it expires the units are %s to another", a.State)
	}
	if a := c.reserve(t, expires, order); a.State != Reserved {
		t.Errorf("at the instant at which it expires the units are %s to another", a.State)
	}
	if v := c.reservations["a"]; v.State != Released || !v.Expired() {
		t.Errorf("it is %s, expired: %v", v.State, v.Expired())
	}
	if n := c.reserved("BOOK"); n != 1 {
		t.Errorf("%d units are reserved, want the other's", n)
	}
}

func TestWhatBecomesOfAHold(t *testing.T) {
	t.Parallel()
	expires := noon.Add(time.Minute)
	reserve := func(a Ask) func(*Room) error { return func(r *Room) error { _, err := r.Reserve(a); return err } }
	release := func(r *Room) error { _, err := r.Release("a", ""); return err }
	commit := func(r *Room) error { _, err := r.Commit("a", ""); return err }
	giveBack := func(r *Room) error { _, err := r.Return("a", ""); return err }
	adjust := func(r *Room) error {
		_, err := r.Adjust(Adjustment{SKU: "BOOK", Location: Default, Delta: -5})
		return err
	}
	endless := hold("a")
	endless.ExpiresIn, endless.Owner = 0, ByOrder
	for _, tt := range []struct {
		name    string
		at      time.Time
		do      func(*Room) error
		want    error
		state   State
		expired bool
	}{
		{"committed before it expires", expires.Add(-1), commit, nil, Committed, false},
		{"not committed once it has expired", expires, commit, ErrExpired, Released, true},
		{"not returned once it has expired", expires, giveBack, ErrExpired, Released, true},
		{"released before it expires", expires.Add(-1), release, nil, Released, false},
		{"released once it has expired", expires, release, nil, Released, true},
		{"in the way of an adjustment", expires.Add(-1), adjust, ErrInsufficient, Reserved, false},
		{"not in the way of an adjustment once it has expired", expires, adjust, nil, Released, true},
		{"no order's", noon, reserve(endless), ErrOtherKind, Reserved, false},
		{"no order's once it has expired", expires, reserve(endless), nil, Released, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCounter()
			c.reserve(t, noon, hold("a"))
			r := c.room(t, tt.at)
			if err := tt.do(r); !errors.Is(err, tt.want) {
				t.Errorf("err = %v, want %v", err, tt.want)
			}
			c.keep(r)
			v := c.reservations["a"]
			if v.State != tt.state || v.Expired() != tt.expired {
				t.Errorf("it is %s, expired: %v; want %s, %v", v.State, v.Expired(), tt.state, tt.expired)
			}
			if want := map[State]int64{Reserved: 5}[tt.state]; c.reserved("BOOK") != want {
				t.Errorf("%d units are reserved, want %d", c.reserved("BOOK"), want)
			}
		})
	}
}

func TestAnOrdersReservationDoesNotExpire(t *testing.T) {
	t.Parallel()
	c := newCounter()
	order := hold("a")
	order.ExpiresIn, order.Owner = 0, ByOrder
	c.reserve(t, noon, order)
	late := noon.AddDate(1, 0, 0)
	if a := c.reserve(t, late, order); a.State != Reserved || !a.Expires.IsZero() {
		t.Errorf("a year later: %+v", a)
	}
	if _, err := c.room(t, late).Reserve(hold("a")); !errors.Is(err, ErrOtherKind) {
		t.Errorf("as a hold: %v, want ErrOtherKind", err)
	}
	r := c.room(t, late)
	if _, err := r.Release("a", ""); err != nil {
		t.Fatal(err)
	}
	c.keep(r)
	if v := c.reservations["a"]; v.Expired() {
		t.Error("released, it counts as expired")
	}
}

func TestAHoldThatHasExpiredStaysSo(t *testing.T) {
	t.Parallel()
	c := newCounter()
	c.reserve(t, noon, hold("a"))
	c.keep(c.room(t, noon.Add(time.Minute)))
	r := c.room(t, noon) // the clock is set back
	if _, err := r.Commit("a", ""); !errors.Is(err, ErrExpired) {
		t.Errorf("commit: %v, want ErrExpired", err)
	}
	if a, err := r.Reserve(hold("a")); err != nil || a.State != Released || !a.Expired {
		t.Errorf("a repeat: %+v, %v", a, err)
	}
	if v := c.reservations["a"].At(noon); v.State != Released || !v.Expired() {
		t.Errorf("to a reader it is %s, expired: %v", v.State, v.Expired())
	}
}

func TestAReaderSeesWhatHasExpired(t *testing.T) {
	t.Parallel()
	c := newCounter()
	c.reserve(t, noon, hold("a"))
	v := c.reservations["a"]
	if at := v.At(v.Expires.Add(-1)); at.State != Reserved || at.Expired() {
		t.Errorf("just before: %s, expired: %v", at.State, at.Expired())
	}
	if at := v.At(v.Expires); at.State != Released || !at.Expired() {
		t.Errorf("at its instant: %s, expired: %v", at.State, at.Expired())
	}
}

func TestExpiryIsASecondToADay(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int64]time.Duration{1: time.Second, 86_400: 24 * time.Hour, 0: 0, -1: 0, 86_401: 0, 1 << 62: 0} {
		got, err := Expiry(seconds)
		if got != want || (err == nil) != (want > 0) || err != nil && !errors.Is(err, ErrInvalidExpiry) {
			t.Errorf("%d: %v, %v; want %v", seconds, got, err, want)
		}
	}
}

// TestHoldsOverTime runs any commands while the clock goes on, and jumps, and looks after each whether everybody was told what a plain
// list of the holds says.
func TestHoldsOverTime(t *testing.T) {
	t.Parallel()
	type known struct {
		qty, expires int64 // in seconds of the clock below; 0 for an order's
		state        State
		expired      bool
	}
	rapid.Check(t, func(t *rapid.T) {
		c := newCounter()
		onHand, now := int64(5), int64(1000) // seconds after noon; it stays above 0
		model := map[string]known{}
		for step := range rapid.IntRange(1, 40).Draw(t, "steps") {
			now += rapid.SampledFrom([]int64{0, 0, 1, 10, 30, -15}).Draw(t, "seconds")
			free := onHand
			for id, k := range model {
				if k.state == Reserved && k.expires > 0 && k.expires <= now {
					k.state, k.expired = Released, true
					model[id] = k
				}
				if k.state == Reserved {
					free -= k.qty
				}
			}
			r := c.room(t, noon.Add(time.Duration(now)*time.Second))
			id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "id")
			k, seen := model[id]
			switch rapid.IntRange(0, 3).Draw(t, "command") {
			case 0, 1:
				ask := Ask{ID: id, Owner: ByOrder, Lines: []Line{{"BOOK", rapid.Int64Range(1, 4).Draw(t, "qty")}}, Forget: true}
				expires := int64(0)
				if s := rapid.SampledFrom([]int64{0, 5, 20}).Draw(t, "expires in"); s > 0 {
					ask.Owner, ask.ExpiresIn, expires = Direct, time.Duration(s)*time.Second, now+s
				}
				a, err := r.Reserve(ask)
				held := k.state == Reserved || k.state == Committed
				switch {
				case seen && held && (k.expires != 0) != (expires != 0):
					if !errors.Is(err, ErrOtherKind) {
						t.Fatalf("step %d: another kind: %v", step, err)
					}
				case seen && held:
					if a.State != Reserved || a.Lines[0].Qty != k.qty || k.expires != 0 && !a.Expires.Equal(noon.Add(time.Duration(k.expires)*time.Second)) {
						t.Fatalf("step %d: repeated %+v: %+v", step, k, a)
					}
				case seen:
					if a.State != Released || a.Expired != k.expired {
						t.Fatalf("step %d: repeated %+v: %+v", step, k, a)
					}
				case free >= ask.Lines[0].Qty:
					if a.State != Reserved {
						t.Fatalf("step %d: %d are free, and %d are %s", step, free, ask.Lines[0].Qty, a.State)
					}
					model[id] = known{qty: ask.Lines[0].Qty, expires: expires, state: Reserved}
				case a.State != Refused:
					t.Fatalf("step %d: %d are free, and %d are %s", step, free, ask.Lines[0].Qty, a.State)
				}
			case 2:
				if _, err := r.Release(id, ""); (err != nil) != (k.state == Committed) {
					t.Fatalf("step %d: release of %+v: %v", step, k, err)
				}
				if k.state != Committed {
					k.state = Released
					model[id] = k
				}
			case 3:
				_, err := r.Commit(id, "")
				want := map[State]error{"": ErrNoReservation, Released: ErrReleased}[k.state]
				if k.expired {
					want = ErrExpired
				}
				if !errors.Is(err, want) {
					t.Fatalf("step %d: commit of %+v: %v", step, k, err)
				}
				if k.state == Reserved {
					k.state = Committed
					onHand -= k.qty
					model[id] = k
				}
			}
			c.keep(r)
			held := int64(0)
			for id, k := range model {
				if v := c.reservations[id]; v.State != k.state || v.Expired() != k.expired {
					t.Fatalf("step %d: %s is %s, expired: %v; want %+v", step, id, v.State, v.Expired(), k)
				}
				if k.state == Reserved {
					held += k.qty
				}
			}
			if l := c.items["BOOK"].Levels[0]; l.Reserved != held || l.OnHand != onHand {
				t.Fatalf("step %d: %+v, want %d reserved of %d", step, l, held, onHand)
			}
		}
	})
}
