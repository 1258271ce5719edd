package faults

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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

// roughWay leads to the server at addr. On it commands are sent twice, or once more when nobody expects it any more, or held back so
// that later ones overtake them, and answers are lost.
func (w *world) roughWay(addr string) string {
	d := &dice{chance: w.chance()}
	return stage.Between(w.t, addr, func(ctx context.Context, c *stage.Call) ([]byte, error) {
		if w.calm.Load() {
			return c.Send(ctx)
		}
		if d.in(10) {
			w.report.count("command held back")
			pause(ctx, d.upTo(150*time.Millisecond))
		}
		if d.in(10) {
			w.report.count("command sent late")
			time.AfterFunc(d.upTo(late), func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, _ = c.Send(ctx) // nobody waits for it
			})
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

// broker is "orderkeep broker" on one directory, which comes back at another port.
type broker struct {
	*server
	lead  []*stage.Wire // which lead to it
	start func()
}

func (w *world) newBroker() *broker {
	data := w.t.TempDir()
	b := &broker{}
	var p *stage.Process
	b.start = func() {
		var url string
		p, url = stage.ServeBroker(w.t, program, data, "127.0.0.1:0")
		p.Expected, p.Quiet = true, true
		for _, wire := range b.lead {
			wire.Lead(host(url))
		}
	}
	b.server = &server{name: "the broker", restart: func(down time.Duration) {
		p.Kill()
		pause(w.t.Context(), down)
		b.start()
	}}
	return b
}

// repeatEvents puts some events into the broker's stream once more, after others that came later, and without the id by which the
// broker itself would know them again.
func (w *world) repeatEvents(b *broker) {
	wire := stage.NewWire(w.t)
	b.mu.Lock()
	b.lead = append(b.lead, wire)
	wire.Lead(b.lead[0].Target())
	b.mu.Unlock()
	conn, err := nats.Connect("nats://"+wire.Addr(), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		w.t.Fatal(err)
	}
	const stream, copied = "orderkeep", "Lab-Copy"
	var consumer jetstream.Consumer
	stage.Eventually(w.t, "the stream of events is there", func() bool {
		consumer, err = js.OrderedConsumer(w.t.Context(), stream, jetstream.OrderedConsumerConfig{})
		return err == nil
	})
	d := &dice{chance: w.chance()}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		if m.Headers().Get(copied) != "" || w.calm.Load() || !d.in(10) {
			return
		}
		again := &nats.Msg{Subject: m.Subject(), Data: m.Data(), Header: nats.Header{copied: {"1"}}}
		for name, values := range m.Headers() {
			if !strings.HasPrefix(name, "Nats-") {
				again.Header[name] = values
			}
		}
		time.AfterFunc(d.upTo(late), func() {
			if conn.PublishMsg(again) == nil { // nobody waits for it
				w.report.count("event sent again")
			}
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(consuming.Stop)
}
