package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// keptPoint is the crash point to which Orders comes only with an Inventory that has no release, which the worlds do not have.
const keptPoint = "orders.kept"

// TestACrashAfterWhatInventoryKeepsIsNoted lets Orders die when it has noted what an Inventory that knows only POST /reserve has taken. That Inventory
// honours its keys: the units must be taken once, and the order must be the one that the customer asked for.
func TestACrashAfterWhatInventoryKeepsIsNoted(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	taken := map[string]int{} // units by key
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask struct {
			SKU string
			Qty int
		}
		if r.Method != http.MethodPost || r.URL.Path != "/reserve" || json.NewDecoder(r.Body).Decode(&ask) != nil {
			w.WriteHeader(http.StatusNotFound) // which is no problem document: it knows nothing else
			return
		}
		mu.Lock()
		defer mu.Unlock()
		taken[r.Header.Get("Idempotency-Key")] = ask.Qty
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(foreign.Close)
	data := t.TempDir()
	start := func(crash string) *stage.Process {
		p := stage.Start(t, stage.Launch{Path: program, Args: []string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--inventory-url", foreign.URL}, Env: []string{"ORDERKEEP_LAB_CRASH=" + crash}})
		p.Expected = crash != ""
		return p
	}
	place := func(p *stage.Process) (status int, err error) {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+"/v1/orders", strings.NewReader(
			`{"items":[{"sku":"PEN","qty":3,"unitPrice":100}],"currency":"EUR","payment":{"provider":"simulated","token":"pm_card_visa"}}`))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/json")
		q.Header.Set("Idempotency-Key", "kept")
		res, err := http.DefaultClient.Do(q)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	p := start(keptPoint)
	if status, err := place(p); err == nil {
		t.Fatalf("it answers %d, and was to die", status)
	}
	<-p.Ended
	if !p.Killed() {
		t.Fatalf("it did not die at the point:\n%s", p.Log.Tail())
	}
	report.Lock()
	report.Points[keptPoint]++
	report.Unlock()
	p = start("")
	stage.Eventually(t, "its customer has an answer", func() bool {
		status, err := place(p)
		return err == nil && status == http.StatusCreated
	})
	mu.Lock()
	if len(taken) != 1 {
		t.Errorf("taken, by key: %v; want the units of one order, once", taken)
	}
	mu.Unlock()
	orders := table{t, dbtest.Raw(t, sqlite(data)["orders"])}
	var all []string
	orders.rows(`SELECT state, kept FROM orders`, func(scan func(...any)) {
		var state, kept string
		scan(&state, &kept)
		all = append(all, state+" "+kept)
	})
	// Orders cannot know that this Inventory honours keys: both calls are in its book.
	if fmt.Sprint(all) != "[confirmed 3 PEN, 3 PEN]" {
		t.Errorf("orders are %v, want one that is confirmed, with what is kept for it before and after the crash", all)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}
