package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/pressly/goose/v3/database"
	"modernc.org/sqlite"
)

// sqliteEngine is one file: one process writes it, on one connection, so that writers queue at the gate and not as
// SQLITE_BUSY.
type sqliteEngine struct{ path string }

func (e *sqliteEngine) name() string              { return "sqlite" }
func (e *sqliteEngine) place() string             { return e.path }
func (e *sqliteEngine) dialect() database.Dialect { return database.DialectSQLite3 }
func (e *sqliteEngine) snapshot() *sql.TxOptions  { return nil } // every read transaction is one
func (e *sqliteEngine) exclusive() bool           { return true }

func (e *sqliteEngine) open() (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(e.path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of %s: %w", e.path, err)
	}
	return e.pools("rwc", "&_txlock=immediate")
}

func (e *sqliteEngine) openReadOnly(s Schema) (*DB, error) {
	if _, err := os.Stat(e.path); err != nil {
		return nil, fmt.Errorf("there is no database of %s at %s: give the directory that serve was started with", s.Context, e.path)
	}
	// mode=ro is the file system's own word for it: SQLite then also leaves the WAL alone that a killed process left. It reads it
	// where the -shm beside it may be read, or made.
	return e.pools("ro", "&_pragma=query_only(1)")
}

// syncData has SQLite sync by fdatasync(2), as most builds of it do. What a commit needs is the file's data and its size, which is all that this
// leaves out of fsync(2): the times of the file, for which a file system writes another block. Where there is no such call it stays at fsync.
var syncData = sync.OnceFunc(func() { _, _ = sqlite.Fdatasync(true) })

func (e *sqliteEngine) pools(mode, more string) (*DB, error) {
	syncData()
	// cache_size and mmap_size are left at their defaults: an idle process stays small. The log is folded back beside the writer: see fold.go.
	dsn := "file:" + (&url.URL{Path: e.path}).EscapedPath() + "?mode=" + mode +
		"&_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)" +
		"&_pragma=wal_autocheckpoint(" + foldAlways + ")&_pragma=foreign_keys(1)" + more
	write, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	read, err := sql.Open("sqlite", strings.ReplaceAll(dsn, "&_txlock=immediate", "")+"&_txlock=deferred")
	if err != nil {
		write.Close()
		return nil, err
	}
	// All of them are kept while there is work: opening one reads the schema and prepares what is asked anew.
	readers := max(4, 2*runtime.NumCPU())
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	read.SetConnMaxIdleTime(idleReader)
	return newDB(e, write, read), nil
}

// idleReader is how long a connection for reading that nobody needs is kept: an idle process gives back the pages that it holds.
const idleReader = time.Minute

// The file is this process's alone while it runs.
func (e *sqliteEngine) migrating(context.Context, *DB) (func(), error) { return func() {}, nil }

func (e *sqliteEngine) tables(ctx context.Context, conn *sql.DB) (int, error) {
	var n int
	err := conn.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table'`).Scan(&n)
	return n, err
}

func (e *sqliteEngine) noTable(err error) bool { return sqliteCode(err) == codeError }

// ours switches the file to the write-ahead log, which it remembers. It is not among the settings of each connection,
// because it would change a file before anybody has looked whose it is.
func (e *sqliteEngine) ours(ctx context.Context, d *DB) error {
	var mode string
	if err := d.write.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
		return fmt.Errorf("switch to the write-ahead log: %w", err)
	}
	if mode != "wal" {
		return fmt.Errorf("the file system has no write-ahead log for SQLite (it stays at %q): put the data directory on a local disk", mode)
	}
	return nil
}

func (e *sqliteEngine) migrated(context.Context, *DB, Schema) error { return nil }

func (e *sqliteEngine) connect(ctx context.Context, d *DB, t *Tx) error {
	if err := t.connect(ctx, d.write); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.unfold = cancel
	d.folding.Go(func() { d.keepFolding(ctx) })
	return nil
}

func (e *sqliteEngine) close(t *Tx) {
	for _, s := range t.direct {
		s.Close()
	}
}

