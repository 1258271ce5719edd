package call

import (
	"context"
	"log/slog"
	"slices"
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
	name  string
	edges *Edges

	mu     sync.RWMutex
	guards map[string]*guard // of the methods of the wires in use
	order  []*guard          // as the table has them, then as they were called first
}

// New returns a target by itself, for a caller that calls nobody else. Changes of the breakers are logged to log.
func New(name string, log *slog.Logger) *Target { return NewEdges(Policies(), log, nil).Target(name) }

// Do runs f as a call of a method that goes over no wire of this package: under the policy that the table has for it. f
// returns faults; what is no fault says nothing about the target's health, except that its time is up or its caller gone.
func (t *Target) Do(ctx context.Context, method string, f func(context.Context) error) error {
	return t.guard(method).do(ctx, f)
}

// Policy returns the policy in force for a method.
func (t *Target) Policy(method string) Policy { return t.guard(method).policy }

// guard returns the guard of a method; of one that the table does not name, it makes it.
func (t *Target) guard(method string) *guard {
	t.mu.RLock()
	g := t.guards[method]
	t.mu.RUnlock()
	if g != nil {
		return g
	}
	p := other.full()
	p.Target, p.Method = t.name, method
	return t.add(p)
}

func (t *Target) add(p Policy) *guard {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.guards[p.Method]
	if g == nil {
		g = newGuard(p, t.edges.log, t.edges.metrics)
		t.guards[p.Method] = g
		t.order = append(t.order, g)
	}
	return g
}

// use makes the guards of the table's methods that are spoken over a wire.
func (t *Target) use(wire func(Policy) bool) {
	for _, p := range t.edges.table {
		if p.Target == t.name && wire(p) {
			t.add(p)
		}
	}
}

// States returns the state of every method of the wires in use: those that the table names in its order, then others that were called.
func (t *Target) States() []State {
	all := t.all()
	states := make([]State, len(all))
	for i, g := range all {
		states[i] = g.state()
	}
	return states
}

func (t *Target) all() []*guard {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Clone(t.order)
}

// Conn wraps a connection to the target: unary calls go by the policies, carry the correlation id, and return
// faults. Streams pass as they are.
func (t *Target) Conn(inner grpc.ClientConnInterface) grpc.ClientConnInterface {
	t.use(Policy.grpc)
	return conn{t, inner}
}

type conn struct {
	target *Target
	inner  grpc.ClientConnInterface
}

// metadataKey is the correlation id's, and traceKey the span's; gRPC wants them in lower case.
var metadataKey, traceKey = strings.ToLower(telemetry.Header), strings.ToLower(telemetry.TraceHeader)

func (c conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if id := telemetry.Correlation(ctx); id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, metadataKey, id)
	}
	return c.target.guard(method).do(ctx, func(ctx context.Context) error {
		if p := telemetry.TraceParent(ctx); p != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, traceKey, p)
		}
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
