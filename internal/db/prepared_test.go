package db_test

import (
	"database/sql"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

func TestPreparedQueriesAnswerLikeOthers(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, at := setup(t, e)
		const query = `SELECT CAST($1 AS BIGINT) + 1`
		ask := func(query string, n int64) (got int64, err error) {
			rows, err := d.Prepared(t.Context(), query, n)
			if err != nil {
				return 0, err
			}
			defer rows.Close()
			for rows.Next() {
				if err := rows.Scan(&got); err != nil {
					return 0, err
				}
			}
			return got, rows.Err()
		}
		var wait sync.WaitGroup
		for n := range int64(20) {
			wait.Go(func() {
				for i := range int64(5) {
					if got, err := ask(query, n*i); got != n*i+1 || err != nil {
						t.Errorf("%d, %v, want %d", got, err, n*i+1)
					}
				}
			})
		}
		wait.Wait()
		const later = `SELECT n FROM later WHERE n = $1`
		if _, err := ask(later, 7); err == nil {
			t.Error("a table that is not there was read")
		}
		write(t, d, `CREATE TABLE later (n BIGINT NOT NULL)`)
		write(t, d, `INSERT INTO later VALUES (7)`)
		for _, column := range []string{"more", "and_more"} {
			if got, err := ask(later, 7); got != 7 || err != nil {
				t.Errorf("once the table is there: %d, %v", got, err)
			}
			write(t, d, `ALTER TABLE later ADD COLUMN `+column+` BIGINT`) // a newer program does that beside this one
		}
		if e.Name == "postgres" { // what was prepared goes with its sessions
			if _, err := dbtest.Raw(t, at).Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()`); err != nil {
				t.Fatal(err)
			}
			if got, err := ask(later, 7); got != 7 || err != nil {
				t.Errorf("after the server has closed the sessions: %d, %v", got, err)
			}
		}
	})
}

func TestPreparedListsOfAnyLengthAnswerLikeOthers(t *testing.T) {
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
			err := d.PreparedWide(t.Context(), `SELECT n FROM numbers WHERE n IN (list) ORDER BY n`, list, func(rows *sql.Rows) error {
				var n int
				err := rows.Scan(&n)
				got = append(got, n)
				return err
			})
			if diff := cmp.Diff(list, got); diff != "" || err != nil {
				t.Errorf("a list of %d: %v (-want +got):\n%s", length, err, diff)
			}
		}
		if err := d.PreparedWide(t.Context(), `SELECT n FROM nowhere WHERE n IN (list)`, []any{1}, nil); err == nil {
			t.Error("a table that is not there was read")
		}
		stop := errors.New("enough")
		if err := d.PreparedWide(t.Context(), `SELECT n FROM numbers WHERE n IN (list)`, []any{1, 2}, func(*sql.Rows) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("err = %v", err)
		}
	})
}
