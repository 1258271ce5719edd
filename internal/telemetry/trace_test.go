package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/telemetry/window"
	"go.opentelemetry.io/otel/attribute"
)

// process is what a test sees of one.
type process struct {
	tracing *telemetry.Tracing
	window  *window.Window
}

// newProcess samples as the environment says.
func newProcess(t testing.TB, slow time.Duration) process {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w, err := window.Open(t.TempDir(), "test", 1<<20, time.Hour, log)
	if err != nil {
		t.Fatal(err)
	}
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.TracingOptions{Slow: slow, Window: w, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return process{tracing, w}
}

func (p process) spans(t testing.TB) map[string]window.Entry {
	t.Helper()
	page, err := p.window.Read(context.Background(), window.Query{Kind: window.Span, Limit: window.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]window.Entry{}
	for _, e := range page.Entries {
		all[e.Name] = e
	}
	return all
}

// order is a request in two processes, with a call that fails at first.
func order(orders, stock *telemetry.Tracer, traceParent string, failures int) {
	ctx, op := orders.Enter(context.Background(), "c-1", traceParent, telemetry.Server)
	for n := range failures + 1 {
		var err error
		if n < failures {
			err = errors.New("away")
		}
		if n > 0 {
			telemetry.Keep(ctx)
		}
		name := fmt.Sprint("call ", n+1)
		ctx, call := telemetry.Start(ctx, name, telemetry.Client)
		_, served := stock.Enter(context.Background(), telemetry.Correlation(ctx), telemetry.TraceParent(ctx), telemetry.Server)
		if served.Name = fmt.Sprint("serve ", n+1); served.Kept(nil) {
			served.End(nil)
		}
		if call.Kept(err) {
			call.End(err, attribute.Int("attempt", n+1))
		}
	}
	if op.Name = "place"; op.Kept(nil) {
		op.End(nil)
	}
}

func TestOfMostRequestsNothingIsTold(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	p := newProcess(t, time.Hour)
	order(p.tracing.Tracer("orders"), p.tracing.Tracer("inventory"), "", 0)
	if got := p.spans(t); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// What failed is told of, with all that came after it, here and where it was repeated to, as one trace.
func TestAFailureIsToldOfWithItsRepeats(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
	p := newProcess(t, time.Hour)
	order(p.tracing.Tracer("orders"), p.tracing.Tracer("inventory"), "", 1)
	got := p.spans(t)
	place, first, second, served := got["place"], got["call 1"], got["call 2"], got["serve 2"]
	trace := telemetry.TraceID("c-1").String()
	for _, e := range []window.Entry{place, first, second, served} {
		if e.TraceID != trace || e.CorrelationID != "c-1" {
			t.Errorf("not of the trace that the correlation id stands for: %+v", e)
		}
	}
	if len(got) != 4 || place.ParentID != "" || first.ParentID != place.SpanID || second.ParentID != place.SpanID || served.ParentID != second.SpanID {
		t.Errorf("%v", got)
	}
	if first.Error != "away" || second.Error != "" || second.Attrs["attempt"] != 2.0 || served.Service != "inventory" || place.Service != "orders" || place.SpanKind != "server" {
		t.Errorf("%v", got)
	}
}

func TestWhatIsSlowIsToldOf(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	p := newProcess(t, 0)
	order(p.tracing.Tracer("orders"), p.tracing.Tracer("inventory"), "", 0)
	if got := p.spans(t); len(got) != 3 || got["call 1"].ParentID != got["place"].SpanID || got["place"].SpanID == "" {
		t.Errorf("%v", got)
	}
}

func TestACallersTraceGoesOn(t *testing.T) {
	const theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for sampler, want := range map[string]int{"": 3, "parentbased_always_off": 3, "always_off": 0, "always_on": 3} {
		t.Setenv("OTEL_TRACES_SAMPLER", sampler)
		p := newProcess(t, time.Hour)
		order(p.tracing.Tracer("orders"), p.tracing.Tracer("inventory"), theirs, 0)
		got := p.spans(t)
		if len(got) != want {
			t.Errorf("%s: %v", sampler, got)
		}
		for _, e := range got {
			if e.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" {
				t.Errorf("%s: another trace: %v", sampler, e)
			}
		}
		if want > 0 && (got["place"].ParentID != "00f067aa0ba902b7" || got["serve 1"].ParentID != got["call 1"].SpanID) {
			t.Errorf("%s: %v", sampler, got)
		}
	}
	// One who says that nothing is recorded is asked for its trace id all the same, when something fails.
	t.Setenv("OTEL_TRACES_SAMPLER", "")
	p := newProcess(t, time.Hour)
	order(p.tracing.Tracer("orders"), p.tracing.Tracer("inventory"), strings.TrimSuffix(theirs, "1")+"0", 1)
	if got := p.spans(t); len(got) != 4 || got["place"].ParentID != "00f067aa0ba902b7" || got["call 1"].TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("%v", got)
	}
	for _, bad := range []string{"00-4bf9-00", "nonsense", strings.ToUpper(theirs)} {
		p := newProcess(t, 0)
		order(p.tracing.Tracer("orders"), p.tracing.Tracer("inventory"), bad, 0)
		if got := p.spans(t); got["place"].TraceID != telemetry.TraceID("c-1").String() || got["place"].ParentID != "" {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// One request in a hundred is sampled, and all processes sample the same ones.
func TestSamplesAShare(t *testing.T) {
	t.Parallel()
	p, q := newProcess(t, time.Hour).tracing.Tracer("a"), newProcess(t, time.Hour).tracing.Tracer("b")
	n := 0
	for range 20_000 {
		id := telemetry.NewCorrelation()
		_, a := p.Enter(context.Background(), id, "", telemetry.Server)
		_, b := q.Enter(context.Background(), id, "", telemetry.Server)
		if a.Recorded() != b.Recorded() {
			t.Fatal("two processes do not sample the same")
		}
		if a.Recorded() {
			n++
		}
	}
	if n < 120 || n > 280 {
		t.Errorf("%d of 20,000 are sampled", n)
	}
}

// In an outage everything fails; what is told of it is bounded.
func TestAnOutageIsToldOfInPart(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	p := newProcess(t, time.Hour)
	tracer := p.tracing.Tracer("orders")
	kept := 0
	for range 1000 {
		_, op := tracer.Enter(context.Background(), telemetry.NewCorrelation(), "", telemetry.Server)
		if op.Kept(errors.New("away")) {
			kept++
		}
	}
	if kept < 100 || kept > 300 {
		t.Errorf("%d of 1,000 within a moment", kept)
	}
}

func TestSettingsThatAreWrongAreNamed(t *testing.T) {
	for _, c := range [][3]string{
		{"OTEL_TRACES_SAMPLER", "sometimes", "OTEL_TRACES_SAMPLER"}, {"OTEL_TRACES_SAMPLER_ARG", "2", "OTEL_TRACES_SAMPLER_ARG"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "4318"},
	} {
		t.Run(c[0], func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(c[0], c[1])
			if _, err := telemetry.NewTracing(t.Context(), telemetry.TracingOptions{Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), c[2]) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.TracingOptions{})
	if err != nil || tracing.Tracer("orders") != nil {
		t.Errorf("%v, %v", tracing, err)
	}
	order(nil, nil, "", 2) // a tracer that is none is no trouble
}

func TestLinesTellTheTraceAndTheSpan(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	p := newProcess(t, time.Hour)
	var out bytes.Buffer
	log := telemetry.Keeping(telemetry.NewLogger(&out, true, slog.LevelInfo), p.window, "orders+payments").With("context", "orders", "order", "o-1")
	ctx, op := p.tracing.Tracer("orders").Enter(context.Background(), "c-1", "", telemetry.Server)
	log.InfoContext(ctx, "before", "took", time.Second, slog.Group("g", "n", 1))
	log.With("in", 1).WarnContext(ctx, "trouble", "error", errors.New("away"))
	op.Name = "place"
	op.End(nil) // it is recorded: there was a warning
	log.DebugContext(ctx, "hidden")
	slog.New(log.Handler()).Info("nobody's")

	page, err := p.window.Read(t.Context(), window.Query{})
	if err != nil || len(page.Entries) != 4 {
		t.Fatalf("%v, %+v", err, page.Entries)
	}
	before, trouble, place, nobody := page.Entries[0], page.Entries[1], page.Entries[2], page.Entries[3]
	if before.Service != "orders" || before.CorrelationID != "c-1" || before.TraceID != telemetry.TraceID("c-1").String() || before.SpanID != "" ||
		before.Attrs["order"] != "o-1" || before.Attrs["took"] != "1s" || before.Attrs["g.n"] != 1.0 || before.Attrs["context"] != nil {
		t.Errorf("%+v", before)
	}
	if trouble.Level != "WARN" || trouble.SpanID == "" || trouble.SpanID != place.SpanID || trouble.Attrs["error"] != "away" || trouble.Attrs["in"] != 1.0 {
		t.Errorf("%+v, %+v", trouble, place)
	}
	if nobody.CorrelationID != "" || nobody.TraceID != "" {
		t.Errorf("%+v", nobody)
	}
	var line struct{ CorrelationID, TraceID, SpanID string }
	if err := json.Unmarshal(bytes.Split(out.Bytes(), []byte("\n"))[1], &line); err != nil || line.TraceID != trouble.TraceID || line.SpanID != trouble.SpanID || line.CorrelationID != "c-1" {
		t.Errorf("%v, %s", err, out.Bytes())
	}
}

func TestASecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	const s = telemetry.Secret("tok_4711")
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, true, slog.LevelInfo)
	log.Info("m", "a", s, "b", struct{ Token telemetry.Secret }{s}, "c", []any{s})
	telemetry.NewLogger(&out, false, slog.LevelInfo).Info("m", "a", s, "b", struct{ Token telemetry.Secret }{s}, slog.Group("g", "c", s))
	fmt.Fprintf(&out, "%s %v %q %+v %#v %x %d %v", s, s, s, s, s, s, s, &struct{ T telemetry.Secret }{s})
	if text := out.String(); strings.Contains(text, "4711") || strings.Contains(text, "746f6b") {
		t.Errorf("%s", text)
	}
	if string(s) != "tok_4711" {
		t.Error("it is lost")
	}
}

// What is not recorded costs no allocation beside the request's own.
func TestNothingToldCostsNothing(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	tracer := newProcess(t, time.Hour).tracing.Tracer("orders")
	ctx, _ := tracer.Enter(context.Background(), "c-1", "", telemetry.Server)
	refused := testing.AllocsPerRun(100, func() {
		ctx, op := telemetry.Start(ctx, "call", telemetry.Client)
		if telemetry.TraceParent(ctx) != "" || op.Kept(nil) {
			t.Error("it is told of")
		}
	})
	if refused != 0 {
		t.Errorf("%v allocations", refused)
	}
}

func BenchmarkNotRecorded(b *testing.B) {
	tracer := newProcess(b, time.Hour).tracing.Tracer("orders")
	b.Run("request", func(b *testing.B) {
		for b.Loop() {
			tracer.Enter(context.Background(), "0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55", "", telemetry.Server)
		}
	})
	b.Run("correlation alone", func(b *testing.B) {
		for b.Loop() {
			telemetry.WithCorrelation(context.Background(), "0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55")
		}
	})
	ctx, _ := tracer.Enter(context.Background(), "c-1", "", telemetry.Server)
	b.Run("operation", func(b *testing.B) {
		for b.Loop() {
			_, op := telemetry.Start(ctx, "call", telemetry.Client)
			op.Kept(nil)
		}
	})
	telemetry.Keep(ctx)
	b.Run("operation that is recorded", func(b *testing.B) {
		for b.Loop() {
			_, op := telemetry.Start(ctx, "call", telemetry.Client)
			op.End(nil)
		}
	})
}
