package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// owner is the one row that says whose database this is. It is made before the first migration, so that a file of
// another context is refused before anything in it is touched.
const owner = `CREATE TABLE orderkeep_owner (context TEXT NOT NULL PRIMARY KEY)`

func migrate(ctx context.Context, conn *sql.DB, s Schema) error {
	p, err := provider(conn, s)
	if err != nil {
		return err
	}
	tables, err := tableCount(ctx, conn)
	if err != nil {
		return err
	}
	if tables > 0 {
		if err := checkOwner(ctx, conn, s); err != nil {
			return err
		}
	}
	if err := setWAL(ctx, conn); err != nil {
		return err
	}
	if tables == 0 {
		if err := claim(ctx, conn, s); err != nil {
			return err
		}
	}
	if err := checkVersion(ctx, p, s); err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// setWAL switches the file to the write-ahead log, which it remembers. It is not among the settings of each connection,
// because it would change a file before anybody has looked whose it is.
func setWAL(ctx context.Context, conn *sql.DB) error {
	var mode string
	if err := conn.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
		return fmt.Errorf("switch to the write-ahead log: %w", err)
	}
	if mode != "wal" {
		return fmt.Errorf("the file system has no write-ahead log for SQLite (it stays at %q): put the data directory on a local disk", mode)
	}
	return nil
}

// claim makes the owner's table and row in one transaction: a crash between the two would leave a file that nobody owns.
func claim(ctx context.Context, conn *sql.DB, s Schema) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, owner); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO orderkeep_owner (context) VALUES ($1)`, s.Context); err != nil {
		return err
	}
	return tx.Commit()
}

// check says whether an existing database is this context's and as this program knows it.
func check(ctx context.Context, conn *sql.DB, s Schema) error {
	if err := checkOwner(ctx, conn, s); err != nil {
		return err
	}
	var have sql.NullInt64
	if err := conn.QueryRowContext(ctx, `SELECT max(version_id) FROM goose_db_version WHERE is_applied`).Scan(&have); err != nil {
		return err
	}
	want, err := newest(s)
	if err != nil {
		return err
	}
	switch {
	case have.Int64 > want:
		return fromTheFuture(s, have.Int64, want)
	case have.Int64 < want:
		return fault.New(fault.Conflict, "database_behind", "The %s database is at schema version %d and this program knows %d. Start serve once with this program, so that it migrates.", s.Context, have.Int64, want)
	}
	return nil
}

func provider(conn *sql.DB, s Schema) (*goose.Provider, error) {
	return goose.NewProvider(database.DialectSQLite3, conn, s.Migrations, goose.WithLogger(goose.NopLogger()))
}

func newest(s Schema) (int64, error) {
	files, err := fs.Glob(s.Migrations, "*.sql")
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("the program carries no migrations of %s: %w", s.Context, err)
	}
	return goose.NumericComponent(files[len(files)-1])
}

func tableCount(ctx context.Context, conn *sql.DB) (int, error) {
	var n int
	err := conn.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table'`).Scan(&n)
	return n, err
}

func checkOwner(ctx context.Context, conn *sql.DB, s Schema) error {
	var have string
	err := conn.QueryRowContext(ctx, `SELECT context FROM orderkeep_owner`).Scan(&have)
	switch {
	case errors.Is(err, sql.ErrNoRows) || err != nil && sqliteCode(err) == 1: // no row, or no such table
		return fault.New(fault.Conflict, "foreign_database", "The database is not Orderkeep's. Name another data directory, or an empty one.").Because(err)
	case err != nil:
		return err
	case have != s.Context:
		return fault.New(fault.Conflict, "foreign_database", "The database belongs to %s, and %s was to be opened. Check the database URLs: each context has its own.", have, s.Context)
	}
	return nil
}

func checkVersion(ctx context.Context, p *goose.Provider, s Schema) error {
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	want, err := newest(s)
	if err != nil {
		return err
	}
	if have > want {
		return fromTheFuture(s, have, want)
	}
	return nil
}

func fromTheFuture(s Schema, have, want int64) error {
	return fault.New(fault.Conflict, "database_from_the_future", "The %s database is at schema version %d and this program knows %d. Start the newer program that wrote it, or restore a backup.", s.Context, have, want)
}
