package store

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

func TestAuditFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		id := orderID(1)
		of := func(statement string) string { return statement + ` WHERE order_id = '` + id + `'` }
		for name, tt := range map[string]struct {
			rule, statement, says string
			ops                   []string
		}{
			"authorized more than the attempt moved": {"amounts_follow_from_attempts", of(`UPDATE payments SET authorized_minor = 999`), "[999 0 0 0], by its attempts [1000 0 0 0]", []string{"authorize"}},
			"captured less":                          {"amounts_follow_from_attempts", of(`UPDATE payments SET captured_minor = 999`), "[1000 999 0 0], by its attempts [1000 1000 0 0]", []string{"authorize", "capture"}},
			"voided without an attempt":              {"amounts_follow_from_attempts", of(`DELETE FROM attempts`) + ` AND step = 'void'`, "[1000 0 1000 0], by its attempts [1000 0 0 0]", []string{"authorize", "void"}},
			"refunded more":                          {"amounts_follow_from_attempts", of(`UPDATE attempts SET amount_minor = 7`) + ` AND step = 'refund'`, "[1000 1000 0 1000], by its attempts [1000 1000 0 7]", []string{"authorize", "capture", "refund"}},
			"a decline that moved something":         {"amounts_follow_from_attempts", of(`UPDATE attempts SET amount_minor = 5`), "[0 0 0 0], by its attempts [5 0 0 0]", []string{"authorize pm_card_chargeDeclined"}},
			"one under way that moved more":          {"amounts_follow_from_attempts", of(`UPDATE attempts SET amount_minor = 5`), "[0 0 0 0], by its attempts [5 0 0 0]", []string{"authorize pm_simulated_down"}},
			"a tombstone with an attempt": {"amounts_follow_from_attempts", `INSERT INTO attempts (order_id, step, result, amount_minor, provider_ref, error, started_at, ended_at)
			VALUES ('` + id + `', 'authorize', 'succeeded', 9, '', '', 1, 1)`, "[0 0 0 0], by its attempts [9 0 0 0]", []string{"void"}},
			"an event that waits": {"outbox_drained", `UPDATE outbox SET position = NULL`, id, []string{"authorize"}},
			"an event to consume": {"inbox_drained", `INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data)
			VALUES ('payments', 'e-1', '/orders', 'x', '` + id + `', 1, '', '', '', '')`, id, []string{"authorize"}},
			"a parked event": {"nothing_parked", `INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data, state, attempts, error)
			VALUES ('payments', 'e-1', '/orders', 'x', '` + id + `', 1, '', '', '', '', 'parked', 9, 'it broke')`, "it broke", []string{"authorize"}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := setup(t, e)
				b.operate(id, tt.ops...)
				b.operate(orderID(2), "authorize") // nothing is wrong with it
				if err := b.exec(`UPDATE outbox SET position = seq`); err != nil {
					t.Fatal(err)
				}
				if _, broken, _ := b.inspect(); len(broken) > 0 {
					t.Fatalf("broken before it was: %v", broken)
				}
				if err := b.exec(tt.statement); err != nil {
					t.Fatal(err)
				}
				_, broken, _ := b.inspect()
				named := slices.DeleteFunc(slices.Clone(broken), func(v audit.Violation) bool {
					return v.Rule != tt.rule || !strings.Contains(v.Detail, id) || !strings.Contains(v.Detail, tt.says)
				})
				if len(named) != 1 {
					t.Errorf("no one violation of %s that says %q in %v", tt.rule, tt.says, broken)
				}
				for _, v := range broken {
					if v.Rule != tt.rule || strings.Contains(v.Detail, orderID(2)) && tt.rule != "outbox_drained" {
						t.Errorf("what is sound is said to be broken: %v", v)
					}
				}
			})
		}
	})
}

func TestAuditCounts(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		for n, ops := range [][]string{
			{"authorize"}, {"authorize"}, {"authorize", "capture"}, {"authorize", "void"}, {"void"}, {"authorize", "capture", "refund"},
			{"authorize pm_card_chargeDeclined"}, {"authorize pm_simulated_down"}, {"authorize pm_simulated_timeout_charged"},
		} {
			b.operate(orderID(n), ops...)
		}
		got, broken, _ := b.inspect()
		want := map[string]int64{
			"authorized": 2, "captured": 1, "declined": 1, "voided": 2, "refunded": 1, "underWay": 2, "providerHolds": 4,
			"outboxWaiting": 11, "inboxWaiting": 0, "parked": 0,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		if len(broken) != 11 {
			t.Errorf("violations %v, want the 11 events that wait", broken)
		}
	})
}

