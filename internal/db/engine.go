package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/pressly/goose/v3/database"
)

// engine is what SQLite and PostgreSQL do differently. All else in this package, and every statement of a context, is
// the same on both.
type engine interface {
	name() string  // of the directory of its migrations
	place() string // where the database is, for messages; without a password
	dialect() database.Dialect
	exclusive() bool
	snapshot() *sql.TxOptions // of a transaction whose queries see one state

	open() (*DB, error)
	openReadOnly(Schema) (*DB, error)
	// migrating keeps other processes from migrating the database too until release is called.
	migrating(ctx context.Context, d *DB) (release func(), err error)
	// tables counts those that are there, whosever they are.
	tables(ctx context.Context, conn *sql.DB) (int, error)
	noTable(err error) bool
	ours(ctx context.Context, d *DB) error               // called before the first change of the database
	migrated(ctx context.Context, d *DB, s Schema) error // and after the last migration

	// connect gives t the writing connection, and close is called before it is closed.
	connect(ctx context.Context, d *DB, t *Tx) error
	close(t *Tx)
	write(d *DB, t *Tx, f func(*Tx) error) error

	// one spells a statement, and wide one with a marker for as many of the rows in args as it takes at once; it returns
	// the arguments to give and how many of args they are. cols is 0 for a list.
	one(query string) string
	wide(known spellings, query string, cols int, args []any) (statement string, give []any, used int)

	// exec runs a statement that returns no rows, and returns how many it changed.
	exec(t *Tx, query string, args []any) (int64, error)

	// lease takes the lock called name, or returns nil if another process has it.
	lease(ctx context.Context, d *DB, name string) (*Lease, error)

	// explain gives the engine's errors their kind.
	explain(err error) error
	// outOfOrder reports that the database itself is at fault, and not a statement.
	outOfOrder(err error) bool
}

// forUpdate is how a query ends that locks the rows which it returns.
const forUpdate = " FOR UPDATE"

// Check says what is wrong with a database's URL as far as can be seen without opening it. The error does not repeat the URL,
// which may hold a password.
func Check(url string) error {
	_, err := engineOf(url)
	return err
}

func engineOf(url string) (engine, error) {
	const known = "this version knows sqlite:/path/to/file.db and postgres://user:password@host:5432/database"
	scheme, rest, ok := strings.Cut(url, ":")
	if !ok {
		return nil, errors.New("is not a URL of a database; " + known)
	}
	switch scheme {
	case "sqlite":
		if rest != "" {
			return &sqliteEngine{path: rest}, nil
		}
	case "postgres", "postgresql":
		return newPostgres(url)
	}
	return nil, fmt.Errorf("database URL of engine %q; %s", scheme, known)
}

// cut splits a wide statement at its marker.
func cut(query, marker string) (before, after string) {
	before, after, ok := strings.Cut(query, marker)
	if !ok {
		panic("db: a wide statement without its marker " + marker + ": " + query) // a mistake in the source, found by the first test that runs it
	}
	return before, after
}
