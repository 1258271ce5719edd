package payment

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/explore"
)

// What Orders relies on, in the exploration of its saga, is explored here: an order is charged once, the first outcome is given
// again, and what was given back is never held afterwards, in whatever order commands, their repeats, recovery, crashes and the
// provider's lost and late calls come. The operations are the real ones; the provider is one that keeps its word.
//
// Beside each plan stand statuses that its payment must come to: an exploration in which nobody ever wins proves nothing.
var plans = map[string]struct {
	plan
	ends string
}{
	"two drivers and an undo":          {plan{who: []string{"buyer", "buyer again", "undo"}, lost: 1}, "authorized voided"},
	"calls that arrive twice":          {plan{who: []string{"buyer", "undo"}, twice: 2, lost: 1}, "authorized voided voiding"},
	"crashes":                          {plan{who: []string{"buyer", "undo", "recovery"}, crashes: 2}, "authorized voided voiding pending"},
	"a provider that is away":          {plan{who: []string{"buyer", "undo", "recovery"}, away: 1, lost: 1}, "authorized voided voiding pending"},
	"undone twice":                     {plan{who: []string{"buyer", "undo", "undo again"}, lost: 1, crashes: 1}, "authorized voided voiding"},
	"a declined card":                  {plan{who: []string{"buyer", "undo", "buyer again"}, decline: true}, "declined voided"},
	"captured and given back":          {plan{who: []string{"buyer", "capturer", "refunder"}, lost: 1}, "captured refunded capturing"},
	"fulfilled and cancelled":          {plan{who: []string{"buyer", "fulfilment", "cancellation"}, lost: 1, crashes: 1}, "captured refunded voided"},
	"recovered while another takes it": {plan{who: []string{"buyer", "capturer", "recovery"}, lost: 1, twice: 1}, "captured"},
}

func TestNoOrderOfStepsBreaksAPromise(t *testing.T) {
	t.Parallel()
	deeper, _ := strconv.Atoi(os.Getenv("ORDERKEEP_TEST_DEPTH"))
	for name, p := range plans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, left := range []*int{&p.lost, &p.crashes, &p.twice} {
				if *left > 0 {
					*left += deeper
				}
			}
			ends := map[string]int{}
			count, err := explorePayment(p.plan, "", ends)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v; the payment came to %v", count, ends)
			for want := range strings.FieldsSeq(p.ends) {
				if ends[want] == 0 {
					t.Errorf("none came to %s", want)
				}
			}
		})
	}
}

// explorePayment goes every way of a plan, and counts in ends how the payment stood when all had gone.
func explorePayment(p plan, planted string, ends map[string]int) (explore.Count, error) {
	return explore.All(func(path *explore.Path) error {
		w := newWorld(p, planted)
		defer func() {
			for _, r := range w.running {
				r.Kill()
			}
		}()
		for {
			ways := w.ways()
			i, ok := path.Choose(w.state, len(ways), func(i int) string { return w.describe(ways[i]) })
			if !ok {
				return nil
			}
			if ways[i].end {
				return w.end(ends)
			}
			w.happen(ways[i])
			if err := w.judge(); err != nil {
				return err
			}
		}
	})
}

// judge says which promise is broken. It holds at every moment.
func (w *world) judge() error {
	if w.book.held > 1 {
		return fmt.Errorf("charged %d times", w.book.held)
	}
	for _, name := range []string{"undo", "undo again", "refunder", "cancellation"} {
		if held := w.book.holds(orderA); w.told[name] != "" && held != 0 {
			return fmt.Errorf("%s was told that it is done, and the provider has %d", name, held)
		}
	}
	for _, name := range []string{"capturer"} {
		if s := w.book.outcome(orderA).State; w.told[name] != "" && s != StateCaptured && s != StateRefunded {
			return fmt.Errorf("%s was told that it is done, and the charge is in state %d", name, s)
		}
	}
	one, two := w.told["buyer"], w.told["buyer again"]
	if one == string(Authorized) && two == string(Declined) || two == string(Authorized) && one == string(Declined) {
		return fmt.Errorf("one caller was told %s, and the other %s", one, two)
	}
	return nil
}

// end has the order given back, and then what is still under way arrive.
func (w *world) end(ends map[string]int) error {
	ends[string(w.memory.record(orderA).Payment.Status)]++
	if err := w.giveBack(); err != nil {
		return fmt.Errorf("in the end it cannot be given back: %w", err)
	}
	for {
		p := w.memory.record(orderA).Payment
		if held := w.book.holds(orderA); held != 0 || p.Authorized-p.Voided-p.Refunded != 0 {
			return fmt.Errorf("given back, the provider has %d, and our record is %+v", held, p)
		}
		if err := w.judge(); err != nil {
			return err
		}
		if len(w.late) == 0 {
			return nil
		}
		w.deliver(0)
	}
}

// The exploration sees what it is there for: each of these mistakes, planted in the store or at the provider, is found.
func TestPlantedMistakesAreFound(t *testing.T) {
	t.Parallel()
	for mistake, p := range map[string]plan{
		"an attempt is not stored":                  plans["two drivers and an undo"].plan,
		"a void is said to be done":                 plans["two drivers and an undo"].plan,
		"a void leaves no tombstone":                plans["two drivers and an undo"].plan,
		"the provider does not know a charge again": plans["two drivers and an undo"].plan,
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			count, err := explorePayment(p, mistake, map[string]int{})
			if err == nil {
				t.Fatalf("not found in %v", count)
			}
			t.Logf("found after %v: %v", count, err)
		})
	}
}
