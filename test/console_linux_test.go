package test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// TestPagesAreWholeBesideManyOrders asks for the console's pages beside as many orders as ORDERKEEP_TEST_ORDERS says, each a hundred times, and logs
// how long they took: the figures of docs/console.md come from it.
func TestPagesAreWholeBesideManyOrders(t *testing.T) {
	t.Parallel()
	n := fromEnv(t, ordersEnv, 20_000)
	s := newShop(t)
	for _, setting := range []string{"ORDERS_DB", "INVENTORY_DB", "PAYMENTS_DB", "SIMULATED_PROVIDER_DB"} {
		s.env = append(s.env, setting+"="+dbtest.SQLite.New(t))
	}
	serve := stage.Launch{Path: program, Args: s.serve(), Env: s.env}
	if err := stage.Start(t, serve).Stop(); err != nil { // makes the tables
		t.Fatal(err)
	}
	s.fill(t, n)
	p := stage.Start(t, serve)
	anyOf := func() int { return 1 + rand.IntN(n) } //nolint:gosec // any will do
	for _, page := range []struct {
		name, want string
		path       func() string
	}{
		{"an order", "authorize at the provider", func() string {
			return fmt.Sprintf("/console/orders/0197b7b0-0000-7000-8000-%d", 100_000_000_000+anyOf())
		}},
		{"orders", "Next page", func() string { return "/console/orders" }},
		{"orders of a correlation id", "1 × SKU-", func() string { return fmt.Sprintf("/console/orders?find=c-%d", anyOf()) }},
		{"payments", "None of these 25 payments differs", func() string { return "/console/payments" }},
		{"a SKU", "Looked back to", func() string { return fmt.Sprintf("/console/stock?sku=SKU-%d", anyOf()%1000) }},
		{"stock", "Next page", func() string { return "/console/stock" }},
		{"now", "About to run out", func() string { return "/console" }},
	} {
		var took []time.Duration
		for range 100 {
			begin := time.Now()
			res, err := http.Get(p.URL + page.path())
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(res.Body)
			res.Body.Close()
			took = append(took, time.Since(begin))
			if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(text), page.want) || strings.Contains(string(text), "missing") {
				t.Fatalf("%s: %d %v, want %q in\n%s", page.name, res.StatusCode, err, page.want, text)
			}
		}
		slices.Sort(took)
		t.Logf("%s beside %d orders: %v, median %v, 99th of 100 %v, most %v", page.name, n, took[0], took[50], took[98], took[99])
	}
}
