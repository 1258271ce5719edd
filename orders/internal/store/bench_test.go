package store

import (
	"path/filepath"
	"testing"
)

// BenchmarkPlace is what an order of one line costs in this store: begin and confirm, 64 callers at once.
func BenchmarkPlace(b *testing.B) {
	s, err := Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "orders.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
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
