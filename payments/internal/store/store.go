// Package store keeps payments in a SQL database.
//
// All writes go through one batcher: while a transaction commits, the next decisions queue up and share the next one. It owns
// the tables of migrations/ and promises that a decision's record, its attempts and its events become durable together or
// not at all; CHECK constraints refuse amounts that no decision may lead to.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
)

//go:embed migrations
var migrations embed.FS

// Schema is what the context keeps in its database.
func Schema() db.Schema { return db.Schema{Context: "payments", Migrations: migrations} }

// Store implements payment.Store. It is safe for concurrent use.
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
	if d.Exclusive() {
		// Nobody else can have this database open, so whoever was to drive what is under way is dead.
		err := d.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(`UPDATE payments SET due_at = 1 WHERE due_at > 1`)
			return err
		})
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	s := &Store{db: d, Appended: func() {}}
	s.batch = db.NewBatcher(d, apply)
	return s, nil
}

// DB is the database, for the outbox's readers.
func (s *Store) DB() *db.DB { return s.db }

// Backlog is how long a command that comes now would wait for its transaction; see db.Batcher.
func (s *Store) Backlog() time.Duration { return s.batch.Backlog() }

// Measure adds the figures of the store to those of the process.
func (s *Store) Measure(m *telemetry.Metrics) { s.batch.Measure(m) }

// Close finishes what is queued and closes the database.
func (s *Store) Close() error {
	s.batch.Close()
	return s.db.Close()
}

// Decide implements payment.Store.
func (s *Store) Decide(ctx context.Context, order string, f func(*payment.Record) error) error {
	return s.decide(&command{ctx: ctx, order: order, decide: f}, s.batch.Do)
}

// TryDecide implements payment.Store.
func (s *Store) TryDecide(ctx context.Context, order string, f func(*payment.Record) error) error {
	return s.decide(&command{ctx: ctx, order: order, decide: f}, s.batch.Try)
}

// DecideWith returns a Decide that runs done in the transaction of the decision.
func (s *Store) DecideWith(done func(*db.Tx) error) payment.Decide {
	return func(ctx context.Context, order string, f func(*payment.Record) error) error {
		return s.decide(&command{ctx: ctx, order: order, decide: f, exec: done}, s.batch.Do)
	}
}

func (s *Store) decide(c *command, run func(context.Context, *command) error) error {
	if err := run(c.ctx, c); err != nil {
		return err
	}
	if c.facts > 0 {
		s.Appended()
	}
	return c.err
}

// Write runs f in a transaction that it shares with decisions. It is the outbox.Writer of this context.
func (s *Store) Write(ctx context.Context, f func(*db.Tx) error) error {
	return s.batch.Do(ctx, &command{ctx: ctx, exec: f})
}

const paymentColumns = `order_id, payment_id, status, amount_minor, currency, authorized_minor, captured_minor, voided_minor, refunded_minor,
	provider, token, decline_code, correlation_id, created_at, updated_at, due_at`

// Payment implements payment.Store.
func (s *Store) Payment(ctx context.Context, order string) (payment.Payment, error) {
	rows, err := s.db.Query(ctx, `SELECT `+paymentColumns+` FROM payments WHERE order_id = $1`, order)
	if err != nil {
		return payment.Payment{}, fmt.Errorf("get the payment of %s: %w", order, err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return payment.Payment{}, fmt.Errorf("get the payment of %s: %w", order, err)
		}
		return payment.Payment{}, payment.ErrNotFound
	}
	return scanPayment(rows)
}

// Payments returns up to limit payments of orders before an id ("" for the newest), newest order first, with their attempts.
func (s *Store) Payments(ctx context.Context, before string, limit int) ([]payment.Record, error) {
	if before == "" {
		before = "g" // after every hexadecimal digit
	}
	all, err := s.records(ctx, `SELECT `+paymentColumns+` FROM payments WHERE order_id < $1 ORDER BY order_id DESC LIMIT $2`, before, limit)
	if err != nil {
		return nil, fmt.Errorf("list payments: %w", err)
	}
	return all, nil
}

// Record returns an order's payment with its attempts. payment.ErrNotFound if there is none.
func (s *Store) Record(ctx context.Context, order string) (payment.Record, error) {
	all, err := s.records(ctx, `SELECT `+paymentColumns+` FROM payments WHERE order_id = $1`, order)
	if err != nil {
		return payment.Record{}, fmt.Errorf("get the payment of %s: %w", order, err)
	}
	if len(all) == 0 {
		return payment.Record{}, payment.ErrNotFound
	}
	return all[0], nil
}

// records reads payments and their attempts, in one snapshot.
func (s *Store) records(ctx context.Context, query string, args ...any) (all []payment.Record, err error) {
	err = s.db.Read(ctx, func(tx *sql.Tx) error {
		all = nil
		rows, err := tx.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			p, err := scanPayment(rows)
			if err != nil {
				return err
			}
			all = append(all, payment.Record{Payment: p, Attempts: map[payment.Step]payment.Attempt{}})
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, r := range all {
			if err := readAttempts(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

func readAttempts(ctx context.Context, tx *sql.Tx, r payment.Record) error {
	rows, err := tx.QueryContext(ctx, `SELECT step, result, amount_minor, provider_ref, error, started_at, ended_at FROM attempts WHERE order_id = $1`, r.Payment.Order)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a payment.Attempt
		var started, ended int64
		if err := rows.Scan(&a.Step, &a.Result, &a.Amount, &a.Ref, &a.Error, &started, &ended); err != nil {
			return err
		}
		a.Started, a.Ended = fromMicro(started), fromMicro(ended)
		r.Attempts[a.Step] = a
	}
	return rows.Err()
}

// Due implements payment.Store.
func (s *Store) Due(ctx context.Context, now, tooLate time.Time, n int) ([]payment.Payment, error) {
	rows, err := s.db.Query(ctx, `SELECT `+paymentColumns+` FROM payments WHERE due_at > 0 AND (due_at <= $1 OR due_at > $2) ORDER BY due_at LIMIT $3`,
		now.UnixMicro(), tooLate.UnixMicro(), n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var due []payment.Payment
	for rows.Next() {
		p, err := scanPayment(rows)
		if err != nil {
			return nil, err
		}
		due = append(due, p)
	}
	return due, rows.Err()
}

func scanPayment(rows *sql.Rows) (payment.Payment, error) {
	var p payment.Payment
	var created, updated, due int64
	err := rows.Scan(&p.Order, &p.ID, &p.Status, &p.Amount, &p.Currency, &p.Authorized, &p.Captured, &p.Voided, &p.Refunded,
		&p.Provider, &p.Token, &p.Decline, &p.Correlation, &created, &updated, &due)
	p.Created, p.Updated, p.Due = fromMicro(created), fromMicro(updated), fromMicro(due)
	return p, err
}

func micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicro(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