// What the books and the provider hold is stated side by side, in order of order ids, whoever has it alone.
func TestAuditClaimsWhatIsHeld(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		b.operate(orderID(4), "authorize", "capture")
		b.operate(orderID(2), "authorize pm_simulated_timeout_charged") // the provider has it, and we do not know
		b.operate(orderID(1), "authorize")
		b.operate(orderID(3), "authorize")
		b.operate(orderID(5), "authorize", "void")
		b.operate(orderID(6), "authorize pm_card_chargeDeclined")
		b.operate(orderID(7), "authorize")
		b.operate(orderID(8), "authorize", "capture", "refund")
		if _, err := b.provider.Void(t.Context(), orderID(3)+":authorize"); err != nil { // by hand
			t.Fatal(err)
		}
		if _, err := b.provider.Void(t.Context(), orderID(7)+":authorize"); err != nil {
			t.Fatal(err)
		}
		ours := func(n int, what audit.What) audit.Claim {
			return audit.Claim{Order: orderID(n), What: what, Amount: 1000, Currency: "EUR", Ref: b.record(orderID(n)).Payment.ID}
		}
		theirs := func(n int, what audit.What) audit.Claim {
			o, err := b.provider.Lookup(t.Context(), orderID(n)+":authorize")
			if err != nil {
				t.Fatal(err)
			}
			return audit.Claim{Order: orderID(n), What: what, Amount: 1000, Currency: "EUR", Ref: o.Ref}
		}
		_, _, got := b.inspect()
		want := []audit.Claim{
			ours(1, audit.MoneyHeld), theirs(1, audit.ProviderHeld), theirs(2, audit.ProviderHeld), ours(3, audit.MoneyHeld),
			ours(4, audit.MoneyTaken), theirs(4, audit.ProviderTaken), ours(7, audit.MoneyHeld), ours(8, audit.MoneyBack), theirs(8, audit.ProviderBack),
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		s, err := Inspect(t.Context(), b.at.payments, b.at.provider)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for n := 1; n <= len(want); n++ { // wherever a reader has enough
			seen := 0
			if err := s.Claims(t.Context(), func(audit.Claim) bool { seen++; return seen < n }); err != nil || seen != n {
				t.Errorf("a reader of %d claims got %d, %v", n, seen, err)
			}
		}
		states := []audit.What{audit.MoneyHeld, audit.MoneyTaken, audit.MoneyBack, audit.ProviderHeld, audit.ProviderTaken, audit.ProviderBack}
		if d := cmp.Diff(states, s.States()); d != "" || s.Name() != "payments" {
			t.Errorf("%s states (-want +got):\n%s", s.Name(), d)
		}
	})
}

func TestMoneyUnderWayIsClaimedWhileItIsHeld(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		for n, status := range []string{"capturing", "refunding", "voiding"} {
			b.operate(orderID(n), "authorize")
			if status == "refunding" {
				b.operate(orderID(n), "capture")
			}
			if err := b.exec(`UPDATE payments SET status = '` + status + `', due_at = 1 WHERE order_id = '` + orderID(n) + `'`); err != nil {
				t.Fatal(err)
			}
		}
		_, _, claims := b.inspect()
		var held []audit.What
		for _, c := range claims {
			if c.What == audit.MoneyHeld || c.What == audit.MoneyTaken {
				held = append(held, c.What)
			}
		}
		// What is about to be captured is held, what is about to be refunded is taken. Of one on its way back only the provider
		// can say whether it still holds.
		if d := cmp.Diff([]audit.What{audit.MoneyHeld, audit.MoneyTaken}, held); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	})
}

func TestInspectNeedsBothRecords(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		none := "sqlite:" + filepath.Join(t.TempDir(), "none.db")
		for _, urls := range [][2]string{{none, b.at.provider}, {b.at.payments, none}, {b.at.provider, b.at.payments}, {b.at.payments, b.at.payments}} {
			if s, err := Inspect(t.Context(), urls[0], urls[1]); err == nil {
				s.Close()
				t.Errorf("it inspected %v", urls)
			}
		}
	})
}
