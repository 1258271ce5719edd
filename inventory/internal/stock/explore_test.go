package stock

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Orders may rely on this contract whatever it sends, how often, in which order, and whenever Inventory crashes: a reservation's first
// answer is given again; what was released is never held; all lines are held or none; nothing is held that is not there. So all
// states are gone through that two orders, a clerk, and everybody's repeats can bring about, one after the other: a batch
// decides in order of arrival, so there is nothing else. A crash comes after a durable write and before the next, which is what
// every state here is: rows, of which the next room is made.

// rows are what Inventory has on disk, and what its callers were told.
type rows struct {
	levels       map[string]Level
	reservations map[string]Reservation
	first        map[string]State // the first answer to a Reserve
	released     map[string]bool
}

func (r rows) clone() rows {
	return rows{maps.Clone(r.levels), maps.Clone(r.reservations), maps.Clone(r.first), maps.Clone(r.released)}
}

func (r rows) key() string {
	return fmt.Sprint(r.levels, r.first, r.released, r.reservations)
}

func (r rows) room() *Room {
	room := NewRoom(time.Unix(0, 0).UTC())
	for sku, l := range r.levels {
		room.AddLevel(sku, true, l)
	}
	for _, v := range r.reservations {
		room.AddReservation(v)
	}
	return room
}

// write puts a room's changes on disk. planted is the mistake that it makes, or "".
func (r rows) write(c Changes, planted string) rows {
	next := r.clone()
	for _, item := range c.Stock {
		if planted != "a level is not written" {
			next.levels[item.SKU] = item.Levels[0]
		}
	}
	for _, v := range c.Reservations {
		switch {
		case planted == "a tombstone is not written" && v.State == Released && len(v.Lines) == 0:
		case planted == "a refusal is not written" && v.State == Refused:
		default:
			next.reservations[v.ID] = v
		}
	}
	return next
}

// act is a command of somebody, and what it answers.
type act struct {
	name string
	id   string
	do   func(*Room) (State, error)
}

var acts = func() []act {
	asks := []Ask{
		{ID: "a", Owner: ByOrder, Lines: []Line{{"BOOK", 1}}},
		{ID: "b", Owner: ByOrder, Lines: []Line{{"BOOK", 1}, {"PEN", 1}}},
	}
	var all []act
	for _, ask := range asks {
		all = append(all,
			act{"reserve", ask.ID, func(r *Room) (State, error) { a, err := r.Reserve(ask); return a.State, err }},
			act{"release", ask.ID, func(r *Room) (State, error) { v, err := r.Release(ask.ID, ""); return v.State, err }},
			act{"commit", ask.ID, func(r *Room) (State, error) { v, err := r.Commit(ask.ID, ""); return v.State, err }},
			act{"return", ask.ID, func(r *Room) (State, error) { v, err := r.Return(ask.ID, ""); return v.State, err }})
	}
	for _, sku := range []string{"BOOK", "PEN"} {
		for _, delta := range []int64{1, -1} {
			all = append(all, act{"adjust", "", func(r *Room) (State, error) {
				if r.shelves[sku].item.OnHand()+delta > 2 {
					return "", nil // a third unit makes no new case
				}
				_, err := r.Adjust(Adjustment{SKU: sku, Location: Default, Delta: delta, Reason: "counted", Actor: "clerk"})
				return "", err
			}})
		}
	}
	return all
}()

// exploreStock goes through all states from one BOOK and one PEN, and returns how many there are.
func exploreStock(planted string) (int, error) {
	start := rows{
		levels:       map[string]Level{"BOOK": {Location: Default, OnHand: 1}, "PEN": {Location: Default, OnHand: 1}},
		reservations: map[string]Reservation{}, first: map[string]State{}, released: map[string]bool{},
	}
	seen := map[string]bool{start.key(): true}
	for queue := []rows{start}; len(queue) > 0; queue = queue[1:] {
		for _, a := range acts {
			next, err := step(queue[0], a, planted)
			if err != nil {
				return len(seen), fmt.Errorf("%s %s after %s: %w", a.name, a.id, queue[0].key(), err)
			}
			if !seen[next.key()] {
				seen[next.key()] = true
				queue = append(queue, next)
			}
		}
	}
	return len(seen), nil
}

