package console

import (
	"context"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/node"
)

const token = "correct horse battery staple"

// open makes a console on services that answer as h does; without h they have no address.
func openTest(t *testing.T, token string, h http.Handler) *console {
	t.Helper()
	fronts := map[string]node.Front{}
	if h != nil {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		for _, name := range contexts {
			fronts[name] = node.Front{URL: s.URL, HTTP: s.Client()}
		}
	}
	c, err := newConsole(node.Env{Fronts: fronts, Token: token, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	work, stop := context.WithCancel(t.Context())
	c.work = work
	t.Cleanup(func() { stop(); c.working.Wait() })
	return c
}

type asked struct {
	method, path, from string
	form               url.Values
	header             map[string]string
	cookie             *http.Cookie
}

func (a asked) of(c *console) *http.Response {
	if a.method == "" {
		a.method = http.MethodGet
	}
	r := httptest.NewRequest(a.method, "http://localhost"+a.path, strings.NewReader(a.form.Encode()))
	if a.form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.RemoteAddr = a.from
	if a.from == "" {
		r.RemoteAddr = "127.0.0.1:1234"
	}
	for name, value := range a.header {
		r.Header.Set(name, value)
	}
	if a.cookie != nil {
		r.AddCookie(a.cookie)
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// every page.
var all = []string{"/console", "/console/orders", "/console/orders/0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55", "/console/stock", "/console/stock?sku=BOOK-001",
	"/console/stock/import", "/console/payments", "/console/events", "/console/verify"}

func TestPagesAreThereWhenEveryServiceIsMissing(t *testing.T) {
	t.Parallel()
	c := openTest(t, "", nil)
	for _, path := range all {
		res := asked{path: path}.of(c)
		page := text(t, res)
		if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusBadGateway || !strings.Contains(page, "</html>") {
			t.Errorf("%s: %d\n%s", path, res.StatusCode, page)
		}
		if path != "/console/verify" && path != "/console/stock/import" && !strings.Contains(page, "missing") {
			t.Errorf("%s does not say that something is missing:\n%s", path, page)
		}
		if strings.Contains(page, "ZgotmplZ") {
			t.Errorf("%s has a value in a place where it is not safe", path)
		}
	}
}

func TestConsoleAnswersThisMachineOnlyWithoutAToken(t *testing.T) {
	t.Parallel()
	c := openTest(t, "", nil)
	for name, a := range map[string]asked{
		"another machine":        {from: "192.0.2.7:1234"},
		"a proxy":                {header: map[string]string{"X-Forwarded-For": "192.0.2.7"}},
		"a name pointed here":    {header: map[string]string{}, from: "[2001:db8::1]:80"},
		"a post of another site": {method: http.MethodPost, header: map[string]string{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}},
	} {
		for _, path := range append(all, "/console/now.json", "/console/static/console.css") {
			a.path = path
			if res := a.of(c); res.StatusCode != http.StatusForbidden {
				t.Errorf("%s got %d at %s", name, res.StatusCode, path)
			}
		}
	}
	if res := (asked{path: "/console/verify"}).of(c); res.StatusCode != http.StatusOK {
		t.Errorf("this machine got %d", res.StatusCode)
	}
}

func TestTokenIsAskedOfEverybody(t *testing.T) {
	t.Parallel()
	c := openTest(t, token, nil)
	for _, path := range all {
		res := asked{path: path}.of(c)
		if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "/console/sign-in?next=") {
			t.Errorf("%s: %d %s", path, res.StatusCode, res.Header.Get("Location"))
		}
	}
	if res := (asked{method: http.MethodPost, path: "/console/verify"}).of(c); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("somebody who has not signed in did something: %d", res.StatusCode)
	}
	sign := func(name, with string) *http.Response {
		return asked{method: http.MethodPost, path: "/console/sign-in", form: url.Values{"name": {name}, "token": {with}, "next": {"/console/stock?sku=A"}}, from: "192.0.2.7:1"}.of(c)
	}
	for _, wrong := range [][2]string{{"ann", "wrong"}, {"ann", ""}, {" ", token}, {strings.Repeat("x", 129), token}} {
		if res := sign(wrong[0], wrong[1]); res.StatusCode != http.StatusUnprocessableEntity || len(res.Cookies()) > 0 {
			t.Errorf("%q signed in: %d", wrong, res.StatusCode)
		}
	}
	res := sign("ann", token)
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/console/stock?sku=A" || len(res.Cookies()) != 1 {
		t.Fatalf("%d %s %v", res.StatusCode, res.Header.Get("Location"), res.Cookies())
	}
	cookie := res.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/console" {
		t.Errorf("the session can be taken away: %+v", cookie)
	}
	if page := text(t, asked{path: "/console/verify", cookie: cookie, from: "192.0.2.7:1"}.of(c)); !strings.Contains(page, "ann") || !strings.Contains(page, "Sign out") {
		t.Errorf("signed in, and the page is\n%s", page)
	}
	t.Run("a session of another token, or changed, is none", func(t *testing.T) {
		t.Parallel()
		other := openTest(t, token+"!", nil)
		if res := (asked{path: "/console/verify", cookie: cookie}).of(other); res.StatusCode != http.StatusSeeOther {
			t.Errorf("%d", res.StatusCode)
		}
		payload, mac, _ := strings.Cut(cookie.Value, ".")
		for _, forged := range []string{payload + "x." + mac, payload, payload + ".", "." + mac, ""} {
			if res := (asked{path: "/console/verify", cookie: &http.Cookie{Name: sessionCookie, Value: forged}}).of(c); res.StatusCode != http.StatusSeeOther {
				t.Errorf("%q got in: %d", forged, res.StatusCode)
			}
		}
	})
	t.Run("leads to no other site", func(t *testing.T) {
		t.Parallel()
		for _, next := range []string{"https://evil.example", "//evil.example", "/\\evil.example", "/v1/orders", ""} {
			res := asked{method: http.MethodPost, path: "/console/sign-in", form: url.Values{"name": {"ann"}, "token": {token}, "next": {next}}}.of(c)
			if got := res.Header.Get("Location"); got != "/console" {
				t.Errorf("%q leads to %q", next, got)
			}
		}
	})
}

