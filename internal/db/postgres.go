package db

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/pressly/goose/v3/database"
)

// pgEngine is one database of a PostgreSQL server. Other processes may write it too.
type pgEngine struct {
	config *pgx.ConnConfig
	writer string // names this process's writing connection, among all that ever were

	reading bool // and nothing else
}

const (
	// connectTime bounds one attempt to connect where the URL says nothing: a server that is there answers in milliseconds.
	connectTime = 5 * time.Second
	// oldest is the first version with all that is used here, as server_version_num. PostgreSQL supports 14 and later.
	oldest = 14_00_00
)

func newPostgres(raw string) (*pgEngine, error) {
	// The driver's own errors try to leave the password out and cannot promise it.
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("the database URL cannot be read: it should be like postgres://user:password@host:5432/database, with special characters of the password written as %%xx")
	}
	config, err := pgx.ParseConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("the database URL has a setting that is wrong or unknown; it should be like postgres://user:password@host:5432/database?sslmode=verify-full")
	}
	if strings.Trim(u.Path, "/") == "" {
		return nil, fmt.Errorf("the database URL names no database: add it, as in postgres://user:password@host:5432/database")
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTime
	}
	for name, value := range map[string]string{
		// When this process's machine vanishes, the server should notice within the minute and let go of its locks.
		"tcp_keepalives_idle": "15", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "4",
		"jit": "off", // no query here runs long enough to earn back the time in which it is compiled
	} {
		if config.RuntimeParams[name] == "" {
			config.RuntimeParams[name] = value
		}
	}
	return &pgEngine{config: config, writer: "orderkeep " + uuid.Must(uuid.NewV7()).String()}, nil
}

func (e *pgEngine) name() string              { return "postgres" }
func (e *pgEngine) dialect() database.Dialect { return database.DialectPostgres }
func (e *pgEngine) exclusive() bool           { return false }

func (e *pgEngine) place() string {
	host := e.config.Host
	if !strings.HasPrefix(host, "/") {
		host = net.JoinHostPort(host, strconv.Itoa(int(e.config.Port)))
	}
	return fmt.Sprintf("the PostgreSQL database %s at %s as %s", e.config.Database, host, e.config.User)
}

func (e *pgEngine) snapshot() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
}

func (e *pgEngine) open() (*DB, error) { return e.pools(nil), nil }

func (e *pgEngine) openReadOnly(Schema) (*DB, error) {
	e.reading = true
	return e.pools(map[string]string{
		"default_transaction_read_only":       "on",
		"idle_in_transaction_session_timeout": "0", // a snapshot waits while others are read; the server's setting would end it
	}), nil
}

func (e *pgEngine) pools(params map[string]string) *DB {
	reading := e.config.Copy()
	for name, value := range params {
		reading.RuntimeParams[name] = value
	}
	read := stdlib.OpenDB(*reading)
	read.SetMaxOpenConns(max(8, 4*runtime.NumCPU())) // some are held by leases and slow readers
	idle := max(2, runtime.NumCPU())
	read.SetMaxIdleConns(idle)

	writing := e.config.Copy()
	writing.RuntimeParams["application_name"] = e.writer
	// A writer never pauses within a transaction: one that does is cut off from us, and holds locks.
	writing.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(statementTime.Milliseconds(), 10)
	// Every statement of a writer goes by a key. The plan of a prepared one is kept, and made while the tables are still
	// small it would go through all of them, for as long as nobody has analyzed them.
	for _, way := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin"} {
		writing.RuntimeParams[way] = "off"
	}
	write := stdlib.OpenDB(*writing, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		// With it off, what was reported as done could be lost. Other values than off keep it on this server's disk at least.
		_, err := c.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
		return err
	}))
	d := newDB(e, write, read)
	d.spare = idle
	return d
}

// migrating holds a lock of a session that ends with the process, so that replicas which start at once migrate one
// after the other.
func (e *pgEngine) migrating(ctx context.Context, d *DB) (func(), error) {
	conn, err := d.read.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.suits(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock(hashtextextended('orderkeep ' || current_schema() || ' migration', 0))`); err != nil {
		conn.Close()
		return nil, err
	}
	return func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock_all()`) // it ends with the session too
		conn.Close()
	}, nil
}

