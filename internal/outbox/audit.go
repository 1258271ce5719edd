package outbox

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/orderkeep/orderkeep/internal/audit"
)

// maxUndelivered bounds what one rule of Audit reports by name; the rest is one line that counts them.
const maxUndelivered = 1000

// auditRules are the rules about events. The names are stable; docs/cli.md says what to do when one is broken.
func auditRules() []struct{ rule, count, query string } {
	return []struct{ rule, count, query string }{
		{"outbox_drained", "outboxWaiting", `
		SELECT 'event ' || id || ' (' || type || ' of ' || subject || ') is not published', time, ''
		FROM outbox WHERE position IS NULL ORDER BY seq`},
		{"inbox_drained", "inboxWaiting", `
		SELECT 'event ' || event_id || ' (' || type || ' of ' || subject || ') is not consumed by ' || consumer
			|| CASE WHEN attempts > 0 THEN ': failed ' || attempts || ' times: ' || error ELSE '' END, time, ''
		FROM inbox WHERE state <> 'done' AND state = 'waiting' ORDER BY seq`},
		{"nothing_parked", "parked", `
		SELECT 'event ' || event_id || ' (' || type || ' of ' || subject || ') failed ' || attempts || ' times and is parked: ' || error, 0, event_id
		FROM inbox WHERE state <> 'done' AND state = 'parked' ORDER BY seq`},
	}
}

// Audit reports the events of a context's database that wait to be published or consumed, or are parked: how many
// there are, by the names outboxWaiting, inboxWaiting and parked, and each by its id. Those that wait are on their way since
// they happened; a parked one waits for a person, and is wrong at once.
func Audit(ctx context.Context, tx *sql.Tx, counts map[string]int64) ([]audit.Violation, error) {
	var found []audit.Violation
	for _, r := range auditRules() {
		n := int64(0)
		var rest audit.Violation
		err := each(ctx, tx, r.query, func(v audit.Violation) {
			v.Rule = r.rule
			switch n++; {
			case n <= maxUndelivered:
				found = append(found, v)
			case rest.Times == 0:
				rest = v
				rest.Times, rest.Repair = 1, audit.Repair{}
			default:
				rest.Times++
			}
		})
		if err != nil {
			return nil, fmt.Errorf("prove %s: %w", r.rule, err)
		}
		if rest.Times > 0 {
			rest.Detail = fmt.Sprintf("and %d more", rest.Times)
			found = append(found, rest)
		}
		counts[r.count] = n
	}
	return found, nil
}

func each(ctx context.Context, tx *sql.Tx, query string, yield func(audit.Violation)) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var v audit.Violation
		var since int64
		if err := rows.Scan(&v.Detail, &since, &v.Repair.Of); err != nil {
			return err
		}
		if v.Repair.Of != "" {
			v.Repair.Do = audit.RedriveEvent
		}
		if since > 0 {
			v.Since = time.UnixMicro(since)
		}
		yield(v)
	}
	return rows.Err()
}
