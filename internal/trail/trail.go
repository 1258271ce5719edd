// Package trail keeps what people did to a context by hand: who, when, what and why, in the context's own database.
//
// It promises that an act is there if and only if the change that it tells of was made, once however often the transaction was
// tried, and that nobody takes it back. It refuses to tell of what changed nothing, and of what the contexts do by themselves: an order's
// timeline and the events have that.
package trail

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// What names what was done. The list is closed; the names are stored.
type What string

const (
	ReleaseUnits What = "release_units" // of the order that is the subject
	VoidPayment  What = "void_payment"  // of the order
	RedriveEvent What = "redrive_event" // the event
	DriveOrder   What = "drive_order"   // the order
	CancelOrder  What = "cancel_order"  // the order
	FulfilOrder  What = "fulfil_order"  // the order
	ReturnOrder  What = "return_order"  // the order
	AdjustStock  What = "adjust_stock"  // the SKU
	ImportStock  What = "import_stock"  // of many SKUs: no subject
	ResetBreaker What = "reset_breaker" // the calls, as they were named; all of the process: no subject
)

// Act is one thing that somebody did.
type Act struct {
	ID            string // UUIDv7, in the order of At
	At            time.Time
	Actor         string
	What          What
	Subject       string // the id of the order or the event, or the SKU
	Reason        string
	CorrelationID string // of the request
}

type key struct{}

// By returns a context of work that somebody has asked for by hand. Without an actor nobody has, and it is ctx itself.
func By(ctx context.Context, what What, actor, reason string) context.Context {
	if actor == "" {
		return ctx
	}
	return context.WithValue(ctx, key{}, Act{
		ID: uuid.Must(uuid.NewV7()).String(), At: time.Now(), Actor: actor, What: what, Reason: reason, CorrelationID: telemetry.Correlation(ctx),
	})
}

// Append notes, in the transaction of a change to subject, the act that ctx is about. Without one it does nothing. Work that
// makes several changes is one act.
func Append(ctx context.Context, tx *db.Tx, subject string) error {
	a, ok := ctx.Value(key{}).(Act)
	if !ok {
		return nil
	}
	_, err := tx.Exec(`INSERT INTO acts (id, at, actor, what, subject, reason, correlation_id) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING`,
		a.ID, a.At.UnixMicro(), a.Actor, string(a.What), subject, a.Reason, a.CorrelationID)
	if err != nil {
		return fmt.Errorf("note who did it: %w", err)
	}
	return nil
}

// most is as many as a person looks at.
const most = 1000

// List returns the last acts in the database of a context, oldest first, no more than 1,000. It only reads.
func List(ctx context.Context, url string, s db.Schema) (acts []Act, err error) {
	d, err := db.OpenReadOnly(ctx, url, s)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	err = d.Read(ctx, func(tx *sql.Tx) error {
		acts, err = list(ctx, tx, "")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list what was done by hand: %w", err)
	}
	return acts, nil
}

// Both read as many rows as they return, the latter by its index.
const (
	queryLast = `SELECT id, at, actor, what, subject, reason, correlation_id FROM acts ORDER BY id DESC LIMIT $1`
	queryOf   = `SELECT id, at, actor, what, subject, reason, correlation_id FROM acts WHERE subject = $2 ORDER BY id DESC LIMIT $1`
)

// list reads the last acts, oldest first, or the last of those about one subject.
func list(ctx context.Context, tx *sql.Tx, subject string) (acts []Act, err error) {
	query, args := queryLast, []any{most}
	if subject != "" {
		query, args = queryOf, append(args, subject)
	}
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var a Act
		var at int64
		if err := rows.Scan(&a.ID, &at, &a.Actor, &a.What, &a.Subject, &a.Reason, &a.CorrelationID); err != nil {
			return nil, err
		}
		a.At = time.UnixMicro(at).UTC()
		acts = append(acts, a)
	}
	slices.Reverse(acts)
	return acts, rows.Err()
}
