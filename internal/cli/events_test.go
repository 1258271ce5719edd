package cli

import (
	"fmt"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/node"
)

const inboxTable = `-- +goose Up
CREATE TABLE inbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, consumer TEXT NOT NULL, event_id TEXT NOT NULL, source TEXT NOT NULL, type TEXT NOT NULL,
	subject TEXT NOT NULL, time BIGINT NOT NULL, correlation_id TEXT NOT NULL, causation_id TEXT NOT NULL, traceparent TEXT NOT NULL,
	data BLOB NOT NULL, state TEXT NOT NULL, attempts BIGINT NOT NULL, next_at BIGINT NOT NULL, error TEXT NOT NULL);
CREATE INDEX inbox_waiting ON inbox (seq) WHERE state <> 'done';
CREATE TABLE acts (id TEXT NOT NULL PRIMARY KEY, at BIGINT NOT NULL, actor TEXT NOT NULL, what TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL,
	correlation_id TEXT NOT NULL);
`

// parking is two contexts whose consumers have parked an event, with one that has neither failed nor been parked beside it. The
// databases stay open, as a running server's are.
func parking(t *testing.T) (dir string, contexts []node.Context) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"orders", "inventory", "payments"} {
		schema := db.Schema{Context: name, Migrations: fstest.MapFS{"migrations/sqlite/00001_init.sql": {Data: []byte(inboxTable)}}}
		contexts = append(contexts, node.Context{Name: name, Schema: schema})
		d, err := db.Open(t.Context(), "sqlite:"+filepath.Join(dir, name+".db"), schema)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		states := map[string]string{"e-1": "parked", "e-2": "waiting", "e-3": "done"}
		if name == "orders" {
			states = nil
		}
		err = d.Write(t.Context(), func(tx *db.Tx) error {
			for id, state := range states {
				if _, err := tx.Exec(`INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data, state, attempts, next_at, error)
					VALUES ($1, $2, '/orders', 'orderkeep.orders.v1.OrderCancelled', 'o-1', 1298971800000000, 'req-7', '', '', x'', $3, 10, 9, 'the shelf is locked' || char(10) || 'stack')`, name, id, state); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, contexts
}

func TestEventsOutput(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"events parked":               {"events", "parked"},
		"events parked within reach":  {"events", "parked", "--inventory-url", "grpc://stock:3101"},
		"events redrive":              {"events", "redrive", "e-1"},
		"events redrive all":          {"events", "redrive", "--all"},
		"events redrive not parked":   {"events", "redrive", "e-2", "e-1", "e-9"},
		"events redrive nothing":      {"events", "redrive"},
		"events redrive all and some": {"events", "redrive", "--all", "e-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, json := range []bool{false, true} {
				dir, contexts := parking(t)
				args, file := append(args[:len(args):len(args)], "--data", dir), name
				if json {
					args, file = append(args, "--json"), name+" json"
				}
				r := do(t, contexts, "", args...)
				golden(t, file, r)
				if json && r.out != "" {
					oneDocument(t, r.out)
				}
			}
		})
	}
}

// What is redriven waits as if it had just arrived, and nothing else changes.
func TestRedriveChangesOnlyWhatIsParked(t *testing.T) {
	t.Parallel()
	dir, contexts := parking(t)
	if r := do(t, contexts, "", "events", "redrive", "--all", "--data", dir); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for _, name := range []string{"inventory", "payments"} {
		d, err := db.OpenReadOnly(t.Context(), "sqlite:"+filepath.Join(dir, name+".db"), contexts[map[string]int{"inventory": 1, "payments": 2}[name]].Schema)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for id, want := range map[string]string{"e-1": "waiting 0 0 ''", "e-2": "waiting 10 9", "e-3": "done 10 9"} {
			var state, why string
			var attempts, next int
			if err := d.QueryRow(t.Context(), `SELECT state, attempts, next_at, error FROM inbox WHERE event_id = $1`, id).Scan(&state, &attempts, &next, &why); err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%s %d %d", state, attempts, next)
			if why == "" {
				got += " ''"
			}
			if got != want {
				t.Errorf("%s of %s is %s, want %s", id, name, got, want)
			}
		}
	}
}

// The database of a context that was never served is not made.
func TestEventsMakeNoDatabase(t *testing.T) {
	t.Parallel()
	_, contexts := parking(t)
	dir := t.TempDir()
	if r := do(t, contexts, "", "events", "redrive", "--all", "--data", dir); r.code != exitFailed {
		t.Errorf("%+v, want exit 1", r)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "*")); len(found) != 0 {
		t.Errorf("made %v", found)
	}
}
