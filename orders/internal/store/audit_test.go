package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

// Each state is stated with what was promised in it, and with which answers there are.
func TestAuditClaimsStatesAndAnswers(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, url := setup(t, e)
		hour, day := noon.Add(time.Hour), noon.Add(24*time.Hour)
		cancel := order.Move{To: order.Cancelled, At: hour, ReservedAt: noon}
		back := order.Move{To: order.Returned, At: day, ReservedAt: noon}
		var want []audit.Claim
		for _, tc := range []struct {
			moves   []order.Move
			answers []order.Answer
			free    bool
			want    audit.Claim
		}{
			{want: audit.Claim{What: audit.OrderPending, Past: true, Since: noon}}, // its lease is of a long time ago
			{moves: []order.Move{confirm()}, want: audit.Claim{What: audit.OrderConfirmed}},
			{moves: []order.Move{{To: order.Rejected, At: noon, Rejection: rejection()}}, want: audit.Claim{What: audit.OrderOff}},
			{moves: []order.Move{confirm(), cancel}, want: audit.Claim{What: audit.OrderOff, Since: hour}},
			{moves: []order.Move{confirm(), cancel}, answers: []order.Answer{order.UnitsBack}, want: audit.Claim{What: audit.OrderOff, Since: hour, UnitsAnswer: true}},
			{moves: []order.Move{confirm(), cancel}, free: true, want: audit.Claim{What: audit.OrderOff, Since: hour, MoneyAnswer: true}},
			{moves: []order.Move{confirm(), cancel}, answers: []order.Answer{order.UnitsTaken, order.MoneyTaken}, want: audit.Claim{What: audit.OrderOff, Since: hour}},
			{moves: []order.Move{confirm(), fulfil()}, want: audit.Claim{What: audit.OrderFulfilled, Since: hour}},
			{moves: []order.Move{confirm(), fulfil()}, answers: []order.Answer{order.UnitsTaken}, want: audit.Claim{What: audit.OrderFulfilled, Since: hour, UnitsAnswer: true}},
			{moves: []order.Move{confirm(), fulfil()}, answers: []order.Answer{order.MoneyTaken}, want: audit.Claim{What: audit.OrderFulfilled, Since: hour, MoneyAnswer: true}},
			{moves: []order.Move{confirm(), fulfil()}, answers: []order.Answer{order.MoneyBack}, want: audit.Claim{What: audit.OrderFulfilled, Since: hour, MoneyAnswer: true}},
			{moves: []order.Move{confirm(), fulfil()}, free: true, want: audit.Claim{What: audit.OrderFulfilled, Since: hour, MoneyAnswer: true}},
			{moves: []order.Move{confirm(), fulfil(), back}, answers: []order.Answer{order.UnitsTaken, order.MoneyTaken}, want: audit.Claim{What: audit.OrderReturned, Since: day}},
			{moves: []order.Move{confirm(), fulfil(), back}, answers: []order.Answer{order.UnitsBack}, want: audit.Claim{What: audit.OrderReturned, Since: day, UnitsAnswer: true}},
			{moves: []order.Move{confirm(), fulfil(), back}, answers: []order.Answer{order.MoneyBack}, want: audit.Claim{What: audit.OrderReturned, Since: day, MoneyAnswer: true}},
			{moves: []order.Move{confirm(), fulfil(), back}, free: true, want: audit.Claim{What: audit.OrderReturned, Since: day, MoneyAnswer: true}},
		} {
			o := pending("")
			if tc.free {
				o.TotalMinor, o.Lines = 0, []order.Line{{SKU: "A", Qty: 1}}
			}
			mustBegin(t, s, o)
			for _, m := range tc.moves {
				mustMove(t, s, o, m)
			}
			for _, a := range tc.answers {
				err := s.Note(t.Context(), o.ID, string(order.NewID()), order.Note{At: day, What: "w"}, a, func(*db.Tx) error { return nil })
				if err != nil {
					t.Fatal(err)
				}
			}
			tc.want.Order, tc.want.Amount, tc.want.Currency = string(o.ID), o.TotalMinor, o.Currency
			want = append(want, tc.want)
		}
		source, err := Inspect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		var got []audit.Claim
		if err := source.Claims(t.Context(), func(c audit.Claim) bool { got = append(got, c); return true }); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("claims (-want +got):\n%s", d)
		}
		counts, broken, err := source.Check(t.Context())
		wantCounts := map[string]int64{"pending": 1, "confirmed": 1, "rejected": 1, "cancelled": 4, "fulfilled": 5, "returned": 4, "unitsKept": 0, "archived": 0, "inboxWaiting": 0, "parked": 0}
		wantCounts["outboxWaiting"] = 14 + 1 + 4 + 9 + 4 // confirmations, the rejection, cancellations, fulfilments, returns
		if d := cmp.Diff(wantCounts, counts); d != "" || err != nil {
			t.Errorf("counts (-want +got): %v\n%s", err, d)
		}
		for _, v := range broken {
			if v.Rule != "outbox_drained" || v.Since.IsZero() {
				t.Errorf("%+v; want events on their way and nothing else", v)
			}
		}
	})
}

