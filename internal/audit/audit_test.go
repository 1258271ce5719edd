package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// record is a context's records in memory.
type record struct {
	name   string
	counts map[string]int64
	broken []Violation
	claims []Claim
	err    error // of Claims, after the claims
	check  error
	closed *int
}

func (r record) Name() string { return r.name }
func (r record) States() []What {
	return map[string][]What{
		"orders": {OrderPending, OrderConfirmed, OrderOff}, "inventory": {UnitsHeld, UnitsTaken}, "payments": {MoneyHeld, ProviderHeld},
	}[r.name]
}
func (r record) Check(context.Context) (map[string]int64, []Violation, error) {
	return r.counts, r.broken, r.check
}
func (r record) Claims(_ context.Context, yield func(Claim) bool) error {
	for _, c := range r.claims {
		if !yield(c) {
			return nil
		}
	}
	return r.err
}
func (r record) Close() error {
	if r.closed != nil {
		*r.closed++
	}
	return nil
}

// always opens the same records.
func always(records ...record) func(context.Context) ([]Source, error) {
	return func(context.Context) ([]Source, error) {
		var sources []Source
		for _, r := range records {
			sources = append(sources, r)
		}
		return sources, nil
	}
}

// claims makes the records of three contexts for one order.
func claims(order []Claim, units, books, provider int) []record {
	held := func(n int, what What, ref string) (cs []Claim) {
		for i := range n {
			cs = append(cs, Claim{Order: "o1", What: what, Amount: 500, Currency: "GBP", Ref: fmt.Sprint(ref, i)})
		}
		return cs
	}
	for i := range order {
		order[i].Order = "o1"
	}
	return []record{
		{name: "orders", claims: order}, {name: "inventory", claims: held(units, UnitsHeld, "")},
		{name: "payments", claims: append(held(books, MoneyHeld, "p"), held(provider, ProviderHeld, "c")...)},
	}
}

// ruleCase is what three contexts say about one order, and the rules that it breaks, sorted.
type ruleCase struct {
	order                  []Claim
	units, books, provider int
	broken                 []string // rules, sorted
}

func ruleCases() map[string]ruleCase {
	paid := Claim{What: OrderConfirmed, Amount: 500, Currency: "GBP"}
	return map[string]ruleCase{
		"nothing held for nothing":                     {},
		"a confirmed order with its units and money":   {[]Claim{paid}, 1, 1, 1, nil},
		"a free order":                                 {[]Claim{{What: OrderConfirmed}}, 1, 0, 0, nil},
		"a pending order before its payment":           {[]Claim{{What: OrderPending}}, 1, 0, 0, nil},
		"a pending order with an unknown outcome":      {[]Claim{{What: OrderPending}}, 1, 0, 1, nil},
		"a rejected order":                             {[]Claim{{What: OrderOff}}, 0, 0, 0, nil},
		"a confirmed order without units":              {[]Claim{paid}, 0, 1, 1, []string{ConfirmedOrderHasItsUnits}},
		"a confirmed order whose units were taken":     {[]Claim{paid, {What: UnitsTaken}}, 0, 1, 1, nil},
		"a pending order that nobody drives":           {[]Claim{{What: OrderPending, Past: true}}, 1, 0, 0, []string{PendingOrderIsDriven}},
		"units of no order":                            {nil, 1, 0, 0, []string{ReservationHasLiveOrder}},
		"units of a rejected order":                    {[]Claim{{What: OrderOff}}, 1, 0, 0, []string{ReservationHasLiveOrder}},
		"our money of no order":                        {nil, 0, 1, 0, []string{MoneyHasLiveOrder}},
		"the provider's money of no order":             {nil, 0, 0, 1, []string{MoneyHasLiveOrder}},
		"money of a cancelled order":                   {[]Claim{{What: OrderOff}}, 0, 1, 1, []string{MoneyHasLiveOrder, MoneyHasLiveOrder}},
		"a confirmed order without money in our books": {[]Claim{paid}, 1, 0, 1, []string{ConfirmedOrderIsPaid}},
		"a confirmed order that the provider lacks":    {[]Claim{paid}, 1, 1, 0, []string{ConfirmedOrderIsPaid}},
		"another amount":                               {[]Claim{{What: OrderConfirmed, Amount: 501, Currency: "GBP"}}, 1, 1, 1, []string{ConfirmedOrderIsPaid, ConfirmedOrderIsPaid}},
		"another currency":                             {[]Claim{{What: OrderConfirmed, Amount: 500, Currency: "EUR"}}, 1, 1, 1, []string{ConfirmedOrderIsPaid, ConfirmedOrderIsPaid}},
		"a free order that was charged":                {[]Claim{{What: OrderConfirmed}}, 1, 1, 1, []string{OrderIsChargedOnce}},
		"charged twice by the provider":                {[]Claim{paid}, 1, 1, 2, []string{OrderIsChargedOnce}},
		"charged twice in our books":                   {[]Claim{paid}, 1, 2, 1, []string{OrderIsChargedOnce}},
		"charged twice while it is pending":            {[]Claim{{What: OrderPending}}, 1, 0, 2, []string{OrderIsChargedOnce}},
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	for name, c := range ruleCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, err := Run(t.Context(), always(claims(c.order, c.units, c.books, c.provider)...))
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, v := range r.Violations {
					got = append(got, v.Rule)
					if !strings.Contains(v.Detail, "o1") || strings.Contains(v.Detail, "\n") {
						t.Errorf("%q is not one line with the order's id", v.Detail)
					}
				}
				if !slices.Equal(got, c.broken) || r.OK != (len(c.broken) == 0) {
					t.Errorf("ok %v, %v; want %v", r.OK, r.Violations, c.broken)
				}
			})
		})
	}
}

