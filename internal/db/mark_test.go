package db_test

import (
	"testing"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

func TestAMarkHoldsUntilACommitBegins(t *testing.T) {
	t.Parallel()
	d, _ := setup(t, dbtest.SQLite)
	var refuse int32
	during := 0
	if err := d.OnCommit(func() int32 {
		if _, ok := d.Mark(); ok {
			t.Error("there is a mark in the middle of a commit")
		}
		during++
		return refuse
	}); err != nil {
		t.Fatal(err)
	}
	was, ok := d.Mark()
	insert := func(k string) error {
		return d.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(`INSERT INTO single VALUES ($1, 1, '')`, k)
			if now, still := d.Mark(); now != was || still != ok {
				t.Errorf("%s: the mark is another one before the commit", k)
			}
			return err
		})
	}
	for _, tt := range []struct {
		key     string
		refuse  int32
		commits int
	}{{"a", 0, 1}, {"b", 1, 1}, {"a", 0, 0}, {"c", 0, 1}} {
		if refuse, during = tt.refuse, 0; !ok {
			t.Fatalf("%s: there is no mark", tt.key)
		}
		failed := insert(tt.key) != nil
		if want := tt.refuse != 0 || tt.commits == 0; failed != want || during != tt.commits {
			t.Fatalf("%s: failed is %v, with %d commits", tt.key, failed, during)
		}
		now, still := d.Mark()
		if (now == was) != (tt.commits == 0) {
			t.Errorf("%s: the mark was %d and is %d", tt.key, was, now)
		}
		was, ok = now, still
	}
}

func TestThereIsNoMarkWhereOthersWrite(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, _ := setup(t, e)
		if _, ok := d.Mark(); ok != d.Exclusive() {
			t.Errorf("%v", ok)
		}
	})
}
