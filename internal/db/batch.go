package db

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"go.opentelemetry.io/otel/attribute"
)

// ErrBusy is returned by Try when the queue in front of the batcher is full.
var ErrBusy = fault.New(fault.Unavailable, "busy", "Too many requests are waiting. Try again in a moment.")

// ErrClosed is returned once the batcher drains.
var ErrClosed = fault.New(fault.Unavailable, "shutting_down", "The service is shutting down. Try again in a moment.")

// Batcher lets many callers share one transaction: while one commits, the next callers queue up, and all of them go
// into the next. C is a context's command; the command holds its own answer.
type Batcher[C any] struct {
	db    *DB
	apply func(*Tx, []C) error
	queue chan *waiting[C]
	size  int
	base  time.Time // what the times below are counted from, by a clock that nobody sets
	pace  pace
	// figures are what Measure added; nil before it.
	figures atomic.Pointer[figures]
	delay   delay

	mu     sync.RWMutex // held for reading while a caller enqueues, so that Close can shut the queue
	closed bool
	done   chan struct{}
}

type waiting[C any] struct {
	c    C
	err  error
	done chan struct{}

	queued, waited, ended time.Duration // when it came, how long until its transaction, and when that ended

	traceParent string // the span that asks, if it is recorded
}

// Sizes of a batch and of its queue. A batch of 256 keeps the time in a transaction in single milliseconds; a queue of
// 4,096 is about half a second of work, after which a caller does better to be told 503.
const (
	batchSize = 256
	queueSize = 4096
)

// NewBatcher starts a batcher. apply runs in a transaction on commands in their order of arrival and writes each
// one's answer into it; it may run again on the same commands, so it begins by resetting them. An error from apply
// fails the whole transaction: the commands then run one by one, so that only the one at fault fails.
func NewBatcher[C any](d *DB, apply func(*Tx, []C) error) *Batcher[C] {
	b := &Batcher[C]{db: d, apply: apply, queue: make(chan *waiting[C], queueSize), size: batchSize, done: make(chan struct{})}
	b.base = time.Now()
	b.pace.since.Store(idle)
	go b.loop()
	return b
}

// Do waits for room in the queue, then for the commit. If ctx ends first the command may still be committed.
func (b *Batcher[C]) Do(ctx context.Context, c C) error {
	w := &waiting[C]{c: c, done: make(chan struct{}), queued: time.Since(b.base)}
	ctx, op := b.recorded(ctx, w)
	b.mu.RLock()
	if b.closed {
		b.mu.RUnlock()
		return ErrClosed
	}
	select {
	case b.queue <- w:
		b.mu.RUnlock()
	case <-ctx.Done():
		b.mu.RUnlock()
		return ctx.Err()
	}
	return b.wait(ctx, w, &op)
}

// Try is Do, except that it does not wait for room: with a full queue it returns ErrBusy and c will not run.
func (b *Batcher[C]) Try(ctx context.Context, c C) error {
	w := &waiting[C]{c: c, done: make(chan struct{}), queued: time.Since(b.base)}
	ctx, op := b.recorded(ctx, w)
	b.mu.RLock()
	if b.closed {
		b.mu.RUnlock()
		return ErrClosed
	}
	select {
	case b.queue <- w:
		b.mu.RUnlock()
	default:
		b.mu.RUnlock()
		return ErrBusy
	}
	return b.wait(ctx, w, &op)
}

// recorded makes the part of its caller's trace that a command is, for callers who are recorded.
func (b *Batcher[C]) recorded(ctx context.Context, w *waiting[C]) (context.Context, telemetry.Op) {
	if !telemetry.Recorded(ctx) {
		return ctx, telemetry.Op{}
	}
	ctx, op := telemetry.Start(ctx, b.db.context+" write", telemetry.Internal)
	w.traceParent = telemetry.TraceParent(ctx)
	return ctx, op
}

func (b *Batcher[C]) wait(ctx context.Context, w *waiting[C], op *telemetry.Op) error {
	select {
	case <-w.done:
		now := time.Since(b.base)
		b.delay.note(now, w.waited+now-w.ended)
		op.End(w.err)
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close refuses new commands, finishes those in the queue, and returns.
func (b *Batcher[C]) Close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.queue)
	}
	b.mu.Unlock()
	<-b.done
}

