package outbox

import (
	"context"
	"fmt"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// ErrNotParked is NotFound: no event of this id is parked in this database.
var ErrNotParked = fault.New(fault.NotFound, "not_parked", "No parked event has this id.")

// Parked is an event that failed too often.
type Parked struct {
	Event
	Consumer string
	Attempts int
	Error    string // of the last attempt
}

// parkedMost is as many as a person looks at.
const parkedMost = 1000

// queryParked is as queryInbox for the same reasons.
const queryParked = `SELECT consumer, attempts, error, source, event_id, type, subject, time, correlation_id, causation_id, traceparent, data
	FROM inbox WHERE state <> 'done' AND state = 'parked' ORDER BY seq`

// Desk is where a person looks after the parked events of a context, on its database: beside the running inbox or
// without one.
type Desk struct{ db *db.DB }

// OpenDesk opens the database of a context that has been served before, by a program of this version.
func OpenDesk(ctx context.Context, url string, s db.Schema) (*Desk, error) {
	// Opening for writing would make a database that is not there, and migrate one that an older server may be using.
	look, err := db.OpenReadOnly(ctx, url, s)
	if err != nil {
		return nil, err
	}
	if err := look.Close(); err != nil {
		return nil, err
	}
	d, err := db.Open(ctx, url, s)
	if err != nil {
		return nil, err
	}
	return &Desk{d}, nil
}

// Close closes the database.
func (d *Desk) Close() error { return d.db.Close() }

// Parked lists the parked events, oldest first, no more than 1,000.
func (d *Desk) Parked(ctx context.Context) ([]Parked, error) {
	rows, err := d.db.Query(ctx, queryParked)
	if err != nil {
		return nil, fmt.Errorf("list the parked events: %w", err)
	}
	defer rows.Close()
	var all []Parked
	for rows.Next() && len(all) < parkedMost {
		var p Parked
		if err := p.scan(rows, &p.Consumer, &p.Attempts, &p.Error, &p.Source); err != nil {
			return nil, fmt.Errorf("list the parked events: %w", err)
		}
		all = append(all, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the parked events: %w", err)
	}
	return all, nil
}

// Redrive makes a parked event wait again, as if it had just arrived and never failed; a running inbox finds it within a
// second. Its subject may have moved on meanwhile: the handler sees it after later events. It returns ErrNotParked for
// any other event.
func (d *Desk) Redrive(ctx context.Context, eventID string) error {
	err := d.db.Write(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(`UPDATE inbox SET state = 'waiting', attempts = 0, next_at = 0, error = '' WHERE event_id = $1 AND state = 'parked'`, eventID)
		if err == nil && n == 0 {
			return ErrNotParked
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("redrive %s: %w", eventID, err)
	}
	return nil
}
