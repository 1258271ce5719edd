package outbox_test

import (
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/outbox"
)

// A busy shop keeps millions of events; none of them may cost anything once it is published and handled.
func TestStatementsDoNotGoThroughWhatIsFinished(t *testing.T) {
	t.Parallel()
	h := setup(t)
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
