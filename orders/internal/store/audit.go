package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

// Inspect opens the records of Orders for an audit, beside a running process or without one.
func Inspect(ctx context.Context, url string) (audit.Source, error) {
	at, err := db.OpenSnapshot(ctx, url, Schema())
	if err != nil {
		return nil, err
	}
	return &source{at: at, now: time.Now}, nil
}

type source struct {
	at  *db.Snapshot
	now func() time.Time
}

func (s *source) Name() string { return "orders" }
func (s *source) Close() error { return s.at.Close() }

// States implements audit.Source.
func (s *source) States() []audit.What {
	return []audit.What{audit.OrderPending, audit.OrderConfirmed, audit.OrderOff, audit.OrderFulfilled, audit.OrderReturned, audit.OrderUnrecorded}
}

// Check implements audit.Source: totals are the sum of their lines, the outbox is drained, nothing is parked.
func (s *source) Check(ctx context.Context) (map[string]int64, []audit.Violation, error) {
	counts := map[string]int64{"pending": 0, "confirmed": 0, "rejected": 0, "cancelled": 0, "fulfilled": 0, "returned": 0}
	var violations []audit.Violation
	err := s.at.Read(func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT state, count(*) FROM orders GROUP BY state`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var state string
			var n int64
			if err := rows.Scan(&state, &n); err != nil {
				return err
			}
			counts[order.State(state).Status()] += n
		}
		if err := rows.Err(); err != nil {
			return err
		}
		// What a foreign Inventory keeps for them is to be put back by hand; whether it was, nobody can tell.
		var kept int64
		err = tx.QueryRowContext(ctx, `SELECT count(*) FROM orders WHERE state IN ('rejected', 'cancelled', 'returned') AND state <> 'fulfilled' AND kept <> ''`).Scan(&kept)
		if err != nil {
			return err
		}
		counts["unitsKept"] = kept
		var archived int64
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM archived`).Scan(&archived); err != nil {
			return err
		}
		counts["archived"] = archived
		if violations, err = outbox.Audit(ctx, tx, counts); err != nil {
			return err
		}
		return s.wrongTotals(ctx, tx, &violations)
	})
	return counts, violations, err
}

func (s *source) wrongTotals(ctx context.Context, tx *sql.Tx, violations *[]audit.Violation) error {
	rows, err := tx.QueryContext(ctx, `
		SELECT o.id, o.total_minor, coalesce(sum(l.qty * l.unit_price_minor), 0), count(l.n)
		FROM orders o LEFT JOIN order_lines l ON l.order_id = o.id
		GROUP BY o.id, o.total_minor
		HAVING o.total_minor <> coalesce(sum(l.qty * l.unit_price_minor), 0) OR count(l.n) = 0`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var total, sum, lines int64
		if err := rows.Scan(&id, &total, &sum, &lines); err != nil {
			return err
		}
		*violations = append(*violations, audit.Violation{Rule: "total_is_sum_of_lines",
			Detail: fmt.Sprintf("order %s: total %d, sum of its %d lines %d", id, total, lines, sum)})
	}
	return rows.Err()
}

// claimsQuery merges two tables that both are in the order of their ids, and so needs no room for all of them.
const claimsQuery = `SELECT id, state, total_minor, currency, lease_until, placed_at, cancelled_at, fulfilled_at, returned_at,
		units_taken_at, money_taken_at, units_back_at, money_back_at, kept, 0 AS archived FROM orders
	UNION ALL SELECT order_id, state, total_minor, currency, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', 1 FROM archived ORDER BY id`

// Claims implements audit.Source.
func (s *source) Claims(ctx context.Context, yield func(audit.Claim) bool) error {
	return s.at.Read(func(tx *sql.Tx) error { return s.claims(ctx, tx, yield) })
}

func (s *source) claims(ctx context.Context, tx *sql.Tx, yield func(audit.Claim) bool) error {
	leaves, err := tx.QueryContext(ctx, queryLeaves)
	if err != nil {
		return err
	}
	unrecorded, err := scanLeaves(leaves)
	if err != nil {
		return err
	}
	// until yields those of leaves that come before an id.
	until := func(id string) bool {
		for len(unrecorded) > 0 {
			l := unrecorded[0]
			from := string(order.FirstID(l.Since))
			if id != "" && from > id {
				break
			}
			unrecorded = unrecorded[1:]
			if !yield(audit.Claim{Order: from, What: audit.OrderUnrecorded, Ref: string(order.FirstID(l.Until)), Since: l.Since}) {
				return false
			}
		}
		return true
	}
	// An order counts as left lying when nobody has come for it for a minute after it was due: the longest backoff.
	stuckBefore := s.now().Add(-time.Minute).UnixMicro()
	// Driven again and again and still not at its end is left lying too: it may hold units and money.
	hopelessBefore := s.now().Add(-audit.Patience).UnixMicro()
	rows, err := tx.QueryContext(ctx, claimsQuery)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var c audit.Claim
		var state, kept string
		var lease, placed, cancelled, fulfilled, returned, unitsTaken, moneyTaken, unitsBack, moneyBack int64
		if err := rows.Scan(&c.Order, &state, &c.Amount, &c.Currency, &lease, &placed, &cancelled, &fulfilled, &returned, &unitsTaken, &moneyTaken, &unitsBack, &moneyBack, &kept, &c.Archived); err != nil {
			return err
		}
		back := func(since int64) {
			c.Since, c.UnitsAnswer, c.MoneyAnswer = fromMicro(since), unitsBack > 0 || kept != "", moneyBack > 0 || c.Amount == 0
		}
		switch order.State(state) {
		case order.Pending, order.Undoing:
			c.What, c.Since, c.Past = audit.OrderPending, fromMicro(placed), lease < stuckBefore || placed < hopelessBefore
		case order.Confirmed:
			c.What = audit.OrderConfirmed
		case order.Rejected:
			c.What = audit.OrderOff
		case order.Cancelled:
			c.What = audit.OrderOff
			back(cancelled)
		case order.Fulfilled:
			c.What, c.Since = audit.OrderFulfilled, fromMicro(fulfilled)
			// That the money went back is an answer too: it cannot be captured any more.
			c.UnitsAnswer, c.MoneyAnswer = unitsTaken > 0 || kept != "", moneyTaken > 0 || moneyBack > 0 || c.Amount == 0
		case order.Returned:
			c.What = audit.OrderReturned
			back(returned)
		}
		if c.Archived {
			c.Since, c.UnitsAnswer, c.MoneyAnswer = time.Time{}, true, true // it went when all had answered
		}
		if !until(c.Order) || !yield(c) {
			return nil
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	until("")
	return nil
}
