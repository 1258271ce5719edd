package serve

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	"github.com/orderkeep/orderkeep/orders/v1/rest"
)

// A replay answers as the placement was answered, whatever became of the order since.
func TestPlacementIsAnsweredAsItWas(t *testing.T) {
	t.Parallel()
	o := &order.Order{ID: order.NewID(), State: order.Confirmed, TotalMinor: 1, Currency: "GBP", PlacedAt: noon, DecidedAt: noon, Payment: order.Payment{ID: "pay-1"}}
	want := asPlaced(o)
	for _, m := range [][]order.Move{
		{{To: order.Cancelled, At: noon, Reason: "r"}}, {{To: order.Fulfilled, At: noon}}, {{To: order.Fulfilled, At: noon}, {To: order.Returned, At: noon, Reason: "r"}},
	} {
		later := *o
		for _, m := range m {
			later.Apply(m)
		}
		later.UnitsTakenAt, later.MoneyTakenAt, later.UnitsBackAt, later.MoneyBackAt = noon, noon, noon, noon
		if d := cmp.Diff(want, asPlaced(&later)); d != "" {
			t.Errorf("%s: -want +got:\n%s", later.State, d)
		}
		if got := rest.OrderStatus(placed(later.State).Status()); got != rest.OrderStatusConfirmed {
			t.Errorf("%s: the plain answer says %s", later.State, got)
		}
	}
	for _, s := range []order.State{order.Pending, order.Undoing, order.Rejected} {
		if placed(s) != s {
			t.Errorf("%s was answered as %s", s, placed(s))
		}
	}
}
