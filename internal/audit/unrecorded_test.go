package audit

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Units of an order that is recorded when it is decided are on their way as long as Orders says that there may be such orders, and
// that for an hour at most. They are nobody's to repair.
func TestUnitsOfAnOrderThatIsNotRecordedAreOnTheirWay(t *testing.T) {
	t.Parallel()
	leave := func(from, to string, age time.Duration) Claim {
		return Claim{Order: from, What: OrderUnrecorded, Ref: to, Since: time.Now().Add(-age)}
	}
	known := func(id string, w What) Claim { return Claim{Order: id, What: w} }
	for name, tc := range map[string]struct {
		orders func() []Claim
		units  []Claim
		onWay  int64
		broken []string // ids
	}{
		"none may be": {func() []Claim { return nil }, []Claim{known("b", UnitsHeld)}, 0, []string{"b"}},
		"within":      {func() []Claim { return []Claim{leave("b", "d", 0)} }, []Claim{known("b", UnitsHeld), known("c", UnitsHeld)}, 2, nil},
		"around":      {func() []Claim { return []Claim{leave("b", "d", 0)} }, []Claim{known("a", UnitsHeld), known("d", UnitsHeld)}, 0, []string{"a", "d"}},
		"two, one within the other": {func() []Claim { return []Claim{leave("a", "f", 0), leave("b", "c", 0)} },
			[]Claim{known("b", UnitsHeld), known("e", UnitsHeld), known("f", UnitsHeld)}, 2, []string{"f"}},
		"one after the other": {func() []Claim { return []Claim{leave("a", "b", 0), leave("c", "e", 0)} },
			[]Claim{known("b", UnitsHeld), known("d", UnitsHeld)}, 1, []string{"b"}},
		"for too long":       {func() []Claim { return []Claim{leave("a", "c", 2*time.Hour)} }, []Claim{known("b", UnitsHeld)}, 0, []string{"b"}},
		"the order is off":   {func() []Claim { return []Claim{leave("a", "c", 0), known("b", OrderOff)} }, []Claim{known("b", UnitsHeld)}, 0, []string{"b"}},
		"the order stands":   {func() []Claim { return []Claim{leave("a", "c", 0), known("b", OrderConfirmed)} }, []Claim{known("b", UnitsHeld)}, 0, nil},
		"nothing is held":    {func() []Claim { return []Claim{leave("a", "c", 0)} }, nil, 0, nil},
		"money is held":      {func() []Claim { return []Claim{leave("a", "c", 0)} }, []Claim{known("b", MoneyHeld)}, 0, []string{"b"}},
		"units have left it": {func() []Claim { return []Claim{leave("a", "c", 0)} }, []Claim{known("b", UnitsTaken)}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, err := Run(t.Context(), always(record{name: "orders", claims: tc.orders()}, record{name: "inventory", claims: tc.units}))
				if err != nil {
					t.Fatal(err)
				}
				var onWay int64
				for _, w := range r.OnItsWay {
					onWay += w.Count
				}
				var broken []string
				for _, v := range r.Violations {
					broken = append(broken, v.Repair.Of)
				}
				slices.Sort(broken)
				if broken = slices.Compact(broken); onWay != tc.onWay || !slices.Equal(broken, tc.broken) && len(broken)+len(tc.broken) > 0 {
					t.Errorf("%d on their way and %v broken; want %d and %v: %+v %+v", onWay, broken, tc.onWay, tc.broken, r.OnItsWay, r.Violations)
				}
			})
		})
	}
	// A leave is no order: whether Orders was restored from an old backup is seen by its orders.
	r, err := Run(t.Context(), always(record{name: "orders", claims: []Claim{known("a", OrderConfirmed), leave("b", "c", 0)}},
		record{name: "inventory", claims: []Claim{known("a", UnitsHeld), known("d", UnitsHeld)}}))
	if err != nil || r.Newest != "a" || !slices.Equal(r.Forgotten(), []string{"d"}) {
		t.Errorf("newest %s, forgotten %v, %v", r.Newest, r.Forgotten(), err)
	}
}
