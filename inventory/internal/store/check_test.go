package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// checks fails unless exactly these are short.
func (b *bundle) checks(when string, lines []stock.Line, want ...stock.Shortage) {
	b.t.Helper()
	got, err := b.Check(b.ctx, lines)
	if err != nil {
		b.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func TestChecksReadAgainWhenSomethingWasWritten(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		one, two := []stock.Line{{SKU: "BOOK", Qty: 45}}, []stock.Line{{SKU: "BOOK", Qty: 45}, {SKU: "PEN", Qty: 1}}
		noPen := stock.Shortage{SKU: "PEN", Requested: 1}
		fewBooks := stock.Shortage{SKU: "BOOK", Requested: 45, Available: 40}
		b.checks("at first", two, noPen)
		if _, err := dbtest.Raw(t, b.at).Exec(`UPDATE stock SET on_hand = 40 WHERE sku = 'BOOK'`); err != nil {
			t.Fatal(err)
		}
		if e.Name == "sqlite" { // where nobody else writes, and this was past everybody
			b.checks("what was read of one", one)
			b.checks("what was read of two", two, noPen)
			b.checks("one that was not read yet", []stock.Line{{SKU: "BOOK", Qty: 45}, {SKU: "GIFT", Qty: 1}}, fewBooks)
		}
		b.reserve(newID(t), "PEN", 1) // is refused, and that is written
		b.checks("after a commit", one, fewBooks)
		b.checks("after a commit", two, fewBooks, noPen)
		b.checks("what there is not", []stock.Line{{SKU: "NONE", Qty: 1}}, stock.Shortage{SKU: "NONE", Requested: 1, Unknown: true})
		for range 2 {
			b.reserve(newID(t), "BOOK", 1)
			fewBooks.Available--
			b.checks("after a reservation", one, fewBooks)
		}
	})
}

func TestChecksKnowTheTime(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b, clock := setupAt(t, e)
		b.hold(newID(t), "BOOK", 20)
		clock.set(noon.Add(time.Second))
		b.hold(newID(t), "BOOK", 30)
		all := []stock.Line{{SKU: "BOOK", Qty: 50}}
		for _, tt := range []struct {
			at        time.Duration
			available int64
		}{
			{2 * time.Second, 0}, {59 * time.Second, 0}, {time.Minute, 20}, {time.Minute + time.Second - time.Microsecond, 20}, {time.Minute, 20},
			{time.Minute - time.Microsecond, 0}, // the clock is set back
			{time.Minute + time.Second, 50}, {time.Hour, 50}, {time.Minute, 20},
		} {
			clock.set(noon.Add(tt.at))
			var want []stock.Shortage
			if tt.available < 50 {
				want = []stock.Shortage{{SKU: "BOOK", Requested: 50, Available: tt.available}}
			}
			b.checks(fmt.Sprintf("%s past noon", tt.at), all, want...)
		}
	})
}

func TestWhatChecksHaveReadIsBounded(t *testing.T) {
	t.Parallel()
	var k checked
	for n := range 2*maxChecked + 1 {
		k.keep(2, 1, 3, map[string]shelf{fmt.Sprint(n): {available: 7}})
		if len(k.bySKU) > maxChecked {
			t.Fatalf("%d are kept", len(k.bySKU))
		}
	}
	if short, ok := k.check(2, 2, []stock.Line{{SKU: fmt.Sprint(2 * maxChecked), Qty: 7}}); !ok || short != nil {
		t.Errorf("the last one: %v, %v", short, ok)
	}
}
