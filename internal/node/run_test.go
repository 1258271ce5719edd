package node_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/rate"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	j := &journal{}
	a := &fake{name: "inventory", journal: j, routes: map[string]http.Handler{"/v1/stock": text("stock")}}
	n := start(t, config(t), a.context())

	t.Run("health is answered byte for byte", func(t *testing.T) {
		if code, _, body := get(t, "http://"+n.addr+"/health"); code != 200 || body != `{"status":"ok"}` {
			t.Errorf("GET /health = %d %q", code, body)
		}
	})
	t.Run("a context's route is answered by it", func(t *testing.T) {
		if code, _, body := get(t, "http://"+n.addr+"/v1/stock/A"); code != 200 || body != "stock" {
			t.Errorf("GET /v1/stock/A = %d %q", code, body)
		}
	})
	t.Run("the contract of one context is its file", func(t *testing.T) {
		if _, _, body := get(t, "http://"+n.addr+"/openapi.yaml"); body != string(contract("/v1/inventory")) {
			t.Errorf("GET /openapi.yaml = %q", body)
		}
	})
	t.Run("the log says where", func(t *testing.T) {
		if !strings.Contains(n.log.String(), "msg=serving address=http://"+n.addr) {
			t.Errorf("log:\n%s", n.log)
		}
	})
	t.Run("the loopback needs no warning", func(t *testing.T) {
		if strings.Contains(n.log.String(), "TLS") {
			t.Errorf("log:\n%s", n.log)
		}
	})
}

func TestWarnsOfAnAddressThatOthersReach(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Listen = "0.0.0.0:0"
	n := start(t, cfg, (&fake{name: "inventory", journal: &journal{}}).context())
	if !strings.Contains(n.log.String(), "no TLS and no authentication") {
		t.Errorf("log:\n%s", n.log)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	gone := func() error { return fault.New(fault.Unavailable, "storage_unavailable", "The file is gone.") }
	bad := &fake{name: "payments", journal: &journal{}, ready: gone}
	good := &fake{name: "inventory", journal: &journal{}}
	n := start(t, config(t), good.context(), bad.context())
	code, _, body := get(t, "http://"+n.addr+"/readyz")
	if want := `{"status":"not_ready","notReady":{"payments":"The file is gone."}}`; code != 503 || body != want {
		t.Errorf("GET /readyz = %d %s, want 503 %s", code, body, want)
	}
	if code, _, _ := get(t, "http://"+n.addr+"/livez"); code != 200 {
		t.Errorf("GET /livez = %d: the process lives", code)
	}
}

// A broker and a Redis are done without: no load balancer is to take the process away for them, by REST or by gRPC.
func TestGoesOnWithoutBrokerAndRedis(t *testing.T) {
	t.Parallel()
	var broken toggle
	cfg := config(t)
	cfg.GRPCListen, cfg.BrokerURL, cfg.RedisURL, cfg.RateLimit = "127.0.0.1:0", nobody, "redis://127.0.0.1:1", rate.Limit{Requests: 1000, Period: time.Second}
	f := &fake{name: "inventory", journal: &journal{}, ready: broken.get, lag: &outbox.Lag{Outbox: outbox.Waiting{Waiting: 3, OldestSeconds: 1.5}}}
	n := start(t, cfg, f.context())
	client := healthpb.NewHealthClient(connect(t, n.grpc))
	expect := func(code int, prefix, suffix string, serving healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, _, body := get(t, "http://"+n.addr+"/readyz")
		if got != code || !strings.HasPrefix(body, prefix) || !strings.HasSuffix(body, suffix) || !strings.Contains(body, `"away":{"broker":"The broker `) || !strings.Contains(body, `,"redis":"The Redis `) {
			t.Errorf("GET /readyz = %d %s, want %d %s...%s", got, body, code, prefix, suffix)
		}
		if res, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || res.Status != serving {
			t.Errorf("health = %v, %v; want %v", res.GetStatus(), err, serving)
		}
	}
	const lag = `,"events":{"inventory":{"outbox":{"waiting":3,"oldestSeconds":1.5},"inbox":{"waiting":0,"oldestSeconds":0},"parked":0}}}`
	expect(200, `{"status":"degraded","away":`, lag, healthpb.HealthCheckResponse_SERVING)
	broken.set(fault.New(fault.Unavailable, "storage_unavailable", "The file is gone."))
	expect(503, `{"status":"not_ready","notReady":{"inventory":"The file is gone."},"away":`, `}}`, healthpb.HealthCheckResponse_NOT_SERVING)
	if code, _, body := get(t, "http://"+n.addr+"/livez"); code != 200 {
		t.Errorf("GET /livez = %d %s", code, body)
	}
}

// shop is two contexts: orders calls inventory.
func shop(j *journal, check func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error)) (*fake, *fake) {
	return &fake{name: "orders", peers: []string{"inventory"}, journal: j}, &fake{name: "inventory", journal: j, check: check}
}

