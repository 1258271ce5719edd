package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"pgregory.net/rapid"
)

// Whatever the bus does with a batch and wherever the publisher dies, each event has one effect, and those of a subject
// have theirs in order.
func TestEventsHaveOneEffectWhateverFails(t *testing.T) {
	t.Parallel()
	type plan struct {
		subjects []int
		bus      []string // what the bus does with each attempt; after that it works
		crashes  []int    // before which marks the publisher dies
	}
	rapid.Check(t, func(rt *rapid.T) {
		p := plan{
			subjects: rapid.SliceOfN(rapid.IntRange(0, 3), 1, 40).Draw(rt, "subjects"),
			bus:      rapid.SliceOfN(rapid.SampledFrom([]string{"works", "fails", "fails after delivering", "delivers half", "delivers twice"}), 0, 6).Draw(rt, "bus"),
			crashes:  rapid.SliceOfN(rapid.IntRange(0, 5), 0, 2).Draw(rt, "crashes"),
		}
		var failure string
		synctest.Test(t, func(t *testing.T) {
			publisher, consumer := setup(t, dbtest.SQLite), setup(t, dbtest.SQLite)
			want := map[string][]string{}
			var events []outbox.Event
			for n, s := range p.subjects {
				e := text(t.Context(), fmt.Sprintf("subject %d", s), named(n))
				events = append(events, e)
				want[e.Subject] = append(want[e.Subject], e.ID)
			}
			for chunk := range slices.Chunk(events, 7) {
				publisher.append(t, chunk...)
			}
			inbox := outbox.NewInbox("consumer", consumer.db, consumer.write, map[string]outbox.Handler{textType: consumer.effect}, consumer.log)
			consumer.run(inbox.Run)
			receive := inbox.Subscription().Receive
			attempt := 0
			bus := busFunc(func(ctx context.Context, events []outbox.Event) error {
				if attempt++; attempt > len(p.bus) {
					return receive(ctx, events)
				}
				switch p.bus[attempt-1] {
				case "fails":
					return errors.New("the bus is away")
				case "fails after delivering":
					return errors.Join(receive(ctx, events), errors.New("the acknowledgement was lost"))
				case "delivers half":
					return errors.Join(receive(ctx, events[:len(events)/2]), errors.New("the bus died"))
				case "delivers twice":
					return errors.Join(receive(ctx, events), receive(ctx, events))
				}
				return receive(ctx, events)
			})
			for _, at := range p.crashes {
				crashed := make(chan struct{})
				writes := 0
				dying := func(ctx context.Context, f func(*db.Tx) error) error {
					if writes++; writes-1 < at {
						return publisher.write(ctx, f)
					}
					close(crashed)
					<-ctx.Done() // nothing of this process happens any more
					return ctx.Err()
				}
				publisher.run(outbox.NewRelay("/test", publisher.db, dying, bus, publisher.log).Run)
				until(t, "the publisher dies or is done", func() bool {
					select {
					case <-crashed:
						return true
					default:
						return publisher.stats(t).waiting == 0
					}
				})
				publisher.close()
				publisher = reopen(t, publisher.url)
			}
			publisher.run(outbox.NewRelay("/test", publisher.db, publisher.write, bus, publisher.log).Run)
			until(t, "all is published and handled", func() bool {
				return publisher.stats(t).waiting == 0 && consumer.stats(t).inbox == 0
			})
			failure = cmp.Diff(want, consumer.effects(t))
			if max := count(t, publisher.db, `SELECT max(position) FROM outbox`); max != int64(len(events)) {
				failure += fmt.Sprintf("positions end at %d for %d events", max, len(events))
			}
		})
		if failure != "" {
			rt.Fatalf("effects (-want +got):\n%s", failure)
		}
	})
}

