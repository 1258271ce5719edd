package outbox

import (
	"context"
	"fmt"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// ErrNotParked is NotFound: the event to redrive is not parked in this inbox.
var ErrNotParked = fault.New(fault.NotFound, "not_parked", "No parked event has this id.")

// Parked is an event that failed too often.
type Parked struct {
	Event
	Attempts int
	Error    string // of the last attempt
}

// parkedMost is as many as a person looks at.
const parkedMost = 1000

// queryParked is as queryInbox for the same reasons.
const queryParked = `SELECT consumer, attempts, error, source, event_id, type, subject, time, correlation_id, causation_id, traceparent, data
	FROM inbox WHERE state <> 'done' AND state = 'parked' ORDER BY seq`

// Parked lists the parked events, oldest first, no more than 1,000.
func (i *Inbox) Parked(ctx context.Context) ([]Parked, error) {
	rows, err := i.db.Query(ctx, queryParked)
	if err != nil {
		return nil, fmt.Errorf("list the parked events of %s: %w", i.name, err)
	}
	defer rows.Close()
	var all []Parked
	for rows.Next() && len(all) < parkedMost {
		var p Parked
		var consumer string
		if err := p.scan(rows, &consumer, &p.Attempts, &p.Error, &p.Source); err != nil {
			return nil, fmt.Errorf("list the parked events of %s: %w", i.name, err)
		}
		if consumer == i.name {
			all = append(all, p)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the parked events of %s: %w", i.name, err)
	}
	return all, nil
}

// Redrive makes a parked event wait again, as if it had just arrived and never failed. Its subject may have moved on
// meanwhile: the handler sees it after later events. It returns ErrNotParked for any other event.
func (i *Inbox) Redrive(ctx context.Context, eventID string) error {
	err := i.write(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(`UPDATE inbox SET state = 'waiting', attempts = 0, next_at = 0, error = ''
			WHERE consumer = $1 AND event_id = $2 AND state = 'parked'`, i.name, eventID)
		if err == nil && n == 0 {
			return ErrNotParked
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("redrive %s: %w", eventID, err)
	}
	poke(i.changed)
	return nil
}
