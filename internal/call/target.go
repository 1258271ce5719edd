package call

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Target is one context that is called, with a guard for each of its methods. All methods may be called at once from
// many goroutines.
type Target struct {
	name   string
	log    *slog.Logger
	guards map[string]*guard
	routes []route // of the REST methods among the guards

	mu     sync.Mutex
	others map[string]*guard // of methods that the table does not name
}

// New makes the guards of a target by the table. Changes of the breakers are logged to log.
func New(name string, log *slog.Logger) *Target { return newTarget(name, table, log) }

func newTarget(name string, policies []Policy, log *slog.Logger) *Target {
	t := &Target{name: name, log: log, guards: map[string]*guard{}, others: map[string]*guard{}}
	for _, p := range policies {
		if p.Target != name {
			continue
		}
		g := newGuard(p, log)
		t.guards[p.Method] = g
		if method, path, ok := strings.Cut(p.Method, " "); ok {
			t.routes = append(t.routes, route{method, strings.Split(path, "/"), g})
		}
	}
	return t
}

func (t *Target) guard(method string) *guard {
	if g := t.guards[method]; g != nil {
		return g
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.others[method]
	if g == nil {
		p := other
		p.Target, p.Method = t.name, method
		g = newGuard(p, t.log)
		t.others[method] = g
	}
	return g
}

// States returns the state of every method that the table names or that was called, in the table's order.
func (t *Target) States() []State {
	var states []State
	for _, g := range t.all() {
		states = append(states, g.state())
	}
	return states
}

// Reset closes all breakers and forgets what they counted.
func (t *Target) Reset() {
	for _, g := range t.all() {
		g.reset()
	}
}

func (t *Target) all() []*guard {
	var all []*guard
	for _, p := range table {
		if g := t.guards[p.Method]; g != nil {
			all = append(all, g)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.others {
		all = append(all, g)
	}
	return all
}

// Conn wraps a connection to the target: unary calls go by the policies, carry the correlation id, and return
// faults. Streams pass as they are.
func (t *Target) Conn(inner grpc.ClientConnInterface) grpc.ClientConnInterface { return conn{t, inner} }

type conn struct {
	target *Target
	inner  grpc.ClientConnInterface
}

// metadataKey is the correlation id's; gRPC wants it in lower case.
var metadataKey = strings.ToLower(telemetry.Header)

func (c conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if id := telemetry.Correlation(ctx); id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, metadataKey, id)
	}
	return c.target.guard(method).do(ctx, func(ctx context.Context) error {
		return fault.FromGRPC(c.inner.Invoke(ctx, method, args, reply, opts...))
	})
}

func (c conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if id := telemetry.Correlation(ctx); id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, metadataKey, id)
	}
	return c.inner.NewStream(ctx, desc, method, opts...)
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
