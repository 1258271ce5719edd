package simulated

import (
	"context"
	"database/sql"
	"errors"

	"github.com/orderkeep/orderkeep/internal/db"
)

// Record is the provider's book, for an audit.
type Record struct{ db *db.DB }

// OpenRecord opens the book to read it, beside a running provider or without one.
func OpenRecord(ctx context.Context, url string) (*Record, error) {
	d, err := db.OpenReadOnly(ctx, url, schema())
	if err != nil {
		return nil, err
	}
	return &Record{d}, nil
}

// Close closes the book.
func (r *Record) Close() error { return r.db.Close() }

// Count is the number of charges that hold or have taken money.
func (r *Record) Count(ctx context.Context) (int64, error) {
	var n int64
	err := r.db.QueryRow(ctx, `SELECT count(*) FROM charges WHERE state IN ('authorized', 'captured')`).Scan(&n)
	return n, err
}

// Hold is money that the provider holds or has taken.
type Hold struct {
	Key, Currency, Ref string
	Amount             int64 // minor units
}

// Holds calls yield for each hold, by key. A false from yield stops it.
func (r *Record) Holds(ctx context.Context, yield func(Hold) bool) error {
	return r.db.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT key, currency, ref, authorized_minor FROM charges WHERE state IN ('authorized', 'captured') ORDER BY key`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var h Hold
			if err := rows.Scan(&h.Key, &h.Currency, &h.Ref, &h.Amount); err != nil {
				return err
			}
			if !yield(h) {
				return nil
			}
		}
		return errors.Join(rows.Err())
	})
}
