// Package db opens a context's database by URL, migrates it, and runs transactions and batches on it. It knows SQL
// engines, SQLite and PostgreSQL, and no schema.
//
// What it promises: a transaction that Write or a Batcher reported as done is on disk, once; a database belongs to one
// context and one version of its schema, or Open says so and does nothing; with credentials that can read another
// context's tables it does not open. What it refuses: URLs of an engine that it does not know, databases from the
// future, databases of another context.
//
// # One statement on both engines
//
// A statement is written once, or twice in full where a server and SQLite want it differently (Tx.Remote). It says $1, $2; VALUES (rows) and
// IN (list) stand for any number of rows (Tx.ExecWide); a query that locks what it reads ends with FOR UPDATE and has an ORDER BY before it, by the same key everywhere, so
// that two transactions meet in one order and cannot wait for each other in a circle. SQLite has one writer, and gets the
// query without those last two words. A query that packs its rows (DB.Packed) says json_build_array and json_agg, which SQLite has under names of its own.
//
// # Several processes on one PostgreSQL database
//
// Rows that are there are locked when they are read. Rows that are not there cannot be locked: a transaction
// that looked for one in vain inserts it with a plain INSERT, and if another process was faster the unique key refuses
// it. Write then runs the whole transaction again, and finds the row; it does the same after a deadlock and a
// serialization failure. An upsert in the place of that INSERT would silently overwrite what the other one decided.
//
// # When the connection breaks
//
// Before COMMIT was sent, the transaction has not happened: the server rolls back what it has no COMMIT for. It is run
// again on a new connection.
//
// After COMMIT was sent, nobody on this side knows. Each transaction therefore begins by writing its number into this
// process's row of the table orderkeep_writer. On a new connection, the session of the old one is ended, should the server
// still have it, and the row is read with a lock, which waits until the old transaction has ended one way or the
// other. The number is there if and only if the transaction was committed, because it is part of it: whatever becomes of
// the transaction in a crash, a restore or a failover becomes of the number. If it is there, Write
// reports success and does not run again; if it is not, the transaction is run again. If the server stays away,
// ErrUnknownOutcome is all that can be said: a caller that repeats its command, under its key, learns what became of it.
// The server's own transaction ids would not do: after a crash it may use one again for another transaction.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/pressly/goose/v3"
)

// Schema is what a context keeps in its database.
type Schema struct {
	Context string // such as "orders"; written into the database, which then refuses every other context
	// Migrations holds migrations/sqlite and migrations/postgres: goose SQL files, numbered from 00001, the same numbers
	// in both.
	Migrations fs.FS
}

// DB is an open database. All methods may be called at once from many goroutines.
type DB struct {
	engine engine
	write  *sql.DB // one connection: writers queue at the gate
	read   *sql.DB
	gate   chan *Tx // holds the one writing connection when it is free

	writable bool // once gate has had it
	closing  sync.Once
	closed   chan struct{}

	prepared prepared // on read

	commits atomic.Uint64 // begun and ended: odd while one is under way

	fold     chan struct{} // wakes the folder
	unfolded int           // commits since it was woken; of whoever has the gate
	folding  sync.WaitGroup
	unfold   context.CancelFunc // ends the folder

	context string            // whose database it is
	tracer  *telemetry.Tracer // of the context that Open was called with

	// spare is how many connections of read may have been broken while nobody used them.
	spare  int
	leases leases
}

func newDB(e engine, write, read *sql.DB) *DB {
	write.SetMaxOpenConns(1)
	return &DB{engine: e, write: write, read: read, gate: make(chan *Tx, 1), closed: make(chan struct{}), fold: make(chan struct{}), unfold: func() {}}
}

// Open opens the database at url ("sqlite:/path/file.db", "postgres://user:password@host:5432/database"), makes the
// file if there is none, and brings its schema up to date. Several processes may open one PostgreSQL database, also at the
// same instant. The errors say what to do, and hold no password: they are printed to the operator as they are.
func Open(ctx context.Context, url string, s Schema) (*DB, error) {
	e, err := engineOf(url)
	if err != nil {
		return nil, err
	}
	d, err := e.open()
	if err != nil {
		return nil, err
	}
	d.context, d.tracer = s.Context, telemetry.TracerOf(ctx)
	if err := d.start(ctx, s); err != nil {
		d.Close()
		return nil, fmt.Errorf("open %s: %w", e.place(), d.explain(err))
	}
	return d, nil
}

func (d *DB) start(ctx context.Context, s Schema) error {
	if err := d.migrate(ctx, s); err != nil {
		return err
	}
	tx := &Tx{engine: d.engine, wide: spellings{}}
	if err := d.engine.connect(ctx, d, tx); err != nil {
		return err
	}
	d.gate <- tx
	d.writable = true
	return nil
}

