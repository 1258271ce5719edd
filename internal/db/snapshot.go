package db

import (
	"context"
	"database/sql"
	"errors"
)

// Snapshot is the state that a database had at one instant, for as long as it is open. Queries of one snapshot come one after the
// other. While it is open, SQLite's WAL is not folded back and PostgreSQL removes no dead rows that it could still see.
type Snapshot struct {
	db *DB
	tx *sql.Tx
}

// OpenSnapshot is OpenReadOnly, and takes a snapshot. It needs no right but to read: on SQLite the files, on PostgreSQL SELECT on the
// tables and USAGE on their schema.
func OpenSnapshot(ctx context.Context, url string, s Schema) (*Snapshot, error) {
	d, err := OpenReadOnly(ctx, url, s)
	if err != nil {
		return nil, err
	}
	// Without ctx: a caller that leaves ends its own query, and the snapshot with Close.
	tx, err := d.read.BeginTx(context.WithoutCancel(ctx), d.engine.snapshot())
	if err != nil {
		return nil, errors.Join(d.explain(err), d.Close())
	}
	// A transaction takes its snapshot with its first query.
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM orderkeep_owner`).Scan(&n); err != nil {
		return nil, errors.Join(d.explain(err), tx.Rollback(), d.Close())
	}
	return &Snapshot{d, tx}, nil
}

// Read runs f on the snapshot.
func (s *Snapshot) Read(f func(*sql.Tx) error) error { return s.db.explain(f(s.tx)) }

// Close lets go of the snapshot and closes the database.
func (s *Snapshot) Close() error { return errors.Join(s.tx.Rollback(), s.db.Close()) }
