package archive

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
)

// Row is a row of a table by the names of its columns: string, int64, []byte or nil each.
type Row map[string]any

// Text and Number are a column's value, or the zero value if it is of another type.
func (r Row) Text(column string) string { s, _ := r[column].(string); return s }

// Number is Text for a whole number.
func (r Row) Number(column string) int64 { n, _ := r[column].(int64); return n }

// Table is one whose rows belong to orders.
type Table struct {
	Name string
	Of   string // the column with the order's id
	// Select reads all columns of the rows of the orders in IN (list), in an order that is always the same; Delete removes them, and returns something
	// of each.
	Select, Delete string
}

// Keeper is a context's side of an archive.
type Keeper struct {
	Context string
	Source  string // of its events, such as /orders
	DB      *db.DB
	Write   outbox.Writer
	Rules   Rules
	Now     func() time.Time

	Tables []Table // first that with one row for each order, which the others depend on
	Lock   string  // locks its rows, where rows are locked: a query with IN (list) and FOR UPDATE
	// May says why an order may not go yet, or not at all, by its row in the first table; "" if it may.
	May func(row Row, before time.Time) string

	// Of Orders, which decides which orders are over:

	// Candidates asks for ids above $1 and below $2, $3 of them at most.
	Candidates string
	// FirstID is the lowest id that an order of a time can have.
	FirstID func(time.Time) string
	// Remember notes in the transaction that removes orders what became of them, by their rows in the first table.
	Remember func(tx *db.Tx, archive string, gone []Row) error
	// Remembered says of orders that are not there why this is not because they are in this archive; those that are, it leaves out.
	Remembered func(tx *db.Tx, archive string, ids []any) ([]Left, error)
}

// Bounds of one page of records. A transaction that removes a page of orders takes a few milliseconds.
const (
	pageOrders = 100
	pageEvents = 500
	pageBytes  = 4 << 20
	pageLook   = 2000 // candidates that are looked at for one page
)

// record is an order's rows by table.
type record struct {
	ID   string           `json:"id"`
	Rows map[string][]Row `json:"rows"`
}

func (r *record) line() ([]byte, error) {
	line, err := json.Marshal(r) // maps come out in the order of their keys, so equal rows make equal lines
	if err != nil {
		return nil, fmt.Errorf("write order %s: %w", r.ID, err)
	}
	return line, nil
}

// wide runs a query with IN (list), in a transaction or outside of one.
type wide func(query string, list []any, scan func(*sql.Rows) error) error

func (k *Keeper) reading(ctx context.Context) wide {
	return func(query string, list []any, scan func(*sql.Rows) error) error {
		return k.DB.QueryWide(ctx, query, list, scan)
	}
}

// load adds the rows that tables have of orders to their records.
func load(query wide, tables []Table, ids []any, into map[string]*record) error {
	for _, t := range tables {
		err := query(t.Select, ids, func(rows *sql.Rows) error {
			row, err := scan(rows)
			if err != nil {
				return err
			}
			id := row.Text(t.Of)
			if into[id] == nil {
				into[id] = &record{ID: id, Rows: map[string][]Row{}}
			}
			into[id].Rows[t.Name] = append(into[id].Rows[t.Name], row)
			return nil
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", t.Name, err)
		}
	}
	return nil
}

func scan(rows *sql.Rows) (Row, error) {
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	row := make(Row, len(names))
	for i, name := range names {
		row[name] = values[i]
	}
	return row, nil
}

// judge splits orders that are there into those that may go and those that may not, with the reasons. records has their rows of the first table.
func (k *Keeper) judge(query wide, before time.Time, ids []any, records map[string]*record) (may []any, held []Left, err error) {
	unsettled, err := outbox.Unsettled(query, ids)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		r := records[id.(string)]
		if r == nil {
			continue
		}
		why := "an event of it is on its way, or parked"
		if !unsettled[r.ID] {
			why = "it has no row of its own"
			if own := r.Rows[k.Tables[0].Name]; len(own) == 1 {
				why = k.May(own[0], before)
			}
		}
		if why != "" {
			held = append(held, Left{k.Context, r.ID, why})
			continue
		}
		may = append(may, r.ID)
	}
	return may, held, nil
}

// of reads the records of orders, and which of these may not go.
func (k *Keeper) of(query wide, before time.Time, ids []any) (lines [][]byte, held []Left, err error) {
	records := map[string]*record{}
	if err := load(query, k.Tables[:1], ids, records); err != nil {
		return nil, nil, err
	}
	may, held, err := k.judge(query, before, ids, records)
	if err != nil || len(may) == 0 {
		return nil, held, err
	}
	if err := load(query, k.Tables[1:], may, records); err != nil {
		return nil, nil, err
	}
	for _, id := range may {
		line, err := records[id.(string)].line()
		if err != nil {
			return nil, nil, err
		}
		lines = append(lines, line)
	}
	return lines, held, nil
}

