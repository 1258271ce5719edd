package broker_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/broker"
	"github.com/orderkeep/orderkeep/internal/broker/brokertest"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/outbox"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// playConsumer is a consumer that never acknowledges: it says that it was handed events, and stays there.
func playConsumer(args []string) error {
	b, err := broker.NewImpatient(args[0], consumers, discard())
	if err != nil {
		return err
	}
	if err := b.Subscribe(outbox.Subscription{Name: "c", Types: []string{textType}, Receive: func(_ context.Context, events []outbox.Event) error {
		fmt.Println("received", len(events))
		select {}
	}}); err != nil {
		return err
	}
	b.Start()
	<-orphaned().Done()
	return nil
}

// The consumer's process is killed between Receive and the acknowledgement. Another one gets the same events again, in order.
func TestEventsOfACrashedConsumerComeAgain(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, url string) {
		publisher := connect(t, url)
		events := texts(200, "a", "b", "c")
		publish(t, publisher, events...)
		crashing := self("consumer " + url)
		brokertest.Spawn(t, crashing, "received").Kill()
		s := newShelf()
		connect(t, url, s.subscription("c", textType))
		after := text("a", "after")
		publish(t, publisher, after)
		events = append(events, after)
		if diff := cmp.Diff(bySubject(events), bySubject(s.holds(t, len(events)))); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

// The broker is stopped once and killed twice while a relay publishes and an inbox consumes. Stopped first: a RabbitMQ 3.10
// that is killed in the seconds after a quorum queue was made has forgotten where it is.
func TestNothingIsLostWhenTheBrokerRestarts(t *testing.T) {
	t.Parallel()
	onAllRestarting(t, func(t *testing.T, s *server) {
		s.start(t)
		from, to := openDatabase(t), openDatabase(t)
		inbox := outbox.NewInbox("c", to.DB, to.write, map[string]outbox.Handler{textType: to.effect}, discard())
		runs(t, inbox.Run)
		connect(t, s.url, inbox.Subscription())
		publisher := connect(t, s.url)
		relay := outbox.NewRelay("/test", from.DB, from.write, publisher, discard())
		runs(t, relay.Run)

		events := texts(600, "a", "b", "c", "d")
		var appended atomic.Int64
		feed := func(n int) {
			for _, e := range events[appended.Load() : appended.Load()+int64(n)] {
				if err := from.write(context.Background(), func(tx *db.Tx) error { return outbox.Append(tx, []outbox.Event{e}) }); err != nil {
					t.Error(err)
				}
				relay.Wake()
			}
			appended.Add(int64(n))
		}
		for _, end := range []func(){s.stop, s.kill, s.kill} {
			seen := total(to.rows(t, "effect"))
			feed(100)
			eventually(t, "traffic flows", func() bool { return total(to.rows(t, "effect")) > seen })
			end()
			feed(50)
			if err := publisher.Ready(t.Context()); err == nil {
				eventually(t, "the bus knows that the broker is away", func() bool { return publisher.Ready(t.Context()) != nil })
			}
			s.start(t)
			eventually(t, "the bus is ready again", func() bool { return publisher.Ready(t.Context()) == nil })
		}
		feed(150)
		eventually(t, "all have their effect", func() bool { return total(to.rows(t, "effect")) == len(events) })
		if diff := cmp.Diff(bySubject(events), to.rows(t, "effect")); diff != "" {
			t.Errorf("effects (-want +got):\n%s", diff)
		}
		if n := from.waiting(t)["outboxWaiting"]; n != 0 {
			eventually(t, "the outbox is empty", func() bool { return from.waiting(t)["outboxWaiting"] == 0 })
		}
	})
}

func TestBusStartsWithoutItsBroker(t *testing.T) {
	t.Parallel()
	onAllRestarting(t, func(t *testing.T, s *server) {
		shelf := newShelf()
		b, log := connectLogged(t, s.url, shelf.subscription("c", textType))
		eventually(t, "the log says that the broker is away", func() bool { return strings.Contains(log.String(), "the broker is away") })
		if err := b.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "is away") || !strings.Contains(fault.Of(err).Detail, "BROKER_URL") {
			t.Errorf("ready: %v, want one that says to all that the broker is away, and to the log which", err)
		}
		if b.Started() {
			t.Error("a drain would wait for a broker that is not there")
		}
		published := make(chan error, 1)
		e := text("a", "x")
		go func() {
			for err := io.EOF; err != nil; {
				err = b.Publish(context.Background(), []outbox.Event{e})
			}
			published <- nil
		}()
		s.start(t)
		<-published
		shelf.holds(t, 1)
		if err := b.Ready(t.Context()); err != nil {
			t.Errorf("ready: %v", err)
		}
		if n := strings.Count(log.String(), "the broker is away"); n != 1 {
			t.Errorf("%d log lines about one outage, want 1:\n%s", n, log)
		}
	})
}
