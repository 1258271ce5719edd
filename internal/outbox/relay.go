package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"go.opentelemetry.io/otel/attribute"
)

const (
	// relayBatch is as many events as one commit carries (db's batches): more would only lengthen the transaction.
	relayBatch = 256
	// relayPace is the least time between two batches that were not full. A commit to disk takes a few milliseconds;
	// marking more often than that would spend commits and gain no promptness that a consumer notices.
	relayPace = 5 * time.Millisecond
	// relayPoll finds what nobody told of, such as a commit whose caller ended before Wake.
	relayPoll = time.Second
	// sharedPoll finds what other processes did, on a database that has several: soon enough for somebody who waits.
	sharedPoll = 100 * time.Millisecond
)

// errElsewhere says that another process has the lease.
var errElsewhere = errors.New("another process publishes the events of this database")

// every is how often to look for what this process was not told of.
func every(d *db.DB, alone time.Duration) time.Duration {
	if d.Exclusive() {
		return alone
	}
	return sharedPoll
}

// relayBackoff spaces the attempts while the bus or the database is away: soon enough after a hiccup, and no load on
// what is down for long.
var relayBackoff = backoff{first: call.BrokerPublish.First, factor: 2, most: call.BrokerPublish.Most}

// Each of these goes by a partial index, so that it costs the same however much was published before.
const (
	queryWaiting = `SELECT seq, type FROM outbox WHERE position IS NULL ORDER BY seq LIMIT $1`
	queryTypes   = `SELECT type, min(seq), max(seq), count(*) FROM (` + queryWaiting + `) AS waiting GROUP BY type`
	queryLast    = `SELECT position FROM outbox WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1`
	execMark     = `UPDATE outbox SET position = seq + $1 WHERE seq BETWEEN $2 AND $3 AND position IS NULL`
)

// Relay publishes one context's outbox: it reads the rows that have no position yet in order of seq, hands them to the
// bus, and marks them with the next positions. Rows are found by their mark and not by a cursor over seq, because
// transactions may commit in another order than they took their seq. Published and not yet marked at a crash, a row
// is published again, and the inboxes ignore it.
//
// Of several processes on one database one has the lease and publishes; when it dies, another takes the lease and
// begins with the oldest row that has no position. One that was cut off from the database and has not noticed may publish
// a batch once more, late: all of it has been published by then, so that the inboxes ignore it, and marking it fails.
//
// Positions are given in one transaction at a time, because two of them would begin with the same one and the unique
// index refuses the second. So whoever has read up to a position never finds a new row before it.
type Relay struct {
	source string
	db     *db.DB
	write  Writer
	bus    Bus
	log    *slog.Logger
	wake   chan struct{}
	turn   chan struct{} // holds a token while nobody publishes: Run and Drain take turns
	lease  *db.Lease     // whoever has the token has it too; nil if another process has it, or nobody yet
	signal signal        // of new positions, for the streams
}

// NewRelay makes the relay of the context whose events have the source, such as "/orders". A process has one for a database.
func NewRelay(source string, d *db.DB, write Writer, bus Bus, log *slog.Logger) *Relay {
	r := &Relay{source: source, db: d, write: write, bus: bus, log: log, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	return r
}

// Wake tells the relay that a transaction with events has committed. It never blocks, and many calls count as one.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run publishes until ctx ends. While the bus fails it tries again, later and later, always with the oldest
// events first.
func (r *Relay) Run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		n, err := r.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errElsewhere):
			sleep(ctx, relayPoll)
			continue
		case err != nil:
			if failures == 0 { // once for an outage, not once for an attempt
				r.log.WarnContext(ctx, "events cannot be published; trying again until they are", "source", r.source, "error", err)
			}
			failures++
			sleep(ctx, relayBackoff.after(failures))
			continue
		case failures > 0:
			r.log.InfoContext(ctx, "events are published again", "source", r.source, "attempts", failures+1)
			failures = 0
		}
		if n == relayBatch {
			continue
		}
		if n > 0 {
			sleep(ctx, relayPace)
			continue // what came meanwhile needs no Wake to be seen
		}
		r.rest(ctx)
	}
}

func (r *Relay) rest(ctx context.Context) {
	t := time.NewTimer(every(r.db, relayPoll))
	defer t.Stop()
	select {
	case <-r.wake:
	case <-t.C:
	case <-ctx.Done():
	}
}

