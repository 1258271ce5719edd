package trail_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/trail"
)

// schema is that of a context which has a trail.
var schema = db.Schema{Context: "inventory", Migrations: os.DirFS("../../inventory/internal/store")}

func TestActIsThereIfItsChangeIs(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		url := e.New(t)
		d, err := db.Open(t.Context(), url, schema)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		failed := errors.New("the change failed")
		note := func(ctx context.Context, subject string, times int, fails error) {
			t.Helper()
			err := d.Write(ctx, func(tx *db.Tx) error {
				for range times {
					if err := trail.Append(ctx, tx, subject); err != nil {
						return err
					}
				}
				return fails
			})
			if !errors.Is(err, fails) {
				t.Fatal(err)
			}
		}
		begin := time.Now().Add(-time.Microsecond)
		by := func(actor string) context.Context {
			return trail.By(telemetry.WithCorrelation(t.Context(), "c-1"), trail.VoidPayment, actor, "it was nobody's")
		}
		ada := by("ada")
		note(ada, "o-1", 2, nil)          // a change in two steps
		note(ada, "o-1", 1, nil)          // in two transactions
		note(by("bob"), "o-2", 1, failed) // never made
		note(by(""), "o-3", 1, nil)       // by nobody
		note(t.Context(), "o-4", 1, nil)  // by the contexts themselves
		note(by("an auditor's"), "o-5", 1, nil)
		got, err := trail.List(t.Context(), url, schema)
		want := []trail.Act{
			{Actor: "ada", What: "void_payment", Subject: "o-1", Reason: "it was nobody's", CorrelationID: "c-1"},
			{Actor: "an auditor's", What: "void_payment", Subject: "o-5", Reason: "it was nobody's", CorrelationID: "c-1"},
		}
		if d := cmp.Diff(want, got, cmpopts.IgnoreFields(trail.Act{}, "ID", "At")); d != "" || err != nil {
			t.Errorf("%v\n%s", err, d)
		}
		for _, a := range got {
			if a.At.Before(begin) || a.At.After(time.Now()) || a.ID == "" {
				t.Errorf("%+v", a)
			}
		}
		for _, statement := range []string{`UPDATE acts SET actor = 'mallory'`, `DELETE FROM acts`} {
			if _, err := dbtest.Raw(t, url).Exec(statement); err == nil {
				t.Errorf("%s: the trail was changed", statement)
			}
		}
	})
}
