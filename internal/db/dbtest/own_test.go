package dbtest_test

import (
	"testing"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

func TestOwnServerKeepsWhatWasCommittedWhenItIsCutOff(t *testing.T) {
	t.Parallel()
	s := dbtest.OwnPostgres(t)
	d := dbtest.Raw(t, s.New(t))
	if _, err := d.Exec(`CREATE TABLE kept AS SELECT 42 AS n`); err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
	if err := d.Ping(); err == nil {
		t.Error("it is stopped, and answers")
	}
	s.Start(t)
	var n int
	if err := d.QueryRow(`SELECT n FROM kept`).Scan(&n); err != nil || n != 42 {
		t.Errorf("after the restart it has %d, %v", n, err)
	}
}
