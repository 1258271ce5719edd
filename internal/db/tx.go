package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
)

// Tx is the one writing transaction. It is not safe for use from several goroutines, and ends with the function that
// got it. Its statements are not interrupted: a writer finishes or fails as a whole.
type Tx struct {
	engine engine
	conn   *sql.Conn // nil while there is none
	stmts  map[string]*sql.Stmt
	wide   spellings
	server server // the other end of conn; PostgreSQL's

	// SQLite's statements that return no rows, and their arguments.
	direct map[string]driver.Stmt
	values []driver.NamedValue
}

// wideKey is a wide statement: a query for so many rows of so many columns, or of a list if there are none.
type wideKey struct {
	query      string
	cols, rows int
}

// spellings are the texts of wide statements, each written once.
type spellings map[wideKey]string

func (known spellings) of(k wideKey, spell func(wideKey) string) string {
	statement, ok := known[k]
	if !ok {
		statement = spell(k)
		known[k] = statement
	}
	return statement
}

// guarded turns a panic into an error: somebody above may recover from it, and would leave the one writing connection in
// the middle of a transaction for ever.
func guarded(t *Tx, f func(*Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v\n%s", p, debug.Stack())
		}
	}()
	return f(t)
}

// connect takes the connection that pool has.
func (t *Tx) connect(ctx context.Context, pool *sql.DB) error {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	t.conn, t.stmts, t.direct = conn, map[string]*sql.Stmt{}, map[string]driver.Stmt{}
	return nil
}

func (t *Tx) close() {
	if t.conn == nil {
		return
	}
	for _, s := range t.stmts {
		s.Close()
	}
	t.conn.Close()
	t.conn = nil
}

// prepare keeps every statement for the life of the connection: the set of them is small, because lists
// come in a few lengths.
func (t *Tx) prepare(query string) (*sql.Stmt, error) {
	t.server.hurry()
	if s, ok := t.stmts[query]; ok {
		return s, nil
	}
	// Background: a context that can end would cost a goroutine a statement.
	s, err := t.conn.PrepareContext(context.Background(), t.engine.one(query))
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", firstLine(query), t.server.noted(err))
	}
	t.stmts[query] = s
	return s, nil
}

// Exec runs a statement and returns the number of rows changed.
func (t *Tx) Exec(query string, args ...any) (int64, error) {
	changed, err := t.engine.exec(t, query, args)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", firstLine(query), t.server.noted(err))
	}
	return changed, nil
}

// Query runs a query; the caller closes the rows before the next statement.
func (t *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	s, err := t.prepare(query)
	if err != nil {
		return nil, err
	}
	rows, err := s.Query(args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", firstLine(query), t.server.noted(err))
	}
	return rows, nil
}

// ExecWide runs a statement over many rows. VALUES (rows) in query stands for all of them, so that one statement serves
// any number:
//
//	INSERT INTO stock (sku, on_hand) VALUES (rows) ON CONFLICT (sku) DO UPDATE SET on_hand = excluded.on_hand
//
// The rows lie in args one after the other, cols values each; a column has one Go type: string, int, int64, bool or []byte.
// The rows of an upsert have different keys, because PostgreSQL changes no row twice in one statement.
// A set may run as several statements, also as one for each row.
func (t *Tx) ExecWide(query string, cols int, args []any) error {
	for len(args) > 0 {
		statement, give, used := t.engine.wide(t.wide, query, cols, args)
		if _, err := t.Exec(statement, give...); err != nil {
			return err
		}
		args = args[used:]
	}
	return nil
}

// ExecEach is ExecWide for a statement that is written twice: one takes a row at a time, and many is for a server (Remote).
func (t *Tx) ExecEach(one, many string, cols int, args []any) error {
	if t.Remote() {
		return t.ExecWide(many, cols, args)
	}
	for row := range slices.Chunk(args, cols) {
		if _, err := t.Exec(one, row...); err != nil {
			return err
		}
	}
	return nil
}

// QueryWide runs a query with IN (list) over any number of values, as in "WHERE sku IN (list)", and calls scan for each row of the
// result. A long list may run as several queries; to keep one order of locks, sort it by what the query is ordered by.
func (t *Tx) QueryWide(query string, args []any, scan func(*sql.Rows) error) error {
	return t.queryWide(query, 0, args, scan)
}

// Lock locks the rows of a query that ends with FOR UPDATE and has IN (list), for statements that change rows without having read them.
// With one writer there is nothing to lock, and it does nothing.
func (t *Tx) Lock(query string, args []any) error {
	if t.engine.exclusive() {
		return nil
	}
	return t.QueryWide(query, args, func(*sql.Rows) error { return nil })
}

// Remote reports that a statement is a trip to a server. One for many rows is then worth more than a small one for each, and with
// SQLite it is the other way round: a statement for which that makes a difference is written twice.
func (t *Tx) Remote() bool { return !t.engine.exclusive() }

// LockTable keeps every other transaction from writing the table and from locking its rows; reading goes on. It is
// for changes of so many rows that they cannot be locked in order, and comes before all else in its transaction.
func (t *Tx) LockTable(name string) error {
	if t.engine.exclusive() {
		return nil
	}
	_, err := t.Exec(`LOCK TABLE ` + name + ` IN EXCLUSIVE MODE`)
	return err
}

// QueryRows is ExecWide for a statement that returns rows, such as one with RETURNING: scan is called for each.
func (t *Tx) QueryRows(query string, cols int, args []any, scan func(*sql.Rows) error) error {
	return t.queryWide(query, cols, args, scan)
}

func (t *Tx) queryWide(query string, cols int, args []any, scan func(*sql.Rows) error) error {
	for len(args) > 0 {
		statement, give, used := t.engine.wide(t.wide, query, cols, args)
		rows, err := t.Query(statement, give...)
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := scan(rows); err != nil {
				rows.Close()
				return err
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return t.server.noted(err)
		}
		args = args[used:]
	}
	return nil
}

func firstLine(query string) string {
	query = strings.TrimSpace(query)
	if i := strings.IndexAny(query, "(\n"); i > 0 {
		query = query[:i]
	}
	return strings.TrimSpace(query)
}
