package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/porttest"
	"pgregory.net/rapid"
)

func TestUsageErrorsExitWith2AndSayWhereToLook(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"", "expected one of"},
		{"dance", "unexpected argument dance"},
		{"order", "expected one of"},
		{"order place", "--item"},
		{"order place --item A", "SKU=QTY"},
		{"order place --item A=0", "above 0"},
		{"order place --item A=x", "above 0"},
		{"order place --item A=1@-1", "minor units"},
		{"order place --item A=1@1.50", "minor units"},
		{"order place --item A=1 --file x", "can't be used together"},
		{"order place --file x --currency GBP", "--file holds the whole order"},
		{"order get", "order-id"},
		{"order get 17", "order-id"},
		{"order list --status lost", "must be one of"},
		{"order list --limit=-1", "--limit: must not be negative"},
		{"order list --from yesterday", "--from"},
		{"stock get", "sku"},
		{"stock adjust A --reason r", "give --delta, or --on-hand with --expect"},
		{"stock adjust A --delta 1", "--reason"},
		{"stock adjust A --delta one --reason r", `"one" is not a whole number`},
		{"stock adjust A --delta --reason r", "not a whole number"},
		{"stock adjust A --delta 1 --on-hand 2 --expect 3 --reason r", "not both"},
		{"stock adjust A --on-hand 2 --reason r", "--expect"},
		{"replay", "file"},
		{"replay x --concurrency 0", "--concurrency: must be between 1 and 1000"},
		{"replay x --concurrency 1001", "--concurrency: must be between 1 and 1000"},
		{"replay x --rate=-1", "--rate: must not be negative"},
		{"replay x --rate NaN", "--rate: must not be negative"},
		{"bench --skus 0", "--skus: must be between 1 and 10000"},
		{"bench --lines 501", "--lines: must be between 1 and 500"},
		{"bench --paid 1.5", "--paid: must be a share between 0 and 1"},
		{"bench --refused NaN", "--refused: must be a share between 0 and 1"},
		{"bench --rate=-1", "--rate: must be above 0"},
		{"bench --rate 5 --sweep", "can't be used together"},
		{"bench --connections 10001", "--connections: must be between 1 and 10000"},
		{"bench --duration 1ms", "--duration: must be 100ms at least"},
		{"bench --p99 0s", "--p99: must be above 0"},
		{"bench load --orders 0", "--orders: must be between 1 and 1000000000"},
		{"bench load --skus 0", "--skus: must be between 1 and 10000000"},
		{"stock get A --url ftp://x", "--url"},
		{"stock get A --url localhost:3000", "--url"},
		{"serve --log-format yaml", "--log-format"},
		{"serve --body-limit many", "--body-limit"},
		{"version --nonsense", "unknown flag --nonsense"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			r := do(t, nil, "", strings.Fields(c.args)...)
			if r.code != exitUsage || r.out != "" || !strings.Contains(r.errout, c.want) {
				t.Errorf("%+v, want exit 2 and %q on standard error alone", r, c.want)
			}
		})
	}
}

func TestHelpIsAResult(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--help"}, {"order", "place", "--help"}, {"stock", "get", "-h"}} {
		if r := do(t, nil, "", args...); r.code != exitOK || !strings.Contains(r.out, "Usage: orderkeep") || r.errout != "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// nobody is an address where nobody answers.
func nobody(t *testing.T) string {
	t.Helper()
	return "http://" + porttest.Addr(t)
}

func TestServerThatIsNotThereIsOneClearLine(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"order get " + first, "order list", "order cancel " + first, "order timeline " + first, "order place --item A=1",
		"stock get A", "stock list", "stock export", "stock import -", "stock adjust A --delta 1 --reason r", "replay -",
		"bench",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			url := nobody(t)
			r := do(t, nil, sample, append(strings.Fields(args), "--json", "--url", url)...)
			want := "orderkeep: no server answers at " + url + `: start one with "orderkeep serve", or name another with --url or ORDERKEEP_URL` + "\n"
			if r.code != exitFailed || r.out != "" || r.errout != want {
				t.Errorf("%+v, want %q", r, want)
			}
		})
	}
}

