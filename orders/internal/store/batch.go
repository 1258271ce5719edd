package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

type kind int

const (
	begin kind = iota
	record
	move
	exec
)

// command is one caller's change, with its answer.
type command struct {
	kind  kind
	order *order.Order // begin, record: the new order; move: the order as it will be
	exec  func(*db.Tx) error

	traceParent string // of begin, record and move: the span that they are in, for their event

	was     order.State     // move: the state that the order must have
	freeKey bool            // move: forget the order's key
	act     context.Context // move, record: says who does it by hand, if anybody does

	existing order.ID // begin: the order that the key belongs to already
	reused   bool     // begin: the key belongs to another payload
	ok       bool     // move: the order had the state that was expected; record: there was none
}

// apply runs a batch: what the commands need is read first, each is decided in order of arrival, and what they change
// is written in sets.
func apply(tx *db.Tx, cmds []*command) error {
	var events []outbox.Event
	for _, c := range cmds {
		c.existing, c.reused, c.ok = "", false, false
	}
	if err := insertAll(tx, cmds, &events); err != nil {
		return err
	}
	// Two moves of one order in one batch exclude each other; the later one is tried after the first has been written.
	for left := moves(cmds); len(left) > 0; {
		round, later := distinct(left)
		if err := moveAll(tx, round, &events); err != nil {
			return err
		}
		left = later
	}
	if err := outbox.Append(tx, events); err != nil {
		return err
	}
	for _, c := range cmds {
		if c.kind == exec {
			if err := c.exec(tx); err != nil {
				return err
			}
		}
	}
	return nil
}

// held is what a key stands for.
type held struct {
	payload []byte
	order   order.ID
}

// insertAll writes the new orders: those that begin, and those that are recorded when they are decided.
func insertAll(tx *db.Tx, cmds []*command, events *[]outbox.Event) error {
	keys := map[string]held{}
	var names []any
	for _, c := range cmds {
		if c.kind == begin && c.order.Key != "" {
			names = append(names, c.order.Key)
		}
	}
	err := tx.QueryWide(`SELECT key, payload, order_id FROM idempotency_keys WHERE key IN (list)`, names, func(rows *sql.Rows) error {
		var key, id string
		var h held
		if err := rows.Scan(&key, &h.payload, &id); err != nil {
			return err
		}
		h.order = order.ID(id)
		keys[key] = h
		return nil
	})
	if err != nil {
		return err
	}
	there, err := recorded(tx, cmds)
	if err != nil {
		return err
	}
	orders, lines := make([]any, 0, 17*len(cmds)), make([]any, 0, 5*len(cmds))
	var keyed []*order.Order // whose keys are new
	for _, c := range cmds {
		if c.kind != begin && c.kind != record {
			continue
		}
		o := c.order
		if c.kind == record {
			if c.ok = !there[o.ID]; !c.ok {
				continue
			}
			if err := trail.Append(c.act, tx, string(o.ID)); err != nil {
				return err
			}
		}
		if o.Key != "" {
			if h, ok := keys[o.Key]; ok {
				if c.reused = !bytes.Equal(h.payload, o.Payload[:]); !c.reused {
					c.existing = h.order
				}
				continue
			}
			keys[o.Key] = held{o.Payload[:], o.ID}
			keyed = append(keyed, o)
		}
		kind, code, detail := rejectionColumns(o.Rejection)
		orders = append(orders, string(o.ID), string(o.State), o.Currency, o.TotalMinor, string(o.Customer), o.Payment.Provider, string(o.Payment.Token),
			o.Key, o.CorrelationID, kind, code, detail, micro(o.PlacedAt), micro(o.ReservedAt), micro(o.DecidedAt), o.Lease.Owner, micro(o.Lease.Until))
		for n, l := range o.Lines {
			lines = append(lines, string(o.ID), n, l.SKU, l.Qty, l.UnitPriceMinor)
		}
		if !o.State.Live() {
			*events = append(*events, event(o, c.traceParent))
		}
	}
	if err := tx.ExecWide(`INSERT INTO orders (id, state, currency, total_minor, customer, provider, token,
		key, correlation_id, reject_kind, reject_code, reject_detail, placed_at, reserved_at, decided_at, lease_owner, lease_until) VALUES (rows)`, 17, orders); err != nil {
		return err
	}
	if err := tx.ExecWide(`INSERT INTO order_lines (order_id, n, sku, qty, unit_price_minor) VALUES (rows)`, 5, lines); err != nil {
		return err
	}
	// In order, so that two replicas which get the same keys wait for each other in one direction only. The one that
	// comes second finds the key in its next run.
	slices.SortFunc(keyed, func(a, b *order.Order) int { return strings.Compare(a.Key, b.Key) })
	var newKeys []any
	for _, o := range keyed {
		newKeys = append(newKeys, o.Key, o.Payload[:], string(o.ID))
	}
	return tx.ExecWide(`INSERT INTO idempotency_keys (key, payload, order_id) VALUES (rows)`, 3, newKeys)
}