// suits refuses a server on which no schema could be made.
func (e *pgEngine) suits(ctx context.Context, conn *sql.Conn) error {
	var version int
	var schema sql.NullString
	var standby bool
	err := conn.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, current_schema(), pg_is_in_recovery()`).Scan(&version, &schema, &standby)
	switch {
	case err != nil:
		return err
	case version < oldest:
		return fault.New(fault.Conflict, "database_server_too_old", "The server is PostgreSQL %d; this program needs %d or later.", version/10000, oldest/10000)
	case standby:
		return fault.New(fault.Conflict, "database_standby", "The server is a standby and takes no writes. Name the primary, or all of them with target_session_attrs=read-write.")
	case !schema.Valid:
		return fault.New(fault.Conflict, "database_without_schema", "No schema of the search path exists. Connect to the database and run: CREATE SCHEMA AUTHORIZATION %s;", pgx.Identifier{e.config.User}.Sanitize())
	}
	return nil
}

func (e *pgEngine) tables(ctx context.Context, conn *sql.DB) (int, error) {
	var n int
	err := conn.QueryRowContext(ctx, `SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')`).Scan(&n)
	return n, err
}

func (e *pgEngine) noTable(err error) bool { return pgCode(err) == "42P01" }

func (e *pgEngine) ours(context.Context, *DB) error { return nil }

func (e *pgEngine) migrated(ctx context.Context, d *DB, s Schema) error {
	for _, statement := range []string{
		`CREATE TABLE IF NOT EXISTS orderkeep_writer (
			id TEXT        NOT NULL PRIMARY KEY,
			n  BIGINT      NOT NULL,
			at TIMESTAMPTZ NOT NULL
		) WITH (fillfactor = 10)`,
		// What killed processes left. One that is alive and loses its row this way makes it again.
		`DELETE FROM orderkeep_writer WHERE at < now() - interval '1 day'`,
	} {
		if _, err := d.write.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return e.reachesNoOther(ctx, d, s)
}

// one is the statement itself: it is written for PostgreSQL.
func (e *pgEngine) one(query string) string { return query }

func (e *pgEngine) exec(t *Tx, query string, args []any) (int64, error) {
	s, err := t.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.Exec(args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// wide gives a column of all rows as one parameter, so that one prepared statement serves any number of rows.
func (e *pgEngine) wide(known spellings, query string, cols int, args []any) (string, []any, int) {
	step := max(cols, 1)
	give := make([]any, step)
	for c := range give {
		give[c] = column(args, c, step)
	}
	return known.of(wideKey{query, cols, 0}, func(k wideKey) string { return spell(k, args) }), give, len(args)
}

func spell(k wideKey, args []any) string {
	if k.cols == 0 {
		before, after := cut(k.query, "IN (list)")
		return before + "= ANY($1::" + pgType(args[0]) + "[])" + after
	}
	before, after := cut(k.query, "VALUES (rows)")
	arrays := make([]string, k.cols)
	for c := range arrays {
		arrays[c] = fmt.Sprintf("$%d::%s[]", c+1, pgType(args[c]))
	}
	return before + "SELECT * FROM unnest(" + strings.Join(arrays, ", ") + ")" + after
}

func pgType(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case int, int64:
		return "bigint"
	case bool:
		return "boolean"
	case []byte:
		return "bytea"
	}
	panic(fmt.Sprintf("db: a wide statement with a %T: give a string, int, int64, bool or []byte", v)) // a mistake in the source
}

// column collects every step-th value from the first on.
func column(args []any, first, step int) any {
	switch args[first].(type) {
	case string:
		return collect[string](args, first, step)
	case int:
		return collect[int](args, first, step)
	case int64:
		return collect[int64](args, first, step)
	case bool:
		return collect[bool](args, first, step)
	case []byte:
		return collect[[]byte](args, first, step)
	}
	return args[first] // which pgType refuses
}

func collect[T any](args []any, first, step int) []T {
	all := make([]T, 0, len(args)/step)
	for i := first; i < len(args); i += step {
		all = append(all, args[i].(T))
	}
	return all
}
