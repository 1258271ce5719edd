package store

import (
	"testing"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

// BenchmarkPlace is what an order of one line costs in this store: begin and confirm, 64 callers at once.
func BenchmarkPlace(b *testing.B) {
	for _, e := range []dbtest.Engine{dbtest.SQLite, dbtest.Postgres} {
		b.Run(e.Name, func(b *testing.B) { benchmarkPlace(b, e) })
	}
}

func benchmarkPlace(b *testing.B, e dbtest.Engine) {
	s, _ := setup(b, e)
	b.ResetTimer()
	b.SetParallelism(32) // times two cores
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			o := pending("")
			o.Lines, o.Customer = o.Lines[:1], ""
			if _, err := s.Begin(b.Context(), o); err != nil {
				b.Error(err)
			}
			m := confirm()
			if ok, err := s.Move(b.Context(), o, m); err != nil || !ok {
				b.Error(ok, err)
			}
		}
	})
}

// BenchmarkRead is what an order, and a page of them, costs to read.
func BenchmarkRead(b *testing.B) {
	for _, e := range []dbtest.Engine{dbtest.SQLite, dbtest.Postgres} {
		s, _ := setup(b, e)
		var last order.ID
		for range 1000 {
			o := pending("")
			if _, err := s.Begin(b.Context(), o); err != nil {
				b.Fatal(err)
			}
			last = o.ID
		}
		b.Run(e.Name+"/order", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Get(b.Context(), last); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(e.Name+"/page of 50", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if page, err := s.List(b.Context(), order.Filter{Limit: 50}); err != nil || len(page) != 50 {
					b.Fatal(len(page), err)
				}
			}
		})
	}
}
