package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

// Keeper is what an archive sees of Orders.
func (s *Store) Keeper(rules archive.Rules) *archive.Keeper {
	return &archive.Keeper{
		Context: "orders", Source: "/orders", DB: s.db, Write: s.Write, Rules: rules, Now: lab.Now,
		Lock: `SELECT id FROM orders WHERE id IN (list) ORDER BY id FOR UPDATE`,
		Tables: []archive.Table{
			{
				Name: "orders", Of: "id",
				Select: `SELECT * FROM orders WHERE id IN (list) ORDER BY id`,
				Delete: `DELETE FROM orders WHERE id IN (list) RETURNING id`,
			},
			{
				Name: "order_lines", Of: "order_id",
				Select: `SELECT * FROM order_lines WHERE order_id IN (list) ORDER BY order_id, n`,
				Delete: `DELETE FROM order_lines WHERE order_id IN (list) RETURNING n`,
			},
			{
				Name: "notes", Of: "order_id",
				Select: `SELECT * FROM notes WHERE order_id IN (list) ORDER BY order_id, at, event_id`,
				Delete: `DELETE FROM notes WHERE order_id IN (list) RETURNING event_id`,
			},
			{
				// A key that was set free may belong to a later order.
				Name: "idempotency_keys", Of: "order_id",
				Select: `SELECT k.* FROM orders o JOIN idempotency_keys k ON k.key = o.key AND k.order_id = o.id WHERE o.key <> '' AND o.id IN (list) ORDER BY o.id`,
				Delete: `DELETE FROM idempotency_keys WHERE (key, order_id) IN (SELECT key, id FROM orders WHERE key <> '' AND id IN (list)) RETURNING key`,
			},
		},
		May:        mayGo,
		Candidates: `SELECT id FROM orders WHERE id > $1 AND id < $2 AND state IN ('rejected', 'cancelled', 'fulfilled', 'returned') ORDER BY id LIMIT $3`,
		FirstID:    func(at time.Time) string { return string(order.FirstID(at)) },
		Remember:   remember, Remembered: remembered,
	}
}

// mayGo says why an order cannot be archived yet: it may still move, others may still answer, or somebody has to look after it.
func mayGo(row archive.Row, before time.Time) string {
	paid := row.Number("total_minor") > 0
	needs := []string{"decided_at"} // the times that must lie before
	switch order.State(row.Text("state")) {
	case order.Rejected:
	case order.Cancelled:
		needs = append(needs, "cancelled_at", "units_back_at")
		if paid {
			needs = append(needs, "money_back_at")
		}
	case order.Fulfilled:
		needs = append(needs, "fulfilled_at", "units_taken_at")
		if paid {
			needs = append(needs, "money_taken_at")
		}
	case order.Returned:
		needs = append(needs, "returned_at", "units_back_at")
		if paid {
			needs = append(needs, "money_back_at")
		}
	default:
		return "it has not ended"
	}
	if row.Text("kept") != "" {
		return "an Inventory without a release keeps units of it"
	}
	for _, column := range needs {
		switch at := row.Number(column); {
		case at == 0:
			return "Inventory or Payments has not answered, or its settlement failed"
		case at >= before.UnixMicro():
			return "it has not ended for long enough"
		}
	}
	return ""
}

// remember writes the lines that stay of archived orders.
func remember(tx *db.Tx, id string, gone []archive.Row) error {
	if len(gone) == 0 {
		return nil
	}
	n, err := archiveNumber(tx, id)
	if err != nil {
		return err
	}
	var lines []any
	for _, row := range gone {
		lines = append(lines, row.Text("id"), row.Text("state"), row.Number("total_minor"), row.Text("currency"), n)
	}
	return tx.ExecWide(`INSERT INTO archived (order_id, state, total_minor, currency, archive) VALUES (rows)`, 5, lines)
}

// archiveNumber is how lines name an archive, which it gets with the first of them.
func archiveNumber(tx *db.Tx, id string) (int64, error) {
	var n, last int64
	err := tx.QueryWide(`SELECT n FROM archives WHERE id IN (list)`, []any{id}, func(rows *sql.Rows) error { return rows.Scan(&n) })
	if err != nil || n > 0 {
		return n, err
	}
	rows, err := tx.Query(`SELECT coalesce(max(n), 0) FROM archives`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&last); err != nil {
			return 0, err
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return 0, err
	}
	_, err = tx.Exec(`INSERT INTO archives (n, id, at) VALUES ($1, $2, $3)`, last+1, id, lab.Now().UnixMicro())
	return last + 1, err
}

// remembered finds, of orders that are not there, those that are not in the archive either.
func remembered(tx *db.Tx, id string, orders []any) ([]archive.Left, error) {
	in := map[string]string{}
	err := tx.QueryWide(`SELECT l.order_id, a.id FROM archived l JOIN archives a ON a.n = l.archive WHERE l.order_id IN (list)`, orders, func(rows *sql.Rows) error {
		var order, at string
		err := rows.Scan(&order, &at)
		in[order] = at
		return err
	})
	var left []archive.Left
	for _, o := range orders {
		switch o := o.(string); in[o] {
		case id:
		case "":
			left = append(left, archive.Left{Context: "orders", ID: o, Why: "Orders does not know it: does the archive belong to this server?"})
		default:
			left = append(left, archive.Left{Context: "orders", ID: o, Why: "it is in another archive, " + in[o]})
		}
	}
	return left, err
}

// missing says why an order is not there: it was archived, or there never was one.
func (s *Store) missing(ctx context.Context, id order.ID) error {
	var state, archive string
	err := s.db.QueryRow(ctx, `SELECT l.state, a.id FROM archived l JOIN archives a ON a.n = l.archive WHERE l.order_id = $1`, string(id)).Scan(&state, &archive)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return order.ErrNotFound
	case err != nil:
		return fmt.Errorf("look for order %s among the archived: %w", id, err)
	}
	return order.ErrArchived.Detailf("The order is %s, and was moved out into the archive %s. What is kept of it there, orderkeep archive show finds by its id.", state, archive)
}
