package trail

import (
	"os"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

// What was done to one order costs the same among a million acts as among ten, in each context.
func TestActsAreFoundByIndex(t *testing.T) {
	t.Parallel()
	for _, context := range []string{"orders", "inventory", "payments"} {
		d, err := db.Open(t.Context(), dbtest.SQLite.New(t), db.Schema{Context: context, Migrations: os.DirFS("../../" + context + "/internal/store")})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for query, want := range map[string]string{queryLast: "SCAN acts\n", queryOf: "SEARCH acts USING INDEX acts_by_subject (subject=?)\n"} {
			args := []any{most, "an order"}[:strings.Count(query, "$")]
			rows, err := d.Query(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
			if err != nil {
				t.Fatal(err)
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
			if plan != want { // which is backwards by the key, and ends at the limit
				t.Errorf("%s goes by\n%swant %s", query, plan, want)
			}
		}
	}
}
