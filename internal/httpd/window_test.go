package httpd_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/telemetry/window"
)

func kept(t *testing.T) *window.Window {
	t.Helper()
	w, err := window.Open(t.TempDir(), "orders", 1<<20, time.Hour, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	for n, id := range []string{"c-1", "c-2", "c-1"} {
		w.Append(window.Entry{Kind: window.Log, At: time.Date(2026, 3, 1, 12, 0, n, 0, time.UTC), Service: "orders", Level: "INFO", Message: "m", CorrelationID: id})
	}
	return w
}

func TestWindowAnswersWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	s := httpd.New(httpd.Options{Window: kept(t), Service: "orders+payments", TraceURL: "https://traces.example/{traceId}"})
	get := func(query string) (int, window.Page) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "http://localhost/internal/window?"+query, nil)
		r.RemoteAddr = "127.0.0.1:4711"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var p window.Page
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		return w.Code, p
	}
	all := window.Query{Correlation: "c-1", Text: []string{"m", "x"}, Kind: window.Log, Level: "info", From: time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC), Limit: 5, Wait: time.Second}
	status, p := get(all.Values().Encode())
	if status != http.StatusOK || len(p.Entries) != 1 || p.Entries[0].At.Second() != 2 || p.Service != "orders+payments" || p.TraceURL == "" || p.Oldest == nil || p.Next == "" || p.More {
		t.Errorf("%d, %+v", status, p)
	}
	if status, p = get("after=" + p.Next); status != http.StatusOK || len(p.Entries) != 0 {
		t.Errorf("%d, %+v", status, p)
	}
	for _, bad := range []string{"after=x", "limit=0", "limit=1001", "limit=x", "wait=26", "from=noon", "kind=line", "level=loud", "text=", "text=" + strings.Repeat("x", 201), "colour=red"} {
		if status, _ := get(bad); status != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, status)
		}
	}
}

// A process without a window has nothing to tell, and says so.
func TestNoWindowIsAnEmptyOne(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodGet, "http://localhost/internal/window", nil)
	r.RemoteAddr = "127.0.0.1:4711"
	w := httptest.NewRecorder()
	httpd.New(httpd.Options{Service: "orders"}).ServeHTTP(w, r)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"entries":[]`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestWindowIsForTheOperator(t *testing.T) {
	t.Parallel()
	s := httpd.New(httpd.Options{Window: kept(t), WindowFrom: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, MetricsFrom: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}})
	for _, c := range []struct {
		from, method, header string
		status               int
	}{
		{"127.0.0.1:1", http.MethodGet, "", 200}, {"10.1.2.3:1", http.MethodGet, "", 200}, {"10.2.2.3:1", http.MethodGet, "", 403},
		{"127.0.0.1:1", http.MethodGet, "X-Forwarded-For", 403}, {"127.0.0.1:1", http.MethodPost, "", 405}, {"127.0.0.1:1", http.MethodHead, "", 200},
	} {
		r := httptest.NewRequest(c.method, "http://localhost/internal/window", nil)
		r.RemoteAddr = c.from
		if c.header != "" {
			r.Header.Set(c.header, "10.1.2.3")
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.status || c.status == 403 && !strings.Contains(w.Body.String(), "not_local") {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
}
