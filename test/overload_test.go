package test

import (
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
)

// figure reads one of the figures of the process that answers for Orders.
func (s *shop) figure(t testing.TB, series string) float64 {
	t.Helper()
	text := s.text(t, "/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), series+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	t.Fatalf("there is no %s in\n%s", series, text)
	return 0
}

// TestOrdersAreTurnedAwayBeforeTheQueueMakesAllLate lets another program hold the database of Orders, as a disk that stands still does.
func TestOrdersAreTurnedAwayBeforeTheQueueMakesAllLate(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 1000)
	before := s.place(t, "before", paid(visa, one))
	want(t, before, http.StatusCreated, "")
	unlock := s.lock(t, "orders")

	const waiting = 300 // more than a transaction takes
	answers := make([]answer, waiting)
	failures := make([]error, waiting)
	var buyers sync.WaitGroup
	for i := range waiting {
		buyers.Go(func() { answers[i], failures[i] = s.try(http.MethodPost, "/v1/orders", paid(visa, one)) })
	}
	stage.Eventually(t, "the queue is long", func() bool { return s.figure(t, `orderkeep_backlog_seconds{context="orders"}`) > 0.2 })
	again := s.place(t, "before", paid(visa, one))
	want(t, again, http.StatusCreated, "")
	if !again.replayed() || again.OrderID != before.OrderID {
		t.Errorf("a key that has its answer got %v", again)
	}
	for _, key := range []string{"late", "later", "late"} {
		a := s.place(t, key, paid(visa, one))
		want(t, a, http.StatusServiceUnavailable, "overloaded")
		if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 || n > 3 {
			t.Errorf("Retry-After: %q", a.header.Get("Retry-After"))
		}
	}
	for _, path := range []string{"/v1/orders/" + before.OrderID, "/v1/stock/" + book, "/health", "/readyz"} {
		want(t, s.get(t, path), http.StatusOK, "")
	}
	if n := s.figure(t, "orderkeep_orders_overloaded_total"); n < 3 {
		t.Errorf("%v orders are counted as turned away", n)
	}
	unlock()
	buyers.Wait()
	taken := 1
	for i, a := range answers {
		switch {
		case failures[i] != nil:
			t.Error(failures[i])
		case a.status == http.StatusCreated:
			taken++
		default:
			want(t, a, http.StatusServiceUnavailable, "overloaded") // it came after the queue was long
		}
	}
	if taken <= 256 {
		t.Errorf("%d orders were taken: what fits into one transaction is no crowd", taken)
	}
	late := s.place(t, "late", paid(visa, one))
	want(t, late, http.StatusCreated, "")
	if late.replayed() {
		t.Error("the key of an order that was turned away was not free")
	}
	s.hasAvailable(t, book, 1000-taken-1)
	s.verify(t)
	s.close(t)
}

// lock keeps everybody else from writing to the database of a context, until unlock.
func (s *shop) lock(t testing.TB, context string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.data, context+".db")+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		db.Close()
	})
}

// TestAProviderThatHangsHoldsUpNobodyElse has more orders wait for it than fit into a transaction, and looks at the others.
func TestAProviderThatHangsHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 2000)
	const waiting = 600
	answers := make([]answer, waiting)
	failures := make([]error, waiting)
	var buyers sync.WaitGroup
	for i := range waiting {
		buyers.Go(func() {
			for again := true; again; again = failures[i] == nil && answers[i].Error == "overloaded" { // all come at once
				answers[i], failures[i] = s.try(http.MethodPost, "/v1/orders", paid("pm_simulated_slow_1m", one), "Idempotency-Key", fmt.Sprint("waits-", i))
			}
		})
	}
	stage.Eventually(t, "all have their units and wait for their money", func() bool { return s.get(t, "/v1/stock/"+book).Reserved == waiting })
	turnedAway := s.figure(t, "orderkeep_orders_overloaded_total")
	const others = 50
	for range others {
		a := s.place(t, "", order{Items: []line{{SKU: record, Qty: 1}}})
		want(t, a, http.StatusCreated, "")
		want(t, s.get(t, "/v1/orders/"+a.OrderID), http.StatusOK, "")
		want(t, s.get(t, "/v1/stock/"+record), http.StatusOK, "")
	}
	accepted(t, s.place(t, "", paid(visa, line{record, 1, 999}))) // it waits, or not any more
	buyers.Wait()
	for i, a := range answers {
		if failures[i] != nil {
			t.Fatal(failures[i])
		}
		want(t, a, http.StatusAccepted, "") // the provider did not say in time
	}
	if n := s.figure(t, "orderkeep_orders_overloaded_total"); n != turnedAway {
		t.Errorf("%v orders were turned away while the process had nothing to do", n-turnedAway)
	}
	for _, a := range answers {
		if end := s.ends(t, a.OrderID); end.Status != "confirmed" {
			t.Fatalf("it ends as %v", end)
		}
	}
	s.hasAvailable(t, book, 2000-waiting)
	s.verify(t)
	s.close(t)
}

// text is what is answered at a path that has no JSON.
func (s *shop) text(t testing.TB, path string) string {
	t.Helper()
	res, err := s.client.Get(s.url(path))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", path, res.Status, err)
	}
	return string(text)
}
