package order

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/explore"
)

// What is explored here is the saga as it is, Service with all its code, in every order of its steps with those of a second buyer, a
// second driver and a canceller, and with every command and write failing in every way that a network and a disk have. Its
// neighbours are the contracts that it may rely on, in the fakes of this package: the compiler keeps it from having the real
// ones in the same test. That they keep the contracts (the first answer is given again; what comes after its undo is refused; all
// lines or none) is explored in the same way where they live, in inventory/internal/stock and payments/internal/payment; and
// test/model drives the three of them together, through their doors, at random.
//
// Beside each plan stands how its orders may end, in the order of their beginning: an exploration in which nobody ever wins, or
// loses, proves nothing.
var plans = map[string]struct {
	plan
	ends string
}{
	"two buyers":                         {plan{orders: 2, lost: 1, twice: 1}, "confirmed+rejected rejected+confirmed rejected+rejected"},
	"commands lost, late and twice":      {plan{orders: 1, lost: 2, twice: 1, recoveries: 1}, "confirmed rejected"},
	"crashes and two drivers":            {plan{orders: 1, crashes: 2, recoveries: 3}, "confirmed"},
	"two buyers, one of them recovered":  {plan{orders: 2, crashes: 1, recoveries: 1}, "confirmed+rejected rejected+confirmed"},
	"writes that fail":                   {plan{orders: 1, failures: 2, recoveries: 1, lost: 1}, "confirmed rejected"},
	"cancelled under way":                {plan{orders: 1, cancels: 1, lost: 1, recoveries: 1}, "cancelled confirmed rejected"},
	"cancelled while another one buys":   {plan{orders: 2, cancels: 1}, "cancelled+confirmed cancelled+rejected rejected+confirmed"},
	"the deadline passes":                {plan{orders: 1, deadlines: 1, lost: 1, twice: 1, recoveries: 1}, "confirmed rejected"},
	"the buyer repeats":                  {plan{orders: 1, repeats: 1, lost: 1, recoveries: 1, crashes: 1}, "confirmed rejected+confirmed"},
	"the buyer repeats and another buys": {plan{orders: 2, repeats: 1, lost: 1}, "confirmed+rejected rejected+confirmed rejected+confirmed+rejected"},
	"a free order":                       {plan{orders: 2, free: true, lost: 1, twice: 1, cancels: 1}, "cancelled+confirmed confirmed+rejected rejected+confirmed"},
	"reserved first":                     {plan{orders: 2, ahead: true, lost: 1, twice: 1, sweeps: 1, recoveries: 1}, "confirmed+rejected rejected+confirmed rejected+rejected"},
	"reserved first, and crashes":        {plan{orders: 2, ahead: true, crashes: 2, lost: 1, sweeps: 1, recoveries: 1}, "confirmed+rejected rejected+confirmed rejected+rejected confirmed rejected"},
	"reserved first, and writes fail":    {plan{orders: 1, ahead: true, failures: 2, lost: 1, sweeps: 2, recoveries: 1}, "confirmed rejected"},
	"reserved first, and cancelled":      {plan{orders: 2, ahead: true, cancels: 1, sweeps: 1, recoveries: 1}, "cancelled+confirmed confirmed+rejected rejected+confirmed"},
	"a declined card":                    {plan{orders: 2, declined: true, lost: 1, twice: 1}, "rejected+rejected"},
}

// deeper adds to what may happen in each plan, each addition about ten times the states.
func deeper(p plan) plan {
	n, _ := strconv.Atoi(os.Getenv("ORDERKEEP_TEST_DEPTH"))
	for _, left := range []*int{&p.lost, &p.crashes, &p.recoveries, &p.failures} {
		if n > 0 && *left > 0 {
			*left++
			n--
		}
	}
	return p
}

func TestNoOrderOfStepsBreaksAPromise(t *testing.T) {
	t.Parallel()
	for name, p := range plans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ends := map[string]int{}
			count, err := exploreSaga(deeper(p.plan), "", ends)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v; orders came to %v", count, ends)
			for want := range strings.FieldsSeq(p.ends) {
				if ends[want] == 0 {
					t.Errorf("none came to %s", want)
				}
			}
		})
	}
}

// exploreSaga goes every way of a plan, and counts in ends how its orders ended.
func exploreSaga(p plan, planted string, ends map[string]int) (explore.Count, error) {
	return explore.All(func(path *explore.Path) error {
		w := newWorld(p, planted)
		defer func() {
			for _, r := range w.callers {
				r.Kill()
			}
		}()
		for {
			ways := w.ways()
			i, ok := path.Choose(w.state, len(ways), func(i int) string { return w.describe(ways[i]) })
			if !ok {
				return nil
			}
			if ways[i].begin == noMore {
				return w.end(ends)
			}
			w.happen(ways[i])
			if err := w.judge(); err != nil {
				return err
			}
		}
	})
}

