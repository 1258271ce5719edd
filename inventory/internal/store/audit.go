package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/big"

	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// Inspect opens the records of Inventory for an audit, beside a running process or without one.
func Inspect(ctx context.Context, url string) (audit.Source, error) {
	at, err := db.OpenSnapshot(ctx, url, Schema())
	if err != nil {
		return nil, err
	}
	return &source{at}, nil
}

type source struct{ at *db.Snapshot }

func (s *source) Name() string { return "inventory" }
func (s *source) Close() error { return s.at.Close() }

// States implements audit.Source.
func (s *source) States() []audit.What {
	return []audit.What{audit.UnitsHeld, audit.UnitsTaken, audit.UnitsBack}
}

// Units are summed in two halves: a thousand numbers near MaxUnits pass what a sum of SQLite may have, and it may pass that on
// the way to a small sum. A half, of 2^32 units each or of what is left of them, cannot for two thousand million rows.

// counts are the numbers that Check reports, each in two halves.
var counts = []struct{ name, query string }{
	{"items", `SELECT 0, count(*) FROM items`},
	{"onHand", `SELECT coalesce(sum(on_hand / 4294967296), 0), coalesce(sum(on_hand % 4294967296), 0) FROM stock`},
	{"reserved", `SELECT coalesce(sum(reserved / 4294967296), 0), coalesce(sum(reserved % 4294967296), 0) FROM stock`},
	{"movements", `SELECT 0, count(*) FROM movements`},
	{"liveReservations", `SELECT 0, count(*) FROM reservations WHERE state = 'reserved'`},
}