// recorded says which of the orders that are to be recorded are there. One hardly ever is, and looking costs as much as a row. So it is
// looked for only where a command is alone in its transaction: as each of a batch is that has failed for one of them.
func recorded(tx *db.Tx, cmds []*command) (map[order.ID]bool, error) {
	if len(cmds) > 1 || cmds[0].kind != record {
		return nil, nil
	}
	there := map[order.ID]bool{}
	err := tx.QueryWide(`SELECT id FROM orders WHERE id IN (list)`, ids(cmds), func(rows *sql.Rows) error {
		there[cmds[0].order.ID] = true
		var id string
		return rows.Scan(&id)
	})
	return there, err
}

func moves(cmds []*command) []*command {
	var m []*command
	for _, c := range cmds {
		if c.kind == move {
			m = append(m, c)
		}
	}
	return m
}

// distinct splits cmds into the first for each order and the rest.
func distinct(cmds []*command) (first, rest []*command) {
	seen := make(map[order.ID]bool, len(cmds))
	for _, c := range cmds {
		if seen[c.order.ID] {
			rest = append(rest, c)
			continue
		}
		seen[c.order.ID] = true
		first = append(first, c)
	}
	return first, rest
}

// movement is how a move to a state is written: the rows change whose state is the one that their driver saw.
type movement struct {
	one, many string // statements for one row, and for those that a server is sent at once
	columns   int
	values    func(args []any, o *order.Order) []any
}

// append adds the values of a row: those that are set, and then which row it is.
func (m movement) append(args []any, c *command) []any {
	o := c.order
	args = m.values(append(args, micro(o.ReservedAt), o.Lease.Owner, micro(o.Lease.Until)), o)
	return append(args, string(o.ID), string(c.was))
}

// movements say what order.Order.Apply says. What others write into an order (notes, attempts) is not among the columns, and
// neither is what stays as it was: most of what a move costs is its columns.
var movements = map[order.State]movement{
	order.Undoing: moving(order.Undoing, []string{"reject_kind", "reject_code", "reject_detail"}, func(args []any, o *order.Order) []any {
		kind, code, detail := rejectionColumns(o.Rejection)
		return append(args, kind, code, detail)
	}),
	order.Rejected: moving(order.Rejected, []string{"reject_kind", "reject_code", "reject_detail", "decided_at"}, func(args []any, o *order.Order) []any {
		kind, code, detail := rejectionColumns(o.Rejection)
		return append(args, kind, code, detail, micro(o.DecidedAt))
	}),
	order.Confirmed: moving(order.Confirmed, []string{"payment_id", "authorized_at", "decided_at"}, func(args []any, o *order.Order) []any {
		return append(args, o.Payment.ID, micro(o.AuthorizedAt), micro(o.DecidedAt))
	}),
	order.Cancelled: moving(order.Cancelled, []string{"cancel_reason", "cancelled_at"}, func(args []any, o *order.Order) []any {
		return append(args, o.CancelReason, micro(o.CancelledAt))
	}),
	order.Fulfilled: moving(order.Fulfilled, []string{"fulfilled_at"}, func(args []any, o *order.Order) []any {
		return append(args, micro(o.FulfilledAt))
	}),
	order.Returned: moving(order.Returned, []string{"return_reason", "returned_at"}, func(args []any, o *order.Order) []any {
		return append(args, o.ReturnReason, micro(o.ReturnedAt))
	}),
}

