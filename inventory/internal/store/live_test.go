package store

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// The figure is right whichever replica reserved and whichever ended it, and when the table comes to reservations that are there.
func TestLiveReservationsAreCounted(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b, clock := setupAt(t, e)
		figures := func(want string) {
			t.Helper()
			m := telemetry.NewMetrics()
			measureLive(b.db, m)
			var text bytes.Buffer
			if err := m.Write(&text); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(text.String(), want) {
				t.Errorf("no %q in\n%s", want, text.String())
			}
			b.sound()
		}
		const none = "orderkeep_reservations_live{owner=\"direct\"} 0\norderkeep_reservations_live{owner=\"order\"} 0\n"
		figures(none)
		other := b.Store
		if e.Name != dbtest.SQLite.Name {
			other = b.replica()
			other.now = clock.now
		}
		released, committed, refused := newID(t), newID(t), newID(t)
		b.reserve(released, "BOOK", 1)
		b.reserve(committed, "BOOK", 2)
		b.reserve(committed, "BOOK", 2) // a repeat
		b.reserve(refused, "BOOK", 50)
		b.reserve(newID(t), "BOOK", 3)
		b.hold(newID(t), "BOOK", 2)
		figures("orderkeep_reservations_live{owner=\"direct\"} 1\norderkeep_reservations_live{owner=\"order\"} 3\n")
		for range 2 {
			if err := other.Release(b.ctx, Wait, released); err != nil {
				t.Fatal(err)
			}
			if err := other.Commit(b.ctx, Wait, committed); err != nil {
				t.Fatal(err)
			}
			if err := other.Release(b.ctx, Wait, refused); err != nil {
				t.Fatal(err)
			}
		}
		clock.set(noon.Add(time.Minute))
		if _, err := other.Expire(b.ctx); err != nil {
			t.Fatal(err)
		}
		const one = "orderkeep_reservations_live{owner=\"direct\"} 0\norderkeep_reservations_live{owner=\"order\"} 1\n"
		figures(one)

		raw := dbtest.Raw(t, b.at)
		for _, statement := range []string{`DROP TABLE live_reservations`, `DROP INDEX acts_by_subject`, `DELETE FROM goose_db_version WHERE version_id >= 4`} {
			if _, err := raw.Exec(statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		b.reopen()
		figures(one)
	})
}
