package httpd_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// asked is a request as it arrives: from an address, under a name, with a header.
type asked struct{ from, host, header string }

func (a asked) request(method, path string) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr, r.Host = a.from, a.host
	if name, value, ok := strings.Cut(a.header, ": "); ok {
		r.Header.Set(name, value)
	}
	return r
}

// strangers are those that are refused what is for the operator.
var strangers = map[string]asked{
	"another machine":                              {"192.0.2.7:4000", "127.0.0.1:3000", ""},
	"another machine over IPv6":                    {"[2001:db8::7]:4000", "127.0.0.1:3000", ""},
	"another machine that claims to be this":       {"192.0.2.7:4000", "127.0.0.1:3000", "X-Forwarded-For: 127.0.0.1"},
	"no address at all":                            {"@", "127.0.0.1:3000", ""},
	"a proxy here that says for whom":              {"127.0.0.1:4000", "127.0.0.1:3000", "X-Forwarded-For: 192.0.2.7"},
	"a proxy here that says for whom, nginx's way": {"127.0.0.1:4000", "127.0.0.1:3000", "X-Real-IP: 192.0.2.7"},
	"a proxy here that says for whom, the new way": {"127.0.0.1:4000", "127.0.0.1:3000", "Forwarded: for=192.0.2.7"},
	"a proxy here that says by which name":         {"127.0.0.1:4000", "127.0.0.1:3000", "X-Forwarded-Host: shop.example"},
	"a proxy here that says that it is one":        {"127.0.0.1:4000", "127.0.0.1:3000", "Via: 1.1 proxy"},
	"a proxy here that passes the name on":         {"127.0.0.1:4000", "shop.example", ""},
	"a name that a page made point here":           {"127.0.0.1:4000", "localhost.evil.example:3000", ""},
}

// neighbours are those that are not.
var neighbours = map[string]asked{
	"this machine":               {"127.0.0.1:4000", "127.0.0.1:3000", ""},
	"this machine by name":       {"127.0.0.1:4000", "localhost:3000", ""},
	"this machine, another way":  {"127.8.9.1:4000", "127.8.9.1", ""},
	"this machine over IPv6":     {"[::1]:4000", "[::1]:3000", ""},
	"this machine, no port":      {"[::1]:4000", "[::1]", ""},
	"this machine, IPv4 in IPv6": {"[::ffff:127.0.0.1]:4000", "127.0.0.1:3000", ""},
}

func TestMetricsAreForThisMachine(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics()
	m.Counter("orderkeep_units_sold_total", "Units sold.").Add(3)
	s := httpd.New(httpd.Options{Metrics: m})
	for name, a := range strangers {
		if w, p := do(s, a.request(http.MethodGet, "/metrics")); w.Code != http.StatusForbidden || p.Error != "not_local" || strings.Contains(w.Body.String(), "orderkeep_") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	for name, a := range neighbours {
		if w, _ := do(s, a.request(http.MethodGet, "/metrics")); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "\norderkeep_units_sold_total 3\n") ||
			!strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
			t.Errorf("%s: %d %s %s", name, w.Code, w.Header(), w.Body)
		}
	}
	if w, p := do(s, neighbours["this machine"].request(http.MethodPost, "/metrics")); w.Code != http.StatusMethodNotAllowed || p.Error != "method_not_allowed" {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestMetricsAreForTheNetworksThatAreNamed(t *testing.T) {
	t.Parallel()
	s := httpd.New(httpd.Options{MetricsFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	for name, c := range map[string]struct {
		asked
		want int
	}{
		"one in it":                {asked{"192.0.2.7:4000", "orders:3000", ""}, http.StatusOK},
		"one in it, IPv4 in IPv6":  {asked{"[::ffff:192.0.2.7]:4000", "orders:3000", ""}, http.StatusOK},
		"a proxy in it":            {asked{"192.0.2.7:4000", "orders:3000", "X-Forwarded-For: 192.0.2.8"}, http.StatusForbidden},
		"one outside":              {asked{"198.51.100.7:4000", "orders:3000", ""}, http.StatusForbidden},
		"this machine, as ever":    {neighbours["this machine"], http.StatusOK},
		"this machine, other name": {asked{"127.0.0.1:4000", "orders:3000", ""}, http.StatusForbidden},
	} {
		if w, _ := do(s, c.request(http.MethodGet, "/metrics")); w.Code != c.want {
			t.Errorf("%s: %d, want %d", name, w.Code, c.want)
		}
	}
}

// sick is a server that calls Inventory, which fails until the breaker opens.
func sick(t *testing.T) *httpd.Server {
	t.Helper()
	return httpd.New(httpd.Options{Calls: sickCalls(t)})
}

func sickCalls(t *testing.T) *call.Edges {
	t.Helper()
	edges := call.NewEdges(call.Policies(), slog.New(slog.DiscardHandler), nil)
	inventory := edges.Target("inventory").Client(down{})
	for range 10 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://inventory.invalid/reserve", nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := inventory.Do(r); err == nil {
			res.Body.Close()
			t.Fatal("a wire that is down answers")
		}
	}
	return edges
}

type down struct{}

func (down) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("down") }

