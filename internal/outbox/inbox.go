package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"go.opentelemetry.io/otel/attribute"
)

// Handler gives an event its effect. It calls done inside the transaction of the effect, so that both happen or
// neither; done fails, and with it the transaction, if the event has had its effect already. The handler returns
// the transaction's error. If it returns nil without having called done, the inbox marks the event itself.
//
// An error means: again later. The context carries the event's correlation id, and makes the event the cause of
// those that New makes of it. Handlers of different subjects run at once.
type Handler func(ctx context.Context, e Event, done func(*db.Tx) error) error

const (
	// maxAttempts and inboxBackoff together try for eight minutes on average, which a restart or a failover fits
	// into, before a person is asked; the first attempts come fast, for what was only a hiccup.
	maxAttempts = 10
	// awayMost is the longest pause while what an event needs is away. It is waited for as long as that takes, and is told of
	// once in a pause, so that the load is small and the effect comes soon after it is back.
	awayMost = time.Minute
	// inboxWorkers is how many subjects are handled at once: most handlers wait for a disk or a peer, and 16 of them
	// leave the batch enough to share.
	inboxWorkers = 16
	// inboxPoll finds what this process did not store itself, such as an event that another one redrove.
	inboxPoll = time.Second
	// handlerTime bounds one attempt. It is longer than any call with its retries.
	handlerTime = time.Minute
	// handlerGrace is what handlers have to finish once the inbox stops.
	handlerGrace = 5 * time.Second
)

var inboxBackoff = backoff{first: 100 * time.Millisecond, factor: 3, most: 15 * time.Minute}

// errHandled ends a transaction whose event has had its effect in another one.
var errHandled = fault.New(fault.Conflict, "event_handled", "The event has had its effect already.")

// errNotFinished is a handler's mistake that would otherwise pass for success.
var errNotFinished = errors.New("the handler returned no error, but its transaction did not commit")

// Inbox stores a consumer's events and runs their handlers, those of one subject one at a time and in the order of
// their arrival. An event whose handler fails is tried again, later and later, and its subject waits for it; after the
// tenth failure it is parked, and its subject goes on without it, since one bad event must not stop all that
// follow it for ever. Desk.Redrive brings it back. A failure that is fault.Unavailable is none of the event's, and does not
// count: a database or a provider that is away is waited for.
type Inbox struct {
	name     string
	db       *db.DB
	write    Writer
	handlers map[string]Handler
	log      *slog.Logger
	arrived  chan struct{} // rows were stored after all others
}

// NewInbox makes the inbox of a consumer, whose name is unique among all; handlers are by event type, and not changed
// afterwards. A process has one of a name for a database. Of several processes on one database all store what their
// buses bring, and the one that has the lease handles it: that keeps the order of a subject, and the count of an event's
// failures.
func NewInbox(name string, d *db.DB, write Writer, handlers map[string]Handler, log *slog.Logger) *Inbox {
	return &Inbox{name: name, db: d, write: write, handlers: handlers, log: log, arrived: make(chan struct{}, 1)}
}

// Subscription is what the consumer asks of a bus.
func (i *Inbox) Subscription() Subscription {
	return Subscription{Name: i.name, Types: slices.Sorted(maps.Keys(i.handlers)), Receive: i.receive}
}

