package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry/window"
)

// Names of what every line of a request has.
const (
	correlationKey = "correlationId"
	traceKey       = "traceId"
	spanKey        = "spanId"
)

// NewLogger returns a logger that writes to w, as JSON or as text for people, and adds the correlation id from the context of each line, its
// trace, and the span if that is recorded.
func NewLogger(w io.Writer, json bool, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if json {
		return slog.New(handler{slog.NewJSONHandler(w, o)})
	}
	o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
			return slog.String(slog.TimeKey, a.Value.Time().Format("15:04:05.000")) // who looks on knows the day
		}
		return a
	}
	return slog.New(handler{slog.NewTextHandler(w, o)})
}

// named are the ids of the work that ctx is of; "" for what there is none of.
func named(ctx context.Context) (correlation, traceID, spanID string) {
	s := scopeOf(ctx)
	if s == nil || s.correlation == "" && s.root.Load() == nil {
		return "", "", ""
	}
	if sc := spanOf(ctx); sc.IsValid() {
		return s.correlation, sc.TraceID().String(), sc.SpanID().String()
	}
	return s.correlation, s.traceID().String(), ""
}

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	correlation, traceID, spanID := named(ctx)
	for _, a := range [...]struct{ key, value string }{{correlationKey, correlation}, {traceKey, traceID}, {spanKey, spanID}} {
		if a.value != "" {
			r.AddAttrs(slog.String(a.key, a.value))
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(a []slog.Attr) slog.Handler { return handler{h.Handler.WithAttrs(a)} }
func (h handler) WithGroup(n string) slog.Handler      { return handler{h.Handler.WithGroup(n)} }

// Keeping returns a logger that writes what log does, and puts it into the window too. A warning has the work that it is about
// recorded from there on. service is whose the lines are that no context has written.
func Keeping(log *slog.Logger, w *window.Window, service string) *slog.Logger {
	return slog.New(&teller{Handler: log.Handler(), window: w, service: service})
}

type teller struct {
	slog.Handler
	window  *window.Window
	service string
	attrs   []slog.Attr // with the groups in their names
	prefix  string
}

// ContextKey is the attribute of a logger that says which context writes.
const ContextKey = "context"

func (t *teller) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		Keep(ctx)
	}
	e := window.Entry{Kind: window.Log, At: r.Time.UTC(), Service: t.service, Level: r.Level.String(), Message: r.Message}
	e.CorrelationID, e.TraceID, e.SpanID = named(ctx)
	all := make(map[string]any, len(t.attrs)+r.NumAttrs())
	for _, a := range t.attrs {
		put(all, "", a)
	}
	r.Attrs(func(a slog.Attr) bool { put(all, t.prefix, a); return true })
	if c, ok := all[ContextKey].(string); ok {
		e.Service = c
		delete(all, ContextKey)
	}
	if len(all) > 0 {
		e.Attrs = all
	}
	t.window.Append(e)
	return t.Handler.Handle(ctx, r)
}

// put adds an attribute in the form that it has in JSON.
func put(all map[string]any, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	name := prefix + a.Key
	switch v.Kind() {
	case slog.KindGroup:
		for _, in := range v.Group() {
			put(all, name+".", in)
		}
	case slog.KindDuration:
		all[name] = v.Duration().String()
	case slog.KindTime:
		all[name] = v.Time().UTC().Format(time.RFC3339Nano)
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			all[name] = x.Error()
		case fmt.Stringer:
			all[name] = x.String()
		default:
			all[name] = x
		}
	case slog.KindString:
		all[name] = v.String()
	default:
		all[name] = v.Any()
	}
}

func (t *teller) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *t
	next.Handler = t.Handler.WithAttrs(attrs)
	next.attrs = slices.Clone(t.attrs)
	for _, a := range attrs {
		a.Key = t.prefix + a.Key
		next.attrs = append(next.attrs, a)
	}
	return &next
}

func (t *teller) WithGroup(name string) slog.Handler {
	next := *t
	next.Handler = t.Handler.WithGroup(name)
	next.prefix += name + "."
	return &next
}