func TestCallsAreShownAndReset(t *testing.T) {
	t.Parallel()
	s := sick(t)
	here := neighbours["this machine"]
	breaker := func() string {
		w, _ := do(s, here.request(http.MethodGet, "/internal/calls"))
		var got struct {
			Calls []struct {
				Edge, Breaker string
				Failures      int
				Policy        struct {
					TimeoutSeconds float64
					Attempts       int
				}
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for _, c := range got.Calls {
			if c.Edge == "inventory/POST /reserve" && c.Policy.TimeoutSeconds == 5 && c.Policy.Attempts == 1 {
				return c.Breaker
			}
		}
		t.Fatalf("no such edge: %s", w.Body)
		return ""
	}
	if b := breaker(); b != "open" {
		t.Fatalf("the breaker is %s", b)
	}
	for name, a := range strangers {
		for method, path := range map[string]string{http.MethodGet: "/internal/calls", http.MethodPost: "/internal/calls/reset"} {
			if w, p := do(s, a.request(method, path)); w.Code != http.StatusForbidden || p.Error != "not_local" || strings.Contains(w.Body.String(), "edge") {
				t.Errorf("%s, %s: %d %s", name, path, w.Code, w.Body)
			}
		}
	}
	page := here
	page.header = "Sec-Fetch-Site: cross-site"
	if w, p := do(s, page.request(http.MethodPost, "/internal/calls/reset")); w.Code != http.StatusForbidden || p.Error != "not_local" {
		t.Errorf("the page of another site: %d %s", w.Code, w.Body)
	}
	for path, want := range map[string]int{"/internal/calls/reset?edge=inventory/GET%20/v1/stock/%7Bsku%7D": http.StatusOK, "/internal/calls/reset?edge=payments": http.StatusNotFound} {
		if w, _ := do(s, here.request(http.MethodPost, path)); w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if b := breaker(); b != "open" {
		t.Fatalf("the breaker is %s, and nobody that may has reset it", b)
	}
	if w, _ := do(s, here.request(http.MethodPost, "/internal/calls/reset?edge=inventory/POST%20/reserve")); w.Body.String() != `{"reset":["inventory/POST /reserve"]}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if b := breaker(); b != "closed" {
		t.Errorf("after the reset the breaker is %s", b)
	}
	for method, path := range map[string]string{http.MethodPost: "/internal/calls", http.MethodGet: "/internal/calls/reset"} {
		if w, _ := do(s, here.request(method, path)); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %d", method, path, w.Code)
		}
	}
}

func TestWhoResetsACallIsNoted(t *testing.T) {
	t.Parallel()
	const all = "/internal/calls/reset"
	long := func(n int) string { return strings.Repeat("%C3%A9", n) }
	for name, c := range map[string]struct {
		path, code, noted string
		away, closed      bool
	}{
		"somebody":                     {all + "?edge=inventory&actor=ada&reason=it+is+back", "", "ada|it is back|inventory", false, true},
		"all":                          {all + "?actor=ada", "", "ada||", false, true},
		"nobody says who":              {all + "?edge=inventory&reason=it+is+back", "", "", false, true},
		"what is not there":            {all + "?edge=nowhere&actor=ada", "unknown_edge", "", false, false},
		"a name as long as can be":     {all + "?actor=" + long(128), "", strings.Repeat("é", 128) + "||", false, true},
		"a longer one":                 {all + "?actor=" + long(129), "invalid_actor", "", false, false},
		"a longer reason":              {all + "?actor=ada&reason=" + long(1025), "invalid_actor", "", false, false},
		"while the database is away":   {all + "?actor=ada", "not_noted", "ada||", true, true},
		"without a name, and it is so": {all, "", "", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls, noted := sickCalls(t), ""
			s := httpd.New(httpd.Options{Calls: calls, Note: func(_ context.Context, actor, reason, calls string) error {
				noted = actor + "|" + reason + "|" + calls
				if c.away {
					return errors.New("away")
				}
				return nil
			}})
			w, p := do(s, neighbours["this machine"].request(http.MethodPost, c.path))
			if p.Error != c.code || noted != c.noted {
				t.Errorf("%d %s, noted %q; want %q and %q", w.Code, w.Body, noted, c.code, c.noted)
			}
			for _, at := range calls.States() {
				if at.Edge == "inventory/POST /reserve" && (at.Breaker == "closed") != c.closed {
					t.Errorf("the breaker is %s; want it closed: %t", at.Breaker, c.closed)
				}
			}
		})
	}
}

func TestNoCallsAreAnEmptyList(t *testing.T) {
	t.Parallel()
	if w, _ := do(httpd.New(httpd.Options{}), neighbours["this machine"].request(http.MethodGet, "/internal/calls")); w.Body.String() != `{"calls":[]}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
