// Package store keeps stock in Inventory's database: it loads the rows that commands are about, lets package stock decide,
// and writes back what changed, many commands to a transaction.
//
// It promises that what it reported as done is on disk, with its movements and its events in the same transaction.
// What a crash right after each durable write leaves:
//
//	reserve    the reservation with its lines, and the levels; the caller repeats it and gets the same answer
//	release    the reservation released, the levels, and StockReleased in the outbox, which the relay publishes after the
//	           restart; the caller's repeat does nothing. Out of an event: the inbox has marked it done too
//	commit     the reservation committed, the levels, the movements, and StockCommitted in the outbox. Out of an event: the
//	           inbox has marked it done too
//	expire     the holds released, and the levels; the next look finds those that are left, and until then every decision and every
//	           read counts their units as available
//	return     the reservation returned, the levels, the movements, StockReturned in the outbox, and the event marked done
//	adjust     the level, the movement, StockAdjusted, and the answer under its key, which a repeat gets
//	import     the whole file, or none of it; importing it again changes nothing more. Its spooled copy lies in
//	           the data directory until the next start removes it
//	relay      the published events marked; published and not marked, they are published again with their ids
//	inbox      the event stored and not yet handled; it is handled after the restart
package store

import (
	"context"
	"embed"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

//go:embed migrations
var migrations embed.FS

// Schema is what the context keeps in its database.
func Schema() db.Schema { return db.Schema{Context: "inventory", Migrations: migrations} }

// Store is Inventory's database. All methods may be called at once from many goroutines.
//
// The writing methods return what package stock decided: its errors are faults of stock. Beside them, all can
// return db.ErrBusy, db.ErrClosed and faults of the disk (Unavailable). If ctx ends first, its error is returned and the command may still be
// committed: repeating it with the same id or key says what became of it.
type Store struct {
	db    *db.DB
	batch *db.Batcher[command]
	spool string
	slot  int // of live_reservations
	now   func() time.Time
	wake  func()

	checked checked

	held, short *telemetry.Counter // reservations

	maxImport int64 // bytes; a test's is smaller
}

// Open opens the database at url and makes it if there is none. Imports are spooled into the directory spool.
func Open(ctx context.Context, url, spool string, now func() time.Time) (*Store, error) {
	d, err := db.Open(ctx, url, Schema())
	if err != nil {
		return nil, err
	}
	st := &Store{db: d, spool: spool, slot: rand.IntN(liveSlots), now: now, wake: func() {}, held: &telemetry.Counter{}, short: &telemetry.Counter{}, maxImport: maxImport}
	st.batch = db.NewBatcher(d, st.apply)
	if err := st.sweep(); err != nil {
		st.Close()
		return nil, err
	}
	return st, nil
}

// spooled names the files of imports under way, and those that a crash left.
const spooled = "inventory-import-*.csv"

func (s *Store) sweep() error {
	left, err := filepath.Glob(filepath.Join(s.spool, spooled))
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("remove what an interrupted import left: %w", err)
		}
	}
	return nil
}

// Notify has wake called after commits that may have appended events. Call it before the first command.
func (s *Store) Notify(wake func()) { s.wake = wake }

// DB is the open database, for the relay and the inbox.
func (s *Store) DB() *db.DB { return s.db }

// Write runs f in a transaction that it shares with commands. f touches the tables outbox and inbox and no other.
func (s *Store) Write(ctx context.Context, f func(*db.Tx) error) error {
	return s.batch.Do(ctx, &task{f: f})
}

// Ready fails if the database cannot be read.
func (s *Store) Ready(ctx context.Context) error { return s.db.Ping(ctx) }

// Backlog is how long a command that comes now would wait for its transaction; see db.Batcher.
func (s *Store) Backlog() time.Duration { return s.batch.Backlog() }

// Measure adds the figures of the store to those of the process.
func (s *Store) Measure(m *telemetry.Metrics) {
	s.batch.Measure(m)
	reservations := func(result string) *telemetry.Counter {
		return m.Counter("orderkeep_reservations_total", "Reservations that were asked for, by what became of them.", "result", result)
	}
	s.held, s.short = reservations("held"), reservations("refused")
	measureLive(s.db, m)
}

// Close finishes the commands in the queue and closes the database.
func (s *Store) Close() error {
	s.batch.Close()
	return s.db.Close()
}

