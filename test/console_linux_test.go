package test

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/telemetry/window"
	"github.com/orderkeep/orderkeep/test/stage"
)

// TestPagesAreWholeBesideManyOrders asks for the console's pages beside as many orders as ORDERKEEP_TEST_ORDERS says and a full window of log lines
// and spans, each a hundred times, and logs how long they took: the figures of docs/console.md come from it.
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
	fillWindow(t, filepath.Join(s.data, "window"), n)
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
		t.Logf("%s beside %d orders: least %v, median %v, 99th of 100 %v, most %v", page.name, n, took[0], took[50], took[98], took[99])
	}
}

// fillWindow fills the window of the one process that has run with spans of n orders, as large as it is by default.
func fillWindow(t *testing.T, dir string, n int) {
	t.Helper()
	of, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(of) != 1 {
		t.Fatalf("%v has %v, %v", dir, of, err)
	}
	const size = 32 << 20
	w, err := window.Open(dir, filepath.Base(of[0]), size, 24*time.Hour, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; w.Size() < size*3/4; i++ {
		w.Append(window.Entry{Kind: window.Span, At: time.Now(), Service: "orders", Name: "POST /v1/orders", SpanKind: "server", CorrelationID: fmt.Sprintf("c-%d", 1+i%n),
			TraceID: fmt.Sprintf("%032x", i), SpanID: fmt.Sprintf("%016x", i), DurationMS: 3.2,
			Attrs: map[string]any{"orderId": fmt.Sprintf("0197b7b0-0000-7000-8000-%d", 100_000_000_000+1+i%n), "http.request.method": "POST", "http.response.status_code": 201}})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
