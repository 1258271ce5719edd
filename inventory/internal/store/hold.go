package store

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

const (
	// sweepBatch bounds the lines that one transaction of the sweeper releases: as many as other batches have commands.
	sweepBatch = 256
	// sweepPace is how long expired holds are left to those who need their units. Nothing depends on it but how many of them every
	// decision and every read has to look at.
	sweepPace = time.Second
)

// expiredMost bounds the expired lines that a decision looks at, the oldest first: as many as sixteen transactions of the sweeper release, and more
// than expire in a second. Only after a long stop, or a jump of the clock, there are more. What a decision does not see then is held still: it
// may refuse units that could be had, for the second or two that the sweeper takes, and gives nobody units that are somebody's. The hold itself
// is judged by its own row: to commit it is too late, whether its units have been seen or not.
const expiredMost = 16 * sweepBatch

// queryExpired reads what is expired, the oldest first and up to a limit, of a table that has the lines of live holds only: where nothing has expired it reads one page.
// There is no lock: the holds that it finds are locked with the other reservations, in order, and looked at again.
const queryExpired = `SELECT reservation_id, sku FROM holds WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2`

// addExpired adds the holds whose time is up to the reservations of a batch, if they have units of a SKU that the batch asks for. This
// is what makes expiry true at its instant, and not when a sweeper comes by, as long as no more than expiredMost are left over.
func addExpired(tx *db.Tx, n *needs, now time.Time) error {
	if len(n.skus) == 0 {
		return nil
	}
	rows, err := tx.Query(queryExpired, now.UnixMicro(), expiredMost)
	if err != nil {
		return err
	}
	var asked map[string]bool
	return eachHold(rows, func(id, sku string) {
		if asked == nil { // only now, because there is hardly ever one
			asked = make(map[string]bool, len(n.skus))
			for _, s := range n.skus {
				asked[s] = true
			}
		}
		if asked[sku] {
			n.reservations = append(n.reservations, id)
		}
	})
}

func eachHold(rows *sql.Rows, yield func(id, sku string)) error {
	defer rows.Close()
	for rows.Next() {
		var id, sku string
		if err := rows.Scan(&id, &sku); err != nil {
			return err
		}
		yield(id, sku)
	}
	return rows.Err()
}

// writeHolds keeps the lines of new holds. They go by a trigger when the hold ends, whoever ends it.
func writeHolds(tx *db.Tx, holds []stock.Reservation) error {
	var rows, lines []any
	for _, v := range holds {
		at := v.Expires.UnixMicro()
		rows = append(rows, v.ID, string(v.Owner), string(v.State), "", v.CorrelationID, v.Created.UnixMicro(), v.Changed.UnixMicro(), at)
		if v.State != stock.Reserved { // released again in the same batch
			continue
		}
		for _, l := range v.Lines {
			lines = append(lines, v.ID, l.SKU, stock.Default, l.Qty, at)
		}
	}
	err := tx.ExecWide(`INSERT INTO reservations (id, owner, state, refusal, correlation_id, created_at, changed_at, expires_at) VALUES (rows)`, 8, rows)
	if err != nil {
		return err
	}
	return tx.ExecWide(`INSERT INTO holds (reservation_id, sku, location, qty, expires_at) VALUES (rows)`, 5, lines)
}

// expire is about holds that seemed to have expired. Loading them releases those that have.
type expire struct{ ids []string }

func (c *expire) need(n *needs) { n.reservations = append(n.reservations, c.ids...) }

func (c *expire) decide(*stock.Room, *effects) error { return nil }

// Expire releases holds whose time is up, the oldest first, in one transaction, and returns how many of their lines it found: up to 256. It is
// harmless on several processes at once.
func (s *Store) Expire(ctx context.Context) (int, error) {
	rows, err := s.db.Prepared(ctx, queryExpired, s.now().UnixMicro(), sweepBatch)
	var over []string
	if err == nil {
		err = eachHold(rows, func(id, _ string) { over = append(over, id) })
	}
	if err == nil && len(over) > 0 {
		err = s.do(ctx, Wait, &expire{over})
	}
	return len(over), wrap("release expired holds", err)
}

// Sweep releases expired holds until ctx ends, at once and then every second. It only tidies up: everybody else judges expiry for himself.
func (s *Store) Sweep(ctx context.Context, log *slog.Logger) {
	failing := false
	pace := time.NewTicker(sweepPace)
	defer pace.Stop()
	for ctx.Err() == nil {
		n, err := s.Expire(ctx)
		if err != nil && ctx.Err() == nil && !failing { // once for an outage, not once for an attempt
			log.WarnContext(ctx, "expired holds cannot be released; trying again until they are, and counting their units as available", "error", err)
		}
		failing = err != nil
		if n == sweepBatch && err == nil {
			continue
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
}

// decodeExpiry is the zero time for none.
func decodeExpiry(at sql.NullInt64) time.Time {
	if !at.Valid {
		return time.Time{}
	}
	return time.UnixMicro(at.Int64).UTC()
}