// Pace says what a command does when the queue is full.
type Pace int

const (
	// Refuse answers db.ErrBusy: for the first write of a client's request, which can still be given back.
	Refuse Pace = iota
	// Wait waits for room: for a later step of something that is under way.
	Wait
)

func (s *Store) do(ctx context.Context, pace Pace, c command) error {
	if pace == Wait {
		return s.batch.Do(ctx, c)
	}
	return s.batch.Try(ctx, c)
}

// Reserve holds all lines of ask or none; see stock.Room.Reserve. A refusal is an answer, not an error. ask.Lines are as stock.Sum
// returns them, and not changed afterwards.
func (s *Store) Reserve(ctx context.Context, pace Pace, ask stock.Ask) (stock.Answer, error) {
	c := &reserve{ask: ask}
	if err := s.do(ctx, pace, c); err != nil {
		return stock.Answer{}, fmt.Errorf("reserve %s: %w", ask.ID, err)
	}
	lab.Point("inventory.reserved")
	switch {
	case c.err != nil || c.answer.Replayed:
	case c.answer.State == stock.Reserved:
		s.held.Inc()
	case c.answer.State == stock.Refused:
		s.short.Inc()
	}
	return c.answer, c.err
}

// Release puts a reservation's units back, or leaves a tombstone; see stock.Room.Release. StockReleased is published if it
// freed units of an order.
func (s *Store) Release(ctx context.Context, pace Pace, id string) error {
	return s.release(ctx, pace, &release{ctx: ctx, id: id})
}

// ReleaseCancelled is Release because of an event: done marks the event in the same transaction, and StockReleased
// is published even if there was nothing to free, because Orders waits for it.
func (s *Store) ReleaseCancelled(ctx context.Context, id string, done func(*db.Tx) error) error {
	return s.release(ctx, Wait, &release{ctx: ctx, id: id, always: true, done: done})
}

func (s *Store) release(ctx context.Context, pace Pace, c *release) error {
	defer s.wake()
	if err := s.do(ctx, pace, c); err != nil {
		return fmt.Errorf("release %s: %w", c.id, err)
	}
	lab.Point("inventory.released")
	return c.err
}

// Commit takes a reservation's units off the shelf; see stock.Room.Commit.
func (s *Store) Commit(ctx context.Context, pace Pace, id string) error {
	return s.commit(ctx, pace, &commit{ctx: ctx, id: id})
}

// CommitFulfilled is Commit because of an event: done marks the event in the same transaction, and StockCommitted is published
// even if the units had left before, because Orders waits for it.
func (s *Store) CommitFulfilled(ctx context.Context, id string, done func(*db.Tx) error) error {
	return s.commit(ctx, Wait, &commit{ctx: ctx, id: id, always: true, done: done})
}

// RestockReturned puts the units of a returned order back on the shelf because of an event; see stock.Room.Return. done marks
// the event in the same transaction, and StockReturned is published even if they had come back before.
//
// A return says that the units had left. If the event that said so first has not been handled, which takes that it was parked,
// they leave and come back in one; it then finds nothing left to do.
func (s *Store) RestockReturned(ctx context.Context, id string, done func(*db.Tx) error) error {
	return s.commit(ctx, Wait, &commit{ctx: ctx, id: id, back: true, done: done})
}

func (s *Store) commit(ctx context.Context, pace Pace, c *commit) error {
	defer s.wake()
	if err := s.do(ctx, pace, c); err != nil {
		return fmt.Errorf("commit %s: %w", c.id, err)
	}
	lab.Point("inventory.committed")
	return c.err
}

// Adjust changes what is on hand; see stock.Room.Adjust. It checks the adjustment first (stock.Adjustment.Check).
func (s *Store) Adjust(ctx context.Context, pace Pace, a stock.Adjustment) (stock.Adjusted, error) {
	if err := a.Check(); err != nil {
		return stock.Adjusted{}, err
	}
	defer s.wake()
	c := &adjust{ctx: ctx, a: a}
	if err := s.do(ctx, pace, c); err != nil {
		return stock.Adjusted{}, fmt.Errorf("adjust %s: %w", a.SKU, err)
	}
	lab.Point("inventory.adjusted")
	return c.answer, c.err
}
