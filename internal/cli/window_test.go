package cli

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/telemetry/window"
)

// keeping serves a window with the entries, and the shop's routes.
func keeping(t *testing.T, s *shop, service string, entries ...window.Entry) (url string, w *window.Window) {
	t.Helper()
	w, err := window.Open(t.TempDir(), service, 1<<20, time.Hour, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	for _, e := range entries {
		e.Service = service
		w.Append(e)
	}
	srv := httptest.NewServer(httpd.New(httpd.Options{Routes: s.routes(t), Window: w, Service: service}))
	t.Cleanup(srv.Close)
	return srv.URL, w
}

func said(at int, message string) window.Entry {
	return window.Entry{Kind: window.Log, At: opened.Add(time.Duration(at) * time.Millisecond), Level: "INFO", Message: message, CorrelationID: "c-1", Attrs: map[string]any{"orderId": first, "why": "two words"}}
}

func asked(at int, name, failure string) window.Entry {
	return window.Entry{Kind: window.Span, At: opened.Add(time.Duration(at) * time.Millisecond), Name: name, DurationMS: 1.25, Error: failure, CorrelationID: "c-1", Attrs: map[string]any{"orderId": first}}
}

func TestLogsMergeOverServices(t *testing.T) {
	t.Parallel()
	shop := newShop()
	orders, _ := keeping(t, shop, "orders", said(1, "begun"), said(4, "over"))
	payments, _ := keeping(t, shop, "payments", asked(3, "simulated/Authorize", "away"), said(2, "asked"))
	away := nobody(t)
	r := do(t, nil, "", "logs", "--process", orders, "--process", payments, "--process", away)
	want := `2011-03-21T08:00:00.001Z  orders     INFO   begun  orderId=` + first + ` why="two words"  correlationId=c-1
2011-03-21T08:00:00.002Z  payments   INFO   asked  orderId=` + first + ` why="two words"  correlationId=c-1
2011-03-21T08:00:00.003Z  payments   span   simulated/Authorize  1.2ms orderId=` + first + ` error="away"  correlationId=c-1
2011-03-21T08:00:00.004Z  orders     INFO   over  orderId=` + first + ` why="two words"  correlationId=c-1
`
	if r.code != exitOK || r.out != want || !strings.HasPrefix(r.errout, "Without the log lines and spans of "+away) {
		t.Errorf("%+v, want\n%s", r, want)
	}
	r = do(t, nil, "", "logs", "--json", "--kind", "span", "--level", "warn", "--order", first, "--process", orders, "--process", payments)
	var got struct{ Entries []window.Entry }
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || len(got.Entries) != 1 || got.Entries[0].Error != "away" {
		t.Errorf("%v, %+v", err, r)
	}
	if r = do(t, nil, "", "logs", "--correlation", "c-2", "--json", "--process", orders); r.code != exitOK || !strings.Contains(r.out, `"entries": []`) {
		t.Errorf("%+v", r)
	}
	if r = do(t, nil, "", "logs", "--process", away); r.code != exitFailed || !strings.Contains(r.errout, "no server answers at "+away) {
		t.Errorf("%+v", r)
	}
	if r = do(t, nil, "", "logs", "--limit", "0"); r.code != exitUsage {
		t.Errorf("%+v", r)
	}
}

func TestLogsFollow(t *testing.T) {
	t.Parallel()
	url, w := keeping(t, newShop(), "orders", said(1, "before"))
	r, out := io.Pipe()
	ended := make(chan int)
	go func() {
		ended <- run(t.Context(), []string{"logs", "--follow", "--json", "--process", url}, nil, out, io.Discard, nil)
	}()
	lines := json.NewDecoder(r)
	for n, message := range []string{"before", "while", "later"} {
		if n > 0 {
			w.Append(said(n+1, message))
		}
		var e window.Entry
		if err := lines.Decode(&e); err != nil || e.Message != message {
			t.Fatalf("%v, %+v, want %s", err, e, message)
		}
	}
	// Whoever reads has seen enough: as after "| head".
	r.CloseWithError(errors.New("closed"))
	w.Append(said(9, "too late"))
	if code := <-ended; code != exitFailed {
		t.Errorf("it ends with %d", code)
	}
}

func TestTimelineHasAllThatIsKnown(t *testing.T) {
	t.Parallel()
	shop, _ := stocked(t)
	url, _ := keeping(t, shop, "inventory", said(2, "hm"), asked(1, "inventory write", ""), window.Entry{Kind: window.Log, At: opened, Message: "another's", CorrelationID: "c-2"})
	r := do(t, nil, "", "order", "timeline", first, "--url", url)
	if r.code != exitOK || strings.Contains(r.out, "another's") {
		t.Fatalf("%+v", r)
	}
	var at []int
	for _, want := range []string{"orders     record  placed", "inventory  span    inventory write", "inventory  log     hm"} {
		at = append(at, strings.Index(r.out, want))
	}
	if at[0] < 0 || at[1] < 0 || at[2] < 0 {
		t.Errorf("%v\n%s", at, r.out)
	}
	away := nobody(t)
	if r := do(t, nil, "", "order", "timeline", first, "--url", url, "--process", away); r.code != exitOK || !strings.Contains(r.out, "placed") || !strings.Contains(r.errout, away) {
		t.Errorf("%+v", r)
	}
}
