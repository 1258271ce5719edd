package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/archive/archivetest"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// What is reserved stays; what has ended goes, and on hand is the sum of its movements as before. What comes late for it finds nothing, and
// moves nothing.
func TestReservationsOfEndedOrdersGo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		live, sold, back, off, refused, hold := newID(t), newID(t), newID(t), newID(t), newID(t), newID(t)
		for _, id := range []string{live, sold, back, off} {
			b.reserve(id, "BOOK", 2)
		}
		b.reserve(refused, "PEN", 1)
		if _, err := b.Reserve(b.ctx, Wait, stock.Ask{ID: hold, Owner: stock.Direct, Lines: []stock.Line{{SKU: "BOOK", Qty: 1}}, ExpiresIn: time.Minute}); err != nil {
			t.Fatal(err)
		}
		done := func(*db.Tx) error { return nil }
		if err := errors.Join(b.CommitFulfilled(b.ctx, sold, done), b.CommitFulfilled(b.ctx, back, done), b.RestockReturned(b.ctx, back, done), b.ReleaseCancelled(b.ctx, off, done)); err != nil {
			t.Fatal(err)
		}
		ids := []string{live, sold, back, off, refused, hold, newID(t)}
		ask := archivetest.New(t, b.Keeper(archive.Rules{}), time.Now().Add(time.Hour))
		if lines, held := ask.Read(ids...); len(lines) != 1 || !strings.Contains(string(lines[0]), refused) || len(held) != 5 || !strings.Contains(held[1].Why, "on its way") {
			t.Errorf("while answers wait to be published: %s, %+v", lines, held)
		}
		if err := b.Write(b.ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(`UPDATE outbox SET position = seq WHERE position IS NULL`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		lines, left := ask.Read(ids...)
		held := map[string]bool{}
		for _, l := range left {
			held[l.ID] = true
		}
		if len(lines) != 4 || len(held) != 2 || !held[live] || !held[hold] {
			t.Fatalf("%d records, held %v", len(lines), left)
		}
		// One is asked for though it lives, and one with another sum.
		records := ask.Stamps(lines)
		changed := records[0]
		records[0].Sum = archive.SumOf([]byte("another"))
		if gone := ask.Remove("a", append(records, archive.Stamp{ID: live, Sum: "?"})...); gone.Removed != 3 || len(gone.Left) != 2 {
			t.Fatalf("%+v", gone)
		}
		if gone := ask.Remove("a", changed); gone.Removed != 1 || len(gone.Left) != 0 {
			t.Errorf("the one that was left: %+v", gone)
		}
		if gone := ask.Remove("a", records...); gone.Removed != 0 || len(gone.Left) != 0 {
			t.Errorf("again: %+v", gone)
		}
		level := b.level("BOOK")
		if level.OnHand != 48 || level.Reserved != 3 {
			t.Errorf("the level is %+v, want 48 on hand, 3 reserved", level)
		}
		b.sound()

		// Events that come again when nobody remembers them.
		for id, late := range map[string]error{
			sold: b.CommitFulfilled(b.ctx, sold, done), back: b.RestockReturned(b.ctx, back, done),
		} {
			if !errors.Is(late, stock.ErrNoReservation) {
				t.Errorf("%s: %v, want ErrNoReservation", id, late)
			}
		}
		if err := b.ReleaseCancelled(b.ctx, off, done); err != nil {
			t.Error(err)
		}
		if again := b.level("BOOK"); again != level {
			t.Errorf("what came late made %+v of %+v", again, level)
		}
		b.sound()
	})
}