func (b *Batcher[C]) loop() {
	defer close(b.done)
	batch := make([]*waiting[C], 0, b.size)
	for {
		first, ok := <-b.queue
		if !ok {
			return
		}
		batch = append(batch[:0], first)
		b.gather()
	fill:
		for len(batch) < b.size {
			select {
			case w, ok := <-b.queue:
				if !ok {
					break fill
				}
				batch = append(batch, w)
			default:
				break fill
			}
		}
		b.commit(batch)
	}
}

// gather lets everybody go first who is ready to run and may be about to queue up: a commit costs the same for one as
// for many, and its callers, woken together by the commit before, come back together. It waits for nobody who is not
// ready, so a lone caller loses nothing. With 64 callers the batches grow by half, and the rate of orders by a seventh.
func (b *Batcher[C]) gather() {
	for before := -1; before < len(b.queue) && len(b.queue) < b.size; {
		before = len(b.queue)
		runtime.Gosched()
	}
}

func (b *Batcher[C]) commit(batch []*waiting[C]) {
	cmds := make([]C, len(batch))
	for i, w := range batch {
		cmds[i] = w.c
	}
	began := time.Since(b.base)
	b.pace.begin(began)
	op := b.begin(batch)
	for _, w := range batch {
		w.waited = began - w.queued
	}
	err := b.db.Write(context.Background(), func(tx *Tx) error { return b.apply(tx, cmds) })
	if err != nil && len(batch) > 1 && !errors.Is(err, ErrClosed) && !b.db.engine.outOfOrder(err) {
		// One command's mistake must not fail its neighbours. When the database itself is at fault, running them one by
		// one would only fail as many times; a command's own refusal is not that, whatever its kind.
		for i, w := range batch {
			w.err = b.db.Write(context.Background(), func(tx *Tx) error { return b.apply(tx, cmds[i:i+1]) })
			w.ended = time.Since(b.base)
			close(w.done)
		}
		ended := time.Since(b.base)
		b.pace.end(ended)
		b.tell(&op, len(batch), ended-began, err)
		return
	}
	ended := time.Since(b.base)
	b.pace.end(ended)
	b.tell(&op, len(batch), ended-began, err)
	for _, w := range batch {
		w.err, w.ended = err, ended
		close(w.done)
	}
}

// figures are what a batcher counts.
type figures struct{ commands, seconds *telemetry.Histogram }

// Measure adds the batcher's figures to those of the process, under the name of its database's context.
func (b *Batcher[C]) Measure(m *telemetry.Metrics) {
	m.Gauge("orderkeep_queue_depth", "Writes that wait for a transaction.", func() float64 { return float64(len(b.queue)) }, telemetry.ContextKey, b.db.context)
	b.figures.Store(&figures{
		commands: m.Histogram("orderkeep_batch_commands", "Writes in one transaction.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}, telemetry.ContextKey, b.db.context),
		seconds:  m.Histogram("orderkeep_batch_seconds", "How long a transaction took.", telemetry.Seconds(), telemetry.ContextKey, b.db.context),
	})
}

// begin is the transaction as it is told of: with links to whoever is recorded of those in it.
func (b *Batcher[C]) begin(batch []*waiting[C]) telemetry.Op {
	ctx, op := b.db.tracer.Enter(context.Background(), "", "", telemetry.Internal)
	for _, w := range batch {
		if w.traceParent != "" {
			op.LinkTo(w.traceParent)
		}
	}
	if op.Linked() {
		telemetry.Keep(ctx)
	}
	return op
}

func (b *Batcher[C]) tell(op *telemetry.Op, commands int, took time.Duration, err error) {
	if f := b.figures.Load(); f != nil {
		f.commands.Observe(float64(commands))
		f.seconds.Observe(took.Seconds())
	}
	if op.Kept(err) {
		op.Name = b.db.context + " batch"
		op.End(err, attribute.Int("commands", commands))
	}
}
