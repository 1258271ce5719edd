package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// SameSchema fails if open makes other tables, columns, indexes or numbers of CHECK constraints on one engine than on another:
// whoever changes one engine's migrations is told of the other's.
func SameSchema[D io.Closer](t *testing.T, open func(ctx context.Context, url string) (D, error)) {
	t.Helper()
	described := map[string][]string{}
	for _, e := range []Engine{SQLite, Postgres} {
		url := e.New(t)
		d, err := open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		described[e.Name] = describe(t, Raw(t, url), e.Name)
	}
	if diff := cmp.Diff(described["sqlite"], described["postgres"]); diff != "" {
		t.Errorf("the schemas differ (-sqlite +postgres):\n%s", diff)
	}
}

// What makes up a schema, one line each. The tables of package db and of goose are theirs.
var schemas = map[string]string{
	"sqlite": `
		WITH t AS (SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose_%' AND name NOT LIKE 'orderkeep_%')
		SELECT t.name || '.' || c.name || CASE WHEN c."notnull" = 1 OR c.pk > 0 THEN ' not null' ELSE '' END || CASE WHEN c.pk > 0 THEN ' key ' || c.pk ELSE '' END FROM t, pragma_table_info(t.name) c
		UNION ALL SELECT t.name || ' has index ' || i.name || CASE WHEN i."unique" = 1 THEN ' unique' ELSE '' END || CASE WHEN i.partial = 1 THEN ' partial' ELSE '' END FROM t, pragma_index_list(t.name) i WHERE i.origin = 'c'
		UNION ALL SELECT t.name || ' has checks ' || ((length(t.sql) - length(replace(t.sql, 'CHECK (', 'CHECK'))) / 2) FROM t
		ORDER BY 1`,
	"postgres": `
		WITH t AS (SELECT oid, relname AS name FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname NOT LIKE 'goose_%' AND relname NOT LIKE 'orderkeep_%')
		SELECT line COLLATE "C" FROM (
			SELECT t.name || '.' || c.attname || CASE WHEN c.attnotnull THEN ' not null' ELSE '' END || coalesce((
				SELECT ' key ' || array_position(k.conkey, c.attnum) FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'p' AND c.attnum = ANY (k.conkey)), '') AS line
			FROM t JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped
			UNION ALL SELECT t.name || ' has index ' || x.relname || CASE WHEN i.indisunique THEN ' unique' ELSE '' END || CASE WHEN i.indpred IS NOT NULL THEN ' partial' ELSE '' END
			FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class x ON x.oid = i.indexrelid
			WHERE NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)
			UNION ALL SELECT t.name || ' has checks ' || (SELECT count(*) FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'c') FROM t
		) AS lines ORDER BY 1`,
}

func describe(t testing.TB, d *sql.DB, engine string) []string {
	t.Helper()
	rows, err := d.Query(schemas[engine])
	if err != nil {
		t.Fatal(fmt.Errorf("describe the schema on %s: %w", engine, err))
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil || len(lines) == 0 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	return lines
}
