package httpd_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/rate"
)

// limited is a server that lets each client in twice an hour.
func limited(t *testing.T, c httpd.Clients) *httpd.Server {
	t.Helper()
	l, err := rate.New(rate.Limit{Requests: 2, Period: time.Hour}, "", "", call.NewEdges(call.Policies(), slog.New(slog.DiscardHandler), nil))
	if err != nil {
		t.Fatal(err)
	}
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return httpd.New(httpd.Options{Routes: map[string]http.Handler{"/v1/things": ok}, Rate: l, Clients: c})
}

// ask sends a request from an address with header fields.
func ask(t *testing.T, s *httpd.Server, path, from string, header ...string) (*http.Response, problem) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.RemoteAddr = from
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w, p := do(s, r)
	return w.Result(), p
}

func TestRefusesAClientPastItsLimitAndSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	s := limited(t, httpd.Clients{})
	for i, want := range []struct {
		status int
		left   string
	}{{204, "1"}, {204, "0"}, {429, "0"}, {429, "0"}} {
		res, p := ask(t, s, "/v1/things", "192.0.2.1:1000"+strconv.Itoa(i))
		if res.StatusCode != want.status || res.Header.Get("RateLimit-Policy") != `"client";q=2;w=3600` {
			t.Errorf("request %d: %d, %v", i, res.StatusCode, res.Header)
		}
		var left, reset int
		if _, err := fmt.Sscanf(res.Header.Get("RateLimit"), `"client";r=%d;t=%d`, &left, &reset); err != nil || strconv.Itoa(left) != want.left || reset < 1 || reset > 3600 {
			t.Errorf("request %d: RateLimit %q", i, res.Header.Get("RateLimit"))
		}
		if want.status == 429 {
			if after, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || after < 1 || after > 1800 {
				t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
			}
			if p.Error != "rate_limited" || p.Detail == "" {
				t.Errorf("problem %+v", p)
			}
		}
	}
	if res, _ := ask(t, s, "/v1/things", "192.0.2.2:10000"); res.StatusCode != 204 {
		t.Errorf("another address: %d", res.StatusCode)
	}
	for range 5 {
		if res, _ := ask(t, s, "/health", "192.0.2.1:10000"); res.StatusCode != 200 || res.Header.Get("RateLimit") != "" {
			t.Errorf("health: %d", res.StatusCode)
		}
	}
}

func TestClientIsWhoeverATrustedProxySays(t *testing.T) {
	t.Parallel()
	proxies := httpd.Clients{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}, Header: "X-Client"}
	for name, c := range map[string]struct {
		from  [2]string // addresses of two connections
		first []string  // header fields of the first
		other []string  // of the second
		same  bool      // whether both are one client
	}{
		"an address is one client on any port":                  {[2]string{"192.0.2.1:1", "192.0.2.1:2"}, nil, nil, true},
		"an IPv4 address mapped into IPv6 is the same":          {[2]string{"192.0.2.1:1", "[::ffff:192.0.2.1]:2"}, nil, nil, true},
		"64 bits of IPv6 are one client":                        {[2]string{"[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::9]:1"}, nil, nil, true},
		"other 64 bits are another":                             {[2]string{"[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1"}, nil, nil, false},
		"a stranger cannot forward":                             {[2]string{"192.0.2.1:1", "192.0.2.1:1"}, []string{"X-Forwarded-For", "198.51.100.1"}, []string{"X-Forwarded-For", "198.51.100.2"}, true},
		"a stranger cannot name itself":                         {[2]string{"192.0.2.1:1", "192.0.2.1:1"}, []string{"X-Client", "a"}, []string{"X-Client", "b"}, true},
		"a proxy forwards":                                      {[2]string{"10.0.0.1:1", "10.0.0.1:1"}, []string{"X-Forwarded-For", "198.51.100.1"}, []string{"X-Forwarded-For", "198.51.100.2"}, false},
		"the last hop that is no proxy counts, not its claims":  {[2]string{"10.0.0.1:1", "10.0.0.1:1"}, []string{"X-Forwarded-For", "203.0.113.1, 198.51.100.1, 10.9.9.9"}, []string{"X-Forwarded-For", "203.0.113.2, 198.51.100.1"}, true},
		"hops may come in several fields":                       {[2]string{"10.0.0.1:1", "10.0.0.1:1"}, []string{"X-Forwarded-For", "203.0.113.1", "X-Forwarded-For", "198.51.100.1"}, []string{"X-Forwarded-For", "198.51.100.1"}, true},
		"a hop that is no address ends the search at the proxy": {[2]string{"10.0.0.1:1", "10.0.0.1:1"}, []string{"X-Forwarded-For", "unknown"}, nil, true},
		"a proxy names API clients behind one address":          {[2]string{"10.0.0.1:1", "10.0.0.1:1"}, []string{"X-Client", "a", "X-Forwarded-For", "198.51.100.1"}, []string{"X-Client", "b", "X-Forwarded-For", "198.51.100.1"}, false},
		"and an API client behind two":                          {[2]string{"10.0.0.1:1", "[fd00::1]:1"}, []string{"X-Client", "a"}, []string{"X-Client", "a"}, true},
		"a name and an address are never one":                   {[2]string{"10.0.0.1:1", "10.0.0.1:1"}, []string{"X-Client", "198.51.100.1"}, []string{"X-Forwarded-For", "198.51.100.1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := limited(t, proxies)
			for range 2 {
				ask(t, s, "/v1/things", c.from[0], c.first...)
			}
			if res, _ := ask(t, s, "/v1/things", c.from[1], c.other...); (res.StatusCode == 429) != c.same {
				t.Errorf("the second was answered %d", res.StatusCode)
			}
		})
	}
}