// whole is a sum of its halves, or as near to it as an int64 comes.
func whole(high, low int64) int64 {
	sum := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(high), 32), big.NewInt(low))
	switch {
	case sum.IsInt64():
		return sum.Int64()
	case sum.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

// rules are the promises. Each query returns the rows that break its rule, as one line of text each.
//
// A wrong sum is put right by an adjustment (on hand) or by releasing what holds too much (reserved): movements and reservations
// are the record, the columns of stock are derived from them.
var rules = []struct{ name, query string }{
	{"on_hand_is_sum_of_movements", `
		SELECT 'sku ' || s.sku || ' at ' || s.location || ': on hand is ' || s.on_hand || ', its movements sum to ' || (coalesce(m.high, 0) * 4294967296 + coalesce(m.low, 0))
		FROM stock s LEFT JOIN (
			SELECT sku, location, sum(delta / 4294967296) AS high, sum(delta % 4294967296) AS low FROM movements GROUP BY sku, location) m
			ON m.sku = s.sku AND m.location = s.location
		WHERE (s.on_hand - coalesce(m.low, 0)) % 4294967296 <> 0 OR (s.on_hand - coalesce(m.low, 0)) / 4294967296 <> coalesce(m.high, 0)
		UNION ALL
		SELECT 'sku ' || m.sku || ' at ' || m.location || ': there are movements and no stock row'
		FROM (SELECT DISTINCT sku, location FROM movements) m LEFT JOIN stock s ON s.sku = m.sku AND s.location = m.location
		WHERE s.sku IS NULL`},
	{"reserved_is_sum_of_live_reservations", `
		SELECT 'sku ' || s.sku || ' at ' || s.location || ': reserved is ' || s.reserved || ', its live reservations sum to ' || coalesce(l.total, 0)
		FROM stock s LEFT JOIN (
			SELECT l.sku, l.location, sum(l.qty) AS total FROM reservation_lines l JOIN reservations r ON r.id = l.reservation_id
			WHERE r.state = 'reserved' GROUP BY l.sku, l.location) l
			ON l.sku = s.sku AND l.location = s.location
		WHERE s.reserved <> coalesce(l.total, 0)
		UNION ALL
		SELECT 'reservation ' || l.reservation_id || ': it holds ' || l.qty || ' of sku ' || l.sku || ' at ' || l.location || ', which has no stock row'
		FROM reservation_lines l JOIN reservations r ON r.id = l.reservation_id LEFT JOIN stock s ON s.sku = l.sku AND s.location = l.location
		WHERE r.state = 'reserved' AND s.sku IS NULL`},
	{"reservation_has_lines", `
		SELECT 'reservation ' || r.id || ': it is ' || r.state || ' and has no lines'
		FROM reservations r LEFT JOIN reservation_lines l ON l.reservation_id = r.id
		WHERE r.state IN ('reserved', 'committed', 'returned') AND l.reservation_id IS NULL`},
	{"live_holds_can_expire", `
		SELECT 'reservation ' || r.id || ': it expires, and its ' || l.qty || ' of sku ' || l.sku || ' are not where expired ones are looked for'
		FROM reservations r JOIN reservation_lines l ON l.reservation_id = r.id
			LEFT JOIN holds h ON h.reservation_id = l.reservation_id AND h.sku = l.sku AND h.location = l.location AND h.qty = l.qty AND h.expires_at = r.expires_at
		WHERE r.state = 'reserved' AND r.expires_at IS NOT NULL AND h.reservation_id IS NULL
		UNION ALL
		SELECT 'reservation ' || h.reservation_id || ': it is no live hold, and ' || h.qty || ' of sku ' || h.sku || ' are where expired ones are looked for'
		FROM holds h LEFT JOIN reservations r ON r.id = h.reservation_id AND r.state = 'reserved' AND r.expires_at IS NOT NULL WHERE r.id IS NULL`},
	{"taken_units_have_movements", `
		SELECT 'reservation ' || r.id || ': it is ' || r.state || ' with ' || l.qty || ' of sku ' || l.sku || ', of which ' || coalesce(m.taken, 0)
			|| ' left the shelf and ' || coalesce(m.back, 0) || ' came back by its movements'
		FROM reservations r JOIN reservation_lines l ON l.reservation_id = r.id LEFT JOIN (
			SELECT order_id, sku, location, sum(CASE WHEN delta < 0 THEN -delta ELSE 0 END) AS taken, sum(CASE WHEN delta > 0 THEN delta ELSE 0 END) AS back
			FROM movements WHERE order_id <> '' GROUP BY order_id, sku, location) m
			ON m.order_id = r.id AND m.sku = l.sku AND m.location = l.location
		WHERE r.owner = 'order' AND (
			coalesce(m.taken, 0) <> CASE WHEN r.state IN ('committed', 'returned') THEN l.qty ELSE 0 END
			OR coalesce(m.back, 0) <> CASE WHEN r.state = 'returned' THEN l.qty ELSE 0 END)`},
	{"available_not_negative", `
		SELECT 'sku ' || s.sku || ' at ' || s.location || ': ' || s.on_hand || ' on hand, ' || s.reserved || ' reserved'
		FROM stock s JOIN items i ON i.sku = s.sku
		WHERE s.reserved < 0 OR (i.tracked AND s.on_hand - s.reserved < 0)`},
	{"unlimited_is_not_tracked", `
		SELECT 'sku ' || s.sku || ' at ' || s.location || ': the stock row and the item do not agree whether it is tracked'
		FROM stock s JOIN items i ON i.sku = s.sku WHERE s.unlimited = i.tracked`},
	{"item_has_stock", `
		SELECT 'sku ' || i.sku || ': it has no stock row at default'
		FROM items i LEFT JOIN stock s ON s.sku = i.sku AND s.location = 'default' WHERE s.sku IS NULL`},
}

// maxViolations bounds what one rule reports; the rest is counted.
const maxViolations = 1000

// Check implements audit.Source.
func (s *source) Check(ctx context.Context) (map[string]int64, []audit.Violation, error) {
	found := map[string]int64{}
	var broken []audit.Violation
	err := s.at.Read(func(tx *sql.Tx) error {
		for _, c := range counts {
			var high, low int64
			if err := tx.QueryRowContext(ctx, c.query).Scan(&high, &low); err != nil {
				return fmt.Errorf("count %s: %w", c.name, err)
			}
			found[c.name] = whole(high, low)
		}
		for _, r := range rules {
			more, err := violations(ctx, tx, r.name, r.query)
			if err != nil {
				return fmt.Errorf("prove %s: %w", r.name, err)
			}
			broken = append(broken, more...)
		}
		undelivered, err := outbox.Audit(ctx, tx, found)
		broken = append(broken, undelivered...)
		return err
	})
	return found, broken, err
}

func violations(ctx context.Context, tx *sql.Tx, rule, query string) ([]audit.Violation, error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var broken []audit.Violation
	past := int64(0)
	for rows.Next() {
		var detail string
		if err := rows.Scan(&detail); err != nil {
			return nil, err
		}
		if len(broken) < maxViolations {
			broken = append(broken, audit.Violation{Rule: rule, Detail: detail})
			continue
		}
		past++
	}
	if past > 0 {
		broken = append(broken, audit.Violation{Rule: rule, Detail: fmt.Sprintf("and %d more", past), Times: past})
	}
	return broken, rows.Err()
}

// Claims implements audit.Source.
func (s *source) Claims(ctx context.Context, yield func(audit.Claim) bool) error {
	return s.at.Read(func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id, state FROM reservations WHERE state IN ('reserved', 'committed', 'returned') AND owner = 'order' ORDER BY id`)
		if err != nil {
			return fmt.Errorf("list reservations: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			c := audit.Claim{What: audit.UnitsHeld}
			var state stock.State
			if err := rows.Scan(&c.Order, &state); err != nil {
				return err
			}
			switch state {
			case stock.Committed:
				c.What = audit.UnitsTaken
			case stock.Returned:
				c.What = audit.UnitsBack
			}
			c.Ref = c.Order
			if !yield(c) {
				return nil
			}
		}
		return rows.Err()
	})
}
