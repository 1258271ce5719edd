package orders

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
