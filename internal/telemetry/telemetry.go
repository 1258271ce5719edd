// Package telemetry carries what ties one request's traces together: the correlation id, in the context, in every log line,
// in calls to other contexts and in events; and the spans of what is done for it, where they are recorded. It promises that an id
// from outside is short and printable before it is kept; any other is replaced by one of ours.
package telemetry

import (
	"context"
	"log/slog"

	"github.com/google/uuid"
)

// Header is the HTTP header, and in lower case the gRPC metadata key, that carries the correlation id.
const Header = "X-Correlation-ID"

// WithCorrelation returns a context that carries the id.
func WithCorrelation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, scopeKey{}, &scope{correlation: id, tracer: TracerOf(ctx)})
}

// Correlation returns the context's correlation id, or "".
func Correlation(ctx context.Context) string {
	if s := scopeOf(ctx); s != nil {
		return s.correlation
	}
	return ""
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
