// Package dbtest runs tests on every engine that package db knows, on real ones: SQLite in a temporary directory, and a
// PostgreSQL server that it starts itself, once for a test process.
//
// It promises each test a fresh, empty place for its tables with a role of its own, and that nothing is left when the test process
// has ended, even when it was killed. It refuses to pass for PostgreSQL where there is none: such a test is skipped, and
// fails when CI=true.
package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// Engine is one that tests run on.
type Engine struct {
	Name string // "sqlite" or "postgres"
	new  func(testing.TB) string
}

// New returns the URL of a database with nothing in it that the test can see.
func (e Engine) New(t testing.TB) string {
	t.Helper()
	return e.new(t)
}

// The engines.
var (
	SQLite   = Engine{"sqlite", func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "test.db") }}
	Postgres = Engine{"postgres", newPostgres}
)

// Each runs f as a parallel subtest for every engine.
func Each(t *testing.T, f func(t *testing.T, e Engine)) {
	t.Helper()
	for _, e := range []Engine{SQLite, Postgres} {
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			if e.Name == "postgres" {
				theServer(t) // here, because f may go on in a bubble of testing/synctest
			}
			f(t, e)
		})
	}
}

// Raw opens a database beside package db, for tests that look at what is stored, or break it.
func Raw(t testing.TB, at string) *sql.DB {
	t.Helper()
	driver, source := "pgx", at
	if path, ok := strings.CutPrefix(at, "sqlite:"); ok {
		driver, source = "sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?_pragma=busy_timeout(10000)"
	}
	d, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// Admin returns the URL of the test server's administrator in a database.
func Admin(t testing.TB, database string) string {
	t.Helper()
	return theServer(t).url("postgres", database)
}

// newPostgres makes a role, and a schema for it in the one database that all tests share: a whole database takes fifty times as
// long. They go with the server.
func newPostgres(t testing.TB) string {
	t.Helper()
	return theServer(t).newSchema(t)
}

func (s *server) newSchema(t testing.TB) string {
	t.Helper()
	name := newName()
	s.exec(t, shared, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'`, name, s.password), fmt.Sprintf(`CREATE SCHEMA AUTHORIZATION %s`, name))
	return s.url(name, shared)
}

func newName() string { return "t" + strings.ReplaceAll(uuid.NewString(), "-", "") }

// Database is New of Postgres with a whole database, of the same name as the role that owns it. No other role may connect to it.
func Database(t testing.TB) string {
	t.Helper()
	s := theServer(t)
	name := newName()
	s.exec(t, "postgres",
		fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'`, name, s.password),
		fmt.Sprintf(`CREATE DATABASE %s OWNER %s TEMPLATE %s`, name, name, template),
		fmt.Sprintf(`REVOKE CONNECT, TEMPORARY ON DATABASE %s FROM PUBLIC`, name),
	)
	return s.url(name, name)
}

func (s *server) url(user, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, s.password), Path: "/" + database, RawQuery: "host=" + url.QueryEscape(s.dir)}
	return u.String()
}

// exec runs statements as the administrator in a database, on a connection of its own: a test in a bubble of testing/synctest shares none.
func (s *server) exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	if err := s.run(database, statements...); err != nil {
		t.Fatal(err)
	}
}

func (s *server) run(database string, statements ...string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.url("postgres", database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// Unchecked is Raw on a database whose CHECK constraints hold no more, for tests that break what the database would not let be broken.
func Unchecked(t testing.TB, at string) *sql.DB {
	t.Helper()
	d := Raw(t, at)
	off := `PRAGMA ignore_check_constraints = 1`
	if !strings.HasPrefix(at, "sqlite:") {
		off = `DO $$ DECLARE c record; BEGIN
			FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0 AND connamespace = current_schema()::regnamespace LOOP
				EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname);
			END LOOP;
		END $$`
	}
	d.SetMaxOpenConns(1) // the pragma is one connection's
	if _, err := d.Exec(off); err != nil {
		t.Fatal(err)
	}
	return d
}

// Reader makes a user with statements that are written for the user auditor and the database and owner orders, in the place of which
// they get the database at, made by Database. It returns that user's URL of it.
func Reader(t testing.TB, at, statements string) string {
	t.Helper()
	s := theServer(t)
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	name := newName()
	database := strings.Trim(u.Path, "/")
	s.exec(t, database, strings.NewReplacer("auditor", name, "orders", database, "...", s.password).Replace(statements))
	return s.url(name, database)
}
