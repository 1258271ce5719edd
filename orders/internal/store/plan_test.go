package store

import (
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

// A page of a list costs the same with ten million orders as with ten: it begins at its cursor, in the order of an index, and sorts nothing.
func TestListsGoByKey(t *testing.T) {
	t.Parallel()
	s, _ := setup(t, dbtest.SQLite)
	for name, c := range map[string]struct{ statement, by string }{
		"all":            {listAll, "SEARCH orders USING PRIMARY KEY (id>? AND id<?)"},
		"fulfilled":      {listFulfilled, "SEARCH orders USING PRIMARY KEY (id>? AND id<?)"},
		"of a customer":  {listByCustomer, "SEARCH orders USING INDEX orders_by_customer (customer=? AND id>? AND id<?)"},
		"of an id":       {getOrder, "SEARCH o USING PRIMARY KEY (id=?)"},
		"of a state":     {listByState, "SEARCH orders USING INDEX orders_not_fulfilled (state=? AND id>? AND id<?)"},
		"correlation id": {listByCorrelation, "SEARCH orders USING INDEX orders_by_correlation (correlation_id=? AND id>? AND id<?)"},
	} {
		args := make([]any, strings.Count(c.statement, "$"))
		for i := range args {
			args[i] = 1
		}
		// A parameter that stands twice is one.
		for n := len(args); n > 0 && !strings.Contains(c.statement, "$"+string(rune('0'+n))); n-- {
			args = args[:n-1]
		}
		rows, err := s.db.Prepared(t.Context(), "EXPLAIN QUERY PLAN "+c.statement, args...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		plan := ""
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			plan += step + "\n"
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		// Two states of a status are two stretches of the index, whose rows are put in order: as many as are in these states.
		sorts := strings.Contains(plan, "TEMP B-TREE") && name != "of a state"
		const lines = "SEARCH order_lines USING PRIMARY KEY (order_id=?)"
		if !strings.Contains(plan, c.by) || !strings.Contains(plan, lines) || sorts {
			t.Errorf("%s: goes by\n%swant %s, %s and no sorting", name, plan, c.by, lines)
		}
	}
}
