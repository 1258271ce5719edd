package order

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func TestIDsSortByTheirTimes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(0, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMicro()).Draw(t, "at"))
		next := at.Add(time.Microsecond)
		a, b := IDAt(at), IDAt(next)
		if a >= b || FirstID(at) > a || a >= FirstID(next) || FirstID(next) > b {
			t.Fatalf("%s of %v, %s of a microsecond later; the first are %s and %s", a, at, b, FirstID(at), FirstID(next))
		}
		if u, err := uuid.Parse(string(a)); err != nil || u.Version() != 7 || u.Variant() != uuid.RFC4122 || u.String() != string(a) {
			t.Fatalf("%s: %v, version %d, variant %s", a, err, u.Version(), u.Variant())
		}
		if sec, nsec := uuid.MustParse(string(a)).Time().UnixTime(); time.Unix(sec, nsec).UnixMilli() != at.UnixMilli() {
			t.Fatalf("%s of %v says %v", a, at, time.Unix(sec, nsec))
		}
		if IDAt(at) == a {
			t.Fatalf("%s twice", a)
		}
	})
}

// A list by time looks for ids of that time: after the clock was set back, an order has the id of its own time, not of the
// latest that this process has seen.
func TestIDGoesBackWithTheClock(t *testing.T) {
	t.Parallel()
	s := newShop(2, calm)
	s.clock = time.Now().Add(time.Hour)
	ahead := mustPlace(t, s, placement(1, 0)).Order
	s.clock = time.Now()
	back := mustPlace(t, s, placement(1, 0)).Order
	for _, o := range []*Order{ahead, back} {
		if o.ID < FirstID(o.PlacedAt) || o.ID >= FirstID(o.PlacedAt.Add(time.Microsecond)) {
			t.Errorf("%s was placed at %v", o.ID, o.PlacedAt)
		}
	}
	if back.ID >= ahead.ID {
		t.Errorf("%s, placed at %v, comes after %s, placed at %v", back.ID, back.PlacedAt, ahead.ID, ahead.PlacedAt)
	}
}
