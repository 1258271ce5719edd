package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// The stock of a SKU is linearizable: whatever clients do at once, through however many processes, each answer is as if its command
// had happened alone, at one instant between its call and its return. Histories of real stores are recorded, and porcupine
// looks for such instants. SKUs have nothing to do with each other here, so each is judged alone.

// slots is how many reservations a SKU can have in a history. They are shared, so that commands are repeated and undone by others.
const slots = 24

// wanted is how many units the reservation in a slot asks for.
func wanted(slot int) int64 { return int64(1 + slot%3) }

// asked is one command, or a look.
type asked struct {
	op    string // reserve, release, commit, adjust, set, read, check
	sku   string
	slot  int
	delta int64 // of adjust
	saw   int64 // of set: on hand, as it was seen; it becomes one more
}

// got is the answer.
type got struct {
	state            stock.State
	code             string // of an error
	onHand, reserved int64
}

// shelves is what a history is recorded from.
type shelves interface {
	do(ctx context.Context, a asked) (got, error)
}

// level is a SKU as the model has it.
type level struct {
	onHand, reserved int64
	slots            [slots]stock.State
}

// next is the model: what a command answers and leaves.
func (l level) next(a asked) (level, got) {
	s, n := &l.slots[a.slot], wanted(a.slot)
	switch a.op {
	case "reserve":
		if *s == "" {
			*s = stock.Refused
			if l.onHand-l.reserved >= n {
				*s = stock.Reserved
				l.reserved += n
			}
		}
		if *s == stock.Committed {
			return l, got{state: stock.Reserved} // the first answer
		}
		return l, got{state: *s}
	case "release":
		switch *s {
		case stock.Committed:
			return l, got{code: stock.ErrCommitted.Code}
		case stock.Reserved:
			l.reserved -= n
		}
		*s = stock.Released
		return l, got{}
	case "commit":
		switch *s {
		case "":
			return l, got{code: stock.ErrNoReservation.Code}
		case stock.Released:
			return l, got{code: stock.ErrReleased.Code}
		case stock.Refused:
			return l, got{code: stock.ErrRefused.Code}
		case stock.Reserved:
			l.reserved, l.onHand = l.reserved-n, l.onHand-n
		}
		*s = stock.Committed
		return l, got{}
	case "check":
		if l.onHand-l.reserved < n {
			return l, got{state: stock.Refused}
		}
		return l, got{state: stock.Reserved}
	case "adjust":
		if a.delta < 0 && l.onHand-l.reserved+a.delta < 0 {
			return l, got{code: stock.ErrInsufficient.Code}
		}
		l.onHand += a.delta
		return l, got{onHand: l.onHand, reserved: l.reserved}
	case "set":
		if l.onHand != a.saw {
			return l, got{code: stock.ErrStale.Code}
		}
		l.onHand++
		return l, got{onHand: l.onHand, reserved: l.reserved}
	}
	return l, got{onHand: l.onHand, reserved: l.reserved}
}

const opening = 3

