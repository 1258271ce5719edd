package store

import (
	"testing"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
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
