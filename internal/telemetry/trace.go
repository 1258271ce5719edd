package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TraceHeader is the HTTP header, and in lower case the gRPC metadata key and the attribute of a CloudEvent, that carries the span of
// the caller (https://www.w3.org/TR/trace-context/).
const TraceHeader = "Traceparent"

// Kinds of operations.
const (
	Internal = trace.SpanKindInternal
	Server   = trace.SpanKindServer
	Client   = trace.SpanKindClient
	Producer = trace.SpanKindProducer
	Consumer = trace.SpanKindConsumer
)

// scope is one piece of work: a request, an event that is handled, an order that recovery drives.
//
// Of most of them nothing is told. One is recorded if it was sampled, or from when something in it failed, was slow or was repeated:
// then root is set. Spans are made when they are over, so that what is not recorded costs a look at the clock.
type scope struct {
	correlation string
	tracer      *Tracer
	from        trace.SpanContext                 // of the caller elsewhere, if it sent one
	root        atomic.Pointer[trace.SpanContext] // the span of the whole of it, once it is recorded
}

type scopeKey struct{}

func scopeOf(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

// Tracer makes the spans of one context in a process. A nil *Tracer makes none. Make it with NewTracing.
type Tracer struct {
	tracing *Tracing
	otel    trace.Tracer
}

// WithTracer returns a context whose work, without a request that it belongs to, is told of by t.
func WithTracer(ctx context.Context, t *Tracer) context.Context {
	if t == nil {
		return ctx
	}
	return context.WithValue(ctx, scopeKey{}, &scope{correlation: Correlation(ctx), tracer: t})
}

// TracerOf returns the tracer of the context's work, or nil.
func TracerOf(ctx context.Context) *Tracer {
	if s := scopeOf(ctx); s != nil {
		return s.tracer
	}
	return nil
}

// TraceID is the trace that a correlation id stands for, where no caller has named another: so that processes which tell of the
// same request, each for its own reason, tell of one trace.
func TraceID(correlation string) trace.TraceID {
	if correlation == "" {
		return randomTrace()
	}
	sum := sha256.Sum256(append(make([]byte, 0, maxCorrelation), correlation...)) // on the stack, where a conversion of more than 32 bytes is not
	return trace.TraceID(sum[:16])
}

func randomTrace() (id trace.TraceID) {
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()|1) // never all zeros
	return id
}

func randomSpan() (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// parseTraceParent returns the span that a header names; one that names none, or nothing that can be read, is as good as none.
func parseTraceParent(header string) trace.SpanContext {
	if header == "" {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": header})
	return trace.SpanContextFromContext(ctx)
}

// TraceParent names the span that ctx is in, for another process or for later; "" if it is not recorded.
func TraceParent(ctx context.Context) string {
	sc := spanOf(ctx)
	if !sc.IsValid() {
		return ""
	}
	c := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), sc), c)
	return c["traceparent"]
}

// spanOf is the recorded span that ctx is in, or none.
func spanOf(ctx context.Context) trace.SpanContext {
	s := scopeOf(ctx)
	if s == nil {
		return trace.SpanContext{}
	}
	root := s.root.Load()
	if root == nil {
		return trace.SpanContext{}
	}
	if sc := trace.SpanContextFromContext(ctx); sc.TraceID() == root.TraceID() {
		return sc
	}
	return *root
}

// Enter begins a piece of work that has a correlation id, and perhaps a caller elsewhere whose span traceParent names. The context is
// for all that is done in it. The operation is the whole of it.
func (t *Tracer) Enter(ctx context.Context, correlation, traceParent string, kind trace.SpanKind) (context.Context, Op) {
	s := &scope{correlation: correlation, tracer: t}
	if t == nil {
		return context.WithValue(ctx, scopeKey{}, s), Op{}
	}
	s.from = parseTraceParent(traceParent)
	if t.tracing.sampled(ctx, s) {
		s.record()
	}
	return context.WithValue(ctx, scopeKey{}, s), Op{scope: s, kind: kind, start: time.Since(t.tracing.base), entry: true}
}

// Enter is Tracer.Enter of the context's own tracer.
func Enter(ctx context.Context, correlation, traceParent string, kind trace.SpanKind) (context.Context, Op) {
	return TracerOf(ctx).Enter(ctx, correlation, traceParent, kind)
}

func (s *scope) traceID() trace.TraceID {
	if s.from.IsValid() {
		return s.from.TraceID()
	}
	return TraceID(s.correlation)
}

// record has everything told from here on.
func (s *scope) record() {
	root := trace.NewSpanContext(trace.SpanContextConfig{TraceID: s.traceID(), SpanID: randomSpan(), TraceFlags: trace.FlagsSampled})
	s.root.CompareAndSwap(nil, &root)
}

// keep records a piece of work that was not sampled, if there have not been too many of those.
func (s *scope) keep() bool {
	if s.root.Load() != nil {
		return true
	}
	if s.tracer == nil || !s.tracer.tracing.kept.allow(time.Now()) {
		return false
	}
	s.record()
	return true
}

// Keep has all of the context's work recorded from here on: it failed, was repeated, or is waited for.
func Keep(ctx context.Context) {
	if s := scopeOf(ctx); s != nil {
		s.keep()
	}
}