func TestAnswersThatAreNotOrderkeeps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"a page of a proxy": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusNotFound)
		}, "answered 404 (text/html), which is not an answer of Orderkeep: does --url name the right server?"},
		"a redirect to a login": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/login")
			w.WriteHeader(http.StatusFound)
		}, "answered 302 (no content type)"},
		"JSON of another kind": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"hello":"world"}`)
		}, "was not understood"},
		"a connection that breaks": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "broke"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(c.handler)
			t.Cleanup(srv.Close)
			r := do(t, nil, "", "stock", "get", "A", "--url", srv.URL)
			if r.code != exitFailed || r.out != "" || !strings.Contains(r.errout, c.want) {
				t.Errorf("%+v, want %q", r, c.want)
			}
		})
	}
}

func TestLostAnswerSaysHowToRepeatUnderItsKey(t *testing.T) {
	t.Parallel()
	var sent atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sent.Store(r.Header.Get("Idempotency-Key"))
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(srv.Close)
	for _, args := range []string{"order place --item A=1", "stock adjust A --delta 1 --reason r", "order place --item A=1 --key mine"} {
		r := do(t, nil, "", append(strings.Fields(args), "--url", srv.URL)...)
		if key := sent.Load().(string); key == "" || r.code != exitFailed || !strings.Contains(r.errout, "Repeat it with --key "+key+":") {
			t.Errorf("%s: %+v, the key sent was %q", args, r, key)
		}
	}
	if key := sent.Load(); key != "mine" {
		t.Errorf("the key sent was %q, want the one given", key)
	}
}

func TestEveryRequestHasACorrelationID(t *testing.T) {
	t.Parallel()
	ids := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ids <- r.Header.Get("X-Correlation-ID")
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(srv.Close)
	do(t, nil, "", "stock", "get", "A", "--url", srv.URL)
	if id := <-ids; len(id) != 36 {
		t.Errorf("correlation id %q, want a UUID", id)
	}
}

func TestInterruptEndsAWaitingCommand(t *testing.T) {
	t.Parallel()
	arrived, end := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-end
	}))
	t.Cleanup(srv.Close)
	defer close(end)
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		<-arrived
		interrupt()
	}()
	var errout strings.Builder
	if code := run(ctx, []string{"stock", "get", "A", "--url", srv.URL}, nil, io.Discard, &errout, nil); code != exitFailed || errout.String() != "orderkeep: interrupted\n" {
		t.Errorf("exit %d, %q", code, errout.String())
	}
}

func TestProblemReadsAsASentenceWithALineForEachItem(t *testing.T) {
	t.Parallel()
	three, none := int64(3), int64(0)
	p := &problem{
		Code: "out_of_stock", Detail: "Not all units are there.", OrderID: "o1", CorrelationID: "c1",
		Items: []problemItem{
			{SKU: "A", Requested: &three, Available: &none}, {Row: 7, Field: "on_hand", Detail: "must be a whole number"}, {Detail: "alone"}, {SKU: "B"},
		},
	}
	want := `out_of_stock: Not all units are there.
  A: 3 requested, 0 available
  row 7, on_hand: must be a whole number
  alone
  B
  order o1
  correlation id c1`
	if p.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", p.Error(), want)
	}
}

func TestExportReplacesAFileWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	_, url := stocked(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "stock.csv")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}

	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/csv")
		_, _ = io.WriteString(w, "sku,title\nBOOK")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(broken.Close)
	if r := do(t, nil, "", "stock", "export", file, "--url", broken.URL); r.code != exitFailed || !strings.Contains(r.errout, "the export broke off") {
		t.Errorf("%+v", r)
	}
	if got, _ := os.ReadFile(file); string(got) != "old" {
		t.Errorf("after an export that broke off the file holds %q", got)
	}

	if r := do(t, nil, "", "stock", "export", file, "--url", url); r.code != exitOK || r.out != "" {
		t.Errorf("%+v", r)
	}
	if got, _ := os.ReadFile(file); !strings.HasPrefix(string(got), "sku,title,on_hand,reserved,available,tracked\nBOOK-001,") {
		t.Errorf("the file holds %q", got)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{{"stock", "import"}, {"replay"}, {"order", "place", "--file"}} {
		for file, want := range map[string]string{dir: "is a directory", filepath.Join(dir, "none"): "no such file"} {
			if r := do(t, nil, "", append(args, file)...); r.code != exitFailed || !strings.Contains(r.errout, want) {
				t.Errorf("%v %s: %+v", args, file, r)
			}
		}
	}
}

func TestListsGoOverPages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		total, limit := rapid.IntRange(0, 2500).Draw(t, "total"), rapid.IntRange(0, 2500).Draw(t, "limit")
		got := 0
		more, err := page{Limit: limit}.pages(func(cursor string, size int32) (int, string, error) {
			if size < 1 || size > pageSize {
				t.Fatalf("a page of %d was asked for", size)
			}
			n := min(int(size), total-got)
			got += n
			if got == total {
				return n, "", nil
			}
			return n, "more", nil
		})
		want := total
		if limit > 0 {
			want = min(total, limit)
		}
		if err != nil || got != want || (more != "") != (want < total) {
			t.Errorf("%d of %d with limit %d, cursor %q, %v", got, total, limit, more, err)
		}
	})
}

func TestCommasAreWhereTheyBelong(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -28831: "-28,831", -100: "-100", 478158225: "478,158,225"} {
		if got := commas(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestLineOfAnOrderMayHoldAnySKU(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]line{
		"A=1": {"A", 1, 0, false}, "A=2@0": {"A", 2, 0, true}, "a=b@c=3@450": {"a=b@c", 3, 450, true}, "LAMP é=1@1": {"LAMP é", 1, 1, true},
	} {
		var got line
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

// doors are contexts whose service is the shop.
func doors(t *testing.T, s *shop) []node.Context {
	t.Helper()
	routes := s.routes(t)
	door := func(name string, paths ...string) node.Context {
		contract, err := os.ReadFile(filepath.Join("..", "..", name, "v1", "openapi.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return node.Context{
			Name: name, Contract: contract,
			Open: func(context.Context, node.Env) (*node.Service, error) {
				service := &node.Service{
					Routes: map[string]http.Handler{}, Ready: func(context.Context) error { return nil },
					Close: func(context.Context) error { return nil },
				}
				for _, p := range paths {
					service.Routes[p] = routes[p]
				}
				return service, nil
			},
			Inspect: func(context.Context, string, string) (audit.Source, error) {
				return source{name: name, counts: map[string]int64{"orders": int64(len(s.orders))}}, nil
			},
		}
	}
	return []node.Context{door("orders", "/v1/orders"), door("inventory", "/v1/stock", "/v1/stock.csv")}
}

func TestDemoSellsAWeekAndChecksIt(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	r := do(t, doors(t, newShop()), "", "demo", "--exit", "--data", data)
	r.errout = strings.ReplaceAll(r.errout, data, "DIR")
	golden(t, "demo", r)

	r = do(t, doors(t, newShop()), "", "demo", "--exit", "--json")
	if r.code != exitOK || !strings.Contains(r.out, `"confirmed"`) {
		t.Errorf("%+v", r)
	}
	oneDocument(t, r.out)
	if dir := regexp.MustCompile(`"data": "(.*)"`).FindStringSubmatch(r.out); dir == nil {
		t.Errorf("no directory: %s", r.out)
	} else if _, err := os.Stat(dir[1]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary directory %s is still there: %v", dir[1], err)
	}
}

// watched is a writer that says when a text has been written.
type watched struct {
	text  string
	found chan struct{}

	mu   sync.Mutex
	seen string
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := strings.Contains(w.seen, w.text)
	w.seen += string(p)
	if !before && strings.Contains(w.seen, w.text) {
		close(w.found)
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

func TestDemoStaysUpUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out := &watched{text: "Ctrl-C ends it.", found: make(chan struct{})}
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"demo"}, nil, out, io.Discard, doors(t, newShop())) }()
	select {
	case <-out.found:
	case code := <-ended:
		t.Fatalf("it ended with %d: %s", code, out)
	}
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(out.String())
	if r := do(t, nil, "", "stock", "get", "85123A", "--url", url); r.code != exitOK {
		t.Errorf("the server of the demo: %+v", r)
	}
	interrupt()
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d", code)
	}
}

func TestDemoSaysWhyItCannotStart(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := do(t, doors(t, newShop()), "", "demo", "--listen", l.Addr().String())
	if r.code != exitFailed || !strings.Contains(r.errout, "in use") {
		t.Errorf("%+v", r)
	}
}

func TestServeAnswersUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	log := &watched{text: "address", found: make(chan struct{})}
	ended := make(chan int, 1)
	go func() {
		args := []string{"serve", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--log-format", "json"}
		ended <- run(ctx, args, nil, io.Discard, log, doors(t, newShop()))
	}()
	select {
	case <-log.found:
	case code := <-ended:
		t.Fatalf("it ended with %d: %s", code, log)
	case <-time.After(time.Minute):
		t.Fatal("no address after a minute")
	}
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(log.String())
	if r := do(t, nil, "", "stock", "list", "--url", url); r.code != exitOK {
		t.Errorf("%+v", r)
	}
	interrupt()
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d: %s", code, log)
	}
}

func TestVerifyFailsWhenADatabaseIsNotThere(t *testing.T) {
	t.Parallel()
	missing := []node.Context{{Name: "orders", Inspect: func(_ context.Context, db, provider string) (audit.Source, error) {
		return nil, errors.New("there is no database of orders at " + db + ", nor " + provider)
	}}}
	r := do(t, missing, "", "verify", "--data", "/nowhere", "--json")
	if r.code != exitFailed || r.out != "" || r.errout != "orderkeep: there is no database of orders at sqlite:/nowhere/orders.db, nor sqlite:/nowhere/simulated-provider.db\n" {
		t.Errorf("%+v", r)
	}
	r = do(t, missing, "", "verify", "--data", "/nowhere", "--orders-db", "sqlite:/elsewhere.db")
	if !strings.Contains(r.errout, "sqlite:/elsewhere.db") {
		t.Errorf("%+v", r)
	}
}

func TestConfigSaysWhyServeWouldNotStart(t *testing.T) {
	t.Parallel()
	r := do(t, nil, "", "config", "--listen", "3000", "--read-timeout", "0s")
	if r.code != exitFailed || !strings.Contains(r.out, "listen") || !strings.Contains(r.errout, "--listen") || !strings.Contains(r.errout, "--read-timeout") {
		t.Errorf("%+v", r)
	}
}

func TestRunTakesTheContextsThatThereAre(t *testing.T) {
	t.Parallel()
	contexts := inspected(source{name: "orders"}, source{name: "inventory"})
	r := do(t, contexts, "", "serve", "--run", "warehouse", "--data", t.TempDir())
	if r.code != exitFailed || !strings.Contains(r.errout, `--run: there is no context "warehouse"; this program has orders, inventory`) {
		t.Errorf("%+v", r)
	}
	r = do(t, contexts, "", "config", "--run", "orders,warehouse")
	if r.code != exitFailed || !strings.Contains(r.out, "orders,warehouse") || !strings.Contains(r.errout, `"warehouse"`) {
		t.Errorf("%+v", r)
	}
}

func TestEmptyURLInTheEnvironmentIsNone(t *testing.T) {
	t.Setenv("ORDERKEEP_URL", "")
	var g grammar
	parser, err := kong.New(&g, defaults.Vars())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"version"}); err != nil {
		t.Fatal(err)
	}
	c, err := (&session{url: g.URL}).client(1, false)
	if err != nil || c.url != defaultURL {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestConfigNamesTheEnvironment(t *testing.T) {
	t.Setenv("ORDERKEEP_DATA", "/srv/shop")
	r := do(t, nil, "", "config")
	if !regexp.MustCompile(`data +/srv/shop +environment +ORDERKEEP_DATA`).MatchString(r.out) || !strings.Contains(r.out, "sqlite:/srv/shop/orders.db") {
		t.Errorf("%+v", r)
	}
}