func TestCallsBetweenContexts(t *testing.T) {
	t.Parallel()
	var got *inventoryv1.CheckRequest
	orders, inventory := shop(&journal{}, func(ctx context.Context, req *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		got = req
		switch req.Lines[0].Sku {
		case "LOCKED":
			return nil, errShelf
		case "SECRET":
			return nil, errSecret
		case "PANIC":
			panic("shelf fell over")
		}
		return &inventoryv1.CheckResponse{Shortages: []*inventoryv1.Shortage{{Sku: telemetry.Correlation(ctx)}}}, nil
	})
	n := start(t, config(t), orders.context(), inventory.context())
	client := inventoryv1.NewInventoryServiceClient(orders.env.Peers["inventory"].Conn)
	ask := func(sku string) (*inventoryv1.CheckRequest, *inventoryv1.CheckResponse, error) {
		req := &inventoryv1.CheckRequest{Lines: []*inventoryv1.Line{{Sku: sku, Qty: 1}}}
		res, err := client.Check(telemetry.WithCorrelation(t.Context(), "c-1"), req)
		return req, res, err
	}
	t.Run("carry the correlation id", func(t *testing.T) {
		_, res, err := ask("A")
		if err != nil || res.Shortages[0].Sku != "c-1" {
			t.Errorf("Check = %v, %v", res, err)
		}
	})
	t.Run("copy the messages", func(t *testing.T) {
		if req, _, _ := ask("A"); got == req || got.Lines[0] == req.Lines[0] {
			t.Error("both sides hold the same message")
		}
	})
	t.Run("carry faults", func(t *testing.T) {
		if _, _, err := ask("LOCKED"); !errors.Is(err, errShelf) || fault.KindOf(err) != fault.Conflict {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("keep the detail of an internal error at home, and log it", func(t *testing.T) {
		_, _, err := ask("SECRET")
		if fault.KindOf(err) != fault.Internal || strings.Contains(err.Error(), "secret") {
			t.Errorf("err = %v", err)
		}
		if l := n.log.String(); !strings.Contains(l, "secret detail") || !strings.Contains(l, "correlationId=c-1") {
			t.Errorf("log:\n%s", l)
		}
	})
	t.Run("survive a panic", func(t *testing.T) {
		if _, _, err := ask("PANIC"); fault.KindOf(err) != fault.Internal {
			t.Errorf("err = %v", err)
		}
		if l := n.log.String(); !strings.Contains(l, "shelf fell over") {
			t.Errorf("log:\n%s", l)
		}
	})
}

func TestReadyzShowsWhatIsHeldBack(t *testing.T) {
	t.Parallel()
	orders, inventory := shop(&journal{}, func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		return nil, fault.New(fault.Unavailable, "storage_unavailable", "The file is gone.")
	})
	n := start(t, config(t), orders.context(), inventory.context())
	client := inventoryv1.NewInventoryServiceClient(orders.env.Peers["inventory"].Conn)
	for range 10 {
		_, _ = client.Check(t.Context(), &inventoryv1.CheckRequest{})
	}
	code, _, body := get(t, "http://"+n.addr+"/readyz")
	if code != 200 || !strings.Contains(body, `{"target":"inventory","method":"/orderkeep.inventory.v1.InventoryService/Check","breaker":"open"}`) {
		t.Errorf("GET /readyz = %d %s", code, body)
	}
}

func TestContextsMayCallEachOtherWhileTheyOpen(t *testing.T) {
	t.Parallel()
	orders, inventory := shop(&journal{}, func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		return &inventoryv1.CheckResponse{}, nil
	})
	answered := make(chan error, 1)
	orders.opened = func(_ context.Context, env node.Env) error {
		// As recovery does: it starts in the background and finds the peer not there yet.
		go func() {
			_, err := inventoryv1.NewInventoryServiceClient(env.Peers["inventory"].Conn).Check(context.Background(), &inventoryv1.CheckRequest{})
			answered <- err
		}()
		return nil
	}
	start(t, config(t), orders.context(), inventory.context())
	if err := <-answered; err != nil {
		t.Errorf("Check while opening = %v", err)
	}
}

func TestClosesCallersBeforeTheyLoseTheirPeers(t *testing.T) {
	t.Parallel()
	j := &journal{}
	orders := &fake{name: "orders", peers: []string{"inventory", "payments"}, journal: j}
	n := start(t, config(t), orders.context(), (&fake{name: "inventory", journal: j}).context(), (&fake{name: "payments", journal: j}).context())
	opened := len(j.all())
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	want := []string{"close orders", "close payments", "close inventory"}
	if d := cmp.Diff(want, j.all()[opened:]); d != "" {
		t.Error(d)
	}
}

func TestDrainFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	j := &journal{}
	entered, release := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		j.note("answer")
		_, _ = io.WriteString(w, "done")
	})
	f := &fake{name: "inventory", journal: j, routes: map[string]http.Handler{"/v1/stock": slow}}
	n := start(t, config(t), f.context())
	type result struct {
		body string
		err  error
	}
	answer := make(chan result, 1)
	go func() {
		res, err := http.Get("http://" + n.addr + "/v1/stock") //nolint:noctx // ends with the node
		if err != nil {
			answer <- result{err: err}
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		answer <- result{string(b), err}
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- n.stop() }()
	// The listener is gone before the request is answered.
	for {
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			break
		}
		c.Close()
	}
	close(release)
	if r := <-answer; r.err != nil || r.body != "done" {
		t.Errorf("the request under way got %q, %v", r.body, r.err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("drain = %v", err)
	}
	if d := cmp.Diff([]string{"open inventory", "answer", "close inventory"}, j.all()); d != "" {
		t.Error(d)
	}
}

