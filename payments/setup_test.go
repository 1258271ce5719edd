package payments

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry/telemetrytest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// bundle is Payments as a process of its own, on REST and gRPC.
type bundle struct {
	t    *testing.T
	data string
	url  string
	grpc paymentsv1.PaymentsServiceClient
	log  *telemetrytest.Log
	stop func()
}

func setup(t *testing.T) *bundle {
	t.Helper()
	return start(t, t.TempDir())
}

// start runs Payments on a data directory until the test ends or stop is called.
func start(t *testing.T, data string) *bundle {
	t.Helper()
	b := &bundle{t: t, data: data, log: &telemetrytest.Log{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		res, err := handle(ctx, req)
		return res, fault.ToGRPC(err)
	}))
	c := Context()
	open := c.Open
	c.Open = func(ctx context.Context, env node.Env) (*node.Service, error) {
		s, err := open(ctx, env)
		if err == nil {
			s.Register(srv)
		}
		return s, err
	}
	cfg := node.Config{Listen: "127.0.0.1:0", Data: data, BodyLimit: 1 << 20, ReadTimeout: 10 * time.Second, DrainTimeout: 10 * time.Second, Keep: 24 * time.Hour}
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		done <- node.Run(ctx, cfg, []node.Context{c}, telemetry.NewLogger(b.log, false, slog.LevelDebug), func(addr string) { ready <- addr })
	}()
	select {
	case addr := <-ready:
		b.url = "http://" + addr
	case err := <-done:
		cancel()
		t.Fatalf("it did not start: %v", err)
	}
	go func() { _ = srv.Serve(l) }()
	conn, err := grpc.NewClient("dns:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	b.grpc = paymentsv1.NewPaymentsServiceClient(conn)
	b.stop = sync.OnceFunc(func() {
		_ = conn.Close()
		srv.Stop()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it did not stop: %v", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// answer is what came over REST.
type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// call sends a body, with headers as pairs.
func (b *bundle) call(method, path, body string, header ...string) answer {
	b.t.Helper()
	req, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	a := answer{b.t, method + " " + path, res.StatusCode, res.Header, string(raw), nil}
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			b.t.Fatalf("%s: %v in %s", a.what, err, raw)
		}
	}
	return a
}

// is checks the status, and the error code of a problem.
func (a answer) is(status int, code ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("%s: status %d, want %d: %s", a.what, a.status, status, a.raw)
	}
	if len(code) > 0 && (a.body["error"] != code[0] || a.header.Get("Content-Type") != "application/problem+json") {
		a.t.Errorf("%s: error %v as %s, want %s", a.what, a.body["error"], a.header.Get("Content-Type"), code[0])
	}
	return a
}

// has checks fields of the body, as JSON.
func (a answer) has(fields string) answer {
	a.t.Helper()
	var want map[string]any
	if err := json.Unmarshal([]byte(fields), &want); err != nil {
		a.t.Fatal(err)
	}
	for name, w := range want {
		if diff := cmp.Diff(w, a.body[name]); diff != "" {
			a.t.Errorf("%s: %s (-want +got):\n%s", a.what, name, diff)
		}
	}
	return a
}

// order is the path of an order's payment that nobody has heard of.
func order() string { return "/v1/payments/" + uuid.NewString() }

func newPayment(token string) string {
	return `{"amountMinor":1000,"currency":"EUR","provider":"simulated","token":"` + token + `"}`
}
