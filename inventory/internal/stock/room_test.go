package stock

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// shop is a room with BOOK (5 tracked), PEN (0 tracked) and GIFT (not tracked).
func shop() *Room {
	r := NewRoom(noon)
	r.AddLevel("BOOK", true, Level{Location: Default, OnHand: 5})
	r.AddLevel("PEN", true, Level{Location: Default})
	r.AddLevel("GIFT", false, Level{Location: Default})
	r.SetTitle("BOOK", "A book")
	return r
}

func mustSum(t interface{ Fatal(...any) }, lines ...Line) []Line {
	sum, err := Sum(lines)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func level(r *Room, sku string) Level { return *r.shelves[sku].level(Default) }

func TestReserve(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		lines []Line
		want  Answer
	}{
		{"holds what is there", []Line{{"BOOK", 5}}, Answer{State: Reserved, Lines: []Line{{"BOOK", 5}}}},
		{"sums the lines of one SKU before it looks", []Line{{"BOOK", 3}, {"GIFT", 1}, {"BOOK", 3}},
			Answer{State: Refused, Shortages: []Shortage{{SKU: "BOOK", Requested: 6, Available: 5}}}},
		{"holds an untracked item without end", []Line{{"GIFT", MaxQty}, {"GIFT", MaxQty}},
			Answer{State: Reserved, Lines: []Line{{"GIFT", 2 * MaxQty}}}},
		{"refuses an unknown SKU", []Line{{"NONE", 1}},
			Answer{State: Refused, Shortages: []Shortage{{SKU: "NONE", Requested: 1, Unknown: true}}}},
		{"takes another case for another SKU", []Line{{"book", 1}},
			Answer{State: Refused, Shortages: []Shortage{{SKU: "book", Requested: 1, Unknown: true}}}},
		{"names every shortage", []Line{{"PEN", 1}, {"NONE", 2}, {"BOOK", 9}, {"GIFT", 1}},
			Answer{State: Refused, Shortages: []Shortage{{"BOOK", 9, 5, false}, {"NONE", 2, 0, true}, {"PEN", 1, 0, false}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := shop()
			got, err := r.Reserve(Ask{ID: "a", Owner: ByOrder, Lines: mustSum(t, tt.lines...)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if got.State == Refused && len(r.Changes().Stock) != 0 {
				t.Errorf("a refusal changed %v", r.Changes().Stock)
			}
		})
	}
}

func TestReserveRefusesToPassTheGreatestNumber(t *testing.T) {
	t.Parallel()
	r := NewRoom(noon)
	r.AddLevel("GIFT", false, Level{Location: Default, Reserved: MaxUnits - 1})
	if _, err := r.Reserve(Ask{ID: "a", Lines: []Line{{"GIFT", 2}}}); !errors.Is(err, ErrOverflow) {
		t.Errorf("err = %v, want ErrOverflow", err)
	}
	if got, err := r.Reserve(Ask{ID: "b", Lines: []Line{{"GIFT", 1}}}); err != nil || got.State != Reserved {
		t.Errorf("the last unit: %v, %v", got, err)
	}
}

func TestReturnRefusesToPassTheGreatestNumber(t *testing.T) {
	t.Parallel()
	r := NewRoom(noon)
	r.AddLevel("BOOK", true, Level{Location: Default, OnHand: MaxUnits})
	r.AddReservation(Reservation{ID: "a", Owner: ByOrder, State: Committed, Lines: []Line{{"BOOK", 1}}})
	if _, err := r.Return("a", ""); !errors.Is(err, ErrOverflow) || len(r.Changes().Movements) != 0 {
		t.Errorf("err = %v, movements %v; want ErrOverflow and none", err, r.Changes().Movements)
	}
}

func TestCommitRefusesToPassTheLeastNumber(t *testing.T) {
	t.Parallel()
	for onHand, want := range map[int64]error{-MaxUnits: ErrOverflow, -MaxUnits + 1: nil} {
		r := NewRoom(noon)
		r.AddLevel("GIFT", false, Level{Location: Default, OnHand: onHand, Reserved: 1})
		r.AddReservation(Reservation{ID: "a", Owner: ByOrder, State: Reserved, Lines: []Line{{"GIFT", 1}}})
		if _, err := r.Commit("a", ""); !errors.Is(err, want) {
			t.Errorf("with %d on hand: err = %v, want %v", onHand, err, want)
		}
	}
}

// Two processes on one database lock the rows of their batches in the order in which these are written: in that of their keys.
func TestChangesComeInTheOrderOfTheirKeys(t *testing.T) {
	t.Parallel()
	r := NewRoom(noon)
	var p Problems
	skus := []string{"C", "A", "E", "B", "D"}
	for n, sku := range skus {
		r.Import(Row{N: int64(n), SKU: sku, Title: sku, OnHand: 9, Tracked: true}, "", &p)
	}
	for _, id := range []string{"r3", "r1", "r2", "r5", "r4"} {
		if a, err := r.Reserve(Ask{ID: id, Lines: []Line{{"A", 1}}}); err != nil || a.State != Reserved {
			t.Fatal(a, err)
		}
	}
	c := r.Changes()
	var items, stock, reservations []string
	for _, i := range c.Items {
		items = append(items, i.SKU)
	}
	for _, i := range c.Stock {
		stock = append(stock, i.SKU)
	}
	for _, v := range c.Reservations {
		reservations = append(reservations, v.ID)
	}
	inOrder := []string{"A", "B", "C", "D", "E"}
	if diff := cmp.Diff([][]string{inOrder, inOrder, {"r1", "r2", "r3", "r4", "r5"}}, [][]string{items, stock, reservations}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !c.At.Equal(noon) {
		t.Errorf("changed at %v, want %v", c.At, noon)
	}
}

// TestLife is the state machine of a reservation: every state and every command.
func TestLife(t *testing.T) {
	t.Parallel()
	const none State = ""
	units := []Line{{"BOOK", 2}}
	tests := []struct {
		from     State
		do       string
		to       State
		answer   State // of reserve
		err      error
		reserved int64 // of BOOK afterwards
		onHand   int64
	}{
		{none, "reserve", Reserved, Reserved, nil, 2, 5},
		{none, "release", Released, "", nil, 0, 5},
		{none, "commit", none, "", ErrNoReservation, 0, 5},
		{none, "return", none, "", ErrNoReservation, 0, 5},
		{Reserved, "reserve", Reserved, Reserved, nil, 2, 5},
		{Reserved, "release", Released, "", nil, 0, 5},
		{Reserved, "commit", Committed, "", nil, 0, 3},
		{Reserved, "return", Reserved, "", ErrNotCommitted, 2, 5},
		{Refused, "reserve", Refused, Refused, nil, 0, 5},
		{Refused, "release", Released, "", nil, 0, 5},
		{Refused, "commit", Refused, "", ErrRefused, 0, 5},
		{Refused, "return", Refused, "", ErrRefused, 0, 5},
		{Released, "reserve", Released, Released, nil, 0, 5},
		{Released, "release", Released, "", nil, 0, 5},
		{Released, "commit", Released, "", ErrReleased, 0, 5},
		{Released, "return", Released, "", ErrReleased, 0, 5},
		{Committed, "reserve", Committed, Reserved, nil, 0, 3},
		{Committed, "release", Committed, "", ErrCommitted, 0, 3},
		{Committed, "commit", Committed, "", nil, 0, 3},
		{Committed, "return", Returned, "", nil, 0, 5},
		{Returned, "reserve", Returned, Reserved, nil, 0, 5},
		{Returned, "release", Returned, "", ErrReturned, 0, 5},
		{Returned, "commit", Returned, "", nil, 0, 5},
		{Returned, "return", Returned, "", nil, 0, 5},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s of %q", tt.do, tt.from), func(t *testing.T) {
			t.Parallel()
			r := shop()
			reserve := func(qty int64) Answer {
				a, err := r.Reserve(Ask{ID: "a", Owner: ByOrder, Lines: []Line{{"BOOK", qty}}})
				if err != nil {
					t.Fatal(err)
				}
				return a
			}
			switch tt.from {
			case Reserved:
				reserve(2)
			case Refused:
				reserve(9)
			case Released:
				if _, err := r.Release("a", ""); err != nil {
					t.Fatal(err)
				}
			case Committed, Returned:
				reserve(2)
				if _, err := r.Commit("a", ""); err != nil {
					t.Fatal(err)
				}
				if tt.from == Committed {
					break
				}
				if _, err := r.Return("a", ""); err != nil {
					t.Fatal(err)
				}
			}
			moved := len(r.Changes().Movements)
			var err error
			switch tt.do {
			case "reserve":
				if a := reserve(2); a.State != tt.answer {
					t.Errorf("answer %q, want %q", a.State, tt.answer)
				}
			case "release":
				var got Reservation
				if got, err = r.Release("a", ""); err == nil && tt.from == Reserved && !cmp.Equal(got.Lines, units) {
					t.Errorf("freed %v, want %v", got.Lines, units)
				}
			case "commit":
				var got Reservation
				if got, err = r.Commit("a", ""); err == nil {
					var want []Line // a repeat takes nothing
					if tt.from == Reserved {
						want = units
					}
					if diff := cmp.Diff(want, got.Lines); diff != "" || got.State != Committed {
						t.Errorf("state %s, took (-want +got):\n%s", got.State, diff)
					}
				}
			case "return":
				var got Reservation
				if got, err = r.Return("a", ""); err == nil {
					var want []Line // a repeat puts nothing back
					if tt.from == Committed {
						want = units
					}
					if diff := cmp.Diff(want, got.Lines); diff != "" || got.State != Returned {
						t.Errorf("state %s, put back (-want +got):\n%s", got.State, diff)
					}
				}
			}
			if tt.from == tt.to && len(r.Changes().Movements) != moved {
				t.Errorf("movements %v of what changed nothing", r.Changes().Movements[moved:])
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("err = %v, want %v", err, tt.err)
			}
			var state State
			if h, ok := r.reservations["a"]; ok {
				state = h.State
			}
			if state != tt.to {
				t.Errorf("state %q, want %q", state, tt.to)
			}
			if l := level(r, "BOOK"); l.Reserved != tt.reserved || l.OnHand != tt.onHand {
				t.Errorf("reserved %d, on hand %d; want %d, %d", l.Reserved, l.OnHand, tt.reserved, tt.onHand)
			}
		})
	}
}

func TestRepeatGivesTheFirstLines(t *testing.T) {
	t.Parallel()
	r := shop()
	for i, ask := range []Line{{"BOOK", 2}, {"GIFT", 7}} {
		got, err := r.Reserve(Ask{ID: "a", Lines: []Line{ask}})
		want := Answer{State: Reserved, Lines: []Line{{"BOOK", 2}}, Replayed: i > 0}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("attempt %d: %v (-want +got):\n%s", i+1, err, diff)
		}
	}
	if got := level(r, "GIFT").Reserved; got != 0 {
		t.Errorf("the repeat reserved %d", got)
	}
}

func TestForgottenRefusalLeavesNothing(t *testing.T) {
	t.Parallel()
	r := shop()
	if _, err := r.Reserve(Ask{ID: "a", Lines: []Line{{"PEN", 1}}, Forget: true}); err != nil {
		t.Fatal(err)
	}
	if c := r.Changes(); len(c.Reservations) != 0 || len(c.Stock) != 0 {
		t.Errorf("changes %+v, want none", c)
	}
}

func TestSum(t *testing.T) {
	t.Parallel()
	long := make([]Line, MaxLines+1)
	for i := range long {
		long[i] = Line{"A", 1}
	}
	tests := []struct {
		name  string
		lines []Line
		want  []Line // nil: refused
	}{
		{"adds up and sorts", []Line{{"b", 1}, {"B", 2}, {"a", 3}, {"b", 4}}, []Line{{"B", 2}, {"a", 3}, {"b", 5}}},
		{"keeps two SKUs that differ in case", []Line{{"a", 1}, {"A", 2}}, []Line{{"A", 2}, {"a", 1}}},
		{"takes the greatest quantity", []Line{{"a", MaxQty}}, []Line{{"a", MaxQty}}},
		{"takes 2,000 lines", long[:MaxLines], []Line{{"A", MaxLines}}},
		{"refuses no lines", nil, nil},
		{"refuses 2,001 lines", long, nil},
		{"refuses a quantity of 0", []Line{{"a", 0}}, nil},
		{"refuses a negative quantity", []Line{{"a", -1}}, nil},
		{"refuses a quantity of 2^31", []Line{{"a", MaxQty + 1}}, nil},
		{"refuses an empty SKU", []Line{{"", 1}}, nil},
		{"refuses a control character", []Line{{"a\x00", 1}}, nil},
		{"refuses what cannot be printed", []Line{{"a\u200b", 1}}, nil},
		{"takes other scripts, spaces and signs", []Line{{"本 ß-1/€", 1}}, []Line{{"本 ß-1/€", 1}}},
		{"refuses broken UTF-8", []Line{{"a\xff", 1}}, nil},
		{"refuses a SKU of 129 bytes", []Line{{string(make([]byte, 129)), 1}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Sum(tt.lines)
			if (err != nil) != (tt.want == nil) || err != nil && !errors.Is(err, ErrInvalidLines) {
				t.Fatalf("err = %v", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestConservation runs any commands in any order, several to a room as in a batch, and looks after each that nothing was made
// or lost.
func TestConservation(t *testing.T) {
	t.Parallel()
	skus := []string{"BOOK", "PEN", "GIFT"}
	ids := []string{"a", "b", "c", "d", "e", "f"}
	rapid.Check(t, func(t *rapid.T) {
		r := shop()
		moved := map[string]int64{"BOOK": 5} // the opening
		for step := range rapid.IntRange(1, 40).Draw(t, "steps") {
			id := rapid.SampledFrom(ids).Draw(t, "id")
			sku := rapid.SampledFrom(skus).Draw(t, "sku")
			before := map[string]Level{}
			for _, s := range skus {
				before[s] = level(r, s)
			}
			var err error
			switch rapid.IntRange(0, 5).Draw(t, "command") {
			case 0:
				var lines []Line
				for range rapid.IntRange(1, 4).Draw(t, "lines") {
					lines = append(lines, Line{rapid.SampledFrom(skus).Draw(t, "of"), rapid.Int64Range(1, 4).Draw(t, "qty")})
				}
				_, err = r.Reserve(Ask{ID: id, Owner: ByOrder, Lines: mustSum(t, lines...)})
			case 1:
				_, err = r.Release(id, "")
			case 2:
				_, err = r.Commit(id, "")
			case 3:
				_, err = r.Adjust(Adjustment{SKU: sku, Location: Default, Delta: rapid.Int64Range(-6, 6).Filter(func(n int64) bool { return n != 0 }).Draw(t, "delta")})
			case 4:
				_, err = r.Adjust(Adjustment{SKU: sku, Location: Default, Set: true, Expected: rapid.Int64Range(0, 6).Draw(t, "expected"), OnHand: rapid.Int64Range(0, 9).Draw(t, "on hand")})
			case 5:
				_, err = r.Return(id, "")
			}
			held := map[string]int64{}
			for _, h := range r.reservations {
				for _, l := range h.Lines {
					if h.State == Reserved {
						held[l.SKU] += l.Qty
					}
				}
			}
			sums := map[string]int64{}
			for s, n := range moved {
				sums[s] = n
			}
			out := map[string]int64{} // by order and SKU: the units that left for the order and did not come back
			for _, m := range r.Changes().Movements {
				sums[m.SKU] += m.Delta
				if m.OrderID != "" {
					out[m.OrderID+m.SKU] -= m.Delta
				}
			}
			for _, h := range r.reservations {
				for _, l := range h.Lines {
					want := map[State]int64{Committed: l.Qty}[h.State]
					if got := out[h.ID+l.SKU]; got != want {
						t.Fatalf("step %d: %d units of %s are out for %s, which is %s of %d", step, got, l.SKU, h.ID, h.State, l.Qty)
					}
				}
			}
			for _, s := range skus {
				l := level(r, s)
				if l.OnHand != sums[s] {
					t.Fatalf("step %d: on hand of %s is %d, opening and movements sum to %d", step, s, l.OnHand, sums[s])
				}
				if l.Reserved != held[s] {
					t.Fatalf("step %d: reserved of %s is %d, live reservations sum to %d", step, s, l.Reserved, held[s])
				}
				if s != "GIFT" && l.Available() < 0 {
					t.Fatalf("step %d: available of %s is %d", step, s, l.Available())
				}
				if err != nil && l != before[s] {
					t.Fatalf("step %d: refused with %v, and %s changed from %v to %v", step, err, s, before[s], l)
				}
			}
		}
	})
}
