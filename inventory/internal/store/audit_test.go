package store

import (
	"context"
	"errors"
	"fmt"
	"math"
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
			{"live_holds_can_expire", `UPDATE reservations SET expires_at = 1`, id},
			{"live_holds_can_expire", `INSERT INTO holds VALUES ('` + id + `', 'BOOK', 'default', 2, 1)`, id},
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

// The sums over many full shelves pass what an int64 holds, and so may the sum of one shelf's movements on its way to what is
// there.
func TestAuditSumsMoreThanAnIntegerHolds(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		const shelves = 1100
		var full, movements strings.Builder
		full.WriteString(header)
		movements.WriteString(`INSERT INTO movements (id, sku, location, delta, on_hand, reason, actor, at) VALUES `)
		for n := range shelves {
			fmt.Fprintf(&full, "FULL-%d,x,%d,false\n", n, stock.MaxUnits)
			fmt.Fprintf(&movements, "('u-%d', 'BOOK', 'default', %d, 1, 'x', 'x', 1), ", n, stock.MaxUnits)
		}
		for n := range shelves {
			fmt.Fprintf(&movements, "('d-%d', 'BOOK', 'default', %d, 1, 'x', 'x', 1), ", n, -stock.MaxUnits)
		}
		movements.WriteString(`('last', 'PEN', 'default', 1, 1, 'x', 'x', 1)`)
		if _, err := b.Import(b.ctx, strings.NewReader(full.String())); err != nil {
			t.Fatal(err)
		}
		raw := dbtest.Unchecked(t, b.at)
		for _, statement := range []string{movements.String(), `UPDATE stock SET reserved = on_hand WHERE sku LIKE 'FULL-%'`} {
			if _, err := raw.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		v, err := Inspect(b.ctx, b.at)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		got, broken, err := v.Check(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got["onHand"] != math.MaxInt64 || got["reserved"] != math.MaxInt64 || got["items"] != shelves+3 {
			t.Errorf("%v", got)
		}
		var wrong []string
		for _, x := range broken {
			if x.Rule == "on_hand_is_sum_of_movements" {
				wrong = append(wrong, x.Detail)
			}
		}
		if d := cmp.Diff([]string{"sku PEN at default: on hand is 0, its movements sum to 1"}, wrong); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	})
}

// A sum is wrong by what either half tells, on both sides of 0 and of where the halves meet.
func TestAuditComparesBothHalvesOfASum(t *testing.T) {
	t.Parallel()
	const half = 1 << 32
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		want := map[string]string{}
		n := 0
		raw := dbtest.Unchecked(t, b.at)
		for _, deltas := range [][]int64{
			{half}, {half - 1, 1}, {half + 1, -1}, {-half}, {-half - 1, 1}, {1 - half, -1}, {half - 1, half - 1, half - 1}, {-1, half}, {stock.MaxUnits, -half}, {-stock.MaxUnits, half - 1},
		} {
			var sum int64
			for _, d := range deltas {
				sum += d
			}
			for _, off := range []int64{0, 1, -1, half, -half} {
				n++
				sku := fmt.Sprintf("SUM-%d", n)
				if _, err := b.Import(b.ctx, strings.NewReader(header+sku+",x,0,false\n")); err != nil {
					t.Fatal(err)
				}
				for i, d := range deltas {
					if _, err := raw.Exec(fmt.Sprintf(`INSERT INTO movements (id, sku, location, delta, on_hand, reason, actor, at) VALUES ('%s-%d', '%s', 'default', %d, 1, 'x', 'x', 1)`, sku, i, sku, d)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := raw.Exec(fmt.Sprintf(`UPDATE stock SET on_hand = %d WHERE sku = '%s'`, sum+off, sku)); err != nil {
					t.Fatal(err)
				}
				if off != 0 {
					want[fmt.Sprintf("sku %s at default: on hand is %d, its movements sum to %d", sku, sum+off, sum)] = ""
				}
			}
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
		got := map[string]string{}
		for _, x := range broken {
			if x.Rule == "on_hand_is_sum_of_movements" {
				got[x.Detail] = ""
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	})
}

func TestInspectNeedsADatabase(t *testing.T) {
	t.Parallel()
	if _, err := Inspect(context.Background(), "sqlite:"+t.TempDir()+"/inventory.db"); err == nil {
		t.Error("it inspected nothing")
	}
}