func TestEachRuleIsBrokenByACase(t *testing.T) {
	t.Parallel()
	broken := map[string]bool{}
	for _, c := range ruleCases() {
		for _, rule := range c.broken {
			broken[rule] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(broken)), slices.Sorted(slices.Values(Rules())); !slices.Equal(got, want) {
		t.Errorf("cases break %v of the rules %v", got, want)
	}
}

func TestReportHasTheContextsOwnCountsAndViolations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		own := Violation{"on_hand_is_sum_of_movements", "A: 5 on hand, movements 4"}
		r, err := Run(t.Context(), always(record{name: "inventory", counts: map[string]int64{"items": 1}, broken: []Violation{own}}, record{name: "orders"}))
		want := Report{Counts: map[string]map[string]int64{"inventory": {"items": 1}, "orders": nil}, Violations: []Violation{own}, Passes: 5}
		if d := gocmp.Diff(want, r); d != "" || err != nil {
			t.Error(err, d)
		}
	})
}

// moving opens records that change from pass to pass.
func moving(passes ...[]record) func(context.Context) ([]Source, error) {
	n := 0
	return func(ctx context.Context) ([]Source, error) {
		r := passes[min(n, len(passes)-1)]
		n++
		return always(r...)(ctx)
	}
}

func TestWhatOnlyMovesIsNotBroken(t *testing.T) {
	t.Parallel()
	held := func(order string) []record {
		return []record{{name: "orders"}, {name: "inventory", claims: []Claim{{Order: order, What: UnitsHeld}}}}
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		// Each pass catches another order between its reservation and its row.
		r, err := Run(t.Context(), moving(held("o1"), held("o2")))
		if err != nil || !r.OK || r.Passes != 2 || len(r.Violations) != 0 {
			t.Errorf("%+v, %v; want ok after the second pass", r, err)
		}
		if d := time.Since(begin); d != pauses[0] {
			t.Errorf("it took %v", d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		both := []record{{name: "orders"}, {name: "inventory", claims: []Claim{{Order: "o1", What: UnitsHeld}, {Order: "o3", What: UnitsHeld}}}}
		r, err := Run(t.Context(), moving(held("o1"), both, held("o1"), both, held("o1")))
		if err != nil || r.OK || r.Passes != 5 || len(r.Violations) != 1 || !strings.Contains(r.Violations[0].Detail, "o1") {
			t.Errorf("%+v, %v; want the one violation that all passes saw", r, err)
		}
	})
}

func TestRunFailsWhenRecordsCannotBeRead(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	closed := 0
	for name, open := range map[string]func(context.Context) ([]Source, error){
		"opening":    func(context.Context) ([]Source, error) { return nil, gone },
		"checking":   always(record{name: "orders", check: gone, closed: &closed}),
		"claims":     always(record{name: "orders", closed: &closed}, record{name: "payments", claims: []Claim{{Order: "a"}, {Order: "b"}}, err: gone, closed: &closed}),
		"first read": always(record{name: "orders", err: gone, closed: &closed}),
	} {
		if r, err := Run(t.Context(), open); !errors.Is(err, gone) || r.OK {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if closed != 4 {
		t.Errorf("%d sources closed, want 4", closed)
	}
}

func TestClaimsOutOfOrderAreAnErrorAndNoViolation(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), always(record{name: "orders", claims: []Claim{{Order: "b"}, {Order: "a"}}}))
	if err == nil || !strings.Contains(err.Error(), "orders states its claims out of order: a after b") {
		t.Errorf("%v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, always(record{name: "inventory", claims: []Claim{{Order: "o", What: UnitsHeld}}})); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// The merge gives each order once, in order, with exactly the claims that a map of all of them would hold.
func TestJoinIsAMapInConstantMemory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		claim := rapid.Custom(func(t *rapid.T) Claim {
			return Claim{
				Order: rapid.StringMatching(`[a-e]{1,2}`).Draw(t, "order"), What: What(rapid.IntRange(0, 5).Draw(t, "what")),
				Amount: rapid.Int64Range(0, 3).Draw(t, "amount"),
			}
		})
		var sources []Source
		naive := map[string][]Claim{}
		for i := range rapid.IntRange(0, 4).Draw(t, "sources") {
			cs := rapid.SliceOfN(claim, 0, 12).Draw(t, "claims")
			slices.SortStableFunc(cs, func(a, b Claim) int { return cmp.Compare(a.Order, b.Order) })
			sources = append(sources, record{name: fmt.Sprint(i), claims: cs})
			for _, c := range cs {
				naive[c.Order] = append(naive[c.Order], c)
			}
		}
		got := map[string][]Claim{}
		var order []string
		err := join(t.Context(), sources, func(cs []Claim) {
			order = append(order, cs[0].Order)
			got[cs[0].Order] = slices.Clone(cs)
		})
		if err != nil {
			t.Fatal(err)
		}
		if d := gocmp.Diff(naive, got); d != "" {
			t.Error(d)
		}
		if d := gocmp.Diff(slices.Sorted(maps.Keys(naive)), order); d != "" && len(order)+len(naive) > 0 {
			t.Error(d)
		}
	})
}

func TestJoinStopsItsSources(t *testing.T) {
	t.Parallel()
	stopped := false
	// As a source does whose transaction lives in another goroutine.
	endless := source(func(yield func(Claim) bool) error {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; yield(Claim{Order: fmt.Sprintf("%09d", i)}); i++ {
			}
			stopped = true
		}()
		<-done
		return nil
	})
	bad := record{name: "bad", claims: []Claim{{Order: "000000002"}, {Order: "000000001"}}}
	if err := join(t.Context(), []Source{endless, bad}, func([]Claim) {}); err == nil || !stopped {
		t.Errorf("%v, stopped %v", err, stopped)
	}
}

// source is a Source of claims alone.
type source func(yield func(Claim) bool) error

func (source) Name() string   { return "endless" }
func (source) States() []What { return nil }
func (source) Check(context.Context) (map[string]int64, []Violation, error) {
	return nil, nil, nil
}
func (s source) Claims(_ context.Context, yield func(Claim) bool) error { return s(yield) }
func (source) Close() error                                             { return nil }
