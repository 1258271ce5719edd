package db

import (
	"context"
	"database/sql"
	"sync"
)

// prepared are the statements that Prepared has met. They end with the connections that they were prepared on.
type prepared struct{ byQuery sync.Map }

func (p *prepared) of(ctx context.Context, pool *sql.DB, query string) (*sql.Stmt, error) {
	if s, ok := p.byQuery.Load(query); ok {
		return s.(*sql.Stmt), nil
	}
	s, err := pool.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if first, met := p.byQuery.LoadOrStore(query, s); met {
		s.Close()
		return first.(*sql.Stmt), nil
	}
	return s, nil
}

// Prepared is Query for a query that is asked often and has one of a few texts, which are kept for ever. Reading the text anew takes SQLite
// longer than a lookup does: 25 of 35 µs for one stock row, and more for a longer text.
func (d *DB) Prepared(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	var rows *sql.Rows
	err := d.again(ctx, func() error {
		s, err := d.prepared.of(ctx, d.read, query)
		if err == nil {
			rows, err = s.QueryContext(ctx, args...)
		}
		return err
	})
	return rows, d.explain(err)
}

// PreparedWide is Prepared for a query with IN (list), and calls scan for each row. A long list may run as several queries, each of
// which sees a state of its own.
func (d *DB) PreparedWide(ctx context.Context, query string, list []any, scan func(*sql.Rows) error) error {
	for len(list) > 0 {
		statement, give, used := d.engine.wide(nil, query, 0, list)
		if err := d.each(ctx, statement, give, scan); err != nil {
			return err
		}
		list = list[used:]
	}
	return nil
}

func (d *DB) each(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := d.Prepared(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return d.explain(rows.Err())
}
