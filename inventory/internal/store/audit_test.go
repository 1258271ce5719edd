package store

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

func TestAuditFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		const id = "0197b7b0-0000-7000-8000-000000000001"
		tests := []struct{ rule, statement, names string }{
			{"on_hand_is_sum_of_movements", `UPDATE stock SET on_hand = on_hand + 1 WHERE sku = 'BOOK'`, "BOOK"},
			{"on_hand_is_sum_of_movements", `INSERT INTO movements (id, sku, location, delta, on_hand, reason, actor, at) VALUES ('m', 'GIFT', 'default', 4, 4, 'x', 'x', 1)`, "GIFT"},
			{"reserved_is_sum_of_live_reservations", `UPDATE stock SET reserved = reserved - 1 WHERE sku = 'BOOK'`, "BOOK"},
			{"reserved_is_sum_of_live_reservations", `UPDATE reservations SET state = 'released'`, "BOOK"},
			{"reserved_is_sum_of_live_reservations", `INSERT INTO reservation_lines VALUES ('` + id + `', 'NONE', 'default', 1)`, id},
			{"available_not_negative", `UPDATE stock SET reserved = 1 WHERE sku = 'PEN'`, "PEN"},
			{"unlimited_is_not_tracked", `UPDATE items SET tracked = true WHERE sku = 'GIFT'`, "GIFT"},
			{"item_has_stock", `DELETE FROM stock WHERE sku = 'PEN'`, "PEN"},
			{"reservation_has_lines", `DELETE FROM reservation_lines`, id},
			{"taken_units_have_movements", `UPDATE reservations SET state = 'committed'`, id},
			{"taken_units_have_movements", `UPDATE reservations SET state = 'returned'`, id},
			{"taken_units_have_movements", `INSERT INTO movements (id, sku, location, delta, on_hand, reason, actor, order_id, at) VALUES ('m', 'BOOK', 'default', -2, 48, 'sold', 'x', '` + id + `', 1)`, id},
			{"nothing_parked", `INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data, state, attempts, error)
			VALUES ('inventory', 'e-1', '/orders', 'x', 's', 1, '', '', '', '', 'parked', 9, 'it broke')`, "it broke"},
		}
		for _, tt := range tests {
			t.Run(tt.rule, func(t *testing.T) {
				t.Parallel()
				b := setup(t, e)
				b.reserve(id, "BOOK", 2)
				b.sound()
				if _, err := dbtest.Unchecked(t, b.at).Exec(tt.statement); err != nil {
					t.Fatal(err)
				}
				v, err := Inspect(b.ctx, b.at)
				if err != nil {
					t.Fatal(err)
				}
				defer v.Close()
				_, broken, err := v.Check(b.ctx)
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range broken {
					if x.Rule == tt.rule && strings.Contains(x.Detail, tt.names) {
						return
					}
				}
				t.Errorf("no violation of %s that names %s in %v", tt.rule, tt.names, broken)
			})
		}
	})
}

func TestAuditCountsAndClaims(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		second, first := "0197b7b0-0000-7000-8000-000000000002", "0197b7b0-0000-7000-8000-000000000001"
		for _, id := range []string{second, first, newID(t), newID(t)} {
			b.reserve(id, "BOOK", 2)
		}
		off, sold, direct := newID(t), newID(t), newID(t)
		b.reserve(off, "BOOK", 1)
		b.reserve(sold, "BOOK", 1)
		b.reserve(newID(t), "PEN", 1)
		if err := b.Release(b.ctx, Wait, off); err != nil {
			t.Fatal(err)
		}
		back := newID(t)
		b.reserve(back, "BOOK", 3)
		if err := errors.Join(b.Commit(b.ctx, Wait, sold), b.RestockReturned(b.ctx, back, func(*db.Tx) error { return nil })); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Reserve(b.ctx, Wait, stock.Ask{ID: direct, Owner: stock.Direct, Lines: []stock.Line{{SKU: "GIFT", Qty: 3}}}); err != nil {
			t.Fatal(err)
		}
		v, err := Inspect(b.ctx, b.at)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		b.reserve(newID(t), "BOOK", 5) // after the snapshot
		got, broken, err := v.Check(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{"items": 3, "onHand": 49, "reserved": 11, "movements": 4, "liveReservations": 5, "outboxWaiting": 5, "inboxWaiting": 0, "parked": 0}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("counts (-want +got):\n%s", diff)
		}
		waiting := 0
		for _, x := range broken {
			if x.Rule == "outbox_drained" {
				waiting++
			}
		}
		if waiting != 5 || len(broken) != 5 {
			t.Errorf("violations %v, want the 5 events that wait", broken)
		}
		var claims []audit.Claim
		if err := v.Claims(context.Background(), func(c audit.Claim) bool {
			claims = append(claims, c)
			return len(claims) < 2
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]audit.Claim{{Order: first, What: audit.UnitsHeld, Ref: first}, {Order: second, What: audit.UnitsHeld, Ref: second}}, claims); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
		n := map[audit.What]int{}
		if err := v.Claims(b.ctx, func(c audit.Claim) bool { n[c.What]++; return true }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[audit.What]int{audit.UnitsHeld: 4, audit.UnitsTaken: 1, audit.UnitsBack: 1}, n); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
	})
}

func TestInspectNeedsADatabase(t *testing.T) {
	t.Parallel()
	if _, err := Inspect(context.Background(), "sqlite:"+t.TempDir()+"/inventory.db"); err == nil {
		t.Error("it inspected nothing")
	}
}
