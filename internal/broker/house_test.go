package broker_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry/telemetrytest"

	"github.com/orderkeep/orderkeep/internal/broker"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// migration is what every context's first migration has for events, and a table of effects.
const migration = `-- +goose Up
CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, type TEXT NOT NULL, subject TEXT NOT NULL, time BIGINT NOT NULL,
	correlation_id TEXT NOT NULL, causation_id TEXT NOT NULL, traceparent TEXT NOT NULL, data BLOB NOT NULL, position BIGINT);
CREATE INDEX outbox_waiting ON outbox (seq) WHERE position IS NULL;
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;
CREATE TABLE inbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, consumer TEXT NOT NULL, event_id TEXT NOT NULL, source TEXT NOT NULL, type TEXT NOT NULL,
	subject TEXT NOT NULL, time BIGINT NOT NULL, correlation_id TEXT NOT NULL, causation_id TEXT NOT NULL, traceparent TEXT NOT NULL,
	data BLOB NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', attempts BIGINT NOT NULL DEFAULT 0, next_at BIGINT NOT NULL DEFAULT 0,
	error TEXT NOT NULL DEFAULT '', UNIQUE (consumer, event_id));
CREATE INDEX inbox_waiting ON inbox (seq) WHERE state <> 'done';
CREATE TABLE effect (seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, subject TEXT NOT NULL);
`

var schema = db.Schema{Context: "test", Migrations: fstest.MapFS{"migrations/sqlite/00001_init.sql": {Data: []byte(migration)}}}

// Types of events.
const (
	textType   = "google.protobuf.StringValue"
	numberType = "google.protobuf.Int64Value"
)

// text makes an event whose message is a text.
func text(subject, s string) outbox.Event {
	e := outbox.New(context.Background(), wrapperspb.String(s), subject, time.Date(2011, 3, 1, 9, 30, 0, 5000, time.UTC))
	e.Source = "/test"
	return e
}

// texts makes n events of the subjects in turn.
func texts(n int, subjects ...string) []outbox.Event {
	all := make([]outbox.Event, n)
	for i := range all {
		all[i] = text(subjects[i%len(subjects)], fmt.Sprint(i))
	}
	return all
}

// bySubject are the ids of events by subject, in order.
func bySubject(events []outbox.Event) map[string][]string {
	all := map[string][]string{}
	for _, e := range events {
		all[e.Subject] = append(all[e.Subject], e.ID)
	}
	return all
}

// database is a context's, with its batcher.
type database struct {
	*db.DB
	url   string
	write outbox.Writer
}

func openDatabase(t testing.TB) *database {
	t.Helper()
	url := "sqlite:" + filepath.Join(t.TempDir(), "test.db")
	d, err := db.Open(t.Context(), url, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &database{d, url, d.Write}
}

// effect is a handler that notes the event in the table of effects.
func (d *database) effect(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
	return d.write(ctx, func(tx *db.Tx) error {
		if err := done(tx); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO effect (event_id, subject) VALUES ($1, $2)`, e.ID, e.Subject)
		return err
	})
}

// rows lists ids by subject of a table of events in order.
func (d *database) rows(t testing.TB, table string) map[string][]string {
	t.Helper()
	rows, err := d.Query(context.Background(), `SELECT event_id, subject FROM `+table+` ORDER BY seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string][]string{}
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

func (d *database) waiting(t testing.TB) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	err := d.Read(context.Background(), func(tx *sql.Tx) error {
		_, err := outbox.Audit(context.Background(), tx, counts)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// runs starts a loop that ends with the test, or before by the function returned.
func runs(t testing.TB, loop func(context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { loop(ctx) })
	stop = func() {
		cancel()
		wait.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// shelf is a consumer that keeps what it gets in memory, once each, as an inbox does on disk.
type shelf struct {
	mu      sync.Mutex
	has     map[string]bool
	events  []outbox.Event
	changed chan struct{}
	refuse  error
	calls   int
}

func newShelf() *shelf { return &shelf{has: map[string]bool{}, changed: make(chan struct{})} }

func (s *shelf) receive(_ context.Context, events []outbox.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	close(s.changed)
	s.changed = make(chan struct{})
	if s.refuse != nil {
		return s.refuse
	}
	for _, e := range events {
		if !s.has[e.ID] {
			s.has[e.ID] = true
			s.events = append(s.events, e)
		}
	}
	return nil
}

func (s *shelf) subscription(name string, types ...string) outbox.Subscription {
	return outbox.Subscription{Name: name, Types: types, Receive: s.receive}
}

// patience is how long a test waits for what takes a second where there is nothing else to do.
const patience = 3 * time.Minute

// await waits until cond holds of the shelf.
func (s *shelf) await(t testing.TB, what string, cond func(*shelf) bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		ok, changed, n := cond(s), s.changed, len(s.events)
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("not yet after %s: %s; %d events have arrived", patience, what, n)
		}
	}
}

func (s *shelf) holds(t testing.TB, n int) []outbox.Event {
	t.Helper()
	s.await(t, fmt.Sprintf("%d events are there", n), func(s *shelf) bool { return len(s.events) >= n })
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]outbox.Event(nil), s.events...)
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(patience); !cond(); {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not yet after %s: %s", patience, what)
		}
	}
}

// consumers are the names of all that the suite has.
var consumers = []string{"c", "early", "late"}

// bus is what the suite knows of an adapter.
type bus interface {
	outbox.Bus
	Start()
}

// connect opens and starts a bus that closes with the test.
func connect(t testing.TB, url string, subs ...outbox.Subscription) *broker.Bus {
	t.Helper()
	b, _ := connectLogged(t, url, subs...)
	return b
}

func connectLogged(t testing.TB, url string, subs ...outbox.Subscription) (*broker.Bus, *telemetrytest.Log) {
	t.Helper()
	j := &telemetrytest.Log{}
	b, err := broker.NewImpatient(url, consumers, slog.New(slog.NewTextHandler(j, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range subs {
		if err := b.Subscribe(s); err != nil {
			t.Fatal(err)
		}
	}
	b.Start()
	t.Cleanup(func() {
		b.Close()
		if t.Failed() {
			t.Logf("log of a bus:\n%s", j)
		}
	})
	return b, j
}

func publish(t testing.TB, b outbox.Bus, events ...outbox.Event) {
	t.Helper()
	if err := b.Publish(context.Background(), events); err != nil {
		t.Fatal(err)
	}
}
