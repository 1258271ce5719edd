package cli

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/fault"
)

// The shares of a mix are those asked for, also within the few orders of a short run, and do not depend on each other.
func TestMixKeepsItsShares(t *testing.T) {
	t.Parallel()
	m := mix{SKUs: 10, Lines: 2, Hot: 0.3, Paid: 0.5, Refused: 0.25, Keyed: 0.1}
	const orders = 2000
	var hot, paid, out, keyed, both float64
	for n := range uint64(orders) {
		var o struct {
			Items []struct {
				SKU       string
				Qty       int64
				UnitPrice *int64
			}
			Currency string
		}
		if err := json.Unmarshal(m.body(n, nil), &o); err != nil || len(o.Items) != 2 {
			t.Fatalf("order %d: %v: %s", n, err, m.body(n, nil))
		}
		isOut, isPaid := o.Items[0].SKU == soldOut, o.Currency != ""
		if isPaid != (o.Items[0].UnitPrice != nil) || isOut && isPaid {
			t.Fatalf("order %d: %s", n, m.body(n, nil))
		}
		count := func(sum *float64, yes bool) {
			if yes {
				*sum++
			}
		}
		count(&out, isOut)
		count(&paid, isPaid)
		count(&hot, o.Items[0].SKU == "BENCH-0000")
		count(&keyed, strings.Contains(string(m.request("h", "/", "k")(n, nil)), "Idempotency-Key: k"))
		count(&both, isPaid && m.keyed(n))
	}
	for name, c := range map[string]struct{ got, want float64 }{
		"sold out": {out, 0.25}, "paid": {paid, 0.75 * 0.5}, "with a key": {keyed, 0.1}, "paid with a key": {both, 0.75 * 0.5 * 0.1},
		"hot": {hot, 0.75 * (0.3 + 0.7*0.2)}, // every fifth of the others comes to it in turn
	} {
		if math.Abs(c.got/orders-c.want) > 0.02 {
			t.Errorf("%s: %.3f of the orders, want %.3f", name, c.got/orders, c.want)
		}
	}
}

// A load that is repeated finds what is there, block by block, and places no order twice.
func TestLoadRepeatsOneBlockAtMost(t *testing.T) {
	t.Parallel()
	shop := newShop()
	url := shop.serve(t)
	for _, c := range []struct{ orders, from, sent int64 }{
		{2*block + 40, 0, 2*block + 40},
		{2*block + 90, 2 * block, 90},
		{block, 0, block}, // fewer than there are: the last block of those is repeated, and it is the first
	} {
		before := len(shop.requests)
		r := do(t, nil, "", "bench", "load", "--json", "--url", url, "--yes", "--skus", "7", "--orders", commasOff(c.orders))
		var got loadResult
		if err := json.Unmarshal([]byte(r.out), &got); r.code != exitOK || err != nil {
			t.Fatalf("%+v, %v", r, err)
		}
		if got.From != c.from || int64(len(shop.requests)-before) != c.sent {
			t.Errorf("%d orders: went on at %d with %d requests, want %d and %d", c.orders, got.From, len(shop.requests)-before, c.from, c.sent)
		}
	}
	if len(shop.orders) != 2*block+90 {
		t.Errorf("%d orders are there", len(shop.orders))
	}
}

// What a server that is full turns away is sent again, under its key, until it is there.
func TestLoadSendsAgainWhatWasTurnedAway(t *testing.T) {
	t.Parallel()
	shop := newShop()
	url := shop.serve(t)
	turned := map[string]bool{}
	shop.fail = func(key string) error {
		if n := strings.TrimPrefix(key, "load-"); strings.HasSuffix(n, "7") && !turned[key] {
			turned[key] = true
			return fault.New(fault.Unavailable, "overloaded", "Try again.")
		}
		return nil
	}
	r := do(t, nil, "", "bench", "load", "--url", url, "--yes", "--skus", "7", "--orders", "100")
	if r.code != exitOK || len(turned) != 10 || len(shop.orders) != 100 {
		t.Errorf("%+v: %d turned away, %d orders are there", r, len(turned), len(shop.orders))
	}
	shop.fail = func(string) error {
		return fault.New(fault.Invalid, "idempotency_key_reused", "Another order has this key.") // a load with other lines than the one before
	}
	r = do(t, nil, "", "bench", "load", "--url", url, "--yes", "--skus", "7", "--orders", "101")
	if r.code != exitFailed || !strings.Contains(r.errout, "an order was refused") || !strings.Contains(r.errout, "idempotency_key_reused") {
		t.Errorf("%+v", r)
	}
}

func commasOff(n int64) string { return strings.ReplaceAll(commas(n), ",", "") }

func TestMarksAreRoundAndReachTheEnd(t *testing.T) {
	t.Parallel()
	for _, most := range []float64{0.004, 1, 7, 10, 4560, 61_000} {
		marks := even(most)
		if len(marks) < 3 || len(marks) > 12 || marks[0].at != 0 || marks[len(marks)-1].at < most*0.5 {
			t.Errorf("up to %g: %v", most, marks)
		}
	}
}
