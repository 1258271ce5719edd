package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// Lag is how far behind a context's events are.
type Lag struct {
	Outbox Waiting `json:"outbox"` // not published yet
	Inbox  Waiting `json:"inbox"`  // stored, and without effect yet
	Parked int64   `json:"parked"` // failed too often: a person has to look at them
}

// Waiting is how many events wait, 10,000 at most, and the age of the oldest. It is 0 when none waits.
type Waiting struct {
	Waiting       int64   `json:"waiting"`
	OldestSeconds float64 `json:"oldestSeconds"`
}

// lagMost is where counting ends: a probe that comes each second must not go through a backlog of a day.
const lagMost = 10_000

// Both go by the partial indexes of what is not finished.
const (
	queryUnpublished = `SELECT count(*), coalesce(min(time), 0) FROM (
		SELECT time FROM outbox WHERE position IS NULL ORDER BY seq LIMIT $1) AS unpublished`
	queryUnhandled = `SELECT state, count(*), min(time) FROM (
		SELECT state, time FROM inbox WHERE state <> 'done' ORDER BY seq LIMIT $1) AS unhandled GROUP BY state`
)

// Meter measures a context's lag, for /readyz and for the figures of the process.
type Meter struct{ db *db.DB }

// NewMeter makes the meter of the context whose database d is, and adds its figures to m.
func NewMeter(context string, d *db.DB, m *telemetry.Metrics) *Meter {
	meter := &Meter{d}
	look := telemetry.NewLook(meter.Lag)
	add := func(name, help string, of func(Lag) float64) { m.Gauge(name, help, look.Gauge(of), "context", context) }
	add("orderkeep_outbox_waiting", "Events that wait to be published; counting ends at 10,000.", func(l Lag) float64 { return float64(l.Outbox.Waiting) })
	add("orderkeep_outbox_oldest_seconds", "Age of the oldest event that waits to be published.", func(l Lag) float64 { return l.Outbox.OldestSeconds })
	add("orderkeep_inbox_waiting", "Events that have arrived and wait to be handled; counting ends at 10,000.", func(l Lag) float64 { return float64(l.Inbox.Waiting) })
	add("orderkeep_inbox_oldest_seconds", "Age of the oldest event that waits to be handled.", func(l Lag) float64 { return l.Inbox.OldestSeconds })
	add("orderkeep_inbox_parked", "Events that failed too often and wait for a person.", func(l Lag) float64 { return float64(l.Parked) })
	return meter
}

// Lag measures.
func (m *Meter) Lag(ctx context.Context) (Lag, error) { return Measure(ctx, m.db, time.Now()) }

// Measure says how far behind the events of the context whose database this is are at now.
func Measure(ctx context.Context, d *db.DB, now time.Time) (Lag, error) {
	var l Lag
	var oldest int64
	if err := d.QueryRow(ctx, queryUnpublished, lagMost).Scan(&l.Outbox.Waiting, &oldest); err != nil {
		return Lag{}, fmt.Errorf("count the events that wait to be published: %w", err)
	}
	l.Outbox.OldestSeconds = age(now, l.Outbox.Waiting, oldest)
	rows, err := d.Query(ctx, queryUnhandled, lagMost)
	if err != nil {
		return Lag{}, fmt.Errorf("count the events that wait to be handled: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var state string
		var n int64
		if err := rows.Scan(&state, &n, &oldest); err != nil {
			return Lag{}, fmt.Errorf("count the events that wait to be handled: %w", err)
		}
		if state == parked {
			l.Parked = n
			continue
		}
		l.Inbox = Waiting{n, age(now, n, oldest)}
	}
	return l, rows.Err()
}

// age is in whole milliseconds, and not below 0 where another machine's clock is ahead.
func age(now time.Time, n, oldest int64) float64 {
	if n == 0 {
		return 0
	}
	return max(0, now.Sub(time.UnixMicro(oldest)).Truncate(time.Millisecond).Seconds())
}
