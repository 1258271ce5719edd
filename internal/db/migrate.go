package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/pressly/goose/v3"
)

// owner is the one row that says whose database this is. It is made before the first migration, so that a file of
// another context is refused before anything in it is touched.
const owner = `CREATE TABLE orderkeep_owner (context TEXT NOT NULL PRIMARY KEY)`

func (d *DB) migrate(ctx context.Context, s Schema) error {
	release, err := d.engine.migrating(ctx, d)
	if err != nil {
		return err
	}
	defer release()
	p, err := d.provider(s)
	if err != nil {
		return err
	}
	tables, err := d.engine.tables(ctx, d.write)
	if err != nil {
		return err
	}
	if tables > 0 {
		if err := d.checkOwner(ctx, s); err != nil {
			return err
		}
	}
	if err := d.engine.ours(ctx, d); err != nil {
		return err
	}
	if tables == 0 {
		if err := d.claim(ctx, s); err != nil {
			return err
		}
	}
	if err := d.checkVersion(ctx, p, s); err != nil {
		return err
	}
	if _, err = p.Up(ctx); err != nil {
		return err
	}
	return d.engine.migrated(ctx, d, s)
}

// claim makes the owner's table and row in one transaction: a crash between the two would leave a file that nobody owns.
func (d *DB) claim(ctx context.Context, s Schema) error {
	tx, err := d.write.BeginTx(ctx, nil)
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
func (d *DB) check(ctx context.Context, s Schema) error {
	if err := d.checkOwner(ctx, s); err != nil {
		return err
	}
	var have sql.NullInt64
	if err := d.read.QueryRowContext(ctx, `SELECT max(version_id) FROM goose_db_version WHERE is_applied`).Scan(&have); err != nil {
		return err
	}
	want, err := d.newest(s)
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

func (d *DB) provider(s Schema) (*goose.Provider, error) {
	files, err := s.of(d.engine)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(d.engine.dialect(), d.write, files, goose.WithLogger(goose.NopLogger()))
}

func (s Schema) of(e engine) (fs.FS, error) { return fs.Sub(s.Migrations, "migrations/"+e.name()) }

func (d *DB) newest(s Schema) (int64, error) {
	files, err := fs.Glob(s.Migrations, "migrations/"+d.engine.name()+"/*.sql")
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("the program carries no migrations of %s for %s: %w", s.Context, d.engine.name(), err)
	}
	return goose.NumericComponent(path.Base(files[len(files)-1]))
}

func (d *DB) checkOwner(ctx context.Context, s Schema) error {
	var have string
	err := d.read.QueryRowContext(ctx, `SELECT context FROM orderkeep_owner`).Scan(&have)
	switch {
	case errors.Is(err, sql.ErrNoRows) || err != nil && d.engine.noTable(err):
		return fault.New(fault.Conflict, "foreign_database", "The database is not Orderkeep's. Name another, or an empty one.").Because(err)
	case err != nil:
		return err
	case have != s.Context:
		return fault.New(fault.Conflict, "foreign_database", "The database belongs to %s, and %s was to be opened. Check the database URLs: each context has its own.", have, s.Context)
	}
	return nil
}

func (d *DB) checkVersion(ctx context.Context, p *goose.Provider, s Schema) error {
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	want, err := d.newest(s)
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
