package order

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// placed is a shop with one order that has come to a state, by the commands that lead there.
func placed(t *testing.T, to State) (*shop, ID) {
	t.Helper()
	silent := func(call string) (error, error) {
		if call == "authorize" && to == Pending {
			return nil, errOutcomeUnknown
		}
		return nil, nil
	}
	s := newShop(10, silent)
	p := placement(2, 500)
	s.till.decline = to == Rejected
	id := mustPlace(t, s, p).Order.ID
	for _, step := range map[State][]State{Cancelled: {Cancelled}, Fulfilled: {Fulfilled}, Returned: {Fulfilled, Returned}}[to] {
		if _, err := command(t.Context(), s, step, id); err != nil {
			t.Fatalf("to %s: %v", step, err)
		}
	}
	if o := s.store.orders[id]; o.State != to {
		t.Fatalf("the order is %s, want %s", o.State, to)
	}
	return s, id
}

// command is what leads to a state after the confirmation.
func command(ctx context.Context, s *shop, to State, id ID) (*Order, error) {
	switch to {
	case Fulfilled:
		return s.Fulfil(ctx, id)
	case Returned:
		return s.Return(ctx, id, "too small")
	}
	return s.Cancel(ctx, id, "ordered twice")
}

// Every state and every command: where it leads, or with which code it is refused and then changes nothing.
func TestCommandsAfterTheConfirmation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		from, do, to State
		code         string
	}{
		{Pending, Cancelled, Rejected, ""},
		{Pending, Fulfilled, Pending, "not_fulfillable"},
		{Pending, Returned, Pending, "not_returnable"},
		{Rejected, Cancelled, Rejected, "not_cancellable"},
		{Rejected, Fulfilled, Rejected, "not_fulfillable"},
		{Rejected, Returned, Rejected, "not_returnable"},
		{Confirmed, Cancelled, Cancelled, ""},
		{Confirmed, Fulfilled, Fulfilled, ""},
		{Confirmed, Returned, Confirmed, "not_returnable"},
		{Cancelled, Cancelled, Cancelled, ""},
		{Cancelled, Fulfilled, Cancelled, "not_fulfillable"},
		{Cancelled, Returned, Cancelled, "not_returnable"},
		{Fulfilled, Cancelled, Fulfilled, "not_cancellable"},
		{Fulfilled, Fulfilled, Fulfilled, ""},
		{Fulfilled, Returned, Returned, ""},
		{Returned, Cancelled, Returned, "not_cancellable"},
		{Returned, Fulfilled, Returned, "not_fulfillable"},
		{Returned, Returned, Returned, ""},
	} {
		t.Run(fmt.Sprintf("%s when %s", tc.do, tc.from), func(t *testing.T) {
			t.Parallel()
			s, id := placed(t, tc.from)
			before := s.store.orders[id]
			s.pass(time.Hour)
			o, err := command(t.Context(), s, tc.do, id)
			if tc.code == "" && (err != nil || o.State != tc.to) {
				t.Fatalf("got %+v, %v; want %s", o, err, tc.to)
			}
			if f := fault.Of(err); tc.code != "" && (err == nil || f.Kind != fault.Conflict || f.Code != tc.code || f.Detail == "") {
				t.Fatalf("got %v, want %s and a sentence", err, tc.code)
			}
			after := s.store.orders[id]
			if after.State != tc.to {
				t.Errorf("the order is %s, want %s", after.State, tc.to)
			}
			if d := cmp.Diff(before, after); tc.from == tc.to && d != "" {
				t.Errorf("it changed what it should have left alone:\n%s", d)
			}
		})
	}
	for _, do := range []State{Cancelled, Fulfilled, Returned} {
		if _, err := command(t.Context(), newShop(0, calm), do, NewID()); fault.Of(err).Kind != fault.NotFound {
			t.Errorf("%s of no order: %v, want not found", do, err)
		}
	}
}

