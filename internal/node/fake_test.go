package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry/telemetrytest"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"google.golang.org/grpc"
)

// contract is a small OpenAPI document of a fake context's one path.
func contract(path string) []byte {
	return []byte("openapi: 3.1.0\ninfo: {title: Fake, version: 1.0.0}\npaths:\n  " + path + ":\n    get: {operationId: get" +
		strings.ReplaceAll(path, "/", "_") + ", responses: {'200': {description: OK.}}}\n")
}

// journal notes what happened in which order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

// fake is a context with a REST route and, as "inventory", a gRPC service.
type fake struct {
	name    string
	peers   []string
	journal *journal
	routes  map[string]http.Handler
	check   func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error)
	ready   func() error // nil: it is
	lag     *outbox.Lag  // nil: it has no events
	opened  func(context.Context, node.Env) error
	closing func(context.Context) error
	env     node.Env
}

type stock struct {
	inventoryv1.UnimplementedInventoryServiceServer
	check func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error)
}

func (s stock) Check(ctx context.Context, req *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
	return s.check(ctx, req)
}

func (f *fake) context() node.Context {
	return node.Context{
		Name: f.name, Peers: f.peers, Contract: contract("/v1/" + f.name),
		Open: func(ctx context.Context, env node.Env) (*node.Service, error) {
			f.env = env
			if f.opened != nil {
				if err := f.opened(ctx, env); err != nil {
					return nil, err
				}
			}
			f.journal.note("open %s", f.name)
			s := &node.Service{
				Routes: f.routes,
				Ready: func(context.Context) error {
					if f.ready == nil {
						return nil
					}
					return f.ready()
				},
				Close: func(ctx context.Context) error {
					f.journal.note("close %s", f.name)
					if f.closing == nil {
						return nil
					}
					return f.closing(ctx)
				},
			}
			if f.lag != nil {
				s.Lag = func(context.Context) (outbox.Lag, error) { return *f.lag, nil }
			}
			if f.check != nil {
				s.Register = func(r grpc.ServiceRegistrar) { inventoryv1.RegisterInventoryServiceServer(r, stock{check: f.check}) }
			}
			return s, nil
		},
	}
}

// toggle is an error that comes and goes.
type toggle struct {
	mu  sync.Mutex
	err error
}

func (t *toggle) get() error { t.mu.Lock(); defer t.mu.Unlock(); return t.err }

func (t *toggle) set(err error) { t.mu.Lock(); defer t.mu.Unlock(); t.err = err }

// running is a node under way in this process.
type running struct {
	addr string
	grpc string       // address of the gRPC edge, if it has one
	stop func() error // drains and returns what Run returned
	log  *telemetrytest.Log
}

func config(t testing.TB) node.Config {
	return node.Config{Listen: "127.0.0.1:0", Data: t.TempDir(), BodyLimit: 1 << 20, ReadTimeout: 10 * time.Second, DrainTimeout: 10 * time.Second, Keep: 24 * time.Hour}
}

// start runs a node until the test ends or stop is called.
func start(t *testing.T, cfg node.Config, contexts ...node.Context) running {
	t.Helper()
	log := &telemetrytest.Log{}
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		done <- node.Run(ctx, cfg, contexts, telemetry.NewLogger(log, false, slog.LevelInfo), func(a string) { ready <- a })
	}()
	var once sync.Once
	var ended error
	stop := func() error {
		once.Do(func() { cancel(); ended = <-done })
		return ended
	}
	select {
	case addr := <-ready:
		t.Cleanup(func() { _ = stop() })
		n := running{addr: addr, stop: stop, log: log}
		if m := regexp.MustCompile(`msg=serving .* grpc=(\S+)`).FindStringSubmatch(log.String()); m != nil {
			n.grpc = m[1]
		}
		return n
	case err := <-done:
		cancel()
		t.Fatalf("the node did not start: %v", err)
	}
	return running{}
}

// startError runs a node that must not start.
func startError(t *testing.T, cfg node.Config, contexts ...node.Context) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := node.Run(ctx, cfg, contexts, slog.New(slog.DiscardHandler), func(string) { cancel() })
	if err == nil {
		t.Fatal("the node started")
	}
	return err.Error()
}

func get(t *testing.T, url string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}

func text(s string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) })
}

var errShelf = fault.New(fault.Conflict, "shelf_locked", "The shelf is locked.")
var errSecret = errors.New("secret detail")