func (i *Inbox) receive(ctx context.Context, events []Event) error {
	const cols = 10
	args := make([]any, 0, cols*len(events))
	for _, e := range events {
		args = append(args, i.name, e.ID, e.Source, e.Type, e.Subject, e.Time.UnixMicro(), e.CorrelationID, e.CausationID, e.TraceParent, e.Data)
	}
	err := i.write(ctx, func(tx *db.Tx) error {
		return tx.ExecWide(`INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data)
			VALUES (rows) ON CONFLICT (consumer, event_id) DO NOTHING`, cols, args)
	})
	if err != nil {
		return fmt.Errorf("store %d events: %w", len(events), err)
	}
	lab.Point("inbox.stored")
	poke(i.arrived)
	return nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run handles what is waiting until ctx ends, and returns when the handlers under way have finished, or have been
// interrupted after five seconds.
func (i *Inbox) Run(ctx context.Context) {
	work, interrupt := context.WithCancel(telemetry.WithLogger(context.WithoutCancel(ctx), i.log))
	defer interrupt()
	stop := context.AfterFunc(ctx, func() {
		sleep(work, handlerGrace)
		interrupt()
	})
	defer stop()

	failing := false
	for ctx.Err() == nil {
		lease, err := i.db.Lease(ctx, "inbox "+i.name)
		if err != nil && ctx.Err() == nil && !failing {
			i.log.WarnContext(ctx, "the lease of the inbox cannot be taken; trying again until it can", "consumer", i.name, "error", err)
		}
		failing = err != nil
		if lease == nil {
			sleep(ctx, inboxPoll)
			continue
		}
		i.work(ctx, work, lease)
		lease.Release()
	}
}

// work handles what is waiting until ctx ends or the lease is lost, and returns when the handlers under way, whose context
// is handling, have finished. Should another process begin with their events meanwhile, one of the two marks them.
func (i *Inbox) work(ctx, handling context.Context, lease *db.Lease) {
	lanes := newLanes()
	results := make(chan result)
	poll := time.NewTicker(every(i.db, inboxPoll))
	defer poll.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	look := lookAll
	failing, held := false, true
	for ctx.Err() == nil && held {
		if err := i.fill(ctx, lanes, look); err != nil && ctx.Err() == nil && !failing {
			i.log.WarnContext(ctx, "the inbox cannot be read; trying again until it can", "consumer", i.name, "error", err)
			failing = true
		} else if err == nil {
			failing = false
		}
		now := lab.Now()
		for lanes.running < inboxWorkers {
			l := lanes.next(now)
			if l == nil {
				break
			}
			seq := l.rows[0].seq // here, because rows are added to a lane that is worked on
			go func() { results <- i.handle(handling, l, seq) }()
		}
		due.Stop()
		if at, ok := lanes.due(); ok && lanes.running < inboxWorkers {
			due.Reset(at.Sub(now))
		}
		look = lookNowhere
		select {
		case <-ctx.Done():
		case r := <-results:
			lanes.finish(r)
			if lanes.hungry() {
				look = lookAfter
			}
		case <-i.arrived:
			look = lookAfter
		case <-poll.C:
			look, held = lookAll, lease.Held(ctx)
		case <-due.C:
		}
	}
	for lanes.running > 0 {
		lanes.finish(<-results)
	}
}

// Where fill looks for waiting rows.
const (
	lookNowhere = iota
	lookAfter   // the last row seen
	lookAll     // of them: rows become visible in the order of seq only where there is one writer
)

// queryInbox says <> 'done' because that is what the index inbox_waiting is of, and leaves the consumer to the caller: to
// choose by it, SQLite would go through every event that the consumer ever got.
const queryInbox = `SELECT seq, consumer, subject, next_at FROM inbox
	WHERE state <> 'done' AND state = 'waiting' AND seq > $1 ORDER BY seq LIMIT $2`

// fill loads what is waiting and not known yet, as far as there is room.
func (i *Inbox) fill(ctx context.Context, l *lanes, look int) error {
	if look == lookNowhere {
		return nil
	}
	after, atStart := l.last, !l.filled
	if look == lookAll {
		after = 0
	}
	for l.room() {
		rows, err := i.db.Query(ctx, queryInbox, after, fillPage)
		if err != nil {
			return err
		}
		n := 0
		for rows.Next() {
			var consumer, subject string
			var at int64
			if err := rows.Scan(&after, &consumer, &subject, &at); err != nil {
				rows.Close()
				return err
			}
			if atStart {
				at = 0 // whoever restarts the program has often repaired what the row waits for
			}
			if consumer == i.name {
				l.add(after, subject, time.UnixMicro(at))
			}
			n++
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		if n < fillPage {
			l.filled, l.more = true, false
			return nil
		}
	}
	l.filled, l.more = true, true
	return nil
}

// handle makes one attempt at the oldest event of a lane, the row seq. It does not touch the lane, which is Run's.
func (i *Inbox) handle(ctx context.Context, l *lane, seq int64) result {
	var e Event
	var state string
	var attempts int
	err := e.scan(i.db.QueryRow(ctx, `SELECT state, attempts, source, event_id, type, subject, time, correlation_id, causation_id, traceparent, data
		FROM inbox WHERE seq = $1`, seq), &state, &attempts, &e.Source)
	switch {
	case errors.Is(err, sql.ErrNoRows) || err == nil && state != waiting:
		return result{lane: l, over: true} // another process was faster, or the row was removed
	case err != nil:
		return result{lane: l, next: lab.Now().Add(inboxBackoff.after(1))}
	}
	ctx, op := telemetry.Enter(context.WithValue(ctx, causationKey{}, e.ID), e.CorrelationID, e.TraceParent, telemetry.Consumer)
	if attempts > 0 {
		telemetry.Keep(ctx)
	}
	handler, known := i.handlers[e.Type]
	if !known {
		return i.fail(ctx, l, seq, e, attempts, parked, 0, fmt.Errorf("this program has no handler for events of type %s: redrive it with one that has", e.Type))
	}
	err = i.attempt(ctx, seq, e, handler)
	if errors.Is(err, errHandled) {
		err = nil
	}
	if op.Kept(err) {
		op.Name = "consume " + e.Type
		op.LinkTo(e.TraceParent) // it is the parent too; the link says that a broker was between
		op.End(err, attribute.String("eventId", e.ID), attribute.String("subject", e.Subject), attribute.Int("attempt", attempts+1))
	}
	if err == nil {
		lab.Point("inbox.handled")
		return result{lane: l, over: true}
	}
	if ctx.Err() != nil {
		return result{lane: l, next: lab.Now()} // stopping is not the event's failure
	}
	if fault.KindOf(err) == fault.Unavailable {
		return i.fail(ctx, l, seq, e, max(1, attempts), waiting, untilBack(lab.Now().Sub(e.Time)), err)
	}
	if attempts++; attempts >= maxAttempts {
		return i.fail(ctx, l, seq, e, attempts, parked, 0, err)
	}
	return i.fail(ctx, l, seq, e, attempts, waiting, inboxBackoff.after(attempts), err)
}

// untilBack is the pause before another look at whether what an event needs is back: anything up to the event's age, and up to a
// second for one whose publisher's clock is ahead.
func untilBack(age time.Duration) time.Duration {
	return rand.N(min(max(age, time.Second), awayMost)) + 1
}

const (
	waiting = "waiting"
	parked  = "parked"
)

func (i *Inbox) attempt(ctx context.Context, seq int64, e Event, handler Handler) error {
	bounded, cancel := context.WithTimeout(ctx, handlerTime)
	defer cancel()
	var called atomic.Bool // the transaction may outlive a handler that ran out of time
	done := func(tx *db.Tx) error {
		called.Store(true)
		return markDone(tx, seq)
	}
	if err := guarded(bounded, e, done, handler); err != nil {
		return err
	}
	if !called.Load() {
		return i.write(ctx, func(tx *db.Tx) error { return markDone(tx, seq) })
	}
	var state string
	if err := i.db.QueryRow(ctx, `SELECT state FROM inbox WHERE seq = $1`, seq).Scan(&state); err != nil {
		return fmt.Errorf("look whether the event is done: %w", err)
	}
	if state == waiting {
		return errNotFinished
	}
	return nil
}

// guarded turns a handler's panic into an error: the event would bring the process down again after each restart.
func guarded(ctx context.Context, e Event, done func(*db.Tx) error, handler Handler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return handler(ctx, e, done)
}

// markDone fails if the row is not waiting any more, so that the transaction of a second effect is rolled back.
func markDone(tx *db.Tx, seq int64) error {
	n, err := tx.Exec(`UPDATE inbox SET state = 'done', error = '' WHERE seq = $1 AND state = 'waiting'`, seq)
	if err == nil && n == 0 {
		return errHandled
	}
	return err
}

// fail records a failed attempt, the state that the event is left in, and the pause before the next attempt.
func (i *Inbox) fail(ctx context.Context, l *lane, seq int64, e Event, attempts int, state string, pause time.Duration, cause error) result {
	next := lab.Now().Add(pause)
	err := i.write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE inbox SET state = $1, attempts = $2, next_at = $3, error = $4 WHERE seq = $5 AND state = 'waiting'`,
			state, attempts, next.UnixMicro(), cause.Error(), seq)
		return err
	})
	lab.Point("inbox.failed")
	log := i.log.With("consumer", i.name, "eventId", e.ID, "type", e.Type, "subject", e.Subject, "attempts", attempts)
	switch {
	case err != nil:
		log.WarnContext(ctx, "an event failed, and so did noting it", "error", cause, "noting", err)
		return result{lane: l, next: next}
	case state == parked:
		log.ErrorContext(ctx, "an event is parked: its subject goes on without it", "error", cause)
		return result{lane: l, over: true}
	}
	log.WarnContext(ctx, "an event failed and is tried again", "error", cause, "again", next.UTC())
	return result{lane: l, next: next}
}
