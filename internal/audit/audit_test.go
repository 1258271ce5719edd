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
		"orders": {OrderPending, OrderConfirmed, OrderOff, OrderFulfilled, OrderReturned}, "inventory": {UnitsHeld, UnitsTaken, UnitsBack},
		"payments": {MoneyHeld, MoneyTaken, MoneyBack, ProviderHeld, ProviderTaken, ProviderBack},
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

// claims makes the records of three contexts for one order. Money is of 500 GBP.
func claims(order []Claim, holds []What) []record {
	all := []record{{name: "orders"}, {name: "inventory"}, {name: "payments"}}
	for _, c := range order {
		c.Order = "o1"
		all[0].claims = append(all[0].claims, c)
	}
	for i, w := range holds {
		c := Claim{Order: "o1", What: w, Ref: fmt.Sprint("r", i)}
		if w < MoneyHeld {
			all[1].claims = append(all[1].claims, c)
			continue
		}
		c.Amount, c.Currency = 500, "GBP"
		all[2].claims = append(all[2].claims, c)
	}
	return all
}

// ruleCase is what three contexts say about one order, and the rules that it breaks or that it is on its way under.
type ruleCase struct {
	order  []Claim
	holds  []What
	broken []string // rules, sorted
	onWay  []string // likewise
}

