package orders

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/httpd"
)

// FuzzRequest sends anything as the parts of a call but the order that is placed, which FuzzPlace sends: path, query and the reason
// of a cancellation. No answer is an internal error.
func FuzzRequest(f *testing.F) {
	const id = "0197b7b0-0000-7000-8000-00000000000a"
	f.Add(false, "", "limit=2&cursor="+id, "")
	f.Add(false, "", "status=pending&customer=%ff", "")
	f.Add(false, "", "placedFrom=0000-01-01T00:00:00Z&placedBefore=9999-12-31T23:59:59.999999999%2B23:59", "")
	f.Add(false, "/"+strings.ToUpper(id), "", "")
	f.Add(false, "/"+id+"/timeline", "", "")
	f.Add(true, "/"+id+"/cancel", "", `{"reason":"\u0000"}`)
	f.Add(true, "/"+id+"/return", "", `{"reason":"`+strings.Repeat("x", 300)+`"}`)
	f.Add(true, "/{"+id+"}/fulfil", "", "")
	b := setup(f)
	edge := httpd.New(httpd.Options{Routes: b.svc.Routes, Log: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, post bool, path, query, body string) {
		method := http.MethodGet
		if post {
			method = http.MethodPost
		}
		if post && strings.Trim(path, "/") == "" {
			t.Skip("FuzzPlace places orders")
		}
		r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
		r.URL.Path, r.URL.RawQuery = "/v1/orders"+path, query
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		edge.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %q?%q with %q: %d %s", method, path, query, body, w.Code, w.Body)
		}
	})
}

// FuzzRecords sends anything as the parts of a call for what Orders keeps beside its orders: the feed of events, forwards and backwards,
// what is parked, who did what, and the records that an archive reads and removes. No answer is an internal error.
func FuzzRecords(f *testing.F) {
	b := setup(f)
	paths := []string{"/v1/events", "/v1/events/parked", "/v1/acts"}
	for _, path := range []string{"/ended", "/events", "/read", "/remove", "/events/remove", "/inbox/remove"} {
		paths = append(paths, archive.Path("orders")+path)
	}
	const id = "0197b7b0-0000-7000-8000-00000000000a"
	before := time.Now().AddDate(0, -2, 0).UTC().Format(time.RFC3339)
	f.Add(uint8(0), "", "before=1&limit=1000", "")
	f.Add(uint8(0), "", "after=-1&before=9223372036854775807", "")
	f.Add(uint8(1), "/"+id+"/redrive", "", `{"actor":"x"}`)
	f.Add(uint8(2), "", "subject=\x00&before=x", "")
	f.Add(uint8(3), "", "before="+before+"&after=g", "")
	f.Add(uint8(4), "", "before="+before+"&after=9223372036854775807", "")
	f.Add(uint8(5), "", "", `{"before":"`+before+`","ids":["`+id+`","\u0000"]}`)
	f.Add(uint8(6), "", "", `{"before":"`+before+`","records":[{"id":"`+id+`","sum":"00"}]}`)
	f.Add(uint8(7), "", "", `{"before":"`+before+`","records":[{"id":"9223372036854775807","sum":""}]}`)
	f.Add(uint8(8), "", "", `{"before":"`+before+`","unpublished":"0000-01-01T00:00:00Z"}`)
	edge := httpd.New(httpd.Options{Routes: b.svc.Routes, Log: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, at uint8, more, query, body string) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
			r.URL.Path, r.URL.RawQuery, r.RemoteAddr = paths[int(at)%len(paths)]+more, query, "127.0.0.1:1"
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			edge.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Errorf("%s %q?%q with %q: %d %s", method, r.URL.Path, query, body, w.Code, w.Body)
			}
		}
	})
}
