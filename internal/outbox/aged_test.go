package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/outbox"
)

var before = time.Date(2011, 3, 2, 0, 0, 0, 0, time.UTC)

// published is a relay whose events are published: so many old ones and then those given.
func published(t *testing.T, h *house, old int, young ...time.Time) *outbox.Relay {
	t.Helper()
	r := outbox.NewRelay("/test", h.db, h.write, relayed(t), h.log)
	for n := range old {
		h.append(t, text(t.Context(), "s", fmt.Sprint("old ", n)))
	}
	for _, at := range young {
		e := text(t.Context(), "s", "young")
		e.Time = at
		h.append(t, e)
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (h *house) aged(t *testing.T, after int64) []outbox.Aged {
	t.Helper()
	query := func(q string, args ...any) (*sql.Rows, error) { return h.db.Query(t.Context(), q, args...) }
	all, err := outbox.ReadAged(query, "/test", before, after, 100)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (h *house) removeAged(t *testing.T, first, last int64, same func(outbox.Aged) bool) (n int64, err error) {
	t.Helper()
	err = h.write(t.Context(), func(tx *db.Tx) (err error) {
		n, err = outbox.RemoveAged(tx, "/test", before, first, last, same)
		return err
	})
	return n, err
}

func any1(outbox.Aged) bool { return true }

func TestAgedEventsEndWhereTheFeedMustGoOn(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		for name, c := range map[string]struct {
			old   int
			young []time.Time
			want  int
		}{
			"nothing":                      {0, nil, 0},
			"the last one stays":           {3, nil, 2},
			"the only one stays":           {1, nil, 0},
			"up to the first younger one":  {2, []time.Time{before, before.Add(-time.Hour), before}, 2},
			"all that are older than that": {2, []time.Time{before.Add(-time.Microsecond), before}, 3},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := setup(t, engine)
				published(t, h, c.old, c.young...)
				h.append(t, text(t.Context(), "s", "not published"))
				got := h.aged(t, 0)
				if len(got) != c.want {
					t.Fatalf("%d events, want %d", len(got), c.want)
				}
				for i, e := range got {
					if e.Position != int64(i+1) || !strings.Contains(string(e.JSON), fmt.Sprintf(`"cursor":"%d"`, i+1)) || strings.Contains(string(e.JSON), "\n") {
						t.Errorf("event %d: %d %s", i+1, e.Position, e.JSON)
					}
				}
			})
		}
	})
}

func TestAgedEventsAreRemovedFromTheBeginningOnly(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		r := published(t, h, 10, before)
		for _, c := range []struct {
			first, last int64
			same        func(outbox.Aged) bool
		}{
			{2, 4, any1},
			{1, 4, func(e outbox.Aged) bool { return e.Position != 3 }},
			{1, 11, any1}, // the last one, and too young
		} {
			if n, err := h.removeAged(t, c.first, c.last, c.same); !errors.Is(err, outbox.ErrNotOldest) || n != 0 {
				t.Errorf("%d to %d: %d, %v", c.first, c.last, n, err)
			}
		}
		if got := h.aged(t, 0); len(got) != 10 {
			t.Fatalf("%d events are left of 10 that nobody could name", len(got))
		}
		for _, c := range []struct{ first, last, want int64 }{{1, 4, 4}, {1, 4, 0}, {3, 6, 2}} {
			if n, err := h.removeAged(t, c.first, c.last, any1); err != nil || n != c.want {
				t.Errorf("%d to %d: %d, %v; want %d", c.first, c.last, n, err, c.want)
			}
		}

		// Who has read up to there goes on, who has not is told, and who begins has what there is.
		if p := page(t, r, "6", 2); len(p.Events) != 2 || p.Events[0].Cursor != "7" {
			t.Errorf("after 6: %+v", p)
		}
		if p := page(t, r, "", 2); len(p.Events) != 2 || p.Events[0].Cursor != "7" {
			t.Errorf("from the beginning: %+v", p)
		}
		for _, q := range []*http.Request{
			httptest.NewRequest(http.MethodGet, "/v1/events?after=0", nil),
			httptest.NewRequest(http.MethodGet, "/v1/events?after=5", nil),
			func() *http.Request {
				q := httptest.NewRequest(http.MethodGet, "/v1/events", nil)
				q.Header.Set("Accept", "text/event-stream")
				q.Header.Set("Last-Event-ID", "5")
				return q
			}(),
		} {
			w := httptest.NewRecorder()
			r.Feed().ServeHTTP(w, q)
			if w.Code != http.StatusGone || !strings.Contains(w.Body.String(), `"cursor_expired"`) || !strings.Contains(w.Body.String(), "after cursor 6.") {
				t.Errorf("%s %v: %d %s", q.URL, q.Header, w.Code, w.Body)
			}
		}

		// The next position follows the last, however much went.
		if n, err := h.removeAged(t, 7, 10, any1); err != nil || n != 4 {
			t.Fatal(n, err)
		}
		h.append(t, text(t.Context(), "s", "next"))
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p := page(t, r, "11", 2); len(p.Events) != 1 || p.Events[0].Cursor != "12" {
			t.Errorf("after all that went: %+v", p)
		}
	})
}

func TestInboxForgetsOnlyWhatIsDoneAndOld(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		old, young := before.Add(-time.Microsecond).UnixMicro(), before.UnixMicro()
		err := h.write(t.Context(), func(tx *db.Tx) error {
			for i, row := range []struct {
				state string
				at    int64
			}{{"done", old}, {"waiting", old}, {"parked", old}, {"done", young}, {"done", old}, {"waiting", young}} {
				_, err := tx.Exec(`INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data, state)
					VALUES ('c', $1, '/x', 't', $2, $3, '', '', '', '', $4)`, fmt.Sprint("e", i), fmt.Sprint("s", i), row.at, row.state)
				if err != nil {
					return err
				}
			}
			return outbox.Append(tx, []outbox.Event{text(context.Background(), "s9", "waits")})
		})
		if err != nil {
			t.Fatal(err)
		}
		query := func(q string, list []any, scan func(*sql.Rows) error) error {
			return h.db.QueryWide(t.Context(), q, list, scan)
		}
		unsettled, err := outbox.Unsettled(query, []any{"s0", "s1", "s2", "s3", "s5", "s9"})
		if err != nil || len(unsettled) != 4 || !unsettled["s1"] || !unsettled["s2"] || !unsettled["s5"] || !unsettled["s9"] {
			t.Errorf("with something on its way: %v, %v", unsettled, err)
		}
		if at, err := outbox.OldestWaiting(t.Context(), h.db); err != nil || at.IsZero() || at.After(before) {
			t.Errorf("the oldest that waits is of %v, %v", at, err)
		}
		var after, removed int64
		for more := true; more; {
			var n int64
			err := h.write(t.Context(), func(tx *db.Tx) (err error) {
				n, after, more, err = outbox.RemoveDone(tx, before, after)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			removed += n
		}
		var left string
		rows, err := h.db.Query(t.Context(), `SELECT event_id FROM inbox ORDER BY seq`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			left += id + " "
		}
		if removed != 2 || left != "e1 e2 e3 e5 " {
			t.Errorf("%d went, and %sare left", removed, left)
		}
	})
}