// Cancelling and fulfilling at once: one of them happens, and the other caller is told so.
func TestCancelAndFulfilExcludeEachOther(t *testing.T) {
	t.Parallel()
	for range 50 {
		s, id := placed(t, Confirmed)
		var errs [2]error
		var wg sync.WaitGroup
		for i, do := range []State{Cancelled, Fulfilled} {
			wg.Go(func() { _, errs[i] = command(t.Context(), s, do, id) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("cancel: %v, fulfil: %v; want one of them", errs[0], errs[1])
		}
		if got, want := s.store.orders[id].State, map[bool]State{true: Cancelled, false: Fulfilled}[errs[0] == nil]; got != want {
			t.Fatalf("the order is %s, want %s", got, want)
		}
	}
}

func TestCallersWaitForTheAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			from, do State
			answer   func(*Order, time.Time)
			done     func(*Order) bool
		}{
			{Confirmed, Cancelled, func(o *Order, at time.Time) { o.UnitsBackAt, o.MoneyBackAt = at, at }, (*Order).Undone},
			{Confirmed, Fulfilled, func(o *Order, at time.Time) { o.UnitsTakenAt, o.MoneyTakenAt = at, at }, func(o *Order) bool { return o.Settlement() == SettlementDone }},
			{Confirmed, Fulfilled, func(o *Order, at time.Time) { o.MoneyBackAt = at }, func(o *Order) bool { return o.Settlement() == SettlementFailed }},
			{Fulfilled, Returned, func(o *Order, at time.Time) { o.UnitsBackAt, o.MoneyBackAt = at, at }, (*Order).Undone},
		} {
			s, id := placed(t, tc.from)
			s.cfg.AnswerWait = 2 * time.Second
			begin := time.Now()
			go func() { // Inventory and Payments, a second later
				time.Sleep(time.Second)
				s.store.mu.Lock()
				defer s.store.mu.Unlock()
				o := s.store.orders[id]
				tc.answer(&o, begin)
				s.store.orders[id] = o
			}()
			o, err := command(t.Context(), s, tc.do, id)
			if waited := time.Since(begin); err != nil || !tc.done(o) || waited < time.Second || waited > 1100*time.Millisecond {
				t.Errorf("%s: %+v, %v after %s; want the answered order after a second", tc.do, o, err, waited)
			}
		}
		s, id := placed(t, Confirmed)
		s.cfg.AnswerWait = 2 * time.Second
		begin := time.Now()
		o, err := s.Fulfil(t.Context(), id)
		if waited := time.Since(begin); err != nil || o.State != Fulfilled || o.Settlement() != SettlementPending || waited != 2*time.Second {
			t.Errorf("without answers: %+v, %v after %s; want it fulfilled and pending after 2 s", o, err, waited)
		}
	})
}

func TestSettlement(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		o    Order
		want Settlement
	}{
		"nothing said":            {Order{TotalMinor: 1}, SettlementPending},
		"the units alone":         {Order{TotalMinor: 1, UnitsTakenAt: at}, SettlementPending},
		"the money alone":         {Order{TotalMinor: 1, MoneyTakenAt: at}, SettlementPending},
		"both":                    {Order{TotalMinor: 1, UnitsTakenAt: at, MoneyTakenAt: at}, SettlementDone},
		"the units of a free one": {Order{UnitsTakenAt: at}, SettlementDone},
		"a hold that lapsed":      {Order{TotalMinor: 1, UnitsTakenAt: at, MoneyBackAt: at}, SettlementFailed},
		"refunded as a favour":    {Order{TotalMinor: 1, UnitsTakenAt: at, MoneyTakenAt: at, MoneyBackAt: at}, SettlementDone},
	} {
		if got := tc.o.Settlement(); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestTimelineTellsEachStepInOrder(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC) }
	o := &Order{State: Returned, TotalMinor: 1, PlacedAt: at(0), ReservedAt: at(1), AuthorizedAt: at(2), DecidedAt: at(3), FulfilledAt: at(10), ReturnedAt: at(20), ReturnReason: "too small"}
	notes := []Note{{at(11), "stock_committed", "2 units"}, {at(12), "payment_captured", "p"}, {at(21), "stock_returned", "2 units"}, {at(22), "payment_refunded", "p"}}
	want := []Note{
		{at(0), "placed", ""}, {at(1), "reserved", ""}, {at(2), "authorized", ""}, {at(3), "confirmed", ""},
		{at(10), "fulfilled", ""}, notes[0], notes[1], {at(20), "returned", "too small"}, notes[2], notes[3],
	}
	if d := cmp.Diff(want, Timeline(o, notes)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
