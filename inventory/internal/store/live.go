package store

import (
	"context"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// queryLive reads a few rows, however many reservations there are.
const queryLive = `SELECT owner, CAST(sum(n) AS BIGINT) FROM live_reservations GROUP BY owner`

// liveSlots is among how many rows the processes spread what they write: two of them rarely have one.
const liveSlots = 64

// writeLive notes by how much a batch changes the number of live reservations. It comes after the rows of stock
// and reservations, which others may have locked, so that none waits in a circle.
func (s *Store) writeLive(tx *db.Tx, more map[stock.Owner]int64) error {
	var args []any
	for _, owner := range []stock.Owner{stock.Direct, stock.ByOrder} {
		if n := more[owner]; n != 0 {
			args = append(args, string(owner), s.slot, n)
		}
	}
	return tx.ExecWide(`INSERT INTO live_reservations (owner, slot, n) VALUES (rows)
		ON CONFLICT (owner, slot) DO UPDATE SET n = live_reservations.n + excluded.n`, 3, args)
}

// live says how many reservations are live, by owner. Holds whose time is up are among them until the sweeper has been there.
func live(ctx context.Context, d *db.DB) (map[stock.Owner]int64, error) {
	rows, err := d.Query(ctx, queryLive)
	if err != nil {
		return nil, wrap("count live reservations", err)
	}
	defer rows.Close()
	all := map[stock.Owner]int64{}
	for rows.Next() {
		var owner stock.Owner
		var n int64
		if err := rows.Scan(&owner, &n); err != nil {
			return nil, wrap("count live reservations", err)
		}
		all[owner] = n
	}
	return all, wrap("count live reservations", rows.Err())
}

// measureLive adds the figures of live reservations to those of the process.
func measureLive(d *db.DB, m *telemetry.Metrics) {
	look := telemetry.NewLook(func(ctx context.Context) (map[stock.Owner]int64, error) { return live(ctx, d) })
	for _, owner := range []stock.Owner{stock.ByOrder, stock.Direct} {
		m.Gauge("orderkeep_reservations_live", "Reservations that hold units.",
			look.Gauge(func(n map[stock.Owner]int64) float64 { return float64(n[owner]) }), "owner", string(owner))
	}
}
