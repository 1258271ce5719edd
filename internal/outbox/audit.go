package outbox

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/orderkeep/orderkeep/internal/audit"
)

// maxUndelivered bounds what one rule of Audit reports; the counts say how many there are.
const maxUndelivered = 1000

// auditRules are the rules about events. The names are stable; docs/cli.md says what to do when one is broken.
func auditRules() []struct{ rule, count, query string } {
	return []struct{ rule, count, query string }{
		{"outbox_drained", "outboxWaiting", `
		SELECT 'event ' || id || ' (' || type || ' of ' || subject || ') is not published'
		FROM outbox WHERE position IS NULL ORDER BY seq`},
		{"inbox_drained", "inboxWaiting", `
		SELECT 'event ' || event_id || ' (' || type || ' of ' || subject || ') is not consumed by ' || consumer
			|| CASE WHEN attempts > 0 THEN ': failed ' || attempts || ' times: ' || error ELSE '' END
		FROM inbox WHERE state <> 'done' AND state = 'waiting' ORDER BY seq`},
		{"nothing_parked", "parked", `
		SELECT 'event ' || event_id || ' (' || type || ' of ' || subject || ') failed ' || attempts || ' times and is parked: ' || error
		FROM inbox WHERE state <> 'done' AND state = 'parked' ORDER BY seq`},
	}
}

// Audit reports the events of a context's database that wait to be published or consumed, or are parked: how many
// there are, by the names outboxWaiting, inboxWaiting and parked, and each by its id. An event on its way is reported too: only
// one that is still there at the next look is a broken promise.
func Audit(ctx context.Context, tx *sql.Tx, counts map[string]int64) ([]audit.Violation, error) {
	var found []audit.Violation
	for _, r := range auditRules() {
		n, err := each(ctx, tx, r.query, func(detail string) {
			if len(found) < maxUndelivered {
				found = append(found, audit.Violation{Rule: r.rule, Detail: detail})
			}
		})
		if err != nil {
			return nil, fmt.Errorf("prove %s: %w", r.rule, err)
		}
		counts[r.count] = n
	}
	return found, nil
}

func each(ctx context.Context, tx *sql.Tx, query string, yield func(string)) (n int64, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var detail string
		if err := rows.Scan(&detail); err != nil {
			return 0, err
		}
		n++
		yield(detail)
	}
	return n, rows.Err()
}
