package db

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/go-faster/jx"
)

// Packed runs a query whose rows are packed, and calls scan for each. The first column is one JSON array of all that the row says, as
// json_build_array makes it, and each of the others are rows of another table, as json_agg makes them of such arrays. Packed is Prepared in all else.
//
// SQLite takes two locks for each column that is asked for, and database/sql copies each twice: thirty columns one by one take twice as long as an
// array of them with its decoding, and a query for the rows of the other table is saved.
func (d *DB) Packed(ctx context.Context, query string, args []any, scan func(*Row) error) error {
	rows, err := d.Prepared(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	r := &Row{d: jx.GetDecoder(), columns: make([]sql.RawBytes, len(names))}
	defer jx.PutDecoder(r.d)
	into := make([]any, len(names))
	for i := range r.columns {
		into[i] = &r.columns[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		r.begin()
		if err := scan(r); err != nil {
			return err
		}
		if err := r.end(); err != nil {
			return fmt.Errorf("a packed row: %w", err)
		}
	}
	return d.explain(rows.Err())
}

// Row is a packed row. What it says is read in its order, and all of it; a value that is not what it is read as is empty, as all after it, and the
// query fails.
type Row struct {
	columns []sql.RawBytes
	column  int
	d       *jx.Decoder
	values  jx.ArrIter
	err     error
}

// Text reads a string.
func (r *Row) Text() (s string) {
	if r.next() {
		s, r.err = r.d.Str()
	}
	return s
}

// Int reads a whole number.
func (r *Row) Int() (n int64) {
	if r.next() {
		n, r.err = r.d.Int64()
	}
	return n
}

// Each goes on to the next column, and calls f for the values of each row in it.
func (r *Row) Each(f func()) {
	r.close()
	if r.column++; r.err == nil && r.column == len(r.columns) {
		r.err = errFew
	}
	if r.err != nil {
		return
	}
	text := r.columns[r.column]
	if len(text) == 0 { // what PostgreSQL makes of no rows
		text = sql.RawBytes("[]")
	}
	r.d.ResetBytes(text)
	r.open()
	for r.err == nil && r.values.Next() {
		list := r.values
		r.open()
		f()
		r.close()
		r.values = list
	}
}

func (r *Row) begin() {
	r.column, r.err = 0, nil
	r.d.ResetBytes(r.columns[0])
	r.open()
}

func (r *Row) end() error {
	r.close()
	if r.err == nil && r.column < len(r.columns)-1 {
		r.err = errMany
	}
	return r.err
}

func (r *Row) open() { r.values, r.err = r.d.ArrIter() }

func (r *Row) next() bool {
	if r.err == nil && !r.values.Next() {
		r.err = cmp.Or(r.values.Err(), errFew)
	}
	return r.err == nil
}

func (r *Row) close() {
	if r.err == nil && r.values.Next() {
		r.err = errMany
	}
	r.err = cmp.Or(r.err, r.values.Err())
}

var (
	errFew  = errors.New("it has fewer values than are read")
	errMany = errors.New("it has more values than are read")
)
