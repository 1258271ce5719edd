package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// command is one write: it says which rows it is about, decides over them, and keeps its own answer. A batch may be
// tried again, so decide overwrites the answer of a try before.
type command interface {
	need(*needs)
	// decide returns an error only to fail the transaction; what package stock refuses is the command's answer.
	decide(*stock.Room, *effects) error
}

// needs names the rows of a batch.
type needs struct {
	skus         []string
	titles       []string // of SKUs that are in skus too
	reservations []string
	keys         []string
}

// effects is what a batch writes beside the changes of its room.
type effects struct {
	events []outbox.Event
	tasks  []func(*db.Tx) error
}

func (s *Store) apply(tx *db.Tx, commands []command) error {
	var n needs
	for _, c := range commands {
		c.need(&n)
	}
	room := stock.NewRoom(s.now())
	if err := load(tx, n, room); err != nil {
		return err
	}
	var e effects
	for _, c := range commands {
		if err := c.decide(room, &e); err != nil {
			return err
		}
	}
	if err := s.write(tx, room.Changes()); err != nil {
		return err
	}
	if len(e.events) > 0 {
		if err := outbox.Append(tx, e.events); err != nil {
			return err
		}
	}
	for _, task := range e.tasks {
		if err := task(tx); err != nil {
			return err
		}
	}
	return nil
}

// answer keeps a fault as the command's answer and lets any other error fail the transaction.
func answer(keep *error, err error) error {
	*keep = nil
	var refusal *fault.Error
	if err != nil && !errors.As(err, &refusal) {
		return err
	}
	*keep = err
	return nil
}

type task struct{ f func(*db.Tx) error }

func (c *task) need(*needs) {}

func (c *task) decide(_ *stock.Room, e *effects) error {
	e.tasks = append(e.tasks, c.f)
	return nil
}

type reserve struct {
	ask    stock.Ask
	answer stock.Answer
	err    error
}

func (c *reserve) need(n *needs) {
	n.reservations = append(n.reservations, c.ask.ID)
	for _, l := range c.ask.Lines {
		n.skus = append(n.skus, l.SKU)
	}
}

func (c *reserve) decide(room *stock.Room, _ *effects) error {
	got, err := room.Reserve(c.ask)
	c.answer = got
	return answer(&c.err, err)
}

type release struct {
	ctx    context.Context // names the correlation and the cause of the event, and who does it by hand
	id     string
	always bool // publish even if nothing was freed
	done   func(*db.Tx) error
	err    error
}

func (c *release) need(n *needs) { n.reservations = append(n.reservations, c.id) }

func (c *release) decide(room *stock.Room, e *effects) error {
	freed, err := room.Release(c.id, telemetry.Correlation(c.ctx))
	if err != nil {
		return answer(&c.err, err)
	}
	c.err = nil
	if c.always || len(freed.Lines) > 0 && freed.Owner == stock.ByOrder {
		at := room.Now()
		m := &inventoryv1.StockReleased{OrderId: c.id, Lines: protoLines(freed.Lines), ReleasedAt: timestamppb.New(at)}
		e.events = append(e.events, outbox.New(c.ctx, m, c.id, at))
	}
	if len(freed.Lines) > 0 {
		e.tasks = append(e.tasks, func(tx *db.Tx) error { return trail.Append(c.ctx, tx, c.id) })
	}
	if c.done != nil {
		e.tasks = append(e.tasks, c.done)
	}
	return nil
}

// commit takes the units off the shelf, and with back puts them there again.
type commit struct {
	ctx    context.Context // names the correlation and the cause of the events
	id     string
	back   bool
	always bool // publish StockCommitted even if nothing left
	done   func(*db.Tx) error
	err    error
}

func (c *commit) need(n *needs) { n.reservations = append(n.reservations, c.id) }

func (c *commit) decide(room *stock.Room, e *effects) error {
	taken, err := room.Commit(c.id, telemetry.Correlation(c.ctx))
	if err != nil {
		return answer(&c.err, err)
	}
	at := room.Now()
	if len(taken.Lines) > 0 && taken.Owner == stock.ByOrder || c.always {
		m := &inventoryv1.StockCommitted{OrderId: c.id, Lines: protoLines(taken.Lines), CommittedAt: timestamppb.New(at)}
		e.events = append(e.events, outbox.New(c.ctx, m, c.id, at))
	}
	if c.back {
		back, err := room.Return(c.id, telemetry.Correlation(c.ctx))
		if err != nil {
			// Units that were taken in this very call fit back, so this is the answer of a call that changed nothing.
			return answer(&c.err, err)
		}
		m := &inventoryv1.StockReturned{OrderId: c.id, Lines: protoLines(back.Lines), ReturnedAt: timestamppb.New(at)}
		e.events = append(e.events, outbox.New(c.ctx, m, c.id, at))
	}
	c.err = nil
	if c.done != nil {
		e.tasks = append(e.tasks, c.done)
	}
	return nil
}

type adjust struct {
	ctx    context.Context
	a      stock.Adjustment
	answer stock.Adjusted
	err    error
}

func (c *adjust) need(n *needs) {
	n.skus = append(n.skus, c.a.SKU)
	n.titles = append(n.titles, c.a.SKU)
	if c.a.Key != "" {
		n.keys = append(n.keys, c.a.Key)
	}
}

func (c *adjust) decide(room *stock.Room, e *effects) error {
	got, err := room.Adjust(c.a)
	c.answer = got
	if err == nil && got.Movement.Delta != 0 {
		e.events = append(e.events, adjusted(c.ctx, got.Movement))
		if !got.Replayed {
			e.tasks = append(e.tasks, func(tx *db.Tx) error { return trail.Append(c.ctx, tx, c.a.SKU) })
		}
	}
	return answer(&c.err, err)
}

func adjusted(ctx context.Context, m stock.Movement) outbox.Event {
	return outbox.New(ctx, &inventoryv1.StockAdjusted{
		Sku: m.SKU, Location: m.Location, Delta: m.Delta, OnHand: m.OnHand, Reason: m.Reason, AdjustedAt: timestamppb.New(m.At),
	}, m.SKU, m.At)
}

func protoLines(lines []stock.Line) []*inventoryv1.Line {
	out := make([]*inventoryv1.Line, len(lines))
	for i, l := range lines {
		out[i] = &inventoryv1.Line{Sku: l.SKU, Qty: l.Qty}
	}
	return out
}

// list sorts, drops what occurs twice, and makes parameters of the rest: a SKU that a whole batch is about is loaded once.
func list(names []string) []any {
	slices.Sort(names)
	names = slices.Compact(names)
	args := make([]any, len(names))
	for i, n := range names {
		args[i] = n
	}
	return args
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
