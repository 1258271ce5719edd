// Package db opens a context's database by URL, migrates it, and runs transactions and batches on it.
// It knows SQL engines and no schema.
//
// What it promises: a transaction that Write or a Batcher reported as done is on disk; a database belongs to one
// context and one version of its schema, or Open says so and does nothing. What it refuses: URLs of an
// engine that it does not know, files from the future, files of another context.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/pressly/goose/v3"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Schema is what a context keeps in its database.
type Schema struct {
	Context    string // such as "orders"; written into the database, which then refuses every other context
	Migrations fs.FS  // goose SQL files, numbered from 00001
}

// DB is an open database. All methods may be called at once from many goroutines.
type DB struct {
	write *sql.DB // one connection, so that writers queue here and not as SQLITE_BUSY
	read  *sql.DB
	url   string
	gate  chan *Tx // holds the one writing connection when it is free

	writable bool // once gate has had it
	closing  sync.Once
	closed   chan struct{}
}

// Open opens the database at url ("sqlite:/path/file.db"), makes the file if there is none, and brings its schema up
// to date. The errors say what to do: they are printed to the operator as they are.
func Open(ctx context.Context, url string, s Schema) (*DB, error) {
	path, err := sqlitePath(url)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of %s: %w", path, err)
	}
	d, err := open(path, "rwc", "&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	d.url = url
	if err := migrate(ctx, d.write, s); err != nil {
		d.Close()
		return nil, fmt.Errorf("open %s: %w", path, explain(err))
	}
	conn, err := d.write.Conn(ctx)
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("open %s: %w", path, explain(err))
	}
	d.gate <- &Tx{conn: conn, stmts: map[string]*sql.Stmt{}}
	d.writable = true
	return d, nil
}

// OpenReadOnly opens an existing database to look at it, while its owner may be running. It migrates nothing and
// fails if the schema is not the one that this program knows.
func OpenReadOnly(ctx context.Context, url string, s Schema) (*DB, error) {
	path, err := sqlitePath(url)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("there is no database of %s at %s: give the directory that serve was started with", s.Context, path)
	}
	d, err := open(path, "rw", "&_pragma=query_only(1)")
	if err != nil {
		return nil, err
	}
	d.url = url
	if err := check(ctx, d.read, s); err != nil {
		d.Close()
		return nil, fmt.Errorf("open %s: %w", path, explain(err))
	}
	return d, nil
}

func open(path, mode, more string) (*DB, error) {
	// cache_size and mmap_size are left at their defaults: an idle process stays small. The WAL is folded back
	// every 4,000 pages (16 MiB) instead of every 1,000, so that a busy writer syncs the main file less often.
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=" + mode +
		"&_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)" +
		"&_pragma=wal_autocheckpoint(4000)&_pragma=foreign_keys(1)" + more
	write, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", strings.ReplaceAll(dsn, "&_txlock=immediate", "")+"&_txlock=deferred")
	if err != nil {
		write.Close()
		return nil, err
	}
	read.SetMaxOpenConns(max(4, 2*runtime.NumCPU()))
	read.SetMaxIdleConns(max(2, runtime.NumCPU()))
	return &DB{write: write, read: read, gate: make(chan *Tx, 1), closed: make(chan struct{})}, nil
}

func sqlitePath(u string) (string, error) {
	path, ok := strings.CutPrefix(u, "sqlite:")
	if !ok || path == "" {
		engine, _, _ := strings.Cut(u, ":")
		return "", fmt.Errorf("database URL of engine %q: this version knows sqlite:/path/to/file.db", engine)
	}
	return path, nil
}

// Close waits for the transaction under way and closes the database. Writes return ErrClosed from then on.
func (d *DB) Close() error {
	d.closing.Do(func() {
		close(d.closed)
		if d.writable {
			tx := <-d.gate
			tx.close()
		}
	})
	return errors.Join(d.read.Close(), d.write.Close())
}

// Exclusive reports that no other process can have this database open for writing, so that a lease found in it
// at start is a dead process's.
func (d *DB) Exclusive() bool { return true }

// Ping fails if the database cannot be read.
func (d *DB) Ping(ctx context.Context) error { return d.read.PingContext(ctx) }

// Read runs f on a snapshot: all its queries see one state of the database.
func (d *DB) Read(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := d.read.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	defer tx.Rollback()
	return explain(f(tx))
}

// Query runs one query outside a transaction.
func (d *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := d.read.QueryContext(ctx, query, args...)
	return rows, explain(err)
}

// QueryRow runs one query for one row.
func (d *DB) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return d.read.QueryRowContext(ctx, query, args...)
}

// Write runs f in a transaction of its own; it is on disk when Write returns nil, and has not happened otherwise,
// except that after an error of the disk itself the outcome shows at the next start. f is not interrupted by ctx, which
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
	return explain(tx.run(f))
}

// explain gives the errors that an operator or a caller can do something about their kind.
func explain(err error) error {
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
	switch code := sqliteCode(err); code {
	case codeFull:
		return fault.New(fault.Unavailable, "disk_full", "The disk is full. Free some space; nothing that was answered is lost.").Because(err)
	case codeIOErr, codeCantOpen, codeReadOnly:
		return fault.New(fault.Unavailable, "storage_unavailable", "The database file cannot be read or written. Look at the disk and the permissions of the data directory.").Because(err)
	case codeBusy, codeLocked:
		return fault.New(fault.Unavailable, "busy", "The database is busy; try again.").Because(err)
	case codeNotADB, codeCorrupt:
		return fault.New(fault.Internal, "not_a_database", "The file is not an Orderkeep database, or it is damaged. Restore it from a backup, or name another data directory.").Because(err)
	}
	return err
}
