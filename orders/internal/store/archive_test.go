package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/archive/archivetest"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

// later is after all that the tests do with their orders.
var later = noon.Add(48 * time.Hour)

// ended are the records of what may go, by order, and the orders in turn.
func ended(t *testing.T, ask archivetest.Asker, before time.Time) (records map[string][]byte, ids []string) {
	t.Helper()
	records = map[string][]byte{}
	lines := ask.Ended(before)
	for i, stamp := range ask.Stamps(lines) {
		records[stamp.ID], ids = lines[i], append(ids, stamp.ID)
	}
	return records, ids
}

// publish takes all events for published.
func publish(t *testing.T, s *Store) {
	t.Helper()
	err := s.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE outbox SET position = seq WHERE position IS NULL`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhichOrdersMayGo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		hour := noon.Add(time.Hour)
		cancel := order.Move{To: order.Cancelled, At: hour, ReservedAt: noon}
		back := order.Move{To: order.Returned, At: hour.Add(time.Hour), ReservedAt: noon}
		rejected := order.Move{To: order.Rejected, At: noon, Rejection: rejection()}
		var want []string
		for name, tc := range map[string]struct {
			moves   []order.Move
			answers []order.Answer
			free    bool
			kept    string
			goes    bool
		}{
			"pending":                         {},
			"undoing":                         {moves: []order.Move{{To: order.Undoing, At: noon, Rejection: rejection()}}},
			"confirmed":                       {moves: []order.Move{confirm()}},
			"rejected":                        {moves: []order.Move{rejected}, goes: true},
			"rejected, and a foreign one has": {moves: []order.Move{rejected}, kept: "3 A"},
			"cancelled":                       {moves: []order.Move{confirm(), cancel}},
			"cancelled, units back":           {moves: []order.Move{confirm(), cancel}, answers: []order.Answer{order.UnitsBack}},
			"cancelled, money back":           {moves: []order.Move{confirm(), cancel}, answers: []order.Answer{order.MoneyBack}},
			"cancelled, both back":            {moves: []order.Move{confirm(), cancel}, answers: []order.Answer{order.UnitsBack, order.MoneyBack}, goes: true},
			"cancelled, and was free":         {moves: []order.Move{confirm(), cancel}, answers: []order.Answer{order.UnitsBack}, free: true, goes: true},
			"fulfilled":                       {moves: []order.Move{confirm(), fulfil()}, answers: []order.Answer{order.UnitsTaken}},
			"fulfilled and settled":           {moves: []order.Move{confirm(), fulfil()}, answers: []order.Answer{order.UnitsTaken, order.MoneyTaken}, goes: true},
			"fulfilled, and voided":           {moves: []order.Move{confirm(), fulfil()}, answers: []order.Answer{order.UnitsTaken, order.MoneyBack}},
			"fulfilled for nothing":           {moves: []order.Move{confirm(), fulfil()}, answers: []order.Answer{order.UnitsTaken}, free: true, goes: true},
			"returned":                        {moves: []order.Move{confirm(), fulfil(), back}, answers: []order.Answer{order.UnitsTaken, order.MoneyTaken}},
			"returned and settled":            {moves: []order.Move{confirm(), fulfil(), back}, answers: []order.Answer{order.UnitsTaken, order.MoneyTaken, order.UnitsBack, order.MoneyBack}, goes: true},
		} {
			o := pending("")
			o.Customer = "C-2"
			if tc.free {
				o.TotalMinor, o.Lines = 0, []order.Line{{SKU: "A", Qty: 1}}
			}
			o.ID, o.Kept = order.IDAt(noon), tc.kept
			mustBegin(t, s, o)
			if tc.kept != "" {
				if err := s.Keep(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			for _, m := range tc.moves {
				mustMove(t, s, o, m)
			}
			for _, a := range tc.answers {
				if err := s.Note(t.Context(), o.ID, string(order.NewID()), order.Note{At: hour, What: "w"}, a, func(*db.Tx) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if tc.goes {
				want = append(want, string(o.ID))
			}
			t.Logf("%s is %s", o.ID, name)
		}
		ask := archivetest.New(t, s.Keeper(archive.Rules{}), later)
		if _, got := ended(t, ask, later); len(got) != 0 {
			t.Errorf("before anything is published go %v", got)
		}
		publish(t, s)
		slices.Sort(want)
		records, got := ended(t, ask, later)
		if !slices.Equal(got, want) {
			t.Errorf("go %v, want %v", got, want)
		}
		// Answers came at one o'clock: nothing but what was rejected at noon had ended by then.
		if _, got := ended(t, ask, hour); len(got) != 1 {
			t.Errorf("by one o'clock %v had ended", got)
		}
		for id, line := range records {
			if !strings.Contains(string(line), `"customer":"C-2"`) || !strings.Contains(string(line), `"order_lines":[{`) {
				t.Errorf("the record of %s lacks its rows: %s", id, line)
			}
		}
	})
}

func TestRemovedOrdersAreRemembered(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, url := setup(t, e)
		var ids []string
		for n := range 3 {
			o := pending(fmt.Sprint("key-", n))
			o.ID = order.IDAt(noon)
			mustBegin(t, s, o)
			// The key of the first is set free, and another order's now.
			mustMove(t, s, o, order.Move{To: order.Rejected, At: noon, Rejection: rejection(), FreeKey: n == 0})
			ids = append(ids, string(o.ID))
		}
		heir := pending("key-0")
		mustBegin(t, s, heir)
		publish(t, s)
		ask := archivetest.New(t, s.Keeper(archive.Rules{}), later)
		records, _ := ended(t, ask, later)
		if len(records) != 3 || strings.Contains(string(records[ids[0]]), `"idempotency_keys"`) || !strings.Contains(string(records[ids[1]]), `"idempotency_keys":[{"key":"key-1"`) {
			t.Fatalf("records: %s", records)
		}

		// One changes after it was read, as the sum says; one is not in the file.
		if err := s.db.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(`UPDATE orders SET attempts = 7 WHERE id = $1`, ids[2])
			return err
		}); err != nil {
			t.Fatal(err)
		}
		done := ask.Remove("archive-1", ask.Stamps(slices.Collect(maps.Values(records)))...)
		if done.Removed != 2 || len(done.Left) != 1 || done.Left[0].ID != ids[2] {
			t.Fatalf("%+v", done)
		}
		if _, err := s.Get(t.Context(), order.ID(ids[2])); err != nil {
			t.Errorf("the one that changed: %v", err)
		}
		for _, id := range ids[:2] {
			if _, err := s.Get(t.Context(), order.ID(id)); !errors.Is(err, order.ErrArchived) || !strings.Contains(err.Error(), "archive-1") {
				t.Errorf("%s: %v", id, err)
			}
		}
		if _, err := s.Get(t.Context(), order.NewID()); !errors.Is(err, order.ErrNotFound) {
			t.Errorf("one that never was: %v", err)
		}
		for _, table := range []string{"order_lines", "notes"} {
			var n int
			if err := s.db.QueryRow(t.Context(), `SELECT count(*) FROM `+table+` WHERE order_id NOT IN (SELECT id FROM orders)`).Scan(&n); err != nil || n != 0 {
				t.Errorf("%d rows of %s belong to nobody, %v", n, table, err)
			}
		}
		// Its own key went with an order; the one that it had set free did not.
		next := pending("key-1")
		if existing, err := s.Begin(t.Context(), next); err != nil || existing != nil {
			t.Errorf("under the key of an archived order: %v, %v", existing, err)
		}
		again := pending("key-0")
		if existing, err := s.Begin(t.Context(), again); err != nil || existing == nil || existing.ID != heir.ID {
			t.Errorf("under the key that was handed on: %v, %v", existing, err)
		}

		// Again, and from another archive: nothing more is removed.
		if done := ask.Remove("archive-1", ask.Stamps([][]byte{records[ids[0]]})...); done.Removed != 0 || len(done.Left) != 0 {
			t.Errorf("again: %+v", done)
		}
		if done := ask.Remove("archive-2", ask.Stamps([][]byte{records[ids[0]]})...); done.Removed != 0 || len(done.Left) != 1 || !strings.Contains(done.Left[0].Why, "archive-1") {
			t.Errorf("from another archive: %+v", done)
		}
		if done := ask.Remove("archive-1", archive.Stamp{ID: "nobody"}); len(done.Left) != 1 || !strings.Contains(done.Left[0].Why, "does not know it") {
			t.Errorf("of another server: %+v", done)
		}

		source, err := Inspect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		counts, _, err := source.Check(t.Context())
		if err != nil || counts["archived"] != 2 || counts["rejected"] != 1 {
			t.Errorf("%v, %v", counts, err)
		}
		last, archived := "", 0
		err = source.Claims(t.Context(), func(c audit.Claim) bool {
			if c.Order < last {
				t.Errorf("%s is stated after %s", c.Order, last)
			}
			if last = c.Order; c.Archived {
				archived++
				if c.What != audit.OrderOff || c.Amount != 1000 || c.Currency != "GBP" || !c.Since.IsZero() || !c.UnitsAnswer || !c.MoneyAnswer {
					t.Errorf("%+v", c)
				}
			}
			return true
		})
		if err != nil || archived != 2 {
			t.Errorf("%d claims of archived orders, %v", archived, err)
		}
	})
}

// An order with an event that waits may be asked about still.
func TestOrderWithAnEventOnItsWayStays(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		o := pending("")
		o.ID = order.IDAt(noon)
		mustBegin(t, s, o)
		mustMove(t, s, o, order.Move{To: order.Rejected, At: noon, Rejection: rejection()})
		publish(t, s)
		ask := archivetest.New(t, s.Keeper(archive.Rules{}), later)
		lines := ask.Ended(later)
		err := s.db.Write(t.Context(), func(tx *db.Tx) error {
			return outbox.Append(tx, []outbox.Event{event(o, "")})
		})
		if err != nil {
			t.Fatal(err)
		}
		if done := ask.Remove("a", ask.Stamps(lines)...); done.Removed != 0 || len(done.Left) != 1 {
			t.Errorf("%+v", done)
		}
	})
}

// The archive and verify go through millions of orders: not all at once, and not through all for one.
func TestArchiveGoesByIndexes(t *testing.T) {
	t.Parallel()
	s, _ := setup(t, dbtest.SQLite)
	k := s.Keeper(archive.Rules{})
	statements := []string{k.Candidates, claimsQuery}
	for _, table := range k.Tables {
		for _, q := range []string{table.Select, table.Delete} {
			statements = append(statements, strings.ReplaceAll(q, "(list)", "('a', 'b')"))
		}
	}
	for _, statement := range statements {
		args := make([]any, strings.Count(statement, "$"))
		for i := range args {
			args[i] = 1
		}
		rows, err := s.db.Query(t.Context(), "EXPLAIN QUERY PLAN "+statement, args...)
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		defer rows.Close()
		plan := ""
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			plan += step + "\n"
		}
		scans := strings.Contains(plan, "SCAN") && statement != claimsQuery
		if scans || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s\ngoes by\n%s", statement, plan)
		}
	}
}
