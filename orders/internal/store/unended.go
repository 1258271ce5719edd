package store

import (
	"context"
	"fmt"
	"time"
)

// Both go by the index of what is not fulfilled, whose states are in the order of the orders' ids, and so of their times.
const (
	countPending  = `SELECT count(*) FROM (SELECT 1 FROM orders WHERE state IN ('pending', 'undoing') AND state <> 'fulfilled' LIMIT 10000) AS pending`
	oldestPending = `SELECT coalesce(min(placed_at), 0) FROM (
		SELECT placed_at FROM (SELECT placed_at FROM orders WHERE state = 'pending' AND state <> 'fulfilled' ORDER BY id LIMIT 1) AS p
		UNION ALL SELECT placed_at FROM (SELECT placed_at FROM orders WHERE state = 'undoing' AND state <> 'fulfilled' ORDER BY id LIMIT 1) AS u) AS oldest`
)

// unended is what the figures say of the orders that have no end yet: how many there are, and the age of the oldest in seconds.
type unended struct{ n, oldest float64 }

func (s *Store) unended(ctx context.Context) (unended, error) {
	var n, oldest int64
	if err := s.db.QueryRow(ctx, countPending).Scan(&n); err != nil {
		return unended{}, fmt.Errorf("count pending orders: %w", err)
	}
	if err := s.db.QueryRow(ctx, oldestPending).Scan(&oldest); err != nil {
		return unended{}, fmt.Errorf("look for the oldest pending order: %w", err)
	}
	u := unended{n: float64(n)}
	if oldest > 0 {
		u.oldest = max(0, time.Since(time.UnixMicro(oldest)).Seconds())
	}
	return u, nil
}
