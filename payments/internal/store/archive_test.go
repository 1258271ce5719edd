package store

import (
	"slices"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/archive/archivetest"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

// Money that is held or under way stays. What has ended goes with its attempts, and the provider's record stays.
func TestPaymentsOfEndedOrdersGo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		var ids, want []string
		for n, ops := range [][]string{
			{"authorize"}, {"authorize", "capture"}, {"authorize", "void"}, {"authorize", "capture", "refund"}, {"void"},
		} {
			b.operate(orderID(n), ops...)
			if ids = append(ids, orderID(n)); n > 0 {
				want = append(want, orderID(n))
			}
		}
		if err := b.exec(`UPDATE outbox SET position = seq`); err != nil {
			t.Fatal(err)
		}
		ask := archivetest.New(t, b.Keeper(archive.Rules{}), time.Now().Add(time.Hour))
		lines, held := ask.Read(ids...)
		records := ask.Stamps(lines)
		var got []string
		for _, r := range records {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, want) || len(held) != 1 || held[0].ID != orderID(0) {
			t.Fatalf("go %v, held %v", got, held)
		}
		// One is refunded by hand before it is removed: what the file has of it is out of date.
		b.operate(orderID(1), "refund")
		if err := b.exec(`UPDATE outbox SET position = seq WHERE position IS NULL`); err != nil {
			t.Fatal(err)
		}
		if gone := ask.Remove("a", records...); gone.Removed != 3 || len(gone.Left) != 1 || gone.Left[0].ID != orderID(1) {
			t.Errorf("%+v", gone)
		}
		if p, a := b.count(`SELECT count(*) FROM payments`), b.count(`SELECT count(*) FROM attempts`); p != 2 || a != 4 {
			t.Errorf("%d payments with %d attempts are left, want the one that is held and the one that was refunded", p, a)
		}
		_, broken, claims := b.inspect()
		stays := func(c audit.Claim) bool {
			return c.Order == orderID(3) && c.What == audit.ProviderBack && c.Amount == 1000
		}
		if len(broken) > 0 || !slices.ContainsFunc(claims, stays) {
			t.Errorf("%v; the provider's record of what was archived is not among %v", broken, claims)
		}
	})
}