func TestRelayKeepsTheOrderOverAFailingBus(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			h := setup(t, engine)
			var got []string
			var at []time.Time
			bus := busFunc(func(_ context.Context, events []outbox.Event) error {
				if at = append(at, time.Now()); len(at) <= 12 {
					return errors.New("the bus is away")
				}
				got = append(got, ids(events)...)
				return nil
			})
			relay := outbox.NewRelay("/test", h.db, h.write, bus, h.log)
			h.run(relay.Run)
			var want []string
			for n := range 5 {
				e := text(t.Context(), "s", named(n))
				h.append(t, e)
				relay.Wake()
				want = append(want, e.ID)
				synctest.Wait()
			}
			until(t, "all is published", func() bool { return h.stats(t).waiting == 0 })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
			bound := 50 * time.Millisecond
			for n := 1; n <= 12; n++ {
				if gap := at[n].Sub(at[n-1]); gap > bound+time.Microsecond {
					t.Errorf("attempt %d came %s after the one before, want at most %s", n+1, gap, bound)
				}
				bound = min(2*bound, 30*time.Second)
			}
			if n := h.lines.Count("level=WARN"); n != 1 {
				t.Errorf("%d warnings for one outage, want 1", n)
			}
		})
	})
}

func TestRelayPublishesSoonAfterWakeAndFindsWhatNobodyToldOf(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			h := setup(t, engine)
			published := 0
			bus := busFunc(func(_ context.Context, events []outbox.Event) error { published += len(events); return nil })
			relay := outbox.NewRelay("/test", h.db, h.write, bus, h.log)
			h.run(relay.Run)
			synctest.Wait()
			h.append(t, text(t.Context(), "s", "told"))
			for range 100 {
				relay.Wake() // never blocks
			}
			synctest.Wait()
			if published != 1 {
				t.Fatalf("%d published without the clock moving, want 1", published)
			}
			time.Sleep(10 * time.Second)
			h.append(t, text(t.Context(), "s", "untold"))
			time.Sleep(time.Second + time.Millisecond)
			synctest.Wait()
			if published != 2 {
				t.Fatalf("%d published a second later, want 2", published)
			}
		})
	})
}

func TestRelayDoesNotSkipWhatCommitsLate(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		relay := outbox.NewRelay("/test", h.db, h.write, relayed(t), h.log)
		insert := func(seq int) {
			h.exec(t, `INSERT INTO outbox (seq, id, type, subject, time, correlation_id, causation_id, traceparent, data)
			VALUES ($1, $2, 'unknown.Type', 's', 0, '', '', '', '')`, seq, named(seq))
		}
		drain := func() {
			t.Helper()
			if err := relay.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, seq := range []int{10, 11, 14} {
			insert(seq)
		}
		drain()
		for _, seq := range []int{5, 12, 13, 20} { // took their numbers before the others committed
			insert(seq)
		}
		drain()
		var got []string
		for _, e := range page(t, relay, "", 100).Events {
			got = append(got, e.Cursor+" "+e.ID)
		}
		want := []string{"1 event 10", "2 event 11", "3 event 14", "4 event 5", "5 event 12", "6 event 13", "7 event 20"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("feed (-want +got):\n%s", diff)
		}
	})
}

func TestRelayRefusesToMarkWhatAnotherRelayMarked(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		h.append(t, text(t.Context(), "s", "one"), text(t.Context(), "s", "two"))
		other := outbox.NewRelay("/test", h.db, h.write, relayed(t), h.log)
		late := func(ctx context.Context, f func(*db.Tx) error) error {
			if engine.Name == "postgres" { // it is cut off, and the other one gets the lease
				_, err := dbtest.Raw(t, h.url).Exec(`SELECT pg_terminate_backend(pid, 10000) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND usename = current_user`)
				if err != nil {
					return err
				}
			}
			if err := other.Drain(ctx); err != nil {
				return err
			}
			return h.write(ctx, f)
		}
		err := outbox.NewRelay("/test", h.db, late, relayed(t), h.log).Drain(t.Context())
		if err == nil || !strings.Contains(err.Error(), "marked by another relay") {
			t.Errorf("error %v, want one that says that another relay marked them", err)
		}
		if n := count(t, h.db, `SELECT count(DISTINCT position) FROM outbox WHERE position IN (1, 2)`); n != 2 {
			t.Errorf("%d rows are at positions 1 and 2, want 2", n)
		}
	})
}