func ruleCases(now time.Time) map[string]ruleCase {
	minute := now.Add(-time.Minute)
	order := func(w What, amount int64, change ...func(*Claim)) []Claim {
		c := Claim{What: w, Amount: amount, Currency: "GBP"}
		if w == OrderFulfilled || w == OrderReturned {
			c.Since = minute
		}
		for _, f := range change {
			f(&c)
		}
		return []Claim{c}
	}
	answered := func(c *Claim) { c.UnitsAnswer, c.MoneyAnswer = true, true }
	units := func(c *Claim) { c.UnitsAnswer = true }
	money := func(c *Claim) { c.MoneyAnswer = true }
	since := func(c *Claim) { c.Since = minute }
	long := func(c *Claim) { c.Since = minute.Add(-Patience) }
	euro := func(c *Claim) { c.Currency = "EUR" }
	lost := func(c *Claim) { c.Past = true }
	archived := func(c *Claim) { c.Archived, c.Since, c.UnitsAnswer, c.MoneyAnswer = true, time.Time{}, true, true }
	holds := func(w ...What) []What { return w }
	broken := func(rules ...string) []string { return rules }
	waits := broken(OrderIsAnswered)
	return map[string]ruleCase{
		"nothing held for nothing": {},

		"a pending order before its payment":        {order(OrderPending, 500), holds(UnitsHeld), nil, nil},
		"a pending order with an unknown outcome":   {order(OrderPending, 500), holds(UnitsHeld, ProviderHeld), nil, nil},
		"a pending order that is driven":            {order(OrderPending, 500, since), holds(UnitsHeld), nil, broken(PendingOrderIsDriven)},
		"a pending order that nobody drives now":    {order(OrderPending, 500, since, lost), holds(UnitsHeld), broken(PendingOrderIsDriven), nil},
		"a pending order that nobody drives":        {order(OrderPending, 500, lost), holds(UnitsHeld), broken(PendingOrderIsDriven), nil},
		"charged twice while it is pending":         {order(OrderPending, 500), holds(UnitsHeld, ProviderHeld, ProviderHeld), broken(OrderIsChargedOnce), nil},
		"a rejected order":                          {order(OrderOff, 500), nil, nil, nil},
		"a rejected order that was refunded":        {order(OrderOff, 500), holds(MoneyBack, ProviderBack), nil, nil},
		"units of no order":                         {nil, holds(UnitsHeld), broken(ReservationHasLiveOrder), nil},
		"units of a rejected order":                 {order(OrderOff, 500), holds(UnitsHeld), broken(ReservationHasLiveOrder), nil},
		"units that left for a rejected order":      {order(OrderOff, 500), holds(UnitsTaken), broken(ReservationHasLiveOrder), nil},
		"our money of no order":                     {nil, holds(MoneyHeld), broken(MoneyHasLiveOrder), nil},
		"our captured money of no order":            {nil, holds(MoneyTaken), broken(MoneyHasLiveOrder), nil},
		"the provider's money of no order":          {nil, holds(ProviderHeld), broken(MoneyHasLiveOrder), nil},
		"the provider's captured money of no order": {nil, holds(ProviderTaken), broken(MoneyHasLiveOrder), nil},
		"money of a rejected order":                 {order(OrderOff, 500), holds(MoneyHeld, ProviderHeld), broken(MoneyHasLiveOrder, MoneyHasLiveOrder), nil},

		"a confirmed order with its units and money":   {order(OrderConfirmed, 500), holds(UnitsHeld, MoneyHeld, ProviderHeld), nil, nil},
		"a confirmed order, taken by hand":             {order(OrderConfirmed, 500), holds(UnitsTaken, MoneyTaken, ProviderTaken), nil, nil},
		"a free order":                                 {order(OrderConfirmed, 0), holds(UnitsHeld), nil, nil},
		"a confirmed order without units":              {order(OrderConfirmed, 500), holds(MoneyHeld, ProviderHeld), broken(ConfirmedOrderHasItsUnits), nil},
		"a confirmed order whose units came back":      {order(OrderConfirmed, 500), holds(UnitsBack, MoneyHeld, ProviderHeld), broken(ConfirmedOrderHasItsUnits), nil},
		"a confirmed order without money in our books": {order(OrderConfirmed, 500), holds(UnitsHeld, ProviderHeld), broken(ConfirmedOrderIsPaid), nil},
		"a confirmed order that the provider lacks":    {order(OrderConfirmed, 500), holds(UnitsHeld, MoneyHeld), broken(ConfirmedOrderIsPaid), nil},
		"a confirmed order that was refunded":          {order(OrderConfirmed, 500), holds(UnitsHeld, MoneyBack, ProviderBack), broken(ConfirmedOrderIsPaid, ConfirmedOrderIsPaid), nil},
		"another amount":                               {order(OrderConfirmed, 501), holds(UnitsHeld, MoneyHeld, ProviderHeld), broken(ConfirmedOrderIsPaid, ConfirmedOrderIsPaid), nil},
		"another currency":                             {order(OrderConfirmed, 500, euro), holds(UnitsHeld, MoneyHeld, ProviderHeld), broken(ConfirmedOrderIsPaid, ConfirmedOrderIsPaid), nil},
		"a free order that was charged":                {order(OrderConfirmed, 0), holds(UnitsHeld, MoneyHeld, ProviderHeld), broken(OrderIsChargedOnce), nil},
		"charged twice by the provider":                {order(OrderConfirmed, 500), holds(UnitsHeld, MoneyHeld, ProviderHeld, ProviderTaken), broken(OrderIsChargedOnce), nil},
		"charged twice in our books":                   {order(OrderConfirmed, 500), holds(UnitsHeld, MoneyHeld, MoneyHeld, ProviderHeld), broken(OrderIsChargedOnce), nil},

		"cancelled a minute ago, all still held":         {order(OrderOff, 500, since), holds(UnitsHeld, MoneyHeld, ProviderHeld), nil, waits},
		"cancelled, the units are back":                  {order(OrderOff, 500, since, units), holds(MoneyHeld, ProviderHeld), nil, waits},
		"cancelled, the answers are on their way":        {order(OrderOff, 500, since), nil, nil, waits},
		"cancelled and answered":                         {order(OrderOff, 500, since, answered), nil, nil, nil},
		"cancelled and answered, and units held":         {order(OrderOff, 500, since, answered), holds(UnitsHeld), broken(ReservationHasLiveOrder), nil},
		"cancelled and answered, and money kept":         {order(OrderOff, 500, since, answered), holds(MoneyTaken, ProviderTaken), broken(MoneyHasLiveOrder, MoneyHasLiveOrder), nil},
		"cancelled, Payments silent for over an hour":    {order(OrderOff, 500, long, units), holds(MoneyHeld, ProviderHeld), broken(OrderIsAnswered), nil},
		"cancelled, nobody answered for over an hour":    {order(OrderOff, 500, long), nil, broken(OrderIsAnswered, OrderIsAnswered), nil},
		"fulfilled a minute ago, nothing happened yet":   {order(OrderFulfilled, 500), holds(UnitsHeld, MoneyHeld, ProviderHeld), nil, waits},
		"fulfilled, and the provider was first":          {order(OrderFulfilled, 500, units), holds(UnitsTaken, MoneyHeld, ProviderTaken), nil, waits},
		"fulfilled and answered":                         {order(OrderFulfilled, 500, answered), holds(UnitsTaken, MoneyTaken, ProviderTaken), nil, nil},
		"fulfilled and refunded by hand":                 {order(OrderFulfilled, 500, answered), holds(UnitsTaken, MoneyBack, ProviderBack), nil, nil},
		"fulfilled for nothing":                          {order(OrderFulfilled, 0, answered), holds(UnitsTaken), nil, nil},
		"fulfilled for nothing, and charged":             {order(OrderFulfilled, 0, answered), holds(UnitsTaken, MoneyTaken, ProviderTaken), broken(OrderIsChargedOnce), nil},
		"fulfilled, and nobody knows of its units":       {order(OrderFulfilled, 500, money), holds(MoneyTaken, ProviderTaken), broken(ConfirmedOrderHasItsUnits), waits},
		"fulfilled, and nobody knows of its money":       {order(OrderFulfilled, 500, units), holds(UnitsTaken), broken(FulfilledOrderIsCaptured, FulfilledOrderIsCaptured), waits},
		"fulfilled and answered, and still on the shelf": {order(OrderFulfilled, 500, answered), holds(UnitsHeld, MoneyTaken, ProviderTaken), broken(FulfilledOrderIsShipped), nil},
		"fulfilled and answered, and not captured":       {order(OrderFulfilled, 500, answered), holds(UnitsTaken, MoneyHeld, ProviderHeld), broken(FulfilledOrderIsCaptured, FulfilledOrderIsCaptured), nil},
		"fulfilled, and the hold had lapsed":             {order(OrderFulfilled, 500, answered), holds(UnitsTaken), broken(FulfilledOrderIsCaptured, FulfilledOrderIsCaptured), nil},
		"fulfilled, captured in our books only":          {order(OrderFulfilled, 500, answered), holds(UnitsTaken, MoneyTaken, ProviderHeld), broken(FulfilledOrderIsCaptured), nil},
		"fulfilled, captured for another amount":         {order(OrderFulfilled, 501, answered), holds(UnitsTaken, MoneyTaken, ProviderTaken), broken(FulfilledOrderIsCaptured, FulfilledOrderIsCaptured), nil},
		"fulfilled, captured twice":                      {order(OrderFulfilled, 500, answered), holds(UnitsTaken, MoneyTaken, ProviderTaken, ProviderTaken), broken(OrderIsChargedOnce), nil},
		"fulfilled, silence for over an hour":            {order(OrderFulfilled, 500, long), holds(UnitsHeld, MoneyHeld, ProviderHeld), broken(OrderIsAnswered, OrderIsAnswered), nil},
		"returned a minute ago, nothing happened yet":    {order(OrderReturned, 500), holds(UnitsTaken, MoneyTaken, ProviderTaken), nil, waits},
		"returned before the fulfilment was handled":     {order(OrderReturned, 500), holds(UnitsHeld, MoneyHeld, ProviderHeld), nil, waits},
		"returned, the answers are on their way":         {order(OrderReturned, 500), holds(UnitsBack, MoneyBack, ProviderBack), nil, waits},
		"returned and answered":                          {order(OrderReturned, 500, answered), holds(UnitsBack, MoneyBack, ProviderBack), nil, nil},
		"returned, voided instead of captured":           {order(OrderReturned, 500, answered), holds(UnitsBack), nil, nil},
		"returned for nothing":                           {order(OrderReturned, 0, answered), holds(UnitsBack), nil, nil},
		"returned for nothing, and charged once":         {order(OrderReturned, 0, answered), holds(UnitsBack, MoneyBack, ProviderBack), broken(OrderIsChargedOnce), nil},
		"returned, and nobody knows of its units":        {order(OrderReturned, 500, money), holds(MoneyBack, ProviderBack), broken(ReturnedOrderIsBack), waits},
		"returned and answered, and not on the shelf":    {order(OrderReturned, 500, answered), holds(UnitsTaken, MoneyBack, ProviderBack), broken(ReturnedOrderIsBack), nil},
		"returned and answered, and money kept":          {order(OrderReturned, 500, answered), holds(UnitsBack, MoneyTaken, ProviderTaken), broken(ReturnedOrderIsRefunded, ReturnedOrderIsRefunded), nil},
		"returned and answered, and money held":          {order(OrderReturned, 500, answered), holds(UnitsBack, MoneyHeld, ProviderHeld), broken(ReturnedOrderIsRefunded, ReturnedOrderIsRefunded), nil},
		"returned, refunded in our books only":           {order(OrderReturned, 500, answered), holds(UnitsBack, MoneyBack), broken(ReturnedOrderIsRefunded), nil},
		"archived, and in no other database any more":    {order(OrderFulfilled, 500, archived), holds(ProviderTaken), nil, nil},
		"archived, and still in all databases":           {order(OrderFulfilled, 500, archived), holds(UnitsTaken, MoneyTaken, ProviderTaken), nil, nil},
		"archived, and refunded at the provider":         {order(OrderFulfilled, 500, archived), holds(ProviderBack), nil, nil},
		"archived, and the provider never took it":       {order(OrderFulfilled, 500, archived), nil, broken(FulfilledOrderIsCaptured), nil},
		"archived, and charged twice":                    {order(OrderFulfilled, 500, archived), holds(ProviderTaken, ProviderTaken), broken(OrderIsChargedOnce), nil},
		"archived, and charged another amount":           {order(OrderFulfilled, 501, archived), holds(ProviderTaken), broken(FulfilledOrderIsCaptured), nil},
		"archived, and its units never left":             {order(OrderFulfilled, 500, archived), holds(UnitsHeld, ProviderTaken), broken(FulfilledOrderIsShipped), nil},
		"archived for nothing, and charged":              {order(OrderFulfilled, 0, archived), holds(ProviderTaken), broken(OrderIsChargedOnce), nil},
		"archived when it was returned":                  {order(OrderReturned, 500, archived), holds(ProviderBack), nil, nil},
		"archived when it was returned, and money kept":  {order(OrderReturned, 500, archived), holds(ProviderTaken), broken(ReturnedOrderIsRefunded), nil},
		"archived when it was off":                       {order(OrderOff, 500, archived), nil, nil, nil},
		"archived when it was off, and units held":       {order(OrderOff, 500, archived), holds(UnitsHeld), broken(ReservationHasLiveOrder), nil},
		"archived when it was off, and money held":       {order(OrderOff, 500, archived), holds(ProviderHeld), broken(MoneyHasLiveOrder), nil},
		"returned, refunded in part":                     {order(OrderReturned, 501, answered), holds(UnitsBack, MoneyBack, ProviderBack), broken(ReturnedOrderIsRefunded, ReturnedOrderIsRefunded), nil},
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	for name := range ruleCases(time.Time{}) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := ruleCases(time.Now())[name]
				r, err := Run(t.Context(), always(claims(c.order, c.holds)...))
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
				var onWay []string
				for _, w := range r.OnItsWay {
					onWay = append(onWay, w.Rule)
					if !strings.Contains(w.Oldest, "o1") || w.OldestSeconds < 60 || w.Count < 1 {
						t.Errorf("%+v does not say what is on its way, and for how long", w)
					}
				}
				if !slices.Equal(onWay, c.onWay) {
					t.Errorf("on its way %v, want %v", r.OnItsWay, c.onWay)
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
	for _, c := range ruleCases(time.Time{}) {
		for _, rule := range c.broken {
			broken[rule] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(broken)), slices.Sorted(slices.Values(Rules())); !slices.Equal(got, want) {
		t.Errorf("cases break %v of the rules %v", got, want)
	}
}

func TestWhatIsOnItsWayIsSummedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		found := []Violation{
			{Rule: "outbox_drained", Detail: "event b", Since: now.Add(-time.Minute)},
			{Rule: "outbox_drained", Detail: "event a", Since: now.Add(-Patience)},
			{Rule: "outbox_drained", Detail: "and 40 more", Since: now, Times: 40},
			{Rule: "outbox_drained", Detail: "event 0", Since: now.Add(-Patience - 1)},
			{Rule: "inbox_drained", Detail: "event of a clock ahead", Since: now.Add(time.Hour)},
		}
		r, err := Run(t.Context(), always(record{name: "orders", broken: found}))
		want := Report{
			Counts: map[string]map[string]int64{"orders": nil}, Passes: 5, Violations: []Violation{{Rule: "outbox_drained", Detail: "event 0"}},
			OnItsWay: []Waiting{
				{Rule: "inbox_drained", Count: 1, Oldest: "event of a clock ahead"},
				{Rule: "outbox_drained", Count: 42, OldestSeconds: 3600, Oldest: "event a"},
			},
		}
		if d := gocmp.Diff(want, r); d != "" || err != nil {
			t.Error(err, d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		waiting := []record{{name: "orders", broken: []Violation{{Rule: "outbox_drained", Detail: "event a", Since: time.Now()}}}}
		r, err := Run(t.Context(), moving(waiting, []record{{name: "orders"}}))
		if err != nil || !r.OK || r.Passes != 2 || len(r.OnItsWay) != 0 {
			t.Errorf("%+v, %v; want nothing on its way at the second reading", r, err)
		}
	})
}

// Where a context is not read, nothing is known of its answers.
func TestContextsThatAreNotReadAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := claims([]Claim{{What: OrderFulfilled, Amount: 500, Currency: "GBP", Since: time.Now().Add(-2 * Patience)}}, nil)
		for _, tt := range []struct {
			read   []record
			broken int
		}{{all[:1], 0}, {all[:2], 2}, {[]record{all[0], all[2]}, 3}, {all[1:], 0}} {
			r, err := Run(t.Context(), always(tt.read...))
			if err != nil || len(r.Violations) != tt.broken || len(r.OnItsWay) != 0 {
				t.Errorf("%d contexts: %+v, %v; want %d violations", len(tt.read), r, err, tt.broken)
			}
		}
	})
}