var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		bySKU := map[string][]porcupine.Operation{}
		for _, o := range history {
			sku := o.Input.(asked).sku
			bySKU[sku] = append(bySKU[sku], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range bySKU {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return level{onHand: opening} },
	Step: func(state, input, output any) (bool, any) {
		next, want := state.(level).next(input.(asked))
		return want == output.(got), next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
}

// record lets clients do n random commands each on what each has in front of it, at once.
func record(t *testing.T, fronts []shelves, n int) []porcupine.Operation {
	t.Helper()
	var clock atomic.Int64
	var wg sync.WaitGroup
	histories := make([][]porcupine.Operation, 6)
	for client := range histories {
		r := rand.New(rand.NewPCG(uint64(client), uint64(n)))
		wg.Go(func() {
			var saw int64
			for i := range n {
				a := asked{op: []string{"reserve", "reserve", "reserve", "release", "commit", "adjust", "set", "read", "read", "check", "check"}[r.IntN(11)], sku: []string{"BOOK", "PEN"}[r.IntN(2)]}
				// Slots come into use as the history goes on, so that there is always something new to reserve.
				switch a.op {
				case "reserve", "release", "commit", "check":
					a.slot = min(slots-1, r.IntN(2+i*slots/n+1))
				case "adjust":
					a.delta = []int64{-1, 1}[r.IntN(2)]
				case "set":
					a.saw = saw
				}
				call := clock.Add(1)
				g, err := fronts[client%len(fronts)].do(context.Background(), a)
				if err != nil {
					t.Errorf("%+v: %v", a, err)
					return
				}
				if a.op == "read" {
					saw = g.onHand
				}
				histories[client] = append(histories[client], porcupine.Operation{ClientId: client, Input: a, Call: call, Output: g, Return: clock.Add(1)})
			}
		})
	}
	wg.Wait()
	var all []porcupine.Operation
	for _, h := range histories {
		all = append(all, h...)
	}
	return all
}

// linearizable looks for the instants. The search is exponential at worst; these histories take milliseconds.
func linearizable(t *testing.T, history []porcupine.Operation) bool {
	t.Helper()
	result, info := porcupine.CheckOperationsVerbose(model, history, time.Minute)
	if result == porcupine.Unknown {
		t.Fatal("the search did not end in a minute: record shorter histories")
	}
	if dir := os.Getenv("ORDERKEEP_TEST_ARTIFACTS"); result == porcupine.Illegal && dir != "" {
		if err := porcupine.VisualizePath(model, info, dir+"/linear.html"); err != nil {
			t.Error(err)
		}
	}
	return result == porcupine.Ok
}

// real is a store, as clients of one process reach it.
type real struct {
	*Store
	ids map[string][slots]string
}

func (r real) do(ctx context.Context, a asked) (got, error) {
	id := r.ids[a.sku][a.slot]
	var item stock.Item
	var g got
	var err error
	switch a.op {
	case "reserve":
		var answer stock.Answer
		answer, err = r.Reserve(ctx, Wait, stock.Ask{ID: id, Owner: stock.ByOrder, Lines: []stock.Line{{SKU: a.sku, Qty: wanted(a.slot)}}})
		g.state = answer.State
	case "release":
		err = r.Release(ctx, Wait, id)
	case "commit":
		err = r.Commit(ctx, Wait, id)
	case "adjust", "set":
		var done stock.Adjusted
		done, err = r.Adjust(ctx, Wait, stock.Adjustment{SKU: a.sku, Location: stock.Default, Delta: a.delta, Set: a.op == "set", Expected: a.saw, OnHand: a.saw + 1, Reason: "counted", Actor: "clerk"})
		item = done.Item
	case "read":
		item, err = r.Item(ctx, a.sku)
	case "check":
		var short []stock.Shortage
		short, err = r.Check(ctx, []stock.Line{{SKU: a.sku, Qty: wanted(a.slot)}})
		g.state = stock.Reserved // is what it would be
		if len(short) > 0 {
			g.state = stock.Refused
		}
	}
	var f *fault.Error
	if errors.As(err, &f) && f.Kind != fault.Unavailable {
		return got{code: f.Code}, nil
	}
	g.onHand, g.reserved = item.OnHand(), item.Reserved()
	return g, err
}

func TestStockIsLinearizable(t *testing.T) {
	t.Parallel()
	deeper, _ := strconv.Atoi(os.Getenv("ORDERKEEP_TEST_DEPTH"))
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		at := e.New(t)
		ids := map[string][slots]string{}
		for _, sku := range []string{"BOOK", "PEN"} {
			var all [slots]string
			for i := range all {
				all[i] = uuid.NewString()
			}
			ids[sku] = all
		}
		// On PostgreSQL clients go through two processes. A SQLite file has one.
		var fronts []shelves
		for i := range map[string]int{"sqlite": 1, "postgres": 2}[e.Name] {
			s, err := Open(t.Context(), at, t.TempDir(), time.Now)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			fronts = append(fronts, real{s, ids})
			if i == 0 {
				fill(t, s)
			}
		}
		history := record(t, fronts, 60*(1+deeper))
		if !linearizable(t, history) {
			t.Errorf("the answers to %d commands have no order that explains them", len(history))
		}
	})
}

func fill(t *testing.T, s *Store) {
	t.Helper()
	rows := fmt.Appendf(nil, "sku,title,on_hand,tracked\nBOOK,A book,%d,true\nPEN,A pen,%d,true\n", opening, opening)
	if _, err := s.Import(t.Context(), bytes.NewReader(rows)); err != nil {
		t.Fatal(err)
	}
}

// memory is the model as a store. It makes the mistake that is planted in it, or none.
type memory struct {
	mu      sync.Mutex
	levels  map[string]level
	copies  map[string]level
	planted string
}

func (m *memory) do(_ context.Context, a asked) (got, error) {
	m.mu.Lock()
	was := m.levels[a.sku]
	if m.planted == "a lock is missing" {
		m.mu.Unlock()
		runtime.Gosched()
		m.mu.Lock()
	}
	defer m.mu.Unlock()
	if m.planted == "reads come from a copy that lags" && a.op == "read" {
		old := m.copies[a.sku]
		m.copies[a.sku] = was
		was = old
	}
	next, g := was.next(a)
	if a.op != "read" {
		m.levels[a.sku] = next
	}
	return g, nil
}

func TestMistakesAreNotLinearizable(t *testing.T) {
	t.Parallel()
	for _, planted := range []string{"", "a lock is missing", "reads come from a copy that lags"} {
		found := false
		for range 20 { // a missing lock shows only where two meet
			start := func() map[string]level { return map[string]level{"BOOK": {onHand: opening}, "PEN": {onHand: opening}} }
			m := &memory{levels: start(), copies: start(), planted: planted}
			if found = !linearizable(t, record(t, []shelves{m}, 60)); found {
				break
			}
		}
		if found != (planted != "") {
			t.Errorf("%q: found %v", planted, found)
		}
	}
}
