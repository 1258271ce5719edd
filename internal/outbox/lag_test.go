package outbox_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

func TestLagIsTheAgeOfTheOldestThatWaits(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		lag := func(at time.Time) outbox.Lag {
			t.Helper()
			l, err := outbox.Measure(t.Context(), h.db, at)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		if l := lag(noon); l != (outbox.Lag{}) {
			t.Errorf("of nothing: %+v", l)
		}
		const (
			out = `INSERT INTO outbox (id, type, subject, time, correlation_id, causation_id, traceparent, data, position) VALUES ($1, 'x', 'o', $2, '', '', '', '', $3)`
			in  = `INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data, state)
				VALUES ('c', $1, '/s', 'x', 'o', $2, '', '', '', '', $3)`
		)
		before := func(s int64) int64 { return noon.UnixMicro() - s*1_000_000 }
		h.exec(t, out, "published", before(900), 1)
		h.exec(t, out, "one", before(30), nil)
		h.exec(t, out, "two", before(90), nil) // a transaction that took longer
		h.exec(t, in, "done", before(900), "done")
		h.exec(t, in, "bad", before(800), "parked")
		h.exec(t, in, "three", before(7), "waiting")
		want := outbox.Lag{Outbox: outbox.Waiting{Waiting: 2, OldestSeconds: 90}, Inbox: outbox.Waiting{Waiting: 1, OldestSeconds: 7}, Parked: 1}
		if d := cmp.Diff(want, lag(noon)); d != "" {
			t.Error(d)
		}
		m := telemetry.NewMetrics()
		outbox.NewMeter("c", h.db, m)
		var text bytes.Buffer
		if err := m.Write(&text); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"orderkeep_outbox_waiting{context=\"c\"} 2\n", "orderkeep_inbox_waiting{context=\"c\"} 1\n", "orderkeep_inbox_parked{context=\"c\"} 1\n"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("no %q in\n%s", want, text.String())
			}
		}
		if l := lag(noon.Add(-time.Minute)); l.Inbox.OldestSeconds != 0 || l.Outbox.OldestSeconds != 30 {
			t.Errorf("by a clock that is behind: %+v", l)
		}
	})
}
