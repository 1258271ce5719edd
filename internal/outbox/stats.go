package outbox

import (
	"context"

	"github.com/orderkeep/orderkeep/internal/db"
)

// Stats counts, for audits, the events that wait to be published, those that wait for their consumer, and those
// parked.
func Stats(ctx context.Context, d *db.DB) (waiting, inboxWaiting, parked int64, err error) {
	err = d.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM outbox WHERE position IS NULL),
		(SELECT count(*) FROM inbox WHERE state <> 'done' AND state = 'waiting'),
		(SELECT count(*) FROM inbox WHERE state <> 'done' AND state = 'parked')`).Scan(&waiting, &inboxWaiting, &parked)
	return waiting, inboxWaiting, parked, err
}