// exec hands the driver its arguments itself. database/sql would copy each of them, of which a batch has a thousand, and look whether it has
// one of the types that they have.
func (e *sqliteEngine) exec(t *Tx, query string, args []any) (changed int64, err error) {
	err = t.conn.Raw(func(conn any) error {
		s, ok := t.direct[query]
		if !ok {
			prepared, err := conn.(driver.ConnPrepareContext).PrepareContext(context.Background(), e.one(query))
			if err != nil {
				return err
			}
			s = prepared
			t.direct[query] = s
		}
		t.values = slices.Grow(t.values[:0], len(args))
		for i, a := range args {
			switch v := a.(type) {
			case string, int64, bool, []byte:
			case int:
				a = int64(v)
			default:
				var err error
				if a, err = driver.DefaultParameterConverter.ConvertValue(a); err != nil {
					return err
				}
			}
			t.values = append(t.values, driver.NamedValue{Ordinal: i + 1, Value: a})
		}
		r, err := s.(driver.StmtExecContext).ExecContext(context.Background(), t.values)
		clear(t.values) // what they refer to is not to live for as long as the connection
		if err == nil {
			changed, err = r.RowsAffected()
		}
		return err
	})
	return changed, err
}

func (e *sqliteEngine) write(d *DB, t *Tx, f func(*Tx) error) error {
	if _, err := t.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := guarded(t, f)
	if err == nil {
		d.commits.Add(1)
		defer d.commits.Add(1)
		if _, err = t.Exec("COMMIT"); err == nil {
			d.folded()
		}
	}
	if err != nil {
		_, _ = t.Exec("ROLLBACK") // after a failed COMMIT SQLite has often rolled back already
	}
	return err
}

// maxList bounds one list. SQLite's limit is 32,766 parameters; a longer list is as good as two.
const maxList = 256

// one drops the last words FOR UPDATE: a transaction is the only writer here. What makes JSON has other names.
func (e *sqliteEngine) one(query string) string {
	return asJSON.Replace(strings.TrimSuffix(query, forUpdate))
}

var asJSON = strings.NewReplacer("json_build_array(", "json_array(", "json_agg(", "json_group_array(")

// maxRows bounds the rows of one statement. A statement of its own for each takes a quarter to a third longer, and of 16 or 32 there is
// nothing more to gain: SQLite notes what each row has changed, should a later one fail.
const maxRows = 8

// wide takes maxRows rows while there are as many, and then by the powers of two below. A list is as wide as the next power of two up to
// maxList, with its last value repeated. So a handful of prepared statements serve all lengths.
func (e *sqliteEngine) wide(known spellings, query string, cols int, args []any) (string, []any, int) {
	if cols > 0 {
		rows := maxRows
		for rows > 1 && rows*cols > len(args) {
			rows /= 2
		}
		return known.of(wideKey{query, cols, rows}, e.spell), args[:rows*cols], rows * cols
	}
	used, length := min(len(args), maxList), 1
	for length < used {
		length *= 2
	}
	give := args[:used:used]
	for len(give) < length {
		give = append(give, args[used-1])
	}
	return known.of(wideKey{query, 0, length}, e.spell), give, used
}

// spell writes plain question marks: SQLite finds the name of parameter $n by walking a list of all of them, which
// makes a long list's cost quadratic.
func (e *sqliteEngine) spell(k wideKey) string {
	if k.cols == 0 {
		before, after := cut(k.query, "(list)")
		return before + "(" + params(k.rows) + ")" + after
	}
	before, after := cut(k.query, "(rows)")
	row := "(" + params(k.cols) + ")"
	return before + row + strings.Repeat(","+row, k.rows-1) + after
}

func params(n int) string { return "?" + strings.Repeat(",?", n-1) }

func (e *sqliteEngine) lease(context.Context, *DB, string) (*Lease, error) { return &Lease{}, nil }

// Primary result codes of SQLite (https://www.sqlite.org/rescode.html).
const (
	codeError    = 1
	codeBusy     = 5
	codeLocked   = 6
	codeReadOnly = 8
	codeIOErr    = 10
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeNotADB   = 26
)

// sqliteCode returns the primary result code in err's chain, or 0.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func (e *sqliteEngine) explain(err error) error {
	switch sqliteCode(err) {
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

func (e *sqliteEngine) outOfOrder(err error) bool {
	switch sqliteCode(err) {
	case codeFull, codeIOErr, codeCantOpen, codeReadOnly, codeBusy, codeLocked, codeCorrupt, codeNotADB:
		return true
	}
	return false
}
