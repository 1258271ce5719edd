package db_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

func TestPackedRowsSayWhatTheTablesHold(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, _ := setup(t, e)
		write(t, d, `CREATE TABLE whole (name TEXT NOT NULL, n BIGINT NOT NULL)`)
		write(t, d, `CREATE TABLE part (name TEXT NOT NULL, n BIGINT NOT NULL)`)
		type row struct {
			name  string
			n     int64
			parts []int64
		}
		want := []row{
			{name: "", n: 0},
			{name: `"quoted\" 'and' \u0041 [,] {}`, n: -1, parts: []int64{1}},
			{name: "line\nbreak\ttab\x7f\x01", n: 1<<63 - 1, parts: []int64{1, 2, 3}},
			{name: "Zoë 木 🛒 \u2028", n: -1 << 63, parts: []int64{1 << 62}},
			{name: strings.Repeat("long ", 5000), n: 1_700_000_000_000_000},
		}
		for _, r := range want {
			write(t, d, `INSERT INTO whole VALUES ($1, $2)`, r.name, r.n)
			for _, n := range r.parts {
				write(t, d, `INSERT INTO part VALUES ($1, $2)`, r.name, n)
			}
		}
		const query = `SELECT json_build_array(name, n), (SELECT json_agg(json_build_array(name, n)) FROM part WHERE part.name = whole.name AND n < $1) FROM whole ORDER BY length(name)`
		var got []row
		err := d.Packed(t.Context(), query, []any{int64(1<<63 - 1)}, func(r *db.Row) error {
			now := row{name: r.Text(), n: r.Int()}
			r.Each(func() {
				if name := r.Text(); name != now.name {
					t.Errorf("a part of %q says that it is one of %q", now.name, name)
				}
				now.parts = append(now.parts, r.Int())
			})
			got = append(got, now)
			return nil
		})
		byLength := []row{want[0], want[3], want[2], want[1], want[4]}
		if diff := cmp.Diff(byLength, got, cmp.AllowUnexported(row{})); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}

func TestPackedRowsAreReadAsTheyAre(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, _ := setup(t, e)
		const query = `SELECT json_build_array('a', 1), (SELECT json_agg(json_build_array(n, 'b')) FROM (SELECT 2 AS n UNION ALL SELECT 3) AS two)`
		for name, read := range map[string]func(r *db.Row){
			"as they are":                     func(r *db.Row) { r.Text(); r.Int(); r.Each(func() { r.Int(); r.Text() }) },
			"a number as text":                func(r *db.Row) { r.Text(); r.Text(); r.Each(func() { r.Int(); r.Text() }) },
			"text as a number":                func(r *db.Row) { r.Int(); r.Int(); r.Each(func() { r.Int(); r.Text() }) },
			"too few values":                  func(r *db.Row) { r.Text(); r.Each(func() { r.Int(); r.Text() }) },
			"too many values":                 func(r *db.Row) { r.Text(); r.Int(); r.Int(); r.Each(func() { r.Int(); r.Text() }) },
			"without the other table":         func(r *db.Row) { r.Text(); r.Int() },
			"too few values of another table": func(r *db.Row) { r.Text(); r.Int(); r.Each(func() { r.Int() }) },
			"too many of another table":       func(r *db.Row) { r.Text(); r.Int(); r.Each(func() { r.Int(); r.Text(); r.Text() }) },
			"a table too many":                func(r *db.Row) { r.Text(); r.Int(); r.Each(func() { r.Int(); r.Text() }); r.Each(func() {}) },
		} {
			err := d.Packed(t.Context(), query, nil, func(r *db.Row) error {
				read(r)
				return nil
			})
			if (err == nil) != (name == "as they are") {
				t.Errorf("%s: err = %v", name, err)
			}
		}
		for name, query := range map[string]string{"no JSON": `SELECT 'a'`, "NULL": `SELECT NULL`, "half of it": `SELECT '["a"'`, "no array": `SELECT '{"a":1}'`} {
			if err := d.Packed(t.Context(), query, nil, func(r *db.Row) error { r.Text(); return nil }); err == nil {
				t.Errorf("%s: was read", name)
			}
		}
	})
}
