package stock

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkDecide is the decision of a batch of 64 reservations of one line, with the room made anew, as a batcher makes it: on one SKU and
// on 64 of them.
func BenchmarkDecide(b *testing.B) {
	const batch = 64
	for _, skus := range []int{1, batch} {
		b.Run(fmt.Sprintf("skus=%d", skus), func(b *testing.B) {
			names := make([]string, skus)
			for i := range names {
				names[i] = fmt.Sprintf("SKU-%02d", i)
			}
			asks := make([]Ask, batch)
			for i := range asks {
				asks[i] = Ask{ID: fmt.Sprintf("order-%02d", i), Owner: ByOrder, Lines: []Line{{SKU: names[i%skus], Qty: 1}}}
			}
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				r := NewRoom(now)
				for _, name := range names {
					r.AddLevel(name, true, Level{Location: Default, OnHand: 1_000_000})
				}
				for _, ask := range asks {
					if a, err := r.Reserve(ask); err != nil || a.State != Reserved {
						b.Fatal(a, err)
					}
				}
				if c := r.Changes(); len(c.Reservations) != batch {
					b.Fatalf("%d reservations", len(c.Reservations))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/order")
		})
	}
}
