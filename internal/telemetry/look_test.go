package telemetry

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// All figures of a second come from one look, which may fail and may not hang.
func TestALookServesAllWhoAskWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks, answer := 0, func(context.Context) error { return nil }
		l := NewLook(func(ctx context.Context) (int, error) {
			looks++
			return looks, answer(ctx)
		})
		tenfold, itself := l.Gauge(func(n int) float64 { return 10 * float64(n) }), l.Gauge(func(n int) float64 { return float64(n) })
		if a, b := tenfold(), itself(); a != 10 || b != 1 {
			t.Errorf("the first look gives %v and %v", a, b)
		}
		time.Sleep(time.Second)
		if a := itself(); a != 1 {
			t.Errorf("a second later it looks again: %v", a)
		}
		time.Sleep(time.Millisecond)
		if a := itself(); a != 2 {
			t.Errorf("after more than a second it has %v", a)
		}
		answer = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		time.Sleep(2 * time.Second)
		began := time.Now()
		if a, b := itself(), tenfold(); !math.IsNaN(a) || !math.IsNaN(b) || time.Since(began) != lookTime {
			t.Errorf("of a database that hangs it says %v and %v, after %s", a, b, time.Since(began))
		}
		answer = func(context.Context) error { return errors.New("away") }
		time.Sleep(2 * time.Second)
		if a := itself(); !math.IsNaN(a) {
			t.Errorf("of a database that is away it says %v", a)
		}
	})
}
