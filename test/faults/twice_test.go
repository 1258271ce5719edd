package faults

import (
	"context"
	"math/rand/v2"
	"path"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/test/stage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// dice are safe for concurrent use.
type dice struct {
	mu     sync.Mutex
	chance *rand.Rand
}

func (d *dice) in(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.chance.IntN(n) == 0
}

func (d *dice) upTo(most time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.chance.Int64N(int64(most)))
}

// late is when the last copy of a command may come: when its order has been answered, cancelled or fulfilled, or given up.
const late = 3 * time.Second

// overtaken are commands that come for the first time when what was to follow them has come long ago, as their order was given up meanwhile.
type overtaken struct {
	mu    sync.Mutex
	until map[string]time.Time // by command, of those that have been sent; zero of one that is not held up
}

// holds reports whether a command does not get through now, and whether that is news.
func (o *overtaken) holds(c *stage.Call, d *dice) (yes, news bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	until, known := o.until[string(c.Command)]
	odds := map[string]int{"Reserve": 25, "Authorize": 8}[path.Base(c.Method)] // fewer orders are given up while they are paid
	if !known && odds > 0 {
		if d.in(odds) {
			until, news = time.Now().Add(late), true
		}
		o.until[string(c.Command)] = until
	}
	return time.Now().Before(until), news
}

// roughWay leads to the server at addr. On it commands are sent twice, or once more when nobody expects it any more, or held back so
// that later ones overtake them; some do not get through at all before they are late; and answers are lost.
func (w *world) roughWay(addr string) string {
	d := &dice{chance: w.chance()}
	o := &overtaken{until: map[string]time.Time{}}
	return stage.Between(w.t, addr, func(ctx context.Context, c *stage.Call) ([]byte, error) {
		if w.calm.Load() {
			return c.Send(ctx)
		}
		again := func(after time.Duration) {
			time.AfterFunc(after, func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, _ = c.Send(ctx) // nobody waits for it
			})
		}
		if held, news := o.holds(c, d); held {
			if news {
				w.report.count("command overtaken")
				again(late)
			}
			return nil, status.Error(codes.Unavailable, "the connection broke")
		}
		if d.in(10) {
			w.report.count("command held back")
			pause(ctx, d.upTo(150*time.Millisecond))
		}
		if d.in(10) {
			w.report.count("command sent late")
			again(d.upTo(late))
		}
		if d.in(10) {
			w.report.count("command sent twice")
			if _, err := c.Send(ctx); err != nil {
				return nil, err
			}
		}
		answer, err := c.Send(ctx)
		if d.in(50) {
			w.report.count("answer lost")
			return nil, status.Error(codes.Unavailable, "the connection broke")
		}
		return answer, err
	})
}
