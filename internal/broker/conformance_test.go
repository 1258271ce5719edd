package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/broker"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
)

// kinds are the adapters that the suite holds to what package broker promises.
var kinds = []string{"nats", "amqp", "kafka"}

// onAll runs a test on a broker of each kind, and on a real Kafka where KAFKA_TEST_URL names one.
func onAll(t *testing.T, f func(t *testing.T, url string)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f(t, running(t, kind))
		})
	}
	if url := os.Getenv("KAFKA_TEST_URL"); url != "" {
		t.Run("a real kafka", func(t *testing.T) {
			t.Parallel()
			f(t, fmt.Sprintf("%s?prefix=test-%d", url, time.Now().UnixNano()))
		})
	}
}

// onAllRestarting runs a test on a broker of each kind that it may kill and start again; it is not running yet.
func onAllRestarting(t *testing.T, f func(t *testing.T, s *server)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f(t, own(t, kind))
		})
	}
}

// within runs a test on the bus inside a process too: what holds there holds over a broker.
func within(t *testing.T, f func(t *testing.T, open func(...outbox.Subscription) bus)) {
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		f(t, func(subs ...outbox.Subscription) bus {
			b := outbox.NewLocal()
			for _, s := range subs {
				if err := b.Subscribe(s); err != nil {
					t.Fatal(err)
				}
			}
			b.Start()
			return b
		})
	})
	onAll(t, func(t *testing.T, url string) {
		f(t, func(subs ...outbox.Subscription) bus { return connect(t, url, subs...) })
	})
}

func TestBusCarriesEveryAttribute(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, open func(...outbox.Subscription) bus) {
		s := newShelf()
		b := open(s.subscription("c", textType))
		full := text("Tasse \"blau\" 100% ☕ é", strings.Repeat("long ", 20_000))
		full.CorrelationID, full.CausationID, full.TraceParent = "req 7/ü", "0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		bare := text("", "")
		publish(t, b, full, bare)
		got := s.holds(t, 2)
		if got[0].ID == bare.ID { // another subject: no order between them
			got[0], got[1] = got[1], got[0]
		}
		if diff := cmp.Diff([]outbox.Event{full, bare}, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestBusKeepsTheOrderOfASubjectForEachConsumer(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, open func(...outbox.Subscription) bus) {
		one, two, numbers := newShelf(), newShelf(), newShelf()
		b := open(one.subscription("one", textType, numberType), two.subscription("two", textType), numbers.subscription("numbers", numberType))
		events := texts(600, "a", "b", "c", "d", "e")
		for i := range events {
			if i%7 == 3 {
				events[i].Type = numberType
			}
		}
		for from := 0; from < len(events); from += 100 {
			publish(t, b, events[from:from+100]...)
			publish(t, b, events[from:from+100]...) // a relay that crashed before it marked them
		}
		var wantText, wantNumber []outbox.Event
		for _, e := range events {
			if e.Type == numberType {
				wantNumber = append(wantNumber, e)
			} else {
				wantText = append(wantText, e)
			}
		}
		for name, c := range map[string]struct {
			shelf *shelf
			want  []outbox.Event
		}{"one": {one, events}, "two": {two, wantText}, "numbers": {numbers, wantNumber}} {
			got := c.shelf.holds(t, len(c.want))
			if diff := cmp.Diff(bySubject(c.want), bySubject(got)); diff != "" {
				t.Errorf("%s got (-want +got):\n%s", name, diff)
			}
		}
	})
}

func TestEventsStayAtTheBrokerUntilTheyAreStored(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, url string) {
		s := newShelf()
		s.refuse = errors.New("the disk is full")
		b, log := connectLogged(t, url, s.subscription("c", textType))
		events := texts(20, "a", "b")
		publish(t, b, events...)
		s.await(t, "it is refused three times", func(s *shelf) bool { return s.calls >= 3 })
		b.Close()
		if !strings.Contains(log.String(), "events cannot be stored") {
			t.Errorf("nothing in the log about it:\n%s", log)
		}
		s.mu.Lock()
		s.refuse = nil
		s.mu.Unlock()
		connect(t, url, s.subscription("c", textType))
		if diff := cmp.Diff(bySubject(events), bySubject(s.holds(t, len(events)))); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	})
}

// A consumer that is there all along, and one that runs for the first time when all has been published: both get everything.
func TestConsumerThatComesLaterGetsThePast(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, url string) {
		early, late := newShelf(), newShelf()
		events := texts(300, "a", "b", "c")
		nobody := connect(t, url)
		publish(t, nobody, events[:100]...)
		nobody.Close()

		b := connect(t, url, early.subscription("early", textType))
		publish(t, b, events[100:200]...)
		early.holds(t, 200)
		later := connect(t, url, late.subscription("late", textType))
		publish(t, later, events[200:]...)
		for name, s := range map[string]*shelf{"early": early, "late": late} {
			if diff := cmp.Diff(bySubject(events), bySubject(s.holds(t, len(events)))); diff != "" {
				t.Errorf("%s got (-want +got):\n%s", name, diff)
			}
		}
	})
}

