package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

// row is an order o with its lines, packed. The columns have names because each query asks SQLite for them, and it would say the expressions.
const row = `json_build_array(id, state, currency, total_minor, customer, provider, token, payment_id, key, correlation_id,
	reject_kind, reject_code, reject_detail, cancel_reason, return_reason, placed_at, reserved_at, authorized_at, decided_at, cancelled_at,
	fulfilled_at, returned_at, units_taken_at, money_taken_at, units_back_at, money_back_at, kept, lease_owner, lease_until, attempts) AS packed,
	(SELECT json_agg(json_build_array(n, sku, qty, unit_price_minor)) FROM order_lines WHERE order_id = o.id) AS lines`

const (
	getOrder = `SELECT ` + row + ` FROM orders o WHERE id = $1`

	// What is packed is on the page already: PostgreSQL packs before it sorts, where it sorts.
	// The bounds on id are the times of the filter, as an id has the time of its order: they keep a page from reading what is far away.
	listAll = `SELECT ` + row + ` FROM (SELECT * FROM orders
		WHERE id < $1 AND id >= $2 AND placed_at >= $3 AND placed_at < $4 ORDER BY id DESC LIMIT $5) o`
	listByState = `SELECT ` + row + ` FROM (SELECT * FROM orders
		WHERE id < $1 AND id >= $2 AND placed_at >= $3 AND placed_at < $4 AND state IN ($6, $7) AND state <> 'fulfilled' ORDER BY id DESC LIMIT $5) o`
	listFulfilled = `SELECT ` + row + ` FROM (SELECT * FROM orders
		WHERE id < $1 AND id >= $2 AND placed_at >= $3 AND placed_at < $4 AND state = 'fulfilled' ORDER BY id DESC LIMIT $5) o`
	listByCustomer = `SELECT ` + row + ` FROM (SELECT * FROM orders
		WHERE customer = $6 AND customer <> '' AND id < $1 AND id >= $2 AND placed_at >= $3 AND placed_at < $4
		AND ($7 = '' OR state = $7 OR state = $8) ORDER BY id DESC LIMIT $5) o`

	listByCorrelation = `SELECT ` + row + ` FROM (SELECT * FROM orders
		WHERE correlation_id = $6 AND id < $1 AND id >= $2 AND placed_at >= $3 AND placed_at < $4
		AND ($7 = '' OR state = $7 OR state = $8) AND ($9 = '' OR customer = $9) ORDER BY id DESC LIMIT $5) o`
)

// Get implements order.Records.
func (s *Store) Get(ctx context.Context, id order.ID) (*order.Order, error) {
	orders, err := s.read(ctx, getOrder, string(id))
	if err != nil {
		return nil, fmt.Errorf("get order %s: %w", id, err)
	}
	if len(orders) == 0 {
		return nil, s.missing(ctx, id)
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
	state := func(i int) string {
		if len(f.States) == 0 {
			return ""
		}
		return string(f.States[min(i, len(f.States)-1)])
	}
	list, more := listByState, []any{state(0), state(1)}
	switch {
	case f.Correlation != "":
		list, more = listByCorrelation, []any{f.Correlation, state(0), state(1), f.Customer}
	case f.Customer != "":
		list, more = listByCustomer, []any{f.Customer, state(0), state(1)}
	case len(f.States) == 0:
		list, more = listAll, nil
	case f.States[0] == order.Fulfilled:
		list, more = listFulfilled, nil
	}
	orders, err := s.read(ctx, list, append([]any{before, lowest, from, to, f.Limit}, more...)...)
	// The query that packs keeps the order of the one within, as far as anybody knows, and does not have to.
	slices.SortFunc(orders, func(a, b *order.Order) int { return strings.Compare(string(b.ID), string(a.ID)) })
	return orders, err
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

// read runs a query for orders.
func (s *Store) read(ctx context.Context, query string, args ...any) (orders []*order.Order, err error) {
	return orders, s.db.Packed(ctx, query, args, func(r *db.Row) error {
		o := &order.Order{}
		orders = append(orders, o)
		return scanOrder(r, o)
	})
}

// scanOrder reads what row says.
func scanOrder(r *db.Row, o *order.Order) error {
	at := func() time.Time { return fromMicro(r.Int()) }
	o.ID, o.State, o.Currency, o.TotalMinor, o.Customer = order.ID(r.Text()), order.State(r.Text()), r.Text(), r.Int(), telemetry.Secret(r.Text())
	o.Payment = order.Payment{Provider: r.Text(), Token: telemetry.Secret(r.Text()), ID: r.Text()}
	o.Key, o.CorrelationID = r.Text(), r.Text()
	kind, code, detail := r.Int(), r.Text(), r.Text()
	o.CancelReason, o.ReturnReason = r.Text(), r.Text()
	o.PlacedAt, o.ReservedAt, o.AuthorizedAt, o.DecidedAt, o.CancelledAt = at(), at(), at(), at(), at()
	o.FulfilledAt, o.ReturnedAt, o.UnitsTakenAt, o.MoneyTakenAt, o.UnitsBackAt, o.MoneyBackAt = at(), at(), at(), at(), at(), at()
	o.Kept, o.Lease, o.Attempts = r.Text(), order.Lease{Owner: r.Text(), Until: at()}, r.Int()
	var numbers []int64
	r.Each(func() {
		numbers = append(numbers, r.Int())
		o.Lines = append(o.Lines, order.Line{SKU: r.Text(), Qty: r.Int(), UnitPriceMinor: r.Int()})
	})
	if !slices.IsSorted(numbers) {
		sort.Sort(byNumber{numbers, o.Lines})
	}
	if code == "" {
		return nil
	}
	var d rejectionDetail
	if err := json.Unmarshal([]byte(detail), &d); err != nil {
		return fmt.Errorf("order %s: reject_detail: %w", o.ID, err)
	}
	o.Rejection = &order.Rejection{Kind: fault.Kind(kind), Code: code, Detail: d.Detail, Shortages: d.Shortages}
	return nil
}

// byNumber puts lines in their order. Both engines aggregate them in it, mostly, and promise it only where it is asked for, which SQLite sorts for.
type byNumber struct {
	numbers []int64
	lines   []order.Line
}

func (b byNumber) Len() int           { return len(b.lines) }
func (b byNumber) Less(i, j int) bool { return b.numbers[i] < b.numbers[j] }
func (b byNumber) Swap(i, j int) {
	b.numbers[i], b.numbers[j] = b.numbers[j], b.numbers[i]
	b.lines[i], b.lines[j] = b.lines[j], b.lines[i]
}
