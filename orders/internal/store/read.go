package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

const orderColumns = `id, state, currency, total_minor, customer, provider, token, payment_id, key, correlation_id,
	reject_kind, reject_code, reject_detail, cancel_reason, return_reason, placed_at, reserved_at, authorized_at, decided_at, cancelled_at,
	fulfilled_at, returned_at, units_taken_at, money_taken_at, units_back_at, money_back_at, kept, lease_owner, lease_until, attempts`

const (
	getOrder = `SELECT ` + orderColumns + ` FROM orders WHERE id = $1`

	// The bounds on id are the times of the filter, as an id has the time of its order: they keep a page from reading what is far away.
	listAll = `SELECT ` + orderColumns + ` FROM orders
		WHERE id < $1 AND id >= $2 AND placed_at >= $3 AND placed_at < $4 ORDER BY id DESC LIMIT $5`
	listByState = `SELECT ` + orderColumns + ` FROM orders
		WHERE id < $1 AND id >= $2 AND placed_at >= $3 AND placed_at < $4 AND state IN ($6, $7) AND state <> 'fulfilled' ORDER BY id DESC LIMIT $5`
	listFulfilled = `SELECT ` + orderColumns + ` FROM orders
		WHERE id < $1 AND id >= $2 AND placed_at >= $3 AND placed_at < $4 AND state = 'fulfilled' ORDER BY id DESC LIMIT $5`
	listByCustomer = `SELECT ` + orderColumns + ` FROM orders
		WHERE customer = $6 AND customer <> '' AND id < $1 AND id >= $2 AND placed_at >= $3 AND placed_at < $4
		AND ($7 = '' OR state = $7 OR state = $8) ORDER BY id DESC LIMIT $5`

	listByCorrelation = `SELECT ` + orderColumns + ` FROM orders
		WHERE correlation_id = $6 AND id < $1 AND id >= $2 AND placed_at >= $3 AND placed_at < $4
		AND ($7 = '' OR state = $7 OR state = $8) AND ($9 = '' OR customer = $9) ORDER BY id DESC LIMIT $5`

	getLines = `SELECT order_id, sku, qty, unit_price_minor FROM order_lines WHERE order_id IN (list) ORDER BY order_id, n`
)

// Get implements order.Records.
func (s *Store) Get(ctx context.Context, id order.ID) (*order.Order, error) {
	orders, err := s.read(ctx, getOrder, string(id))
	if err != nil {
		return nil, fmt.Errorf("get order %s: %w", id, err)
	}
	if len(orders) == 0 {
		return nil, order.ErrNotFound
	}
	return orders[0], nil
}

// List implements order.Records.
func (s *Store) List(ctx context.Context, f order.Filter) ([]*order.Order, error) {
	before, lowest := "g", "" // "g" sorts after every hexadecimal digit
	from, to := int64(0), int64(1)<<62
	if !f.PlacedFrom.IsZero() {
		from, lowest = f.PlacedFrom.UnixMicro(), string(order.FirstID(f.PlacedFrom))
	}
	if !f.PlacedBefore.IsZero() {
		to, before = f.PlacedBefore.UnixMicro(), string(order.FirstID(f.PlacedBefore))
	}
	if f.Before != "" && string(f.Before) < before {
		before = string(f.Before)
	}
	args := []any{before, lowest, from, to, f.Limit}
	state := func(i int) string {
		if len(f.States) == 0 {
			return ""
		}
		return string(f.States[min(i, len(f.States)-1)])
	}
	switch {
	case f.Correlation != "":
		return s.read(ctx, listByCorrelation, append(args, f.Correlation, state(0), state(1), f.Customer)...)
	case f.Customer != "":
		return s.read(ctx, listByCustomer, append(args, f.Customer, state(0), state(1))...)
	case len(f.States) == 0:
		return s.read(ctx, listAll, args...)
	case f.States[0] == order.Fulfilled:
		return s.read(ctx, listFulfilled, args...)
	}
	return s.read(ctx, listByState, append(args, state(0), state(1))...)
}

// Notes implements order.Records.
func (s *Store) Notes(ctx context.Context, id order.ID) ([]order.Note, error) {
	rows, err := s.db.Query(ctx, `SELECT at, what, detail FROM notes WHERE order_id = $1 ORDER BY at, event_id`, string(id))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var notes []order.Note
	for rows.Next() {
		var n order.Note
		var at int64
		if err := rows.Scan(&at, &n.What, &n.Detail); err != nil {
			return nil, err
		}
		n.At = fromMicro(at)
		notes = append(notes, n)
	}
	return notes, rows.Err()
}

// read runs a query over orders and adds their lines. Those are written with their order and never changed, so the two queries need not
// see one state.
func (s *Store) read(ctx context.Context, query string, args ...any) ([]*order.Order, error) {
	rows, err := s.db.Prepared(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var orders []*order.Order
	var ids []any
	byID := map[order.ID]*order.Order{}
	for rows.Next() {
		o, err := scanOrder(rows)
		if err != nil {
			return nil, err
		}
		orders, ids, byID[o.ID] = append(orders, o), append(ids, string(o.ID)), o
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	return orders, s.db.PreparedWide(ctx, getLines, ids, func(rows *sql.Rows) error {
		var id order.ID
		var l order.Line
		if err := rows.Scan(&id, &l.SKU, &l.Qty, &l.UnitPriceMinor); err != nil {
			return err
		}
		o := byID[id]
		o.Lines = append(o.Lines, l)
		return nil
	})
}

func scanOrder(rows *sql.Rows) (*order.Order, error) {
	o := &order.Order{}
	var id, state, code, detail string
	var kind int
	var placed, reserved, authorized, decided, cancelled, fulfilled, returned, lease int64
	var unitsTaken, moneyTaken, unitsBack, moneyBack int64
	err := rows.Scan(&id, &state, &o.Currency, &o.TotalMinor, &o.Customer, &o.Payment.Provider, &o.Payment.Token, &o.Payment.ID, &o.Key, &o.CorrelationID,
		&kind, &code, &detail, &o.CancelReason, &o.ReturnReason, &placed, &reserved, &authorized, &decided, &cancelled,
		&fulfilled, &returned, &unitsTaken, &moneyTaken, &unitsBack, &moneyBack, &o.Kept, &o.Lease.Owner, &lease, &o.Attempts)
	if err != nil {
		return nil, err
	}
	o.ID, o.State = order.ID(id), order.State(state)
	o.PlacedAt, o.ReservedAt, o.AuthorizedAt, o.DecidedAt = fromMicro(placed), fromMicro(reserved), fromMicro(authorized), fromMicro(decided)
	o.CancelledAt, o.FulfilledAt, o.ReturnedAt, o.Lease.Until = fromMicro(cancelled), fromMicro(fulfilled), fromMicro(returned), fromMicro(lease)
	o.UnitsTakenAt, o.MoneyTakenAt, o.UnitsBackAt, o.MoneyBackAt = fromMicro(unitsTaken), fromMicro(moneyTaken), fromMicro(unitsBack), fromMicro(moneyBack)
	if code != "" {
		var d rejectionDetail
		if err := json.Unmarshal([]byte(detail), &d); err != nil {
			return nil, fmt.Errorf("order %s: reject_detail: %w", id, err)
		}
		o.Rejection = &order.Rejection{Kind: fault.Kind(kind), Code: code, Detail: d.Detail, Shortages: d.Shortages}
	}
	return o, nil
}
