package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
)

// An inbox forgets nothing that a publisher may still send again: it goes by the oldest event that waits anywhere.
func TestArchiveForgetsNoEventThatMayComeAgain(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var swept []time.Time
	waits := time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var answer any = archive.Page{}
		switch r.URL.Path {
		case archive.Path("payments") + "/events":
			answer = archive.Page{Waiting: waits}
		case archive.Path("inventory") + "/events":
			answer = archive.Page{Waiting: waits.AddDate(1, 0, 0)}
		}
		if strings.HasSuffix(r.URL.Path, "/inbox/remove") {
			var q archive.Sweep
			if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
				t.Error(err)
			}
			swept = append(swept, q.Before)
			answer = archive.Swept{Removed: 3, Next: q.After + 10, More: q.After == 0}
		}
		text, err := json.Marshal(answer)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%s\n", text)
	}))
	t.Cleanup(web.Close)
	dir := filepath.Join(t.TempDir(), "archive")
	r := do(t, nil, "", "--url", web.URL, "archive", "--before", "2026-02-01", "--to", dir, "--yes")
	if r.code != 0 || !strings.Contains(r.out, "handled by orders, forgotten") {
		t.Fatalf("%+v", r)
	}
	if len(swept) != 6 {
		t.Fatalf("inboxes are swept %d times, want twice each", len(swept))
	}
	for _, before := range swept {
		if !before.Equal(waits) {
			t.Errorf("an inbox forgets what happened before %v, and an event of %v waits to be published", before, waits)
		}
	}
}
