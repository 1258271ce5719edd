package store

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
)

// Both go by the index of what is not fulfilled, whose states are in the order of the orders' ids, and so of their times.
const (
	countPending  = `SELECT count(*) FROM (SELECT 1 FROM orders WHERE state IN ('pending', 'undoing') AND state <> 'fulfilled' LIMIT 10000) AS pending`
	oldestPending = `SELECT coalesce(min(placed_at), 0) FROM (
		SELECT placed_at FROM (SELECT placed_at FROM orders WHERE state = 'pending' AND state <> 'fulfilled' ORDER BY id LIMIT 1) AS p
		UNION ALL SELECT placed_at FROM (SELECT placed_at FROM orders WHERE state = 'undoing' AND state <> 'fulfilled' ORDER BY id LIMIT 1) AS u) AS oldest`
)

// unended looks at the orders that have no end yet, for the figures of the process.
type unended struct {
	db *db.DB

	mu   sync.Mutex // held while one reader looks for all
	at   time.Time  // of last
	last waiting
}

type waiting struct{ n, oldest float64 }

const (
	// pendingAge is how old a look may be: the two figures of one reading come from one.
	pendingAge = time.Second
	// pendingTime bounds it: the other figures are not to wait for a database that hangs.
	pendingTime = 500 * time.Millisecond
)

// look returns NaN where the database does not say.
func (p *unended) look() waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) <= pendingAge {
		return p.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), pendingTime)
	defer cancel()
	var n, oldest int64
	err := p.db.QueryRow(ctx, countPending).Scan(&n)
	if err == nil {
		err = p.db.QueryRow(ctx, oldestPending).Scan(&oldest)
	}
	p.last = waiting{n: float64(n)}
	switch {
	case err != nil:
		p.last = waiting{math.NaN(), math.NaN()}
	case oldest > 0:
		p.last.oldest = max(0, time.Since(time.UnixMicro(oldest)).Seconds())
	}
	p.at = time.Now()
	return p.last
}