func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	inventory := func() node.Context { return (&fake{name: "inventory", journal: &journal{}}).context() }
	contains := func(t *testing.T, text string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !strings.Contains(text, w) {
				t.Errorf("error %q does not say %q", text, w)
			}
		}
	}
	t.Run("beside another process on the same data", func(t *testing.T) {
		t.Parallel()
		cfg := config(t)
		start(t, cfg, inventory())
		contains(t, startError(t, cfg, inventory()), "inventory at "+cfg.Data, "in use by process "+strconv.Itoa(os.Getpid()), "--data", "INVENTORY_DB")
		err := node.Within(t.Context(), cfg, []node.Context{inventory()}, slog.New(slog.DiscardHandler), func(context.Context, node.Inner) error {
			return errors.New("it is opened")
		})
		if err == nil {
			t.Fatal("a command has the file of a server")
		}
		contains(t, err.Error(), "in use by process "+strconv.Itoa(os.Getpid()))
	})
	t.Run("beside another process on the same file elsewhere", func(t *testing.T) {
		t.Parallel()
		first, second := config(t), config(t)
		first.InventoryDB = "sqlite:" + filepath.Join(t.TempDir(), "there", "stock.db")
		second.InventoryDB = first.InventoryDB
		start(t, first, inventory())
		contains(t, startError(t, second, inventory()), "there/stock.db", "in use by process "+strconv.Itoa(os.Getpid()), "INVENTORY_DB")
	})
	t.Run("on a port in use", func(t *testing.T) {
		t.Parallel()
		first := start(t, config(t), inventory())
		cfg := config(t)
		cfg.Listen = first.addr
		contains(t, startError(t, cfg, inventory()), first.addr, "in use", "--listen")
	})
	t.Run("on a port in use for gRPC", func(t *testing.T) {
		t.Parallel()
		first := start(t, config(t), inventory())
		cfg := config(t)
		cfg.GRPCListen = first.addr
		contains(t, startError(t, cfg, inventory()), first.addr, "in use", "--grpc-listen")
	})
	t.Run("on an address of another machine", func(t *testing.T) {
		t.Parallel()
		cfg := config(t)
		cfg.Listen = "192.0.2.1:3000"
		contains(t, startError(t, cfg, inventory()), "192.0.2.1:3000", "--listen")
	})
	t.Run("with a data directory that is a file", func(t *testing.T) {
		t.Parallel()
		cfg := config(t)
		cfg.Data = filepath.Join(cfg.Data, "file")
		if err := os.WriteFile(cfg.Data, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		contains(t, startError(t, cfg, inventory()), cfg.Data, "--data")
	})
	t.Run("when a context does not open, and closes the others", func(t *testing.T) {
		t.Parallel()
		j := &journal{}
		bad := &fake{name: "payments", journal: j, opened: func(context.Context, node.Env) error { return errors.New("from the future") }}
		contains(t, startError(t, config(t), (&fake{name: "inventory", journal: j}).context(), bad.context()), "payments: from the future")
		if d := cmp.Diff([]string{"open inventory", "close inventory"}, j.all()); d != "" {
			t.Error(d)
		}
	})
	t.Run("and says all mistakes at once by name", func(t *testing.T) {
		t.Parallel()
		cfg := node.Config{Listen: "nowhere", GRPCListen: "3100", Processes: []string{"grpc://a:1", "http://a:1", "http://a:1", "http://a:1,b:1"}, InventoryURL: "ftp://x", DrainTimeout: -1, CallPolicy: []string{"inventory/Check timeout=1s", "inventory/Check timeout=0", "payments/Pay attempts=2"}}
		orders := (&fake{name: "orders", peers: []string{"inventory", "payments"}, journal: &journal{}}).context()
		contains(t, startError(t, cfg, orders), "--listen", "--grpc-listen", "--data", "--body-limit", "--read-timeout", "--drain-timeout", "--process: number 1 is an address for gRPC", "--process: number 3 is named before", "--process: number 4 names several hosts", "--call-policy: inventory/Check: timeout=0", `--call-policy: there is no call "payments/Pay"`, "INVENTORY_URL", "PAYMENTS_URL: orders calls payments")
	})
}

