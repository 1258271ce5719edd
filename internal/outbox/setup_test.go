package outbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// migration is what every context's first migration holds, and a table of effects.
const migration = `-- +goose Up
CREATE TABLE outbox (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    time           BIGINT NOT NULL,
    correlation_id TEXT   NOT NULL,
    causation_id   TEXT   NOT NULL,
    traceparent    TEXT   NOT NULL,
    data           BLOB   NOT NULL,
    position       BIGINT
);
CREATE INDEX outbox_waiting ON outbox (seq) WHERE position IS NULL;
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;
CREATE TABLE inbox (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer       TEXT   NOT NULL,
    event_id       TEXT   NOT NULL,
    source         TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    time           BIGINT NOT NULL,
    correlation_id TEXT   NOT NULL,
    causation_id   TEXT   NOT NULL,
    traceparent    TEXT   NOT NULL,
    data           BLOB   NOT NULL,
    state          TEXT   NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'parked')),
    attempts       BIGINT NOT NULL DEFAULT 0,
    next_at        BIGINT NOT NULL DEFAULT 0,
    error          TEXT   NOT NULL DEFAULT '',
    UNIQUE (consumer, event_id)
);
CREATE INDEX inbox_waiting ON inbox (seq) WHERE state <> 'done';
CREATE TABLE effect (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    subject  TEXT NOT NULL
);
`

var schema = db.Schema{Context: "test", Migrations: fstest.MapFS{"migrations/sqlite/00001_init.sql": {Data: []byte(migration)}}}

const textType = "google.protobuf.StringValue"

// house is a context's database with its batcher.
type house struct {
	path  string
	db    *db.DB
	batch *db.Batcher[func(*db.Tx) error]
	log   *slog.Logger
	lines *lines

	stop  context.CancelFunc // of what runs
	runs  sync.WaitGroup
	ended bool
}

func setup(t testing.TB) *house {
	t.Helper()
	return reopen(t, filepath.Join(t.TempDir(), "test.db"))
}

func reopen(t testing.TB, path string) *house {
	t.Helper()
	d, err := db.Open(t.Context(), "sqlite:"+path, schema)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{path: path, db: d, lines: &lines{}}
	h.log = slog.New(slog.NewTextHandler(h.lines, nil))
	h.batch = db.NewBatcher(d, func(tx *db.Tx, fs []func(*db.Tx) error) error {
		for _, f := range fs {
			if err := f(tx); err != nil {
				return err
			}
		}
		return nil
	})
	t.Cleanup(h.close)
	return h
}

// run starts a loop that ends with the house.
func (h *house) run(loops ...func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	before := h.stop
	h.stop = func() {
		cancel()
		if before != nil {
			before()
		}
	}
	for _, l := range loops {
		h.runs.Go(func() { l(ctx) })
	}
}

func (h *house) close() {
	if h.ended {
		return
	}
	h.ended = true
	if h.stop != nil {
		h.stop()
	}
	h.runs.Wait()
	h.batch.Close()
	h.db.Close()
}

func (h *house) write(ctx context.Context, f func(*db.Tx) error) error { return h.batch.Do(ctx, f) }

// text makes an event whose message is a text.
func text(ctx context.Context, subject, s string) outbox.Event {
	return outbox.New(ctx, wrapperspb.String(s), subject, time.Date(2011, 3, 1, 9, 30, 0, 0, time.UTC))
}

func (h *house) append(t testing.TB, events ...outbox.Event) {
	t.Helper()
	if err := h.write(t.Context(), func(tx *db.Tx) error { return outbox.Append(tx, events) }); err != nil {
		t.Fatal(err)
	}
}

// effect is a handler that notes the event in the table of effects.
func (h *house) effect(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
	return h.write(ctx, func(tx *db.Tx) error {
		if err := done(tx); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO effect (event_id, subject) VALUES ($1, $2)`, e.ID, e.Subject)
		return err
	})
}

// effects lists the ids of events that had an effect, by subject, in order.
func (h *house) effects(t testing.TB) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	rows, err := h.db.Query(context.Background(), `SELECT event_id, subject FROM effect ORDER BY seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, subject string
		if err := rows.Scan(&id, &subject); err != nil {
			t.Fatal(err)
		}
		all[subject] = append(all[subject], id)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

type stats struct{ waiting, inbox, parked int64 }

func (h *house) stats(t testing.TB) stats {
	t.Helper()
	counts := map[string]int64{}
	err := h.db.Read(context.Background(), func(tx *sql.Tx) error {
		_, err := outbox.Audit(context.Background(), tx, counts)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return stats{counts["outboxWaiting"], counts["inboxWaiting"], counts["parked"]}
}

func (h *house) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	err := h.write(context.Background(), func(tx *db.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// until lets the bubble's clock run until cond holds, for no more than a day of it.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 24 * 60 * 60 {
		synctest.Wait()
		if cond() {
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatalf("a day passed and not yet: %s", what)
}

// relayed makes a bus that delivers to the subscriptions at once.
func relayed(t testing.TB, subs ...outbox.Subscription) *outbox.Local {
	t.Helper()
	l := outbox.NewLocal()
	for _, s := range subs {
		if err := l.Subscribe(s); err != nil {
			t.Fatal(err)
		}
	}
	l.Start()
	return l
}

// lines collects a log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(what))
}

// busFunc is a bus that wants every type.
type busFunc func(context.Context, []outbox.Event) error

func (f busFunc) Publish(ctx context.Context, events []outbox.Event) error { return f(ctx, events) }
func (f busFunc) Subscribe(outbox.Subscription) error                      { return errors.New("not here") }

func ids(events []outbox.Event) []string {
	all := make([]string, len(events))
	for i, e := range events {
		all[i] = e.ID
	}
	return all
}

func named(i int) string { return fmt.Sprintf("event %d", i) }

func count(t testing.TB, d *db.DB, query string) int64 {
	t.Helper()
	var n sql.NullInt64
	if err := d.QueryRow(context.Background(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n.Int64
}
