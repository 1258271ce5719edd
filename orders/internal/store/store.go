// Package store keeps orders in a SQL database.
//
// All writes go through one batcher: while a transaction commits, the next commands queue up and share the next one.
// It owns the tables of migrations/ and promises what order.Store says; it refuses to take a state that the state machine
// does not allow, and so do the CHECK constraints behind it.
package store

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

//go:embed migrations
var migrations embed.FS

// Schema is what the context keeps in its database.
func Schema() db.Schema { return db.Schema{Context: "orders", Migrations: migrations} }

// Store implements order.Store and order.Records. It is safe for concurrent use.
type Store struct {
	db    *db.DB
	batch *db.Batcher[*command]

	// Appended is called after a commit that appended events; the relay is woken by it. Set it before the first write.
	Appended func()
}

// Open opens the database at url and brings its schema up to date.
func Open(ctx context.Context, url string) (*Store, error) {
	d, err := db.Open(ctx, url, Schema())
	if err != nil {
		return nil, err
	}
	s := &Store{db: d, Appended: func() {}}
	if d.Exclusive() {
		// Nobody else can have this database open, so whoever holds a lease in it is dead.
		err := d.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(`UPDATE orders SET lease_owner = '', lease_until = 0 WHERE state IN ('pending', 'undoing') AND state <> 'fulfilled'`)
			return err
		})
		if err != nil {
			d.Close()
			return nil, err
		}
	}
	s.batch = db.NewBatcher(d, apply)
	return s, nil
}

// DB is the database, for the outbox's readers.
func (s *Store) DB() *db.DB { return s.db }

// Backlog is how long a command that comes now would wait for its transaction; see db.Batcher.
func (s *Store) Backlog() time.Duration { return s.batch.Backlog() }

// Measure adds the figures of the store to those of the process.
func (s *Store) Measure(m *telemetry.Metrics) {
	s.batch.Measure(m)
	look := telemetry.NewLook(s.unended)
	m.Gauge("orderkeep_orders_pending", "Orders that have no end yet; counting ends at 10,000.", look.Gauge(func(u unended) float64 { return u.n }))
	m.Gauge("orderkeep_orders_pending_oldest_seconds", "Age of the oldest of them.", look.Gauge(func(u unended) float64 { return u.oldest }))
}

// Close finishes what is queued and closes the database.
func (s *Store) Close() error {
	s.batch.Close()
	return s.db.Close()
}

// Begin implements order.Store. With a full queue it returns db.ErrBusy and has done nothing.
func (s *Store) Begin(ctx context.Context, o *order.Order) (*order.Order, error) {
	c := &command{kind: begin, order: o, traceParent: telemetry.TraceParent(ctx)}
	if err := s.batch.Try(ctx, c); err != nil {
		return nil, err
	}
	lab.Point("orders.begun")
	switch {
	case c.reused:
		return nil, order.ErrReused
	case c.existing != "":
		return s.Get(ctx, c.existing)
	case o.State == order.Rejected:
		s.Appended()
	}
	return nil, nil
}

// Known implements order.Store.
func (s *Store) Known(ctx context.Context, o *order.Order) (*order.Order, error) {
	var h held
	err := s.db.QueryRow(ctx, `SELECT payload, order_id FROM idempotency_keys WHERE key = $1`, o.Key).Scan(&h.payload, &h.order)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look up a key: %w", err)
	case !bytes.Equal(h.payload, o.Payload[:]):
		return nil, order.ErrReused
	}
	return s.Get(ctx, h.order)
}

// Move implements order.Store.
func (s *Store) Move(ctx context.Context, o *order.Order, m order.Move) (bool, error) {
	if !order.Allowed(o.State, m.To) {
		return false, errors.New("store: no step from " + string(o.State) + " to " + string(m.To))
	}
	// A copy: if ctx ends first, the batch still reads it while the caller goes on with its own.
	next := *o
	next.Apply(m)
	c := &command{kind: move, order: &next, traceParent: telemetry.TraceParent(ctx), was: o.State, freeKey: m.FreeKey, act: ctx}
	if o.State == order.None {
		c.kind = record
	}
	if err := s.batch.Do(ctx, c); err != nil {
		return false, err
	}
	lab.Point("orders.moved")
	if c.ok && m.To != order.Undoing {
		s.Appended()
	}
	return c.ok, nil
}