func TestActionsNeedANameAndAKnownWord(t *testing.T) {
	t.Parallel()
	c := openTest(t, "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s %s was asked", r.Method, r.URL) }))
	const at = "/console/orders/0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55"
	for name, a := range map[string]asked{
		"nobody":          {path: at, form: url.Values{"what": {"cancel"}, "actor": {" "}}},
		"an unknown word": {path: at, form: url.Values{"what": {"steal"}, "actor": {"ann"}}},
		"no number":       {path: "/console/stock", form: url.Values{"sku": {"A"}, "actor": {"ann"}, "onHand": {"many"}, "expected": {"3"}}},
		"below zero":      {path: "/console/stock", form: url.Values{"sku": {"A"}, "actor": {"ann"}, "onHand": {"-1"}, "expected": {"3"}}},
		"no consumer":     {path: "/console/events/redrive", form: url.Values{"consumer": {"../x"}, "id": {"1"}, "actor": {"ann"}}},
	} {
		a.method = http.MethodPost
		if res := a.of(c); res.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
}

func TestWhatIsSaidIsShownAsText(t *testing.T) {
	t.Parallel()
	const evil = `<script>alert(1)</script>`
	c := openTest(t, "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"type":"urn:x","title":"x","status":409,"detail":"`+evil+`","error":"bad"}`)
	}))
	for _, path := range append(all, "/console/orders?find="+url.QueryEscape(evil), "/console/orders?done="+url.QueryEscape(evil)) {
		if page := text(t, asked{path: path}.of(c)); strings.Contains(page, evil) {
			t.Errorf("%s runs what a service says", path)
		}
	}
	res := asked{path: "/console"}.of(c)
	if policy := res.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'self'") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %q", policy)
	}
}