// Drain publishes what is waiting and returns when nothing is, or when another process publishes it. It gives up at
// the first failure, and at once when the bus has not been started: what is left is on disk and goes out at the next start.
func (r *Relay) Drain(ctx context.Context) error {
	if b, ok := r.bus.(interface{ Started() bool }); ok && !b.Started() {
		return nil
	}
	for {
		n, err := r.step(ctx)
		if errors.Is(err, errElsewhere) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("publish the events that are left of %s: %w", r.source, err)
		}
		if n == 0 {
			return nil
		}
	}
}

// step publishes and marks one batch, and returns its size.
func (r *Relay) step(ctx context.Context) (int, error) {
	select {
	case <-r.turn:
		defer func() { r.turn <- struct{}{} }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err := r.lead(ctx); err != nil {
		return 0, err
	}
	waiting, err := r.waiting(ctx)
	if err != nil || waiting.n == 0 {
		return 0, err
	}
	if len(waiting.wanted) > 0 {
		events, err := r.load(ctx, waiting.wanted)
		if err != nil {
			return 0, err
		}
		if err := r.publish(ctx, events); err != nil {
			return 0, err
		}
		lab.Point("relay.published")
	}
	if err := r.mark(ctx, waiting); err != nil {
		return 0, err
	}
	lab.Point("relay.marked")
	r.signal.send()
	return waiting.n, nil
}

// publish hands events to the bus. It is told of if one of them comes out of something that is.
func (r *Relay) publish(ctx context.Context, events []Event) error {
	ctx, op := telemetry.Enter(ctx, "", "", telemetry.Producer)
	for i := range events {
		if events[i].TraceParent != "" {
			op.LinkTo(events[i].TraceParent)
		}
	}
	if op.Linked() {
		telemetry.Keep(ctx)
	}
	err := r.bus.Publish(ctx, events)
	if trouble := err; op.Kept(trouble) {
		op.Name = "publish"
		op.End(trouble, attribute.String("source", r.source), attribute.Int("messaging.batch.message_count", len(events)))
	}
	return err
}

// lead makes sure that this process has the lease.
func (r *Relay) lead(ctx context.Context) error {
	if r.lease != nil && r.lease.Held(ctx) {
		return nil
	}
	var err error
	if r.lease, err = r.db.Lease(ctx, "relay"); err != nil {
		return fmt.Errorf("take the lease of the relay: %w", err)
	}
	if r.lease == nil {
		return errElsewhere
	}
	return nil
}

type batch struct {
	n      int
	spans  []span  // of all of them, ascending
	wanted []int64 // the seqs of those that the bus has a consumer for
}

// span is rows whose seqs follow each other.
type span struct{ first, last int64 }

// waiting reads no more of the rows than is needed to know whether somebody wants them: most events of a busy
// context go to the feed only, and there they are read from the table.
func (r *Relay) waiting(ctx context.Context) (batch, error) {
	selective, ok := r.bus.(interface {
		Wants(ctx context.Context, eventType string) (bool, error)
	})
	if !ok {
		return r.list(ctx, func(string) (bool, error) { return true, nil })
	}
	wants := func(name string) (bool, error) { return selective.Wants(ctx, name) }
	b, ok, err := r.unwanted(ctx, wants)
	if ok || err != nil {
		return b, err
	}
	return r.list(ctx, wants)
}

// unwanted is the batch if nobody wants any of it and it is one span: then it is not read row by row. ok is false for any other.
func (r *Relay) unwanted(ctx context.Context, wants func(string) (bool, error)) (b batch, ok bool, err error) {
	rows, err := r.db.Prepared(ctx, queryTypes, relayBatch)
	if err != nil {
		return batch{}, false, fmt.Errorf("read the types of the waiting events: %w", err)
	}
	defer rows.Close()
	all := span{first: math.MaxInt64}
	for rows.Next() {
		var name string
		var of span
		var n int
		if err := rows.Scan(&name, &of.first, &of.last, &n); err != nil {
			return batch{}, false, fmt.Errorf("read the types of the waiting events: %w", err)
		}
		if want, err := wants(name); want || err != nil {
			return batch{}, false, err
		}
		all.first, all.last = min(all.first, of.first), max(all.last, of.last)
		b.n += n
	}
	if err := rows.Err(); err != nil {
		return batch{}, false, fmt.Errorf("read the types of the waiting events: %w", err)
	}
	b.spans = []span{all}
	return b, b.n == 0 || all.last-all.first+1 == int64(b.n), nil
}

// list reads the batch row by row.
func (r *Relay) list(ctx context.Context, wants func(string) (bool, error)) (batch, error) {
	rows, err := r.db.Prepared(ctx, queryWaiting, relayBatch)
	if err != nil {
		return batch{}, fmt.Errorf("read the waiting events: %w", err)
	}
	defer rows.Close()
	var b batch
	var name sql.RawBytes
	var seqs []int64
	known := map[string]bool{} // a batch has few types
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq, &name); err != nil {
			return batch{}, fmt.Errorf("read the waiting events: %w", err)
		}
		want, ok := known[string(name)]
		if !ok {
			if want, err = wants(string(name)); err != nil {
				return batch{}, err
			}
			known[string(name)] = want
		}
		seqs = append(seqs, seq)
		if want {
			b.wanted = append(b.wanted, seq)
		}
	}
	if err := rows.Err(); err != nil {
		return batch{}, fmt.Errorf("read the waiting events: %w", err)
	}
	b.n = len(seqs)
	for first, last := range runs(seqs) {
		b.spans = append(b.spans, span{first, last})
	}
	return b, nil
}

