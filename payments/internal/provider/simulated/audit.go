package simulated

import (
	"context"
	"database/sql"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
)

// Record is the provider's book, for an audit.
type Record struct{ at *db.Snapshot }

// OpenRecord opens the book to read it, beside a running provider or without one.
func OpenRecord(ctx context.Context, url string) (*Record, error) {
	at, err := db.OpenSnapshot(ctx, url, schema())
	if err != nil {
		return nil, err
	}
	return &Record{at}, nil
}

// Close closes the book.
func (r *Record) Close() error { return r.at.Close() }

// Count is the number of charges that hold or have taken money.
func (r *Record) Count(ctx context.Context) (int64, error) {
	var n int64
	err := r.at.Read(func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM charges WHERE state IN ('authorized', 'captured')`).Scan(&n)
	})
	return n, err
}

// Charge is money that the provider holds, has taken, or has taken and given back.
type Charge struct {
	Key, Currency, Ref string
	State              payment.State
	Amount             int64 // held, taken or given back, in minor units
}

// Charges calls yield for each charge that moved money, unless it was voided, by key. A false from yield stops it.
func (r *Record) Charges(ctx context.Context, yield func(Charge) bool) error {
	return r.at.Read(func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+columns+` FROM charges WHERE state IN ('authorized', 'captured', 'refunded') ORDER BY key`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			ch, err := scan(rows)
			if err != nil {
				return err
			}
			c := Charge{Key: ch.key, Currency: ch.currency, Ref: ch.ref, State: ch.outcome().State}
			c.Amount = map[state]int64{authorized: ch.authorized, captured: ch.captured, refunded: ch.refunded}[ch.state]
			if !yield(c) {
				return nil
			}
		}
		return rows.Err()
	})
}
