package telemetry

import (
	"context"
	"math"
	"sync"
	"time"
)

// Look is what one look into a database gives the figures of a process: several of them read it together. It is safe for concurrent use.
type Look[T any] struct {
	read func(context.Context) (T, error)

	mu   sync.Mutex // held while one reader looks for all
	at   time.Time  // of last
	last T
	err  error
}

const (
	// lookAge is how old a look may be: the figures of one reading come from one.
	lookAge = time.Second
	// lookTime bounds it: the other figures are not to wait for a database that hangs.
	lookTime = 500 * time.Millisecond
)

// NewLook makes one whose reading should be cheap, whatever lies in the database: it is repeated as often as somebody asks for the figures, each
// second at most.
func NewLook[T any](read func(context.Context) (T, error)) *Look[T] { return &Look[T]{read: read} }

// Gauge is what of returns from the look, for Metrics.Gauge, or NaN where the database does not say.
func (l *Look[T]) Gauge(of func(T) float64) func() float64 {
	return func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		if time.Since(l.at) > lookAge {
			ctx, cancel := context.WithTimeout(context.Background(), lookTime)
			defer cancel()
			l.last, l.err = l.read(ctx)
			l.at = time.Now()
		}
		if l.err != nil {
			return math.NaN()
		}
		return of(l.last)
	}
}