// end lets recovery bring everything to its end, and then what is still under way arrive.
func (w *world) end(ends map[string]int) error {
	trouble := &failure{}
	for i := 0; i < len(w.late); {
		if w.late[i].sure {
			w.deliver(i)
		} else {
			i++
		}
	}
	w.settle(trouble)
	if trouble.err != nil {
		return trouble.err
	}
	for {
		if err := errors.Join(w.judge(), w.judgeEnd()); err != nil {
			return err
		}
		if len(w.late) == 0 {
			break
		}
		w.deliver(0)
	}
	var states []string
	for _, id := range w.ids {
		states = append(states, string(w.store.orders[id].State))
	}
	ends[strings.Join(states, "+")]++
	return nil
}

// failure keeps what settling says.
type failure struct{ err error }

func (f *failure) Fatalf(format string, args ...any) {
	f.err = errors.Join(f.err, fmt.Errorf(format, args...))
}

// judge says which promise is broken. It holds at every moment.
func (w *world) judge() error {
	held := int64(len(w.shelf.held)) // of one unit each, some perhaps of orders that are not recorded yet
	for _, id := range w.ids {
		o := w.store.orders[id]
		units, money := w.shelf.held[id] != nil, w.till.outcome[id] == Authorized
		switch {
		case w.till.charges[id] > 1:
			return fmt.Errorf("%s was charged %d times", w.name(id), w.till.charges[id])
		case o.State == Confirmed && (!units || o.Paid() && !money):
			return fmt.Errorf("%s is confirmed: units held %v, money held %v", w.name(id), units, money)
		case o.State == Rejected && (units || money):
			return fmt.Errorf("%s is rejected: units held %v, money held %v", w.name(id), units, money)
		}
	}
	if left := w.shelf.units["BOOK-001"]; left < 0 || left+held != 1 {
		return fmt.Errorf("there was one unit: %d are left and %d held", left, held)
	}
	return w.judgeAnswers()
}

// judgeAnswers holds what callers were told against what became of their orders.
func (w *world) judgeAnswers() error {
	for caller, told := range w.told {
		status, order, _ := strings.Cut(told, " ")
		for _, id := range w.ids {
			o := w.store.orders[id]
			if w.name(id) != order {
				continue
			}
			if status == "confirmed" && o.State != Confirmed && o.State != Cancelled || status == "rejected" && o.State != Rejected || status == "untaken" && o.State == Confirmed {
				return fmt.Errorf("%s was told %q, and the order is %s", caller, told, o.State)
			}
		}
	}
	// All of one buyer's orders are under one key: only one that was not taken makes room for another.
	for i, id := range w.ids {
		o := w.store.orders[id]
		if o.Key == "" {
			continue
		}
		for _, later := range w.ids[i+1:] {
			if w.store.orders[later].Customer == o.Customer && (o.Rejection == nil || o.Rejection.Code != ErrNoStock.Code) {
				return fmt.Errorf("%s is %s, and %s was begun under its key", w.name(id), o.State, w.name(later))
			}
		}
	}
	return nil
}

// judgeEnd says what must hold when all is over.
func (w *world) judgeEnd() error {
	for id := range w.shelf.held {
		if !slices.Contains(w.ids, id) {
			return fmt.Errorf("units are held for %s, which was never recorded", w.name(id))
		}
	}
	for _, id := range w.ids {
		o := w.store.orders[id]
		switch {
		case o.State.Live():
			return fmt.Errorf("%s is still %s", w.name(id), o.State)
		case o.State == Cancelled && (w.shelf.held[id] != nil || w.till.outcome[id] == Authorized):
			return fmt.Errorf("%s is cancelled and holds units or money", w.name(id))
		case o.State == Confirmed && w.told["canceller"] != "" && id == w.ids[0]:
			return fmt.Errorf("%s is confirmed, and whoever cancelled it was told %s", w.name(id), w.told["canceller"])
		}
	}
	return nil
}

// The exploration sees what it is there for: each of these mistakes, planted in a neighbour or in the database, is found.
func TestPlantedMistakesAreFound(t *testing.T) {
	t.Parallel()
	for mistake, p := range map[string]plan{
		"units are not released":                   plans["a declined card"].plan,
		"money is not voided":                      plans["cancelled under way"].plan,
		"a release leaves no tombstone":            plans["commands lost, late and twice"].plan,
		"a void leaves no tombstone":               plans["the deadline passes"].plan,
		"a reservation is not known again":         plans["two buyers"].plan,
		"a charge is not known again":              plans["commands lost, late and twice"].plan,
		"a state is changed whatever it is by now": plans["cancelled under way"].plan,
		"the key is not looked at":                 plans["the buyer repeats"].plan,
		"more is reserved than there is":           plans["two buyers"].plan,
		"an order is recorded over another":        plans["reserved first"].plan,
		"leaves are not looked through":            plans["reserved first, and crashes"].plan,
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			count, err := exploreSaga(p, mistake, map[string]int{})
			if err == nil {
				t.Fatalf("not found in %v", count)
			}
			t.Logf("found after %v: %v", count, err)
		})
	}
}
