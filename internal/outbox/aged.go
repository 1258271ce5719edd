package outbox

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// ErrNotOldest is Conflict: what is to be removed is not what the feed begins with.
var ErrNotOldest = fault.New(fault.Conflict, "events_differ", "The events to remove are not those that the feed begins with. Does the archive belong to this server, and does no other archive run?")

// Aged is an event of the feed that may be removed from it.
type Aged struct {
	Position int64
	JSON     []byte // as the feed has it, without the line feed
}

const queryOldest = `SELECT position FROM outbox WHERE position IS NOT NULL ORDER BY position LIMIT 1`

// ReadAged returns the events of a feed after a position that were published and happened before a time, limit of them at most. They end at the
// first that is younger, so that what is removed is always where the feed begins; and the last of the feed never is among
// them, because the next position is counted from it. query runs a query, in a transaction or outside of one.
func ReadAged(query func(string, ...any) (*sql.Rows, error), source string, before time.Time, after int64, limit int) ([]Aged, error) {
	last, err := position(query, queryLast)
	if err != nil {
		return nil, err
	}
	rows, err := query(queryFeed, after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Aged
	for rows.Next() {
		p := published{Event: Event{Source: source}}
		if err := p.scan(rows, &p.position); err != nil {
			return nil, err
		}
		if !p.Time.Before(before) || p.position >= last {
			break
		}
		var line bytes.Buffer
		if err := encode(&line, p.cloud()); err != nil {
			return nil, fmt.Errorf("event %s: %w", p.ID, err)
		}
		all = append(all, Aged{p.position, bytes.TrimSuffix(line.Bytes(), []byte("\n"))})
	}
	return all, rows.Err()
}

// position runs a query for one position; 0 if there is none.
func position(query func(string, ...any) (*sql.Rows, error), q string) (int64, error) {
	rows, err := query(q)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var at int64
	if rows.Next() {
		if err := rows.Scan(&at); err != nil {
			return 0, err
		}
	}
	return at, rows.Err()
}

// RemoveAged removes events from the beginning of a feed: those at the positions first to last that are still there, if ReadAged still
// gives each of them and same agrees. It returns how many it removed. The error is ErrNotOldest, and nothing is removed, if the feed
// begins before first or has others in these places.
func RemoveAged(tx *db.Tx, source string, before time.Time, first, last int64, same func(Aged) bool) (int64, error) {
	oldest, err := position(tx.Query, queryOldest)
	if err != nil {
		return 0, err
	}
	switch {
	case oldest < first:
		return 0, ErrNotOldest
	case oldest > last:
		return 0, nil // an earlier attempt was here
	}
	there, err := ReadAged(tx.Query, source, before, oldest-1, int(last-oldest+1))
	if err != nil {
		return 0, err
	}
	for i, e := range there {
		if e.Position != oldest+int64(i) || !same(e) {
			return 0, ErrNotOldest
		}
	}
	n, err := tx.Exec(`DELETE FROM outbox WHERE position IS NOT NULL AND position BETWEEN $1 AND $2`, oldest, last)
	if err == nil && (n != int64(len(there)) || n != last-oldest+1) {
		return 0, ErrNotOldest
	}
	return n, err
}

// OldestWaiting is when the oldest event happened that is not published yet; the zero time if all are.
func OldestWaiting(ctx context.Context, d *db.DB) (time.Time, error) {
	var at int64
	err := d.QueryRow(ctx, `SELECT coalesce(min(time), 0) FROM outbox WHERE position IS NULL`).Scan(&at)
	if err != nil || at == 0 {
		return time.Time{}, err
	}
	return time.UnixMicro(at).UTC(), nil
}

// donePage is how many rows of an inbox one call of RemoveDone looks at.
const donePage = 1000

// RemoveDone removes what an inbox has done with of events that happened before a time, among the next rows after seq. It returns how
// many went, and where to go on; more is false once there is nothing so old further on.
//
// The row is all that keeps an event from being handled a second time, so before must be older than any event that a publisher or a
// broker may still send again.
func RemoveDone(tx *db.Tx, before time.Time, after int64) (removed, next int64, more bool, err error) {
	rows, err := tx.Query(`SELECT seq, time FROM inbox WHERE seq > $1 ORDER BY seq LIMIT $2`, after, donePage)
	if err != nil {
		return 0, 0, false, err
	}
	defer rows.Close()
	next = after
	for rows.Next() {
		var at int64
		if err := rows.Scan(&next, &at); err != nil {
			return 0, 0, false, err
		}
		more = more || at < before.UnixMicro()
	}
	if err := rows.Err(); err != nil || !more {
		return 0, next, false, err
	}
	rows.Close()
	removed, err = tx.Exec(`DELETE FROM inbox WHERE seq > $1 AND seq <= $2 AND state = 'done' AND time < $3`, after, next, before.UnixMicro())
	return removed, next, true, err
}

// Unsettled returns those subjects that have an event which waits to be published, or to be consumed, or is parked. query runs a query with
// IN (list).
func Unsettled(query func(string, []any, func(*sql.Rows) error) error, subjects []any) (map[string]bool, error) {
	found := map[string]bool{}
	note := func(rows *sql.Rows) error {
		var subject string
		err := rows.Scan(&subject)
		found[subject] = true
		return err
	}
	// Both go by the partial indexes of what waits, which is little.
	for _, q := range []string{
		`SELECT subject FROM outbox WHERE position IS NULL AND subject IN (list)`,
		`SELECT subject FROM inbox WHERE state <> 'done' AND subject IN (list)`,
	} {
		if err := query(q, subjects, note); err != nil {
			return nil, err
		}
	}
	return found, nil
}
