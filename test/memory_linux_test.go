package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// ordersEnv is the number of orders with which the memory of verify is measured, instead of some that a test has the time for.
const ordersEnv = "ORDERKEEP_TEST_ORDERS"

// TestVerifyNeedsNoMoreMemoryForMoreOrders compares the most memory that verify ever had, with few orders and with many.
func TestVerifyNeedsNoMoreMemoryForMoreOrders(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		const few = 20_000
		many := fromEnv(t, ordersEnv, 60_000)
		small, large := verifyMemory(t, e, few), verifyMemory(t, e, many)
		t.Logf("%d orders: %.1f MiB, %d orders: %.1f MiB", few, mib(small), many, mib(large))
		// To hold what the contexts state of an order takes more than half a KiB, which is 20 MiB with 40,000 more of them. SQLite's
		// caches grow by some MiB until they are full.
		const slack = 12 << 20
		if large > small+slack {
			t.Errorf("verify takes %.1f MiB for %d orders and %.1f MiB for %d", mib(large), many, mib(small), few)
		}
	})
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// verifyMemory is the most memory, in bytes, of a verify that finds nothing wrong with n orders.
func verifyMemory(t *testing.T, e dbtest.Engine, n int) int64 {
	t.Helper()
	s := newShop(t)
	for _, setting := range []string{"ORDERS_DB", "INVENTORY_DB", "PAYMENTS_DB", "SIMULATED_PROVIDER_DB"} {
		s.env = append(s.env, setting+"="+e.New(t))
	}
	s.add(stage.Launch{Path: program, Args: s.serve(), Env: s.env}, "orders", "inventory", "payments")
	s.start(t) // makes the tables
	s.close(t)
	s.fill(t, n)

	cmd := stage.Launch{Path: program, Args: []string{"verify", "--data", s.data}, Env: append(s.env, "GOGC=50")}.Command(t)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// What wait4 has to say of it includes this process, from which it was forked.
	most := int64(0)
	for tick := time.NewTicker(time.Millisecond); ; {
		select {
		case <-tick.C:
			most = max(most, peak(cmd.Process.Pid))
			continue
		case err := <-ended:
			tick.Stop()
			if half := fmt.Sprintf("%d,000", n/2000); err != nil || !strings.Contains(out.String(), half) { // of them are confirmed
				t.Fatalf("verify: %v\n%s", err, &out)
			}
		}
		t.Logf("verify of %d orders on %s took %v", n, e.Name, time.Since(begin).Round(time.Millisecond))
		return most
	}
}

var high = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak is the most memory that a process has had, or 0 if it has ended.
func peak(pid int) int64 {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	m := high.FindSubmatch(text)
	if m == nil {
		return 0
	}
	kb, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return kb << 10
}

// fill writes n orders of one line into the databases of a shop that does not run: every second one is confirmed, the others are
// fulfilled. Both engines know the statements.
func (s *shop) fill(t *testing.T, n int) {
	t.Helper()
	const id = `'0197b7b0-0000-7000-8000-' || (100000000000 + i)`
	const sku = `'SKU-' || (i % 1000)`
	for setting, statements := range map[string][]string{
		"ORDERS_DB": {
			`INSERT INTO orders (id, state, currency, total_minor, customer, provider, token, payment_id, key, correlation_id, placed_at, reserved_at, authorized_at,
				decided_at, fulfilled_at, units_taken_at, money_taken_at, lease_owner, lease_until)
			SELECT ` + id + `, CASE i % 2 WHEN 0 THEN 'confirmed' ELSE 'fulfilled' END, 'GBP', 1250, 'c', 'simulated', 'pm_card_visa', 'p-' || i, '', 'c-' || i, i, i, i,
				i, i % 2 * i, i % 2 * i, i % 2 * i, '', 0 FROM n`,
			`INSERT INTO order_lines (order_id, n, sku, qty, unit_price_minor) SELECT ` + id + `, 0, ` + sku + `, 1, 1250 FROM n`,
		},
		"INVENTORY_DB": {
			`INSERT INTO items (sku, title, tracked, created_at, changed_at) SELECT 'SKU-' || (i - 1), '', true, 1, 1 FROM n WHERE i <= 1000`,
			`INSERT INTO reservations (id, owner, state, correlation_id, created_at, changed_at)
			SELECT ` + id + `, 'order', CASE i % 2 WHEN 0 THEN 'reserved' ELSE 'committed' END, 'c-' || i, i, i FROM n`,
			`INSERT INTO reservation_lines (reservation_id, sku, location, qty) SELECT ` + id + `, ` + sku + `, 'default', 1 FROM n`,
			`INSERT INTO movements (id, sku, location, delta, on_hand, reason, actor, at) SELECT 's-' || i, 'SKU-' || (i - 1), 'default', 5000, 5000, 'import', 'x', 1 FROM n WHERE i <= 1000`,
			`INSERT INTO movements (id, sku, location, delta, on_hand, reason, actor, order_id, correlation_id, at)
			SELECT 'm-' || i, ` + sku + `, 'default', -1, 0, 'sold', 'orders', ` + id + `, 'c-' || i, i FROM n WHERE i % 2 = 1`,
			`INSERT INTO stock (sku, location, on_hand, reserved, unlimited)
			SELECT sku, 'default', 5000 - sum(i % 2), sum(1 - i % 2), false FROM (SELECT ` + sku + ` AS sku, i FROM n) o GROUP BY sku`,
		},
		"PAYMENTS_DB": {
			`INSERT INTO payments (order_id, payment_id, status, amount_minor, currency, authorized_minor, captured_minor, voided_minor, refunded_minor, provider, token,
				decline_code, correlation_id, created_at, updated_at)
			SELECT ` + id + `, 'p-' || i, CASE i % 2 WHEN 0 THEN 'authorized' ELSE 'captured' END, 1250, 'GBP', 1250, i % 2 * 1250, 0, 0, 'simulated', 'pm_card_visa',
				'', 'c-' || i, i, i FROM n`,
			`INSERT INTO attempts (order_id, step, result, amount_minor, provider_ref, error, started_at, ended_at) SELECT ` + id + `, 'authorize', 'succeeded', 1250, 'r', '', i, i FROM n`,
			`INSERT INTO attempts (order_id, step, result, amount_minor, provider_ref, error, started_at, ended_at) SELECT ` + id + `, 'capture', 'succeeded', 1250, 'r', '', i, i FROM n WHERE i % 2 = 1`,
		},
		"SIMULATED_PROVIDER_DB": {
			`INSERT INTO charges (key, state, amount_minor, currency, authorized_minor, captured_minor, voided_minor, refunded_minor, decline_code, ref, created_at, updated_at)
			SELECT ` + id + ` || ':authorize', CASE i % 2 WHEN 0 THEN 'authorized' ELSE 'captured' END, 1250, 'GBP', 1250, i % 2 * 1250, 0, 0, '', 'r', i, i FROM n`,
		},
	} {
		at := ""
		for _, e := range s.env {
			if url, ok := strings.CutPrefix(e, setting+"="); ok {
				at = url
			}
		}
		d := dbtest.Raw(t, at)
		d.SetMaxOpenConns(1)
		// In a table of their own the numbers stand at one place in a statement; the engines do not agree on that of a WITH.
		for _, statement := range append([]string{
			`CREATE TEMPORARY TABLE n (i BIGINT NOT NULL)`,
			fmt.Sprintf(`INSERT INTO n WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < %d) SELECT i FROM r`, n),
		}, statements...) {
			if _, err := d.Exec(statement); err != nil {
				t.Fatalf("%v: %s", err, statement)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
