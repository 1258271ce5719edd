package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry/window"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Tracing is what all tracers of a process share.
type Tracing struct {
	head      sdktrace.Sampler // nil samples nothing
	slow      time.Duration
	base      time.Time // what operations are timed from
	kept      allowance
	window    *window.Window
	export    sdktrace.SpanProcessor // nil if there is no collector
	resource  *resource.Resource
	providers []*sdktrace.TracerProvider
}

// TracingOptions say what becomes of spans.
type TracingOptions struct {
	Version  string         // of the program
	Instance string         // names the process
	Slow     time.Duration  // what takes as long is recorded
	Window   *window.Window // gets all that is recorded; may be nil
	Log      *slog.Logger   // is told when the collector is away
}

// defaultSampler is what OTEL_TRACES_SAMPLER is if it is not set: one request of a hundred, and what the caller records.
const (
	defaultSampler = "parentbased_traceidratio"
	defaultRatio   = 0.01
)

// NewTracing makes the tracing of a process, by OpenTelemetry's own settings in the environment: spans are exported by OTLP over HTTP if
// OTEL_EXPORTER_OTLP_ENDPOINT, or the one for traces, is set. An error names the setting.
func NewTracing(ctx context.Context, o TracingOptions) (*Tracing, error) {
	t := &Tracing{base: time.Now(), slow: o.Slow, window: o.Window}
	if disabled, _ := strconv.ParseBool(os.Getenv("OTEL_SDK_DISABLED")); disabled {
		return nil, nil //nolint:nilnil // a nil *Tracing has nil tracers, which make nothing
	}
	var err error
	if t.head, err = sampler(env("OTEL_TRACES_SAMPLER", defaultSampler), os.Getenv("OTEL_TRACES_SAMPLER_ARG")); err != nil {
		return nil, err
	}
	// What the environment says of the resource comes last, and so goes before ours.
	t.resource, err = resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.namespace", "orderkeep"), attribute.String("service.version", o.Version), attribute.String("service.instance.id", o.Instance)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if exporting() {
		if p := env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")); p != "http/protobuf" {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q is not spoken here, and http/protobuf is: leave it out, and name the collector's port for it, most often 4318", p)
		}
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
		}
		t.export = sdktrace.NewBatchSpanProcessor(&patient{SpanExporter: exporter, log: o.Log})
	}
	return t, nil
}

func exporting() bool {
	return env("OTEL_TRACES_EXPORTER", "otlp") != "none" && (os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "")
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// sampler reads OpenTelemetry's names of samplers.
func sampler(name, arg string) (sdktrace.Sampler, error) {
	ratio := defaultRatio
	if arg != "" {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %q is no share from 0 to 1, such as 0.01", arg)
		}
	}
	plain := map[string]sdktrace.Sampler{"always_on": sdktrace.AlwaysSample(), "always_off": sdktrace.NeverSample(), "traceidratio": sdktrace.TraceIDRatioBased(ratio)}
	if s, ok := plain[name]; ok {
		return s, nil
	}
	for of, s := range plain {
		if name == "parentbased_"+of {
			return sdktrace.ParentBased(s), nil
		}
	}
	return nil, fmt.Errorf("OTEL_TRACES_SAMPLER: %q is none of always_on, always_off, traceidratio, and these with parentbased_ before them", name)
}

// Tracer makes the tracer of a context; a collector sees it as a service of that name, unless OTEL_SERVICE_NAME names the whole process.
func (t *Tracing) Tracer(service string) *Tracer {
	if t == nil {
		return nil
	}
	own, err := resource.Merge(resource.NewSchemaless(attribute.String("service.name", service)), t.resource)
	if err != nil {
		own = t.resource // two schemas; there is one
	}
	options := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(own), sdktrace.WithSampler(sdktrace.AlwaysSample()), // whoever comes here is recorded
		sdktrace.WithIDGenerator(given{}), sdktrace.WithSpanProcessor(keeper{service: service, window: t.window}),
	}
	if t.export != nil {
		options = append(options, sdktrace.WithSpanProcessor(t.export))
	}
	p := sdktrace.NewTracerProvider(options...)
	t.providers = append(t.providers, p)
	return &Tracer{tracing: t, otel: p.Tracer("github.com/orderkeep/orderkeep")}
}

// Close exports what is left, for as long as ctx.
func (t *Tracing) Close(ctx context.Context) {
	if t != nil && t.export != nil {
		_ = t.export.Shutdown(ctx) // what it failed at has been logged
	}
}

// patient tells once of a collector that is away, and not once a batch; what it does not take is lost to it.
type patient struct {
	sdktrace.SpanExporter
	log  *slog.Logger
	away atomic.Bool
}

func (p *patient) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := p.SpanExporter.ExportSpans(ctx, spans)
	if was := p.away.Swap(err != nil); err != nil && !was {
		p.log.Warn("the collector takes no spans; they are dropped until it does", "error", err)
	} else if err == nil && was {
		p.log.Info("the collector takes spans again")
	}
	return nil
}

// keeper puts finished spans into the window.
type keeper struct {
	service string
	window  *window.Window
}

func (keeper) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (keeper) Shutdown(context.Context) error                  { return nil }
func (keeper) ForceFlush(context.Context) error                { return nil }

func (k keeper) OnEnd(s sdktrace.ReadOnlySpan) {
	if k.window == nil {
		return
	}
	e := window.Entry{
		Kind: window.Span, At: s.StartTime().UTC(), Service: k.service, Name: s.Name(), SpanKind: s.SpanKind().String(),
		TraceID: s.SpanContext().TraceID().String(), SpanID: s.SpanContext().SpanID().String(),
		DurationMS: float64(s.EndTime().Sub(s.StartTime()).Microseconds()) / 1000,
	}
	if s.Parent().SpanID().IsValid() {
		e.ParentID = s.Parent().SpanID().String()
	}
	for _, a := range s.Attributes() {
		if a.Key == correlationAttr {
			e.CorrelationID = a.Value.AsString()
			continue
		}
		if e.Attrs == nil {
			e.Attrs = map[string]any{}
		}
		e.Attrs[string(a.Key)] = a.Value.AsInterface()
	}
	for _, l := range s.Links() {
		e.Links = append(e.Links, window.Link{TraceID: l.SpanContext.TraceID().String(), SpanID: l.SpanContext.SpanID().String()})
	}
	if s.Status().Code == codes.Error {
		e.Error = s.Status().Description
		if e.Error == "" {
			e.Error = "failed"
		}
	}
	k.window.Append(e)
}
