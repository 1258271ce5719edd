package outbox

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is exponential with full jitter: a wait is anything from nothing up to first × factor^(n-1), so that those
// who failed together do not come back together.
type backoff struct {
	first  time.Duration
	factor float64
	most   time.Duration
}

// after returns the wait after the nth failure, n from 1.
func (b backoff) after(n int) time.Duration { return rand.N(b.bound(n)) + 1 }

func (b backoff) bound(n int) time.Duration {
	d := float64(b.first)
	for range n - 1 {
		if d *= b.factor; d >= float64(b.most) {
			return b.most
		}
	}
	return time.Duration(d)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
