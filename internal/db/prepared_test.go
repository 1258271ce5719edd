package db_test

import (
	"sync"
	"testing"

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
