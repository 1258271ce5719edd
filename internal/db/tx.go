package db

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
	"strings"
)

// maxRows bounds the rows of one wide statement. SQLite's limit of 32,766 parameters leaves room for 100 columns.
const maxRows = 256

// Tx is the one writing transaction. It is not safe for use from several goroutines, and ends with the function that
// got it. Its statements are not interrupted: a writer finishes or fails as a whole.
type Tx struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	wide  map[wideKey]string
}

type wideKey struct {
	query      string
	cols, rows int
}

func (t *Tx) run(f func(*Tx) error) error {
	if _, err := t.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := guarded(t, f); err != nil {
		t.rollback()
		return err
	}
	if _, err := t.Exec("COMMIT"); err != nil {
		t.rollback()
		return err
	}
	return nil
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

// rollback ignores its error: after a failed COMMIT SQLite has often rolled back already.
func (t *Tx) rollback() { _, _ = t.Exec("ROLLBACK") }

func (t *Tx) close() {
	for _, s := range t.stmts {
		s.Close()
	}
	t.conn.Close()
}

// prepare keeps every statement for the life of the connection: the set of them is small, because wide statements
// come in a few widths.
func (t *Tx) prepare(query string) (*sql.Stmt, error) {
	if s, ok := t.stmts[query]; ok {
		return s, nil
	}
	// Background: a context that can end would cost a goroutine a statement.
	s, err := t.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", firstLine(query), err)
	}
	t.stmts[query] = s
	return s, nil
}

// Exec runs a statement and returns the number of rows changed.
func (t *Tx) Exec(query string, args ...any) (int64, error) {
	s, err := t.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.Exec(args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", firstLine(query), err)
	}
	return r.RowsAffected()
}

// Query runs a query; the caller closes the rows before the next statement.
func (t *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	s, err := t.prepare(query)
	if err != nil {
		return nil, err
	}
	rows, err := s.Query(args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", firstLine(query), err)
	}
	return rows, nil
}

// ExecWide runs a statement over many rows. The marker (rows) in query stands for one parenthesized group of cols
// parameters for each row, so that one statement serves any number of rows:
//
//	INSERT INTO stock (sku, on_hand) VALUES (rows) ON CONFLICT (sku) DO UPDATE SET on_hand = excluded.on_hand
//
// len(args) is a multiple of cols. Long sets run as several statements.
func (t *Tx) ExecWide(query string, cols int, args []any) error {
	for len(args) > 0 {
		n := width(len(args) / cols)
		if _, err := t.Exec(t.widen(query, cols, n), args[:n*cols]...); err != nil {
			return err
		}
		args = args[n*cols:]
	}
	return nil
}

// QueryWide runs a query whose marker (list) stands for a list of parameters, as in "WHERE sku IN (list)", and calls
// scan for each row of the result.
func (t *Tx) QueryWide(query string, args []any, scan func(*sql.Rows) error) error {
	return t.queryWide(query, 0, 1, args, scan)
}

// QueryRows is ExecWide for a statement that returns rows, such as one with RETURNING: scan is called for each.
func (t *Tx) QueryRows(query string, cols int, args []any, scan func(*sql.Rows) error) error {
	return t.queryWide(query, cols, cols, args, scan)
}

func (t *Tx) queryWide(query string, cols, step int, args []any, scan func(*sql.Rows) error) error {
	for len(args) > 0 {
		n := width(len(args) / step)
		rows, err := t.Query(t.widen(query, cols, n), args[:n*step]...)
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := scan(rows); err != nil {
				rows.Close()
				return err
			}
		}
		if err := rows.Close(); err != nil {
			return err
		}
		if err := rows.Err(); err != nil {
			return err
		}
		args = args[n*step:]
	}
	return nil
}

// width is the greatest power of two not above n and maxRows: a handful of prepared statements serve all sizes.
func width(n int) int {
	w := 1
	for w*2 <= n && w < maxRows {
		w *= 2
	}
	return w
}

func (t *Tx) widen(query string, cols, rows int) string {
	key := wideKey{query, cols, rows}
	if s, ok := t.wide[key]; ok {
		return s
	}
	var b strings.Builder
	// Plain question marks: SQLite finds the name of parameter $n by walking a list of all of them, which makes a wide
	// statement's cost quadratic.
	param := func() { b.WriteByte('?') }
	marker := "(rows)"
	if cols == 0 {
		marker = "(list)"
	}
	before, after, ok := strings.Cut(query, marker)
	if !ok {
		panic("db: a wide statement without its marker: " + query) // a mistake in the source, found by the first test that runs it
	}
	b.WriteString(before)
	if cols == 0 {
		b.WriteByte('(')
	}
	for r := range rows {
		if r > 0 {
			b.WriteByte(',')
		}
		if cols == 0 {
			param()
			continue
		}
		b.WriteByte('(')
		for c := range cols {
			if c > 0 {
				b.WriteByte(',')
			}
			param()
		}
		b.WriteByte(')')
	}
	if cols == 0 {
		b.WriteByte(')')
	}
	b.WriteString(after)
	if t.wide == nil {
		t.wide = map[wideKey]string{}
	}
	t.wide[key] = b.String()
	return t.wide[key]
}

func firstLine(query string) string {
	query = strings.TrimSpace(query)
	if i := strings.IndexAny(query, "(\n"); i > 0 {
		query = query[:i]
	}
	return strings.TrimSpace(query)
}