// step is one command, with all that must hold of it.
func step(was rows, a act, planted string) (rows, error) {
	room := was.room()
	state, err := a.do(room)
	changes := room.Changes()
	next := was.write(changes, planted)
	if a.name == "reserve" {
		want, asked := was.first[a.id]
		switch {
		case was.released[a.id]:
			want = Released
		case !asked:
			next.first[a.id], want = state, state
		}
		if state != want {
			return next, fmt.Errorf("answered %s, and before %s", state, want)
		}
	}
	if a.name == "release" && err == nil {
		next.released[a.id] = true
	}
	if err := next.sound(); err != nil {
		return next, err
	}
	for sku, l := range next.levels {
		moved := was.levels[sku].OnHand
		for _, m := range changes.Movements {
			if m.SKU == sku {
				moved += m.Delta
			}
		}
		if moved != l.OnHand {
			return next, fmt.Errorf("on hand of %s is %d, and %d by its movements", sku, l.OnHand, moved)
		}
	}
	if a.name != "adjust" {
		room := next.room()
		again, errAgain := a.do(room)
		if c := room.Changes(); again != state || !errors.Is(errAgain, err) || len(c.Stock)+len(c.Reservations)+len(c.Movements) > 0 {
			return next, fmt.Errorf("repeated it answers %s (%v) instead of %s (%v), and changes %+v", again, errAgain, state, err, c)
		}
	}
	return next, nil
}

// sound says what is wrong with the numbers.
func (r rows) sound() error {
	held := map[string]int64{}
	for _, v := range r.reservations {
		if r.released[v.ID] && v.State != Released {
			return fmt.Errorf("%s was released, and is %s", v.ID, v.State)
		}
		if want := map[string]int{"a": 1, "b": 2}[v.ID]; v.State == Reserved && len(v.Lines) != want {
			return fmt.Errorf("%s holds %d of %d lines", v.ID, len(v.Lines), want)
		}
		for _, l := range v.Lines {
			if v.State == Reserved {
				held[l.SKU] += l.Qty
			}
		}
	}
	for sku, l := range r.levels {
		if l.Reserved != held[sku] || l.Available() < 0 || l.OnHand < 0 {
			return fmt.Errorf("%s is %+v, and reservations hold %d", sku, l, held[sku])
		}
	}
	return nil
}

func TestNoOrderOfCommandsBreaksThePromises(t *testing.T) {
	t.Parallel()
	n, err := exploreStock("")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d states, and %d commands from each", n, len(acts))
	if n < 100 {
		t.Errorf("only %d states: some command never acts", n)
	}
}

// Two commands that share a batch decide as they do in two.
func TestABatchDecidesAsItsCommandsOneByOne(t *testing.T) {
	t.Parallel()
	start := rows{levels: map[string]Level{"BOOK": {Location: Default, OnHand: 1}, "PEN": {Location: Default, OnHand: 1}}, reservations: map[string]Reservation{}}
	for _, before := range acts {
		for _, one := range acts {
			for _, two := range acts {
				room := start.room()
				_, _ = before.do(room)
				was := start.write(room.Changes(), "")

				together := was.room()
				s1, err1 := one.do(together)
				s2, err2 := two.do(together)
				batched := was.write(together.Changes(), "")

				alone := was.room()
				w1, e1 := one.do(alone)
				between := was.write(alone.Changes(), "")
				alone = between.room()
				w2, e2 := two.do(alone)
				apart := between.write(alone.Changes(), "")

				if s1 != w1 || s2 != w2 || (err1 == nil) != (e1 == nil) || (err2 == nil) != (e2 == nil) || batched.key() != apart.key() {
					t.Errorf("after %s %s, %s %s and %s %s (-apart +together):\n%s", before.name, before.id, one.name, one.id, two.name, two.id, cmp.Diff(apart.key(), batched.key()))
				}
			}
		}
	}
}

func TestPlantedMistakesInStockAreFound(t *testing.T) {
	t.Parallel()
	for _, mistake := range []string{"a tombstone is not written", "a refusal is not written", "a level is not written"} {
		if n, err := exploreStock(mistake); err == nil {
			t.Errorf("%s: not found in %d states", mistake, n)
		} else {
			t.Logf("%s: %v", mistake, err)
		}
	}
}
