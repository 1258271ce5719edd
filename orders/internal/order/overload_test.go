package order

import (
	"errors"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
)

func TestOrdersAreTurnedAwayBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	s := newShop(2, calm)
	var free, paid time.Duration
	s.cfg.Backlog = func(p bool) time.Duration {
		if p {
			return paid
		}
		return free
	}
	turnedAway := func(p Placement) {
		t.Helper()
		recorded, refused := len(s.store.orders), s.cfg.Figures.overloaded.Get()
		_, err := s.Place(t.Context(), p)
		if f := fault.Of(err); !errors.Is(err, ErrOverloaded) || f.RetryAfter < time.Second || f.RetryAfter > 3*time.Second {
			t.Errorf("got %v, want ErrOverloaded with a time to come back", err)
		}
		if len(s.store.orders) != recorded || s.cfg.Figures.overloaded.Get() != refused+1 {
			t.Errorf("%d orders are recorded and %d counted; want none more, and one", len(s.store.orders)-recorded, s.cfg.Figures.overloaded.Get()-refused)
		}
	}
	free, paid = crowded, crowded+1
	p := placement(1, 500)
	p.Key = "k"
	turnedAway(p)
	if r := mustPlace(t, s, placement(1, 0)); r.Order.State != Confirmed {
		t.Errorf("an order that has no queue to pass is %s", r.Order.State)
	}
	free, paid = crowded+1, 0
	turnedAway(placement(1, 0))
	if r := mustPlace(t, s, p); r.Order.State != Confirmed || r.Replayed {
		t.Errorf("under the key of one that was turned away it is %s, replayed %v", r.Order.State, r.Replayed)
	}
	free, paid = crowded+1, crowded+1
	// A key that has its answer gets it, however many come.
	if r := mustPlace(t, s, p); r.Order.State != Confirmed || !r.Replayed {
		t.Errorf("a repeat is %s, replayed %v; want the stored answer", r.Order.State, r.Replayed)
	}
	other := placement(1, 600)
	other.Key = p.Key
	if _, err := s.Place(t.Context(), other); !errors.Is(err, ErrReused) {
		t.Errorf("another order under its key: %v, want ErrReused", err)
	}
	s.store.chaos = func(call string) (before, after error) {
		if call == "known" {
			before = errLost
		}
		return before, nil
	}
	turnedAway(p) // nobody can say whether it has one
	s.store.chaos = calm
	free, paid = 0, 0
	mustPlace(t, s, placement(1, 0)) // sold out, and remembered
	free = time.Hour
	if r := mustPlace(t, s, placement(1, 0)); r.Order.Rejection == nil || r.Order.Rejection.Code != "out_of_stock" {
		t.Errorf("what is sold out needs no write to say so: %+v", r.Order)
	}
}
