package outbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/outbox"
)

// What waits is on its way since it happened; what is parked waits for a person, and is wrong.
func TestAuditTellsWhatWaitsFromWhatIsParked(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		at := noon.UnixMicro()
		const inbox = `INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data, state, attempts, error)
		VALUES ('c', $1, '/s', 'x', 'o', $2, '', '', '', '', $3, $4, $5)`
		h.exec(t, inbox, "done", at, "done", 1, "")
		h.exec(t, inbox, "fresh", at, "waiting", 0, "")
		h.exec(t, inbox, "failing", at+1, "waiting", 3, "no route")
		h.exec(t, inbox, "bad", at, "parked", 10, "it broke")
		const many = 1500
		for n := range many {
			h.exec(t, `INSERT INTO outbox (id, type, subject, time, correlation_id, causation_id, traceparent, data) VALUES ($1, 'x', 'o', $2, '', '', '', '')`,
				fmt.Sprint("e-", n), at+int64(n))
		}
		counts := map[string]int64{}
		var found []audit.Violation
		err := h.db.Read(context.Background(), func(tx *sql.Tx) (err error) {
			found, err = outbox.Audit(context.Background(), tx, counts)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if counts["outboxWaiting"] != many || counts["inboxWaiting"] != 2 || counts["parked"] != 1 {
			t.Errorf("counts %v", counts)
		}
		events, lines := int64(0), 0
		for _, v := range found {
			switch {
			case v.Rule == "nothing_parked":
				if !v.Since.IsZero() || !strings.Contains(v.Detail, "event bad") || !strings.Contains(v.Detail, "it broke") {
					t.Errorf("parked: %+v", v)
				}
			case v.Rule == "inbox_drained":
				if failing := strings.Contains(v.Detail, "failed 3 times: no route"); failing != strings.Contains(v.Detail, "event failing") || v.Since.Before(noon) || v.Since.After(noon.Add(time.Second)) {
					t.Errorf("waiting: %+v", v)
				}
			case v.Rule == "outbox_drained":
				lines++
				events += max(1, v.Times)
				if want := noon.Add(time.Duration(lines-1) * time.Microsecond); !v.Since.Equal(want) {
					t.Errorf("since %s, want %s: %+v", v.Since, want, v)
				}
			}
		}
		if len(found) != lines+3 || events != many || lines >= many {
			t.Errorf("%d lines for %d events of %d, %d in all", lines, events, many, len(found))
		}
		if last := found[lines-1]; last.Detail != fmt.Sprintf("and %d more", many-lines+1) {
			t.Errorf("the rest is %+v", last)
		}
	})
}
