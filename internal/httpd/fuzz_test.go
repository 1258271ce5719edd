package httpd_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// FuzzRequest sends anything as the parts of a request that the edge itself reads: path, query and header fields. The answer is
// never an internal error, and it and the handler have a correlation id that may be kept.
func FuzzRequest(f *testing.F) {
	f.Add("/v1/things", "limit=5", "c-1", "5S", "192.0.2.1, 10.0.0.1", "till", "key")
	f.Add("/health", "%", "", "", "", "", "")
	f.Add("/v1/things/\xff", "a=%ff&a=;", "a b", "99999999H", "::1%x,,", "\x7f", "\xff")
	f.Add("/", "x", "", "-1S", "x", "", "")
	var seen string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = telemetry.Correlation(r.Context())
		w.WriteHeader(http.StatusNoContent)
	})
	s := httpd.New(httpd.Options{
		Routes: map[string]http.Handler{"/v1/things": handler}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Clients: httpd.Clients{Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Header: "X-Client"},
	})
	f.Fuzz(func(t *testing.T, path, query, correlation, timeout, forwarded, client, key string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.URL.Path, r.URL.RawQuery = path, query
		for name, v := range map[string]string{telemetry.Header: correlation, "Grpc-Timeout": timeout, "X-Forwarded-For": forwarded, "X-Client": client, "Idempotency-Key": key} {
			if v != "" {
				r.Header[http.CanonicalHeaderKey(name)] = []string{v}
			}
		}
		seen = ""
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		id := w.Header().Get(telemetry.Header)
		if !telemetry.ValidCorrelation(id) || seen != "" && seen != id || telemetry.ValidCorrelation(correlation) && id != correlation {
			t.Errorf("asked with the correlation id %q: answered with %q, handled with %q", correlation, id, seen)
		}
	})
}
