package db_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"pgregory.net/rapid"
)

type entry struct {
	K string
	N int64
	S string
}

func entries(t testing.TB, d *db.DB, table string) []entry {
	t.Helper()
	rows, err := d.Query(t.Context(), `SELECT k, n, s FROM `+table+` ORDER BY k`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []entry
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.K, &e.N, &e.S); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// However many rows there are and whatever is in them, wide statements do what as many single ones do.
func TestWideStatementsAreManySingleOnes(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, _ := setup(t, e)
		rapid.Check(t, func(rt *rapid.T) {
			keys := rapid.IntRange(0, 900)
			values := rapid.StringOfN(rapid.Rune().Filter(func(r rune) bool { return r != 0 }), 0, 8, -1)
			rows := func(label string) (args []any) {
				used := map[int]bool{}
				for range rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(250, 260), rapid.IntRange(500, 700)).Draw(rt, label) {
					if k := keys.Draw(rt, "key"); !used[k] {
						used[k] = true
						args = append(args, fmt.Sprint("k", k), rapid.Int64Range(-1000, 1000).Draw(rt, "n"), values.Draw(rt, "s"))
					}
				}
				return args
			}
			first, second := rows("first"), rows("second") // with some of the keys of the first
			var ask []any
			asked := map[string]bool{}
			for range rapid.IntRange(0, 300).Draw(rt, "asked") {
				k := fmt.Sprint("k", keys.Draw(rt, "ask"))
				if !asked[k] {
					ask, asked[k] = append(ask, k), true
				}
			}
			const upsert = `(k, n, s) VALUES %s ON CONFLICT (k) DO UPDATE SET n = %s.n + excluded.n, s = excluded.s`
			var got, returned []entry
			err := d.Write(t.Context(), func(tx *db.Tx) error {
				for _, clear := range []string{`DELETE FROM wide`, `DELETE FROM single`} {
					if _, err := tx.Exec(clear); err != nil {
						return err
					}
				}
				for _, args := range [][]any{first, second} {
					for i := 0; i < len(args); i += 3 {
						if _, err := tx.Exec(`INSERT INTO single `+fmt.Sprintf(upsert, "($1, $2, $3)", "single"), args[i:i+3]...); err != nil {
							return err
						}
					}
					if err := tx.ExecWide(`INSERT INTO wide `+fmt.Sprintf(upsert, "(rows)", "wide"), 3, args); err != nil {
						return err
					}
				}
				if err := tx.QueryWide(`SELECT k, n, s FROM wide WHERE k IN (list)`, ask, collect(&got)); err != nil {
					return err
				}
				return tx.QueryRows(`INSERT INTO wide (k, n, s) VALUES (rows) ON CONFLICT (k) DO UPDATE SET n = wide.n RETURNING k, n, s`, 3, second, collect(&returned))
			})
			if err != nil {
				rt.Fatal(err)
			}
			want := entries(t, d, "single")
			if diff := cmp.Diff(want, entries(t, d, "wide")); diff != "" {
				rt.Fatalf("wide differs from single (-single +wide):\n%s", diff)
			}
			byKey := map[string]entry{}
			found := 0
			for _, e := range want {
				byKey[e.K] = e
				if asked[e.K] {
					found++
				}
			}
			for _, e := range append(got, returned...) {
				if byKey[e.K] != e {
					rt.Fatalf("read %+v, stored %+v", e, byKey[e.K])
				}
			}
			if len(got) != found || len(returned) != len(second)/3 {
				rt.Fatalf("found %d and %d were returned, want %d and %d", len(got), len(returned), found, len(second)/3)
			}
		})
	})
}

func collect(into *[]entry) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		var e entry
		err := rows.Scan(&e.K, &e.N, &e.S)
		*into = append(*into, e)
		return err
	}
}

func TestListsOfAnyLengthAreReadOutsideATransactionToo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, _ := setup(t, e)
		write(t, d, `CREATE TABLE numbers (n BIGINT NOT NULL)`)
		write(t, d, `INSERT INTO numbers WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 1000) SELECT n FROM r`)
		for _, length := range []int{0, 1, 3, 64, 255, 256, 257, 1000} {
			var list []any
			for n := range length {
				list = append(list, n+1)
			}
			var got []any
			err := d.QueryWide(t.Context(), `SELECT n FROM numbers WHERE n IN (list) ORDER BY n`, list, func(rows *sql.Rows) error {
				var n int
				err := rows.Scan(&n)
				got = append(got, n)
				return err
			})
			if diff := cmp.Diff(list, got); diff != "" || err != nil {
				t.Errorf("a list of %d: %v (-want +got):\n%s", length, err, diff)
			}
		}
		if err := d.QueryWide(t.Context(), `SELECT n FROM nowhere WHERE n IN (list)`, []any{1}, nil); err == nil {
			t.Error("a table that is not there was read")
		}
		stop := errors.New("enough")
		if err := d.QueryWide(t.Context(), `SELECT n FROM numbers WHERE n IN (list)`, []any{1, 2}, func(*sql.Rows) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("err = %v", err)
		}
	})
}