func TestReportHasTheContextsOwnCountsAndViolations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		own := Violation{Rule: "on_hand_is_sum_of_movements", Detail: "A: 5 on hand, movements 4"}
		r, err := Run(t.Context(), always(record{name: "inventory", counts: map[string]int64{"items": 1}, broken: []Violation{own}}, record{name: "orders"}))
		want := Report{Counts: map[string]map[string]int64{"inventory": {"items": 1}, "orders": nil}, OnItsWay: []Waiting{}, Violations: []Violation{own}, Passes: 5}
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

// A context that was restored empty breaks a rule for each order there is.
func TestViolationsPastTheBoundAreCounted(t *testing.T) {
	t.Parallel()
	const past = 7
	many := record{name: "inventory"}
	for n := range mostNamed + past {
		many.claims = append(many.claims, Claim{Order: fmt.Sprintf("o%06d", n), What: UnitsHeld})
	}
	more := many
	more.claims = append(slices.Clone(many.claims), Claim{Order: "p", What: UnitsHeld})
	more.broken = []Violation{{Rule: ReservationHasLiveOrder, Detail: "and 3 more", Times: 3}}
	synctest.Test(t, func(t *testing.T) {
		r, err := Run(t.Context(), moving([]record{{name: "orders"}, more}, []record{{name: "orders"}, many}))
		if err != nil || r.OK || len(r.Violations) != mostNamed+1 {
			t.Fatalf("ok %v, %d violations, %v; want %d and the rest in one line", r.OK, len(r.Violations), err, mostNamed)
		}
		if last := r.Violations[mostNamed].Detail; last != fmt.Sprintf("and %d more", past) || !strings.Contains(r.Violations[0].Detail, "o000000") {
			t.Errorf("the first is %v, the last %q", r.Violations[0], last)
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