// The consumer that comes later is interrupted again and again while it gets the past.
func TestThePastSurvivesInterruptions(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, url string) {
		s := newShelf()
		events := texts(1200, "a", "b", "c")
		first := connect(t, url)
		publish(t, first, events...)
		first.Close()
		for n := range 3 {
			b := connect(t, url, s.subscription("late", textType))
			s.holds(t, 1+n*300)
			b.Close()
		}
		b := connect(t, url, s.subscription("late", textType))
		after := text("a", "after")
		publish(t, b, after)
		events = append(events, after)
		if diff := cmp.Diff(bySubject(events), bySubject(s.holds(t, len(events)))); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

func TestDrainFinishesTheBatchUnderWayAndTakesNoMore(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, url string) {
		s := newShelf()
		entered, leave := make(chan struct{}), make(chan struct{})
		var once sync.Once
		slow := s.subscription("c", textType)
		slow.Receive = func(ctx context.Context, events []outbox.Event) error {
			once.Do(func() { close(entered) })
			<-leave
			return s.receive(ctx, events)
		}
		b := connect(t, url, slow)
		events := texts(10, "a")
		publish(t, b, events[:5]...)
		<-entered
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			b.Stop()
		}()
		publish(t, b, events[5:]...) // publishing goes on
		select {
		case <-stopped:
			t.Error("stopped while a batch was under way")
		default:
		}
		close(leave)
		<-stopped
		s.mu.Lock()
		calls, stored := s.calls, len(s.events)
		s.mu.Unlock()
		if stored == 0 {
			t.Error("the batch under way was not stored")
		}
		b.Close()
		if s.calls != calls {
			t.Errorf("%d more batches came after the drain", s.calls-calls)
		}
		connect(t, url, s.subscription("c", textType))
		if diff := cmp.Diff(bySubject(events), bySubject(s.holds(t, len(events)))); diff != "" {
			t.Errorf("got (-want +got):\n%s", diff)
		}
	})
}

// Two replicas of a consumer share its events: each has one effect, in order, while replicas come and go.
func TestReplicasShareAConsumer(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, url string) {
		d := openDatabase(t)
		inbox := func() *outbox.Inbox {
			return outbox.NewInbox("c", d.DB, d.write, map[string]outbox.Handler{textType: d.effect}, discard())
		}
		runs(t, inbox().Run) // one works the rows off; the others only store
		publisher := connect(t, url)
		events := texts(800, "a", "b", "c", "d")
		publish(t, publisher, events[:200]...)
		one := connect(t, url, inbox().Subscription())
		publish(t, publisher, events[200:400]...)
		connect(t, url, inbox().Subscription())
		publish(t, publisher, events[400:600]...)
		one.Close()
		publish(t, publisher, events[600:]...)
		eventually(t, "all are handled", func() bool {
			return len(d.rows(t, "effect")["a"]) == 200 && d.waiting(t)["inboxWaiting"] == 0 && total(d.rows(t, "effect")) == 800
		})
		if diff := cmp.Diff(bySubject(events), d.rows(t, "effect")); diff != "" {
			t.Errorf("effects (-want +got):\n%s", diff)
		}
	})
}

func total(bySubject map[string][]string) int {
	n := 0
	for _, ids := range bySubject {
		n += len(ids)
	}
	return n
}

// From the outbox of one context to the inbox of another: an event that this version of the consumer cannot handle is
// parked, and has its effect when it is redriven under one that can.
func TestEventIsParkedAndRedriven(t *testing.T) {
	t.Parallel()
	within(t, func(t *testing.T, open func(...outbox.Subscription) bus) {
		from, to := openDatabase(t), openDatabase(t)
		old := outbox.NewInbox("c", to.DB, to.write, map[string]outbox.Handler{}, discard())
		sub := old.Subscription()
		sub.Types = []string{textType} // the newer version wanted it, and was rolled back
		b := open(sub)
		e := text("s", "x")
		if err := from.write(t.Context(), func(tx *db.Tx) error { return outbox.Append(tx, []outbox.Event{e}) }); err != nil {
			t.Fatal(err)
		}
		runs(t, outbox.NewRelay("/test", from.DB, from.write, b, discard()).Run)
		stop := runs(t, old.Run)
		eventually(t, "it is parked", func() bool { return to.waiting(t)["parked"] == 1 })
		stop()
		desk, err := outbox.OpenDesk(t.Context(), to.url, schema)
		if err != nil {
			t.Fatal(err)
		}
		defer desk.Close()
		current := outbox.NewInbox("c", to.DB, to.write, map[string]outbox.Handler{textType: to.effect}, discard())
		runs(t, current.Run)
		if err := desk.Redrive(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it has its effect", func() bool { return total(to.rows(t, "effect")) == 1 })
	})
}

func TestBusRefusesWhatWouldLoseEvents(t *testing.T) {
	t.Parallel()
	b, err := broker.New("nats://127.0.0.1:1", nil, discard())
	if err != nil {
		t.Fatal(err)
	}
	s := newShelf()
	if err := b.Subscribe(s.subscription("c", textType)); err != nil {
		t.Fatal(err)
	}
	if b.Subscribe(s.subscription("c", textType)) == nil {
		t.Error("a second consumer of the same name was accepted")
	}
	if b.Started() || b.Ready(t.Context()) == nil {
		t.Error("ready before it has started")
	}
	b.Start()
	defer b.Close()
	if b.Subscribe(s.subscription("d", textType)) == nil {
		t.Error("a consumer was accepted after Start")
	}
}