// OpenReadOnly opens an existing database to look at it, while its owner may be running. It migrates nothing and
// fails if the schema is not the one that this program knows.
func OpenReadOnly(ctx context.Context, url string, s Schema) (*DB, error) {
	e, err := engineOf(url)
	if err != nil {
		return nil, err
	}
	d, err := e.openReadOnly(s)
	if err != nil {
		return nil, err
	}
	if err := d.check(ctx, s); err != nil {
		d.Close()
		return nil, fmt.Errorf("open %s: %w", e.place(), d.explain(err))
	}
	return d, nil
}

// Close waits for the transaction under way and closes the database. Writes return ErrClosed from then on.
func (d *DB) Close() error {
	d.closing.Do(func() {
		close(d.closed)
		d.unfold()
		if d.writable {
			tx := <-d.gate
			d.engine.close(tx)
			tx.close()
		}
		d.leases.close()
		d.folding.Wait()
	})
	return errors.Join(d.read.Close(), d.write.Close())
}

// Exclusive reports that no other process can have this database open for writing, so that a lease found in it
// at start is a dead process's.
func (d *DB) Exclusive() bool { return d.engine.exclusive() }

// Mark names the state that readers see now: what was read since Mark returned it holds for as long as Mark returns it again. There is none while
// a commit is under way, whose readers may see the one or the other, nor where other processes write too.
func (d *DB) Mark() (mark uint64, ok bool) {
	mark = d.commits.Load()
	return mark, mark%2 == 0 && d.engine.exclusive()
}

// Ping fails if the database cannot be read.
func (d *DB) Ping(ctx context.Context) error { return d.explain(d.read.PingContext(ctx)) }

// Read runs f on a snapshot: all its queries see one state of the database.
func (d *DB) Read(ctx context.Context, f func(*sql.Tx) error) error {
	var tx *sql.Tx
	err := d.again(ctx, func() (err error) {
		tx, err = d.read.BeginTx(ctx, d.engine.snapshot())
		return err
	})
	if err != nil {
		return d.explain(err)
	}
	defer tx.Rollback()
	return d.explain(f(tx))
}

// Query runs one query outside a transaction.
func (d *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	var rows *sql.Rows
	err := d.again(ctx, func() (err error) {
		rows, err = d.read.QueryContext(ctx, query, args...)
		return err
	})
	return rows, d.explain(err)
}

// QueryWide is Query for a query with IN (list), and calls scan for each row. A long list may run as several queries, each of which sees a state
// of its own.
func (d *DB) QueryWide(ctx context.Context, query string, list []any, scan func(*sql.Rows) error) error {
	for len(list) > 0 {
		statement, give, used := d.engine.wide(spellings{}, query, 0, list)
		if err := d.each(ctx, statement, give, scan); err != nil {
			return err
		}
		list = list[used:]
	}
	return nil
}

func (d *DB) each(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := d.Query(ctx, query, args...)
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

// QueryRow runs one query for one row.
func (d *DB) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	var row *sql.Row
	_ = d.again(ctx, func() error {
		row = d.read.QueryRowContext(ctx, query, args...)
		return row.Err()
	})
	return row // with its error, if it has one
}

// again repeats what only reads, on another connection if one was broken.
func (d *DB) again(ctx context.Context, read func() error) error {
	for n := 0; ; n++ {
		if err := read(); err == nil || n >= d.spare || ctx.Err() != nil || !d.engine.outOfOrder(err) {
			return err
		}
	}
}

// Write runs f in a transaction of its own; it is on disk when Write returns nil, and has not happened otherwise,
// except that after an error of the disk itself, and after ErrUnknownOutcome, the outcome shows later. f may run several
// times, of which at most one takes effect: it begins by resetting what it leaves behind. It is not interrupted by ctx, which
// only bounds the wait for the writer. A panic in f is rolled back and comes back as an error. Prefer a Batcher: it shares
// the sync of the disk.
func (d *DB) Write(ctx context.Context, f func(*Tx) error) error {
	if !d.writable {
		return errors.New("the database is open for reading only")
	}
	var tx *Tx
	select {
	case tx = <-d.gate:
	case <-d.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { d.gate <- tx }()
	return d.explain(d.engine.write(d, tx, f))
}

// explain gives the errors that an operator or a caller can do something about their kind.
func (d *DB) explain(err error) error {
	if err == nil {
		return nil
	}
	if goose := (*goose.PartialError)(nil); errors.As(err, &goose) {
		err = goose.Err
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	return d.engine.explain(err)
}