// ended reads the next orders that are over, after an id.
func (k *Keeper) ended(ctx context.Context, before time.Time, after string) (Page, [][]byte, error) {
	var all [][]byte
	query, size, page := k.reading(ctx), 0, Page{Next: after}
	for looked := 0; len(all) < pageOrders && size < pageBytes && looked < pageLook; looked += pageOrders {
		ids, err := k.candidates(ctx, page.Next, before)
		if err != nil {
			return Page{}, nil, err
		}
		if len(ids) == 0 {
			return Page{Records: len(all)}, all, nil
		}
		page.Next = ids[len(ids)-1].(string)
		lines, _, err := k.of(query, before, ids) // those that are not over yet stay, which nobody needs to be told
		if err != nil {
			return Page{}, nil, err
		}
		for _, l := range lines {
			size += len(l)
		}
		all = append(all, lines...)
	}
	page.Records = len(all)
	return page, all, nil
}

func (k *Keeper) candidates(ctx context.Context, after string, before time.Time) ([]any, error) {
	rows, err := k.DB.Query(ctx, k.Candidates, after, k.FirstID(before), pageOrders)
	if err != nil {
		return nil, fmt.Errorf("look for ended orders: %w", err)
	}
	defer rows.Close()
	var ids []any
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// remove removes the records that are as the archive has them.
func (k *Keeper) remove(ctx context.Context, q Removal) (out Removed, err error) {
	// In their order, so that two that remove wait for each other in one direction only.
	slices.SortFunc(q.Records, func(a, b Stamp) int { return bytes.Compare([]byte(a.ID), []byte(b.ID)) })
	ids := make([]any, len(q.Records))
	for i, s := range q.Records {
		ids[i] = s.ID
	}
	err = k.Write(ctx, func(tx *db.Tx) (err error) {
		out, err = k.removeIn(tx, q, ids)
		return err
	})
	return out, err
}

func (k *Keeper) removeIn(tx *db.Tx, q Removal, ids []any) (out Removed, err error) {
	if err := tx.Lock(k.Lock, ids); err != nil {
		return out, err
	}
	records := map[string]*record{}
	if err := load(tx.QueryWide, k.Tables, ids, records); err != nil {
		return out, err
	}
	may, left, err := k.judge(tx.QueryWide, q.Before, ids, records)
	if err != nil {
		return out, err
	}
	out.Left = left
	var gone []any
	var rows []Row
	for _, id := range may {
		r := records[id.(string)]
		line, err := r.line()
		if err != nil {
			return out, err
		}
		if at := slices.IndexFunc(q.Records, func(s Stamp) bool { return s.ID == r.ID }); q.Records[at].Sum != SumOf(line) {
			out.Left = append(out.Left, Left{k.Context, r.ID, "it is not as the archive has it: it changed since"})
			continue
		}
		gone, rows = append(gone, id), append(rows, r.Rows[k.Tables[0].Name][0])
	}
	for _, t := range slices.Backward(k.Tables) {
		if err := tx.QueryWide(t.Delete, gone, func(*sql.Rows) error { return nil }); err != nil {
			return out, fmt.Errorf("remove from %s: %w", t.Name, err)
		}
	}
	out.Removed = int64(len(gone))
	if k.Remember == nil {
		return out, nil
	}
	if err := k.Remember(tx, q.Archive, rows); err != nil {
		return out, err
	}
	var missing []any
	for _, id := range ids {
		if records[id.(string)] == nil {
			missing = append(missing, id)
		}
	}
	strange, err := k.Remembered(tx, q.Archive, missing)
	out.Left = append(out.Left, strange...)
	return out, err
}

// events reads the next events of the feed that may go, after a position.
func (k *Keeper) events(ctx context.Context, before time.Time, after int64) (page Page, lines [][]byte, err error) {
	query := func(q string, args ...any) (*sql.Rows, error) { return k.DB.Query(ctx, q, args...) }
	aged, err := outbox.ReadAged(query, k.Source, before, after, pageEvents)
	if err != nil {
		return Page{}, nil, fmt.Errorf("read the events of %s: %w", k.Source, err)
	}
	for _, e := range aged {
		lines = append(lines, e.JSON)
	}
	if len(aged) == pageEvents {
		page.Next = strconv.FormatInt(aged[len(aged)-1].Position, 10)
	}
	page.Records = len(lines)
	page.Waiting, err = outbox.OldestWaiting(ctx, k.DB)
	return page, lines, err
}

// removeEvents removes a run of events from the beginning of the feed.
func (k *Keeper) removeEvents(ctx context.Context, q Removal) (out Removed, err error) {
	positions := make([]int64, len(q.Records))
	for i, s := range q.Records {
		if positions[i], err = strconv.ParseInt(s.ID, 10, 64); err != nil || i > 0 && positions[i] != positions[i-1]+1 {
			return out, errRequest.Detailf("records must be events in the order of the feed, each with its cursor as id.")
		}
	}
	first, last := positions[0], positions[len(positions)-1]
	err = k.Write(ctx, func(tx *db.Tx) (err error) {
		out.Removed, err = outbox.RemoveAged(tx, k.Source, q.Before, first, last, func(e outbox.Aged) bool {
			return q.Records[e.Position-first].Sum == SumOf(e.JSON)
		})
		return err
	})
	return out, err
}

func (k *Keeper) sweep(ctx context.Context, q Sweep) (out Swept, err error) {
	err = k.Write(ctx, func(tx *db.Tx) (err error) {
		out.Removed, out.Next, out.More, err = outbox.RemoveDone(tx, q.Before, q.After)
		return err
	})
	return out, err
}