func moving(to order.State, own []string, values func(args []any, o *order.Order) []any) movement {
	columns := append([]string{"reserved_at", "lease_owner", "lease_until"}, own...)
	one, many := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		one[i], many[i] = c+" = ?", c+" = v."+c
	}
	update := `UPDATE orders SET state = '` + string(to) + `', `
	return movement{
		one: update + strings.Join(one, ", ") + ` WHERE id = ? AND state = ?`,
		many: `WITH v (` + strings.Join(columns, ", ") + `, id, was) AS (VALUES (rows)) ` + update + strings.Join(many, ", ") + `
			FROM v WHERE orders.id = v.id AND orders.state = v.was RETURNING orders.id`,
		columns: len(columns) + 2,
		values:  values,
	}
}

func moveAll(tx *db.Tx, cmds []*command, events *[]outbox.Event) error {
	write := moveOneByOne
	if tx.Remote() {
		write = moveTogether
	}
	if err := write(tx, cmds); err != nil {
		return err
	}
	var free []any
	for _, c := range cmds {
		if !c.ok {
			continue
		}
		if c.order.State != order.Undoing {
			*events = append(*events, event(c.order, c.traceParent))
		}
		if err := trail.Append(c.act, tx, string(c.order.ID)); err != nil {
			return err
		}
		if c.freeKey && c.order.Key != "" {
			free = append(free, c.order.Key)
		}
	}
	return tx.QueryWide(`DELETE FROM idempotency_keys WHERE key IN (list) RETURNING key`, free, func(*sql.Rows) error { return nil })
}

func moveOneByOne(tx *db.Tx, cmds []*command) error {
	var args []any
	for _, c := range cmds {
		m := movements[c.order.State]
		args = m.append(args[:0], c)
		n, err := tx.Exec(m.one, args...)
		if err != nil {
			return err
		}
		c.ok = n > 0
	}
	return nil
}

func moveTogether(tx *db.Tx, cmds []*command) error {
	args := make(map[order.State][]any)
	byID := make(map[string]*command, len(cmds))
	for _, c := range cmds {
		to := c.order.State
		args[to] = movements[to].append(args[to], c)
		byID[string(c.order.ID)] = c
	}
	if err := tx.Lock(`SELECT id FROM orders WHERE id IN (list) ORDER BY id FOR UPDATE`, ids(cmds)); err != nil {
		return err
	}
	for to, args := range args {
		err := tx.QueryRows(movements[to].many, movements[to].columns, args, func(rows *sql.Rows) error {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			byID[id].ok = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func ids(cmds []*command) []any {
	all := make([]any, len(cmds))
	for i, c := range cmds {
		all[i] = string(c.order.ID)
	}
	return all
}

// rejectionDetail is what reject_detail holds, as JSON.
type rejectionDetail struct {
	Detail    string           `json:"detail"`
	Shortages []order.Shortage `json:"shortages,omitempty"`
}

func rejectionColumns(r *order.Rejection) (kind int, code, detail string) {
	if r == nil {
		return 0, "", ""
	}
	b, err := json.Marshal(rejectionDetail{r.Detail, r.Shortages})
	if err != nil {
		panic("store: strings and numbers that are no JSON: " + err.Error())
	}
	return int(r.Kind), r.Code, string(b)
}

func micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicro(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
