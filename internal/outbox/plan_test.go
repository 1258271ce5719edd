package outbox_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/outbox"
)

// A busy shop keeps millions of events; none of them may cost anything once it is published and handled.
func TestStatementsDoNotGoThroughWhatIsFinished(t *testing.T) {
	t.Parallel()
	h := setup(t, dbtest.SQLite)
	for statement, index := range outbox.HotStatements() {
		args := make([]any, strings.Count(statement, "$"))
		for n := range args {
			args[n] = 1
		}
		rows, err := h.db.Query(t.Context(), "EXPLAIN QUERY PLAN "+statement, args...)
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, step)
		}
		rows.Close()
		if len(plan) != 1 || !strings.Contains(plan[0], "INDEX "+index) {
			t.Errorf("%s\ngoes by %q, want only by the index %s", statement, plan, index)
		}
	}
}

// What counts what waits must not go through what does not.
func TestCountingGoesByTheIndexesOfWhatWaits(t *testing.T) {
	t.Parallel()
	h := setup(t, dbtest.SQLite)
	for statement, index := range outbox.Counting() {
		rows, err := h.db.Query(t.Context(), "EXPLAIN QUERY PLAN "+statement, 1)
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		found := false
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			switch {
			case strings.Contains(step, "INDEX "+index):
				found = true
			case strings.Contains(step, "outbox") || strings.Contains(step, "inbox"):
				t.Errorf("%s\ngoes by %q", statement, step)
			}
		}
		rows.Close()
		if !found {
			t.Errorf("%s\ndoes not go by the index %s", statement, index)
		}
	}
}

// The same on PostgreSQL, which keeps one plan for all values and knows the tables by their statistics only.
func TestStatementsGoByIndexesOnPostgres(t *testing.T) {
	t.Parallel()
	h := setup(t, dbtest.Postgres)
	raw := dbtest.Raw(t, h.url)
	raw.SetMaxOpenConns(1)
	for _, s := range []string{
		`INSERT INTO outbox (id, type, subject, time, correlation_id, causation_id, traceparent, data, position)
			SELECT n, 't', 's', 1, '', '', '', '', CASE WHEN n < 19900 THEN n END FROM generate_series(1, 20000) AS n`,
		`INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data, state)
			SELECT 'c', n, 's', 't', 's', 1, '', '', '', '', CASE WHEN n < 19900 THEN 'done' ELSE 'waiting' END FROM generate_series(1, 20000) AS n`,
		`ANALYZE`, `SET plan_cache_mode = force_generic_plan`,
	} {
		if _, err := raw.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for statement, index := range outbox.HotStatements() {
		n++
		ones := strings.TrimSuffix(strings.Repeat("1,", strings.Count(statement, "$")), ",")
		if ones != "" {
			ones = "(" + ones + ")"
		}
		if _, err := raw.Exec(fmt.Sprintf(`PREPARE hot%d AS %s`, n, statement)); err != nil {
			t.Fatal(err)
		}
		rows, err := raw.Query(fmt.Sprintf(`EXPLAIN EXECUTE hot%d%s`, n, ones))
		if err != nil {
			t.Fatal(err)
		}
		plan := ""
		for rows.Next() {
			var step string
			if err := rows.Scan(&step); err != nil {
				t.Fatal(err)
			}
			plan += step + "\n"
		}
		rows.Close()
		// Marking goes by numbers of rows: the key is as good as the index of those that wait.
		if strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, index) && !strings.Contains(statement, "UPDATE outbox") {
			t.Errorf("%s\ngoes by\n%swant the index %s", statement, plan, index)
		}
	}
}