// What a foreign Inventory keeps is said of orders that are off, and such an Inventory answers nothing.
func TestAuditCountsUnitsThatInventoryKeeps(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, url := setup(t, e)
		hour := noon.Add(time.Hour)
		undoing := order.Move{To: order.Undoing, At: noon, Rejection: rejection()}
		rejected := order.Move{To: order.Rejected, At: noon, Rejection: rejection()}
		var want []audit.Claim
		for _, tc := range []struct {
			moves []order.Move
			what  audit.What
			since time.Time
		}{
			{nil, audit.OrderPending, noon},
			{[]order.Move{undoing}, audit.OrderPending, noon},
			{[]order.Move{undoing, rejected}, audit.OrderOff, time.Time{}},
			{[]order.Move{confirm()}, audit.OrderConfirmed, time.Time{}},
			{[]order.Move{confirm(), {To: order.Cancelled, At: hour}}, audit.OrderOff, hour},
			{[]order.Move{confirm(), fulfil()}, audit.OrderFulfilled, hour},
			{[]order.Move{confirm(), fulfil(), {To: order.Returned, At: hour}}, audit.OrderReturned, hour},
		} {
			o := pending("")
			mustBegin(t, s, o)
			o.Kept = "3 A, perhaps 1 B"
			if err := s.Keep(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			o.Kept = "" // no other write is about it
			for _, m := range tc.moves {
				mustMove(t, s, o, m)
			}
			if err := s.Park(t.Context(), o, noon); err != nil {
				t.Fatal(err)
			}
			got, err := s.Get(t.Context(), o.ID)
			if err != nil || got.Kept != "3 A, perhaps 1 B" {
				t.Errorf("%v: kept %q, %v", tc.what, got.Kept, err)
			}
			want = append(want, audit.Claim{
				Order: string(o.ID), What: tc.what, Amount: o.TotalMinor, Currency: o.Currency, Since: tc.since,
				Past: tc.what == audit.OrderPending, UnitsAnswer: tc.since.Equal(hour),
			})
		}
		source, err := Inspect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		counts, _, err := source.Check(t.Context())
		if err != nil || counts["unitsKept"] != 3 {
			t.Errorf("%v, %v; want those of the rejected, the cancelled and the returned one", counts, err)
		}
		var got []audit.Claim
		if err := source.Claims(t.Context(), func(c audit.Claim) bool { got = append(got, c); return true }); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("claims (-want +got):\n%s", d)
		}
	})
}

func TestAuditFindsPendingOrdersThatAreLeftLying(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, url := setup(t, e)
		for _, tc := range []struct {
			name        string
			placed, due time.Duration // ago
			past        bool
		}{
			{"is driven", time.Second, -15 * time.Second, false},
			{"waits for recovery", time.Minute, 50 * time.Second, false},
			{"was not taken up for a minute", 2 * time.Minute, 61 * time.Second, true},
			{"is driven on for the hour", time.Hour - time.Second, -15 * time.Second, false},
			{"is driven in vain", time.Hour + time.Second, -15 * time.Second, true},
		} {
			o := pending("")
			o.PlacedAt, o.Lease.Until = noon.Add(-tc.placed), noon.Add(-tc.due)
			mustBegin(t, s, o)
			at, err := db.OpenSnapshot(t.Context(), url, Schema())
			if err != nil {
				t.Fatal(err)
			}
			records := &source{at: at, now: func() time.Time { return noon }}
			err = errors.Join(records.Claims(t.Context(), func(c audit.Claim) bool {
				if c.Order == string(o.ID) && c.Past != tc.past {
					t.Errorf("one that %s: left lying %v, want %v", tc.name, c.Past, tc.past)
				}
				return true
			}), at.Close())
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAuditFindsTotalsThatAreNoSums(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, url := setup(t, e)
		o, other := pending(""), pending("")
		mustBegin(t, s, o)
		mustBegin(t, s, other)
		err := s.db.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(`UPDATE orders SET total_minor = 999 WHERE id = $1`, string(o.ID))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		source, err := Inspect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		_, broken, err := source.Check(t.Context())
		want := []audit.Violation{{Rule: "total_is_sum_of_lines", Detail: "order " + string(o.ID) + ": total 999, sum of its 2 lines 1000"}}
		if d := cmp.Diff(want, broken); d != "" || err != nil {
			t.Errorf("violations (-want +got): %v\n%s", err, d)
		}
	})
}