func TestRelayReadsOnlyWhatSomebodyWants(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		var got []outbox.Event
		bus := relayed(t, outbox.Subscription{Name: "c", Types: []string{textType}, Receive: func(_ context.Context, events []outbox.Event) error {
			got = append(got, events...)
			return nil
		}})
		wanted := text(t.Context(), "s", "wanted")
		wanted.TraceParent, wanted.CorrelationID, wanted.CausationID = "00-trace", "correlation", "cause"
		unwanted := wanted
		unwanted.ID, unwanted.Type = "unwanted", "other.Type"
		h.append(t, unwanted, wanted, unwanted)
		if err := outbox.NewRelay("/test", h.db, h.write, bus, h.log).Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		wanted.Source = "/test"
		if diff := cmp.Diff([]outbox.Event{wanted}, got); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		if s := h.stats(t); s.waiting != 0 {
			t.Errorf("%d rows still wait, want 0", s.waiting)
		}
	})
}

func TestDrainGivesUpAtTheFirstFailure(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		h.append(t, text(t.Context(), "s", "one"))
		away := errors.New("the bus is away")
		relay := outbox.NewRelay("/test", h.db, h.write, busFunc(func(context.Context, []outbox.Event) error { return away }), h.log)
		if err := relay.Drain(t.Context()); !errors.Is(err, away) {
			t.Errorf("error %v, want %v", err, away)
		}
		if err := outbox.NewRelay("/test", h.db, h.write, outbox.NewLocal(), h.log).Drain(t.Context()); err != nil {
			t.Errorf("drain with a bus that was never started: %v", err)
		}
		if s := h.stats(t); s.waiting != 1 {
			t.Errorf("%d rows wait, want 1", s.waiting)
		}
	})
}

func TestLocalHoldsEventsBackUntilAllHaveSubscribed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := outbox.NewLocal()
		got := map[string][]string{}
		subscription := func(name string) outbox.Subscription {
			return outbox.Subscription{Name: name, Types: []string{textType}, Receive: func(_ context.Context, events []outbox.Event) error {
				got[name] = ids(events)
				if name == "a" {
					return errors.New("full")
				}
				return nil
			}}
		}
		e := text(t.Context(), "s", "early")
		var err error
		published := make(chan struct{})
		go func() {
			defer close(published)
			err = bus.Publish(context.Background(), []outbox.Event{e})
		}()
		synctest.Wait()
		for _, name := range []string{"a", "b"} {
			if err := bus.Subscribe(subscription(name)); err != nil {
				t.Fatal(err)
			}
		}
		if bus.Subscribe(subscription("a")) == nil {
			t.Error("a second consumer of the same name was accepted")
		}
		if len(got) != 0 {
			t.Error("delivered before Start")
		}
		bus.Start()
		bus.Start()
		<-published
		if want := map[string][]string{"a": {e.ID}, "b": {e.ID}}; !maps.EqualFunc(want, got, slices.Equal) {
			t.Errorf("delivered %v, want %v", got, want)
		}
		if err == nil || !strings.Contains(err.Error(), "deliver to a: full") {
			t.Errorf("error %v, want one that names the consumer", err)
		}
		if bus.Subscribe(subscription("c")) == nil {
			t.Error("a consumer was accepted after Start")
		}
	})
}

func BenchmarkRelay(b *testing.B) {
	for _, size := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			h := setup(b, dbtest.SQLite)
			relay := outbox.NewRelay("/test", h.db, h.write, relayed(b), h.log)
			events := make([]outbox.Event, size)
			for n := range events {
				events[n] = text(context.Background(), "s", strings.Repeat("x", 100+rand.IntN(100)))
			}
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				h.append(b, events...)
				b.StartTimer()
				if err := relay.Drain(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/event")
		})
	}
}