func (r *Relay) load(ctx context.Context, seqs []int64) ([]Event, error) {
	events := make([]Event, 0, len(seqs))
	for first, last := range runs(seqs) {
		rows, err := r.db.Query(ctx, `SELECT id, type, subject, time, correlation_id, causation_id, traceparent, data
			FROM outbox WHERE seq BETWEEN $1 AND $2 ORDER BY seq`, first, last)
		if err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		for rows.Next() {
			e := Event{Source: r.source}
			if err := e.scan(rows); err != nil {
				rows.Close()
				return nil, fmt.Errorf("read events: %w", err)
			}
			events = append(events, e)
		}
		if err := rows.Close(); err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		if err := rows.Err(); err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
	}
	return events, nil
}

// scan reads the columns id, type, subject, time, correlation_id, causation_id, traceparent, data, after others.
func (e *Event) scan(rows interface{ Scan(...any) error }, before ...any) error {
	var at int64
	err := rows.Scan(append(before, &e.ID, &e.Type, &e.Subject, &at, &e.CorrelationID, &e.CausationID, &e.TraceParent, &e.Data)...)
	e.Time = time.UnixMicro(at).UTC()
	return err
}

// mark gives the rows the next positions. It takes one statement for each span, and rows follow each
// other unless a transaction was rolled back or is still under way between them. Only rows that were published
// are inside a span, so that none that commits meanwhile is marked with them.
func (r *Relay) mark(ctx context.Context, b batch) error {
	err := r.write(ctx, func(tx *db.Tx) error {
		last, err := lastPosition(tx)
		if err != nil {
			return err
		}
		for _, s := range b.spans {
			n, err := tx.Exec(execMark, last+1-s.first, s.first, s.last)
			if err != nil {
				return err
			}
			if n != s.last-s.first+1 {
				return fmt.Errorf("%d of the events %d to %d were marked by another relay", s.last-s.first+1-n, s.first, s.last)
			}
			last += n
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("mark %d events as published: %w", b.n, err)
	}
	return nil
}

// lastPosition is read in the transaction that gives the next ones.
func lastPosition(tx *db.Tx) (int64, error) {
	rows, err := tx.Query(queryLast)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var last int64
	if rows.Next() {
		if err := rows.Scan(&last); err != nil {
			return 0, err
		}
	}
	return last, rows.Err()
}

// runs yields the first and the last of each run of consecutive numbers in ascending ones.
func runs(seqs []int64) func(yield func(first, last int64) bool) {
	return func(yield func(int64, int64) bool) {
		for len(seqs) > 0 {
			n := 1
			for n < len(seqs) && seqs[n] == seqs[n-1]+1 {
				n++
			}
			if !yield(seqs[0], seqs[n-1]) {
				return
			}
			seqs = seqs[n:]
		}
	}
}

// signal wakes everyone who waits for it.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// next returns a channel that closes at the next send.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) send() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
