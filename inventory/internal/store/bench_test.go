package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// BenchmarkReserve is the hot path: one line for each caller, 64 callers at once, on one SKU and on a thousand.
func BenchmarkReserve(b *testing.B) {
	for _, skus := range []int{1, 1000} {
		b.Run(fmt.Sprintf("skus=%d", skus), func(b *testing.B) {
			s := openBench(b, skus)
			callers(b, func(n int64) error {
				id, err := uuid.NewV7()
				if err != nil {
					return err
				}
				lines, err := stock.Sum([]stock.Line{{SKU: fmt.Sprintf("BOOK-%03d", n%int64(skus)), Qty: 1}})
				if err != nil {
					return err
				}
				a, err := s.Reserve(context.Background(), Wait, stock.Ask{ID: id.String(), Owner: stock.ByOrder, Lines: lines, CorrelationID: "0197b7b0-0000-7000-8000-000000000000"})
				if err == nil && a.State != stock.Reserved {
					return fmt.Errorf("state %s", a.State)
				}
				return err
			})
		})
	}
}

// BenchmarkCheck is the sold-out answer.
func BenchmarkCheck(b *testing.B) {
	s := openBench(b, 1)
	lines := []stock.Line{{SKU: "BOOK-000", Qty: 2_000_000_000}}
	callers(b, func(int64) error {
		short, err := s.Check(context.Background(), lines)
		if err == nil && len(short) != 1 {
			return fmt.Errorf("%d shortages", len(short))
		}
		return err
	})
}

func openBench(b *testing.B, skus int) *Store {
	dir := b.TempDir()
	s, err := Open(context.Background(), "sqlite:"+dir+"/inventory.db", dir, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	var file strings.Builder
	file.WriteString("sku,title,on_hand,tracked\n")
	for i := range skus {
		fmt.Fprintf(&file, "BOOK-%03d,Book,1000000000,true\n", i)
	}
	if _, err := s.Import(context.Background(), strings.NewReader(file.String())); err != nil {
		b.Fatal(err)
	}
	return s
}

// callers runs f b.N times from 64 goroutines.
func callers(b *testing.B, f func(n int64) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 64 {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if err := f(n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "/s")
}
