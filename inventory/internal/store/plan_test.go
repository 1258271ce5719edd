package store

import (
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

// A page of items costs the same with a million SKUs as with ten: it begins at its cursor, in the order of the key, and stops at its limit.
func TestPagesOfItemsGoByKey(t *testing.T) {
	t.Parallel()
	b := setup(t, dbtest.SQLite)
	for name, c := range map[string]struct {
		statement string
		args      []any
		by        []string
	}{
		"items":   {itemsAfter, []any{time.Now().UnixMicro(), "A", 50}, []string{"SEARCH items USING PRIMARY KEY (sku>?)", "SEARCH s USING PRIMARY KEY (sku=?)"}},
		"a check": {checkQuery(1), []any{time.Now().UnixMicro(), "default", "A"}, []string{"SEARCH s USING PRIMARY KEY (sku=? AND location=?)"}},
	} {
		rows, err := b.db.Query(b.ctx, "EXPLAIN QUERY PLAN "+c.statement, c.args...)
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
		for _, want := range c.by {
			if !strings.Contains(plan, want) {
				t.Errorf("%s: goes by\n%swant %s", name, plan, want)
			}
		}
		for _, table := range []string{"SCAN items", "SCAN s\n", "SCAN stock"} {
			if strings.Contains(plan, table) {
				t.Errorf("%s reads a whole table:\n%s", name, plan)
			}
		}
	}
}