// Recorded reports whether the context's work is recorded.
func Recorded(ctx context.Context) bool {
	s := scopeOf(ctx)
	return s != nil && s.root.Load() != nil
}

// Op is an operation under way. The zero Op is one that nobody is told of.
//
//	ctx, op := telemetry.Start(ctx, "inventory/Reserve", telemetry.Client)
//	err := reserve(ctx)
//	if op.Kept(err) {
//		op.End(err, attribute.Int("attempt", 2))
//	}
type Op struct {
	// Name says what is done, in words that are few.
	Name  string
	scope *scope
	kind  trace.SpanKind
	start time.Duration // of the process, by a clock that nobody sets and that is quicker to read
	self  trace.SpanID  // zero if it was not recorded at its start
	above trace.SpanID  // the same
	entry bool
	links []trace.Link
}

// Start begins an operation in the context's work. The context is for what is done in it.
func Start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, Op) {
	s := scopeOf(ctx)
	if s == nil || s.tracer == nil {
		return ctx, Op{}
	}
	o := Op{Name: name, scope: s, kind: kind, start: time.Since(s.tracer.tracing.base)}
	if root := s.root.Load(); root != nil {
		o.above, o.self = spanOf(ctx).SpanID(), randomSpan()
		ctx = trace.ContextWithSpanContext(ctx, root.WithSpanID(o.self))
	}
	return ctx, o
}

// Recorded reports whether the operation is told of, whatever becomes of it.
func (o *Op) Recorded() bool { return o.scope != nil && o.scope.root.Load() != nil }

// Link adds the recorded span that ctx is in to what the operation has to do with.
func (o *Op) Link(ctx context.Context) { o.link(spanOf(ctx)) }

// LinkTo is Link of a span that TraceParent named.
func (o *Op) LinkTo(traceParent string) { o.link(parseTraceParent(traceParent)) }

// mostLinks is as many as the SDK keeps.
const mostLinks = 128

func (o *Op) link(sc trace.SpanContext) {
	if o.scope != nil && sc.IsValid() && len(o.links) < mostLinks {
		o.links = append(o.links, trace.Link{SpanContext: sc})
	}
}

// Linked reports whether there is any link.
func (o *Op) Linked() bool { return len(o.links) > 0 }

// Kept reports whether the operation is to be told of, by End: it is recorded, or went wrong, or took long. err is nil for what is no trouble,
// such as a refusal.
func (o *Op) Kept(err error) bool {
	s := o.scope
	if s == nil {
		return false
	}
	if s.root.Load() != nil {
		return true
	}
	if err == nil && time.Since(s.tracer.tracing.base)-o.start < s.tracer.tracing.slow {
		return false
	}
	return s.keep()
}

// correlationAttr is the correlation id on spans, in the form of OpenTelemetry's own names.
const correlationAttr = "orderkeep.correlation_id"

// End makes the span of an operation that is Kept.
func (o *Op) End(err error, attrs ...attribute.KeyValue) {
	if !o.Recorded() {
		return
	}
	root := o.scope.root.Load()
	self, above, remote := o.self, o.above, false
	if o.entry {
		self, above, remote = root.SpanID(), o.scope.from.SpanID(), true
	} else {
		if !self.IsValid() {
			self = randomSpan()
		}
		if !above.IsValid() {
			above = root.SpanID()
		}
	}
	ctx := context.WithValue(context.Background(), idsKey{}, ids{root.TraceID(), self})
	if above.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, root.WithSpanID(above).WithRemote(remote))
	}
	if o.scope.correlation != "" {
		attrs = append(attrs[:len(attrs):len(attrs)], attribute.String(correlationAttr, o.scope.correlation))
	}
	ended := time.Now()
	began := ended.Add(o.start - ended.Sub(o.scope.tracer.tracing.base))
	_, span := o.scope.tracer.otel.Start(ctx, o.Name, trace.WithTimestamp(began), trace.WithSpanKind(o.kind), trace.WithAttributes(attrs...), trace.WithLinks(o.links...))
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End(trace.WithTimestamp(ended))
}

type idsKey struct{}

type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

// given is the SDK's source of ids: a span has its own since it began, so that others could name it.
type given struct{}

func (given) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if g, ok := ctx.Value(idsKey{}).(ids); ok {
		return g.trace, g.span
	}
	return randomTrace(), randomSpan()
}

func (g given) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	_, span := g.NewIDs(ctx)
	return span
}

// keptPerSecond bounds what is recorded because it failed or was slow: in an outage everything is, and the first hundred of a second
// tell as much as all of them.
const keptPerSecond = 100

// allowance lets so many through in a second.
type allowance struct {
	second atomic.Int64
	n      atomic.Int64
}

func (a *allowance) allow(now time.Time) bool {
	if s := now.Unix(); a.second.Swap(s) != s {
		a.n.Store(0)
	}
	return a.n.Add(1) <= keptPerSecond
}

// sampled decides about a piece of work when it begins.
func (t *Tracing) sampled(ctx context.Context, s *scope) bool {
	if t.head == nil {
		return false
	}
	parent := context.Background()
	if s.from.IsValid() {
		parent = trace.ContextWithRemoteSpanContext(parent, s.from)
	}
	r := t.head.ShouldSample(sdktrace.SamplingParameters{ParentContext: parent, TraceID: s.traceID()})
	return r.Decision == sdktrace.RecordAndSample
}
