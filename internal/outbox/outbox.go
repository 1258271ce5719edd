// Package outbox makes publishing and consuming events exactly-once in effect.
//
// A context appends its events in the transaction of the change that they tell of; a relay publishes them afterwards,
// in order, again and again until it succeeds, and marks each row with its position in the feed. A consumer's bus stores
// what arrives in the inbox before it acknowledges; the handler's effect and the inbox's mark share a transaction,
// so a repeated event changes nothing. A crash between any two steps leaves work to repeat and nothing to lose.
//
// The tables outbox and inbox are part of each context's own migrations.
package outbox

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"google.golang.org/protobuf/proto"
)

// Event is a fact that has happened, with the attributes of CloudEvents 1.0.
type Event struct {
	ID            string
	Type          string // the full name of the Protobuf message in Data, such as orderkeep.orders.v1.OrderConfirmed
	Source        string // the publisher, such as /orders; filled in by the relay
	Subject       string // the order id or SKU; events of one subject stay in order
	Time          time.Time
	CorrelationID string
	CausationID   string // the id of the event that led to this one, if any
	TraceParent   string
	Data          []byte // the message in Protobuf's binary form
}

// New makes an event of a message; the correlation id comes from ctx, and its span if that is recorded, the causation id too when ctx
// is a consumer's handler's.
func New(ctx context.Context, m proto.Message, subject string, at time.Time) Event {
	data, err := proto.Marshal(m)
	if err != nil {
		panic("outbox: a generated message that cannot be marshalled: " + err.Error()) // only invalid UTF-8 can do that, and the edges refuse it
	}
	return Event{
		ID: uuid.Must(uuid.NewV7()).String(), Type: string(m.ProtoReflect().Descriptor().FullName()), Subject: subject, Time: at,
		CorrelationID: telemetry.Correlation(ctx), CausationID: causation(ctx), TraceParent: telemetry.TraceParent(ctx), Data: data,
	}
}

// Append writes events into the outbox in the caller's transaction.
func Append(tx *db.Tx, events []Event) error {
	const cols = 8
	args := make([]any, 0, cols*len(events))
	for _, e := range events {
		args = append(args, e.ID, e.Type, e.Subject, e.Time.UnixMicro(), e.CorrelationID, e.CausationID, e.TraceParent, e.Data)
	}
	return tx.ExecWide(`INSERT INTO outbox (id, type, subject, time, correlation_id, causation_id, traceparent, data) VALUES (rows)`, cols, args)
}

type causationKey struct{}

func causation(ctx context.Context) string {
	id, _ := ctx.Value(causationKey{}).(string)
	return id
}

// Subscription is a consumer as a bus sees it.
type Subscription struct {
	Name  string   // the consumer's, unique among all contexts, such as "inventory"
	Types []string // the event types that it wants
	// Receive stores the events durably, ignoring those it has already, and returns. Only then does the bus forget them.
	Receive func(context.Context, []Event) error
}

// Bus carries events from publishers to consumers, at least once, those of one subject in order.
type Bus interface {
	// Publish returns when every subscriber, now and later, is certain to get the events.
	Publish(ctx context.Context, events []Event) error
	// Subscribe adds a consumer; call it before the first Publish of the process.
	Subscribe(Subscription) error
}

// Writer runs f in a transaction of a context's database; a context passes its batcher's, so that marking shares
// the sync of the disk with its other work.
type Writer func(ctx context.Context, f func(*db.Tx) error) error