// Park implements order.Store.
func (s *Store) Park(ctx context.Context, o *order.Order, from time.Time) error {
	return s.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE orders SET lease_owner = '', lease_until = $1, reserved_at = $2 WHERE id = $3 AND state IN ('pending', 'undoing')`,
			from.UnixMicro(), micro(o.ReservedAt), string(o.ID))
		return err
	})
}

// Keep implements order.Store.
func (s *Store) Keep(ctx context.Context, o *order.Order) error {
	id, kept := string(o.ID), o.Kept // copies: if ctx ends first, the batch still reads them
	err := s.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE orders SET kept = $1 WHERE id = $2`, kept, id)
		return err
	})
	lab.Point("orders.kept")
	return err
}

// clockSlack is longer than an order is ever parked for, and than clocks of replicas differ.
const clockSlack = 2 * time.Minute

// What recovery asks twice a second. A lease that ends later than any that could be given now is from before the clock was set
// back, and would keep its order waiting for as long as that was; driving an order twice is harmless. state <> 'fulfilled' is what the index is of; without it every order would be looked at.
const (
	anyDue = `SELECT count(*) FROM (
		SELECT 1 FROM orders WHERE state IN ('pending', 'undoing') AND state <> 'fulfilled' AND (lease_until <= $1 OR lease_until > $2) LIMIT 1) AS due`
	claimDue = `
		UPDATE orders SET lease_owner = $1, lease_until = $2, attempts = attempts + 1
		WHERE id IN (
			SELECT id FROM orders WHERE state IN ('pending', 'undoing') AND state <> 'fulfilled' AND (lease_until <= $3 OR lease_until > $4) ORDER BY lease_until LIMIT $5
		) AND (lease_until <= $3 OR lease_until > $4)
		RETURNING id`
)

// Claim implements order.Store.
func (s *Store) Claim(ctx context.Context, owner string, now, until time.Time, n int) ([]*order.Order, error) {
	// Most of the time there is nothing to do; looking costs no write.
	var due int
	tooLate := until.Add(clockSlack).UnixMicro()
	err := s.db.QueryRow(ctx, anyDue, now.UnixMicro(), tooLate).Scan(&due)
	if err != nil || due == 0 {
		return nil, err
	}
	var ids []order.ID
	err = s.Write(ctx, func(tx *db.Tx) error {
		ids = ids[:0]
		rows, err := tx.Query(claimDue, owner, until.UnixMicro(), now.UnixMicro(), tooLate, n)
		if err != nil {
			return err
		}
		ids, err = scanIDs(rows)
		return err
	})
	if err != nil {
		return nil, err
	}
	lab.Point("orders.claimed")
	claimed := make([]*order.Order, 0, len(ids))
	for _, id := range ids {
		o, err := s.Get(ctx, id)
		if err != nil {
			return claimed, err
		}
		claimed = append(claimed, o)
	}
	return claimed, nil
}

// Note records what another context said about an order, and what that answers. done marks the event as consumed in the
// same transaction. An order that does not exist is not an error: the event is about somebody else's.
func (s *Store) Note(ctx context.Context, id order.ID, eventID string, n order.Note, means order.Answer, done func(*db.Tx) error) error {
	return s.Write(ctx, func(tx *db.Tx) error {
		at := n.At.UnixMicro()
		var answers [4]int64 // in the order of the columns
		if means != order.NoAnswer {
			answers[means-order.UnitsTaken] = at
		}
		changed, err := tx.Exec(`UPDATE orders SET 
			units_taken_at = CASE WHEN units_taken_at < $1 THEN $1 ELSE units_taken_at END,
			money_taken_at = CASE WHEN money_taken_at < $2 THEN $2 ELSE money_taken_at END,
			units_back_at = CASE WHEN units_back_at < $3 THEN $3 ELSE units_back_at END,
			money_back_at = CASE WHEN money_back_at < $4 THEN $4 ELSE money_back_at END WHERE id = $5`,
			answers[0], answers[1], answers[2], answers[3], string(id))
		if err != nil {
			return err
		}
		if changed > 0 {
			if _, err := tx.Exec(`INSERT INTO notes (order_id, at, event_id, what, detail) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
				string(id), at, eventID, n.What, n.Detail); err != nil {
				return err
			}
		}
		return done(tx)
	})
}

// Act notes that somebody has an order driven by hand.
func (s *Store) Act(ctx context.Context, id order.ID) error {
	return s.Write(ctx, func(tx *db.Tx) error { return trail.Append(ctx, tx, string(id)) })
}

// Write runs f in a transaction that it shares with other commands. It is the outbox.Writer of this context.
func (s *Store) Write(ctx context.Context, f func(*db.Tx) error) error {
	return s.batch.Do(ctx, &command{kind: exec, exec: f})
}

func scanIDs(rows *sql.Rows) ([]order.ID, error) {
	defer rows.Close()
	var ids []order.ID
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, order.ID(id))
	}
	return ids, rows.Err()
}