func TestFiguresAndCallsForTheOperator(t *testing.T) {
	t.Parallel()
	orders, inventory := shop(&journal{}, func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		return &inventoryv1.CheckResponse{}, nil
	})
	cfg := config(t)
	cfg.CallPolicy = []string{"inventory/Check timeout=700ms", "inventory/Release attempts=1"}
	n := start(t, cfg, orders.context(), inventory.context())
	if _, err := inventoryv1.NewInventoryServiceClient(orders.env.Peers["inventory"].Conn).Check(t.Context(), &inventoryv1.CheckRequest{}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"/metrics": {
			"# TYPE orderkeep_build_info gauge\norderkeep_build_info{version=", "\ngo_goroutines ",
			`orderkeep_call_attempts_total{target="inventory",method="Check",result="ok"} 1`,
		},
		"/internal/calls": {`{"edge":"inventory/Check","target":"inventory","method":"/orderkeep.inventory.v1.InventoryService/Check","breaker":"closed","calls":1,`, `"timeoutSeconds":0.7,"attempts":2,`, `"timeoutSeconds":5,"attempts":1,`},
	} {
		code, _, body := get(t, "http://"+n.addr+path)
		for _, w := range want {
			if code != 200 || !strings.Contains(body, w) {
				t.Errorf("GET %s = %d, want %q in\n%s", path, code, w, body)
			}
		}
	}
}
