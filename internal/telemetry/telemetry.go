// Package telemetry carries what ties one request's traces together: the correlation id, in the context, in every log line,
// in calls to other contexts and in events. It promises that an id from outside is short and printable before it is kept; any
// other is replaced by one of ours.
package telemetry

import (
	"context"
	"io"
	"log/slog"

	"github.com/google/uuid"
)

// Header is the HTTP header, and in lower case the gRPC metadata key, that carries the correlation id.
const Header = "X-Correlation-ID"

type key struct{}

// WithCorrelation returns a context that carries the id.
func WithCorrelation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, key{}, id)
}

// Correlation returns the context's correlation id, or "".
func Correlation(ctx context.Context) string {
	id, _ := ctx.Value(key{}).(string)
	return id
}

type logKey struct{}

// WithLogger returns a context whose work is logged to log.
func WithLogger(ctx context.Context, log *slog.Logger) context.Context {
	return context.WithValue(ctx, logKey{}, log)
}

// Logger returns the context's logger, or slog's default where none was put.
func Logger(ctx context.Context) *slog.Logger {
	if log, ok := ctx.Value(logKey{}).(*slog.Logger); ok {
		return log
	}
	return slog.Default()
}

// NewCorrelation makes an id for a request that came without one.
func NewCorrelation() string { return uuid.Must(uuid.NewV7()).String() }

// maxCorrelation bounds an id that came from outside; 128 holds two UUIDs and a prefix.
const maxCorrelation = 128

// ValidCorrelation reports whether an id from outside may be kept: 1 to 128 printable ASCII characters without spaces.
func ValidCorrelation(id string) bool {
	if id == "" || len(id) > maxCorrelation {
		return false
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// NewLogger returns a logger that writes to w, as JSON or as text, and adds correlationId from the context of each line.
func NewLogger(w io.Writer, json bool, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if json {
		h = slog.NewJSONHandler(w, o)
	}
	return slog.New(handler{h})
}

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if id := Correlation(ctx); id != "" {
		r.AddAttrs(slog.String("correlationId", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(a []slog.Attr) slog.Handler { return handler{h.Handler.WithAttrs(a)} }
func (h handler) WithGroup(n string) slog.Handler      { return handler{h.Handler.WithGroup(n)} }