func TestAServiceThatHangsIsMissingAfterItsTime(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	c := openTest(t, "", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/console/payments", nil)
	r.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	if ctx.Err() != nil || !strings.Contains(w.Body.String(), "did not answer in time") {
		t.Errorf("%v\n%s", ctx.Err(), w.Body)
	}
}

func TestNumbersAreWrittenForPeople(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		money(123456, "GBP"): "1,234.56 GBP", money(5, "EUR"): "0.05 EUR", money(1500, "JPY"): "1,500 JPY", money(1234567, "KWD"): "1,234.567 KWD", money(-5, "USD"): "−0.05 USD", money(0, ""): "0",
		count(1234567): "1,234,567", count(-1000): "−1,000", took(1500 * time.Microsecond): "1.50 ms", took(90 * time.Second): "1 min", human(50 * time.Hour): "2 days",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// answering is a process that runs contexts, with one call to another.
func answering(contexts, breaker string) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"status":"ready","events":{`+contexts+`}}`)
	})
	m.HandleFunc("/internal/calls", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"calls":[{"edge":"inventory/Reserve","target":"inventory","method":"Reserve","breaker":"`+breaker+`","calls":3,"failures":1,"inFlight":2}]}`)
	})
	return m
}

// The first page has what all replicas say, and names the one that is down, also one that has never answered.
func TestMapHasAllReplicas(t *testing.T) {
	t.Parallel()
	serve := func(h http.Handler) *httptest.Server {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s
	}
	at := func(s *httptest.Server) node.Front { return node.Front{URL: s.URL, HTTP: s.Client()} }
	gone := func() node.Front {
		s := httptest.NewServer(http.NotFoundHandler())
		s.Close()
		return at(s)
	}
	first, second := serve(answering(`"orders":{}`, "closed")), serve(answering(`"orders":{}`, "open"))
	m := http.NewServeMux() // on another machine
	m.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"status":"ready","breakers":[{"target":"simulated","method":"/some.Service/Void","breaker":"half-open"}],"events":{"inventory":{}}}`)
	})
	m.HandleFunc("/internal/calls", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"error":"not_local","detail":"Ask on the machine itself."}`)
	})
	stock := serve(m)
	fronts := map[string]node.Front{
		"orders": at(serve(http.NotFoundHandler())), // a load balancer: not asked where the replicas are known
		// Not in the list: found where it answers.
		"payments": at(serve(answering(`"payments":{}`, "closed"))),
	}
	down := gone()
	fronts["inventory"] = down // at whose address the list names a replica: what that runs is known without an answer
	listed := []node.Front{at(first), at(second), at(stock), down, gone()}
	c, err := newConsole(node.Env{Fronts: fronts, Processes: listed, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c.watch.read(t.Context())
	services, edges, others := onMap(c.watch.latest)
	health := map[string]string{}
	for _, s := range services {
		health[s.Name] = s.Status + ", " + s.Health()
	}
	want := map[string]string{"orders": "ready, 2 of 2 ready", "inventory": "degraded, 1 of 2 ready", "payments": "ready, ready"}
	if d := cmp.Diff(want, health); d != "" {
		t.Error(d)
	}
	if len(others) != 1 || others[0].Address != strings.TrimPrefix(listed[4].URL, "http://") || others[0].Status != "missing" {
		t.Errorf("%+v", others)
	}
	if len(edges) != 2 || edges[0].Calls != 9 || edges[0].Failures != 3 || edges[0].InFlight != 6 || edges[0].Breaker != "open" || len(edges[0].Held) != 1 || edges[0].Held[0] != strings.TrimPrefix(second.URL, "http://") {
		t.Errorf("%+v", edges)
	}
	if e := edges[1]; e.Edge != "simulated/Void" || e.Breaker != "half-open" || services[1].Replicas[0].Notes == nil {
		t.Errorf("what a replica on another machine holds back: %+v", e)
	}
	if form := topology(c.watch.latest); form != "split, 5 processes" {
		t.Error(form)
	}

	// What a process runs is remembered when it is down.
	second.Close()
	c.watch.read(t.Context())
	services, _, others = onMap(c.watch.latest)
	if s := services[0]; s.Health() != "1 of 2 ready" || s.Replicas[1].Status != "missing" || !strings.HasSuffix(second.URL, s.Replicas[1].Address) || len(others) != 1 {
		t.Errorf("%+v, %+v", s, others)
	}
}

// feeds has as many events of each context, published in turn, a second apart.
func feeds(each int) http.Handler {
	m := http.NewServeMux()
	for n, name := range contexts {
		m.HandleFunc(feedPaths[name], func(w http.ResponseWriter, r *http.Request) {
			before := each + 1
			if at := r.URL.Query().Get("before"); at != "" {
				if _, err := fmt.Sscan(at, &before); err != nil {
					w.WriteHeader(http.StatusBadRequest)
					io.WriteString(w, `{"error":"invalid_cursor","detail":"Start without one."}`)
					return
				}
			}
			var limit int
			fmt.Sscan(r.URL.Query().Get("limit"), &limit)
			var all []string
			for i := before - 1; i > 0 && len(all) < limit; i-- {
				at := opened.Add(time.Duration(3*i+n) * time.Second)
				all = append(all, fmt.Sprintf(`{"id":"%s-%03d","type":"orderkeep.%s.v1.Happened","subject":"0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55","time":"%s","cursor":"%d","correlationid":"c-1","data":{"a":1}}`, name, i, name, at.Format(time.RFC3339), i))
			}
			io.WriteString(w, `{"events":[`+strings.Join(all, ",")+`],"next":""}`)
		})
	}
	return m
}

var opened = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// The pages of published events have each event of all contexts once, the newest first.
func TestPublishedEventsAreMergedAndPaged(t *testing.T) {
	t.Parallel()
	const each = 40
	c := openTest(t, "", feeds(each))
	ids := regexp.MustCompile(`id <code>(\w+-\d+)</code>`)
	older := regexp.MustCompile(`<a href="([^"]+)">Older</a>`)
	var got []string
	pages := 0
	for at := "/console/events"; at != ""; pages++ {
		page := text(t, asked{path: at}.of(c))
		for _, m := range ids.FindAllStringSubmatch(page, -1) {
			got = append(got, m[1])
		}
		at = ""
		if m := older.FindStringSubmatch(page); m != nil {
			at, _, _ = strings.Cut(html.UnescapeString(m[1]), "#")
		}
	}
	var want []string
	for i := each; i > 0; i-- {
		for _, name := range []string{"payments", "inventory", "orders"} {
			want = append(want, fmt.Sprintf("%s-%03d", name, i))
		}
	}
	if d := cmp.Diff(want, got); d != "" || pages != 5 {
		t.Errorf("%d pages, %s", pages, d)
	}
	for path, say := range map[string]string{
		"/console/events?orders=x":                           "Start without one.",
		"/console/events?orders=1&inventory=1&payments=1":    "No older event.",
		"/console/events?orders=30&inventory=30&payments=30": ">Newest<",
	} {
		if page := text(t, asked{path: path}.of(c)); !strings.Contains(page, say) {
			t.Errorf("%s does not say %q:\n%s", path, say, page)
		}
	}
	if page := text(t, asked{path: "/console/events"}.of(openTest(t, "", feeds(0)))); !strings.Contains(page, "No event has been published.") {
		t.Errorf("without an event:\n%s", page)
	}
	if page := text(t, asked{path: "/console/events"}.of(openTest(t, "", nil))); strings.Contains(page, "No event has been published.") || strings.Contains(page, "No event waits") {
		t.Errorf("without a service the page knows that there is no event:\n%s", page)
	}
}
