package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"pgregory.net/rapid"
)

func (h *house) inbox(handler outbox.Handler) *outbox.Inbox {
	return outbox.NewInbox("consumer", h.db, h.write, map[string]outbox.Handler{textType: handler}, h.log)
}

func receive(t testing.TB, i *outbox.Inbox, events ...outbox.Event) {
	t.Helper()
	if err := i.Subscription().Receive(context.Background(), events); err != nil {
		t.Fatal(err)
	}
}

// However handlers fail, however events are repeated and split over deliveries, and with a restart in the middle: one
// effect each, in order of arrival within a subject, and never two handlers of one subject at once.
func TestInboxKeepsTheOrderOfASubject(t *testing.T) {
	t.Parallel()
	type arrival struct {
		Subject, Failures int
		Fault             string
	}
	arrivals := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) arrival {
		return arrival{
			rapid.IntRange(0, 3).Draw(rt, "subject"), rapid.IntRange(0, 3).Draw(rt, "failures"),
			rapid.SampledFrom([]string{"error", "panic", "rollback", "forgotten"}).Draw(rt, "fault"),
		}
	}), 1, 25)
	rapid.Check(t, func(rt *rapid.T) {
		plan := arrivals.Draw(rt, "arrivals")
		chunk := rapid.IntRange(1, 6).Draw(rt, "chunk")
		restart := rapid.Bool().Draw(rt, "restart")
		var failure string
		synctest.Test(t, func(t *testing.T) {
			h := setup(t, dbtest.SQLite)
			want := map[string][]string{}
			var events []outbox.Event
			todo := map[string]*arrival{}
			for n, a := range plan {
				e := text(t.Context(), fmt.Sprintf("subject %d", a.Subject), named(n))
				events = append(events, e)
				todo[e.ID] = &a
				want[e.Subject] = append(want[e.Subject], e.ID)
			}
			var mu sync.Mutex
			busy := map[string]bool{}
			handler := func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
				mu.Lock()
				if busy[e.Subject] {
					failure = "two handlers of one subject at once"
				}
				busy[e.Subject] = true
				a := todo[e.ID]
				a.Failures--
				fails := a.Failures >= 0
				mu.Unlock()
				defer func() {
					mu.Lock()
					busy[e.Subject] = false
					mu.Unlock()
				}()
				time.Sleep(time.Millisecond) // so that handlers overlap
				if !fails {
					return h.effect(ctx, e, done)
				}
				rollback := func(tx *db.Tx) error { return errors.Join(done(tx), errors.New("rolled back")) }
				switch a.Fault {
				case "panic":
					panic("a bug")
				case "rollback":
					return h.write(ctx, rollback)
				case "forgotten":
					_ = h.write(ctx, rollback)
					return nil
				}
				return errors.New("not now")
			}
			inbox := h.inbox(handler)
			h.run(inbox.Run)
			for c := range slices.Chunk(events, chunk) {
				receive(t, inbox, c...)
				receive(t, inbox, c...) // at least once means twice
			}
			if restart {
				h.close()
				h = reopen(t, h.url)
				h.run(h.inbox(handler).Run)
			}
			until(t, "all is handled", func() bool { return h.stats(t).inbox == 0 })
			if diff := cmp.Diff(want, h.effects(t)); diff != "" {
				failure = "effects (-want +got):\n" + diff
			}
			if p := h.stats(t).parked; p != 0 {
				failure += fmt.Sprintf("%d parked", p)
			}
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

func TestInboxHandlesSubjectsAtOnceUpToSixteen(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			h := setup(t, engine)
			var running, most atomic.Int64
			open := make(chan struct{})
			inbox := h.inbox(func(context.Context, outbox.Event, func(*db.Tx) error) error {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				<-open
				return nil
			})
			h.run(inbox.Run)
			for n := range 40 {
				receive(t, inbox, text(t.Context(), named(n), "x"), text(t.Context(), named(n), "y"))
			}
			synctest.Wait()
			if got := running.Load(); got != 16 {
				t.Errorf("%d handlers at once, want 16", got)
			}
			close(open)
			until(t, "all is handled", func() bool { return h.stats(t).inbox == 0 })
			if most.Load() != 16 {
				t.Errorf("%d handlers at once, want 16", most.Load())
			}
		})
	})
}

func TestInboxGivesHandlersTheEventAndItsContext(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			h := setup(t, engine)
			want := text(t.Context(), "s", "x")
			want.Source, want.CorrelationID, want.CausationID, want.TraceParent = "/test", "req-7", "c-1", "00-4bf9-00"
			var got, led outbox.Event
			var correlation string
			inbox := h.inbox(func(ctx context.Context, e outbox.Event, _ func(*db.Tx) error) error {
				got, led, correlation = e, text(ctx, "s", "led to"), telemetry.Correlation(ctx)
				return nil
			})
			h.run(inbox.Run)
			receive(t, inbox, want)
			until(t, "it is handled", func() bool { return h.stats(t).inbox == 0 })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			if correlation != "req-7" || led.CorrelationID != "req-7" || led.CausationID != want.ID {
				t.Errorf("correlation %q, that of the next event %q, its cause %q", correlation, led.CorrelationID, led.CausationID)
			}
		})
	})
}

// Two processes that run the same inbox break a rule; even then an event has one effect.
func TestInboxNeverGivesAnEventTwoEffects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := setup(t, dbtest.SQLite)
		var meet sync.WaitGroup
		meet.Add(2)
		handler := func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
			meet.Done()
			meet.Wait() // both are past the look at the row
			return h.effect(ctx, e, done)
		}
		one, two := h.inbox(handler), h.inbox(handler)
		e := text(t.Context(), "s", "x")
		receive(t, one, e)
		h.run(one.Run, two.Run)
		meet.Wait()
		until(t, "it is handled", func() bool { return h.stats(t).inbox == 0 })
		if diff := cmp.Diff(map[string][]string{"s": {e.ID}}, h.effects(t)); diff != "" {
			t.Errorf("effects (-want +got):\n%s", diff)
		}
		if n := h.lines.Count("level="); n != 0 {
			t.Errorf("%d log lines, want none: nothing is wrong for the operator", n)
		}
	})
}

func TestInboxParksAfterTenFailuresAndItsSubjectGoesOn(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			h := setup(t, engine)
			bad, good := text(t.Context(), "s", "bad"), text(t.Context(), "s", "good")
			var attempts []time.Time
			var repaired atomic.Bool
			inbox := h.inbox(func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
				if e.ID == bad.ID && !repaired.Load() {
					attempts = append(attempts, time.Now())
					return fmt.Errorf("attempt %d failed", len(attempts))
				}
				return h.effect(ctx, e, done)
			})
			h.run(inbox.Run)
			receive(t, inbox, bad, good)
			until(t, "one is parked, the other handled", func() bool { return h.stats(t) == stats{parked: 1} })
			if len(attempts) != 10 {
				t.Fatalf("%d attempts, want 10", len(attempts))
			}
			bound := 100 * time.Millisecond
			for n := 1; n < len(attempts); n++ {
				if gap := attempts[n].Sub(attempts[n-1]); gap > bound+time.Millisecond {
					t.Errorf("attempt %d came %s after the one before, want at most %s", n+1, gap, bound)
				}
				bound = min(3*bound, 15*time.Minute)
			}
			if n := h.lines.Count("level=ERROR"); n != 1 {
				t.Errorf("%d lines at level error, want 1", n)
			}
			desk := h.desk(t)
			parked, err := desk.Parked(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]outbox.Parked{{Event: bad, Consumer: "consumer", Attempts: 10, Error: "attempt 10 failed"}}, parked); diff != "" {
				t.Errorf("parked (-want +got):\n%s", diff)
			}

			for _, id := range []string{good.ID, "nobody"} {
				if err := desk.Redrive(t.Context(), id); !errors.Is(err, outbox.ErrNotParked) {
					t.Errorf("redrive of %s: %v, want %v", id, err, outbox.ErrNotParked)
				}
			}
			synctest.Wait()
			repaired.Store(true)
			if err := desk.Redrive(t.Context(), bad.ID); err != nil {
				t.Fatal(err)
			}
			redriven := time.Now()
			until(t, "it is handled", func() bool { return len(h.effects(t)["s"]) == 2 })
			if took := time.Since(redriven); took > time.Second {
				t.Errorf("the running inbox found it after %s, want a second", took)
			}
			if diff := cmp.Diff(map[string][]string{"s": {good.ID, bad.ID}}, h.effects(t)); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
			if s := h.stats(t); s != (stats{}) {
				t.Errorf("left over: %+v", s)
			}
		})
	})
}

// What an event needs is away for longer than ten attempts take. Nobody has to bring the event back.
func TestInboxWaitsForWhatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := setup(t, dbtest.SQLite)
		back := time.Now().Add(17 * time.Minute) // nine pauses are 16.4 at most
		attempts := 0
		inbox := h.inbox(func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
			if attempts++; time.Now().Before(back) {
				return fmt.Errorf("charge: %w", fault.New(fault.Unavailable, "provider_away", "The provider does not answer."))
			}
			return h.effect(ctx, e, done)
		})
		h.run(inbox.Run)
		first, second := text(t.Context(), "s", "first"), text(t.Context(), "s", "second")
		first.Time, second.Time = time.Now(), time.Now()
		receive(t, inbox, first, second)
		for time.Now().Before(back) {
			time.Sleep(time.Minute)
			if s := h.stats(t); s.parked > 0 {
				t.Fatalf("%+v after %d attempts, want none parked", s, attempts)
			}
		}
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if diff := cmp.Diff(map[string][]string{"s": {first.ID, second.ID}}, h.effects(t)); diff != "" {
			t.Errorf("effects a minute after it was back (-want +got):\n%s", diff)
		}
		if attempts < 17 || attempts > 100 {
			t.Errorf("%d attempts, want about two in each minute", attempts)
		}
	})
}

func TestInboxParksWhatItHasNoHandlerFor(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			h := setup(t, engine)
			inbox := h.inbox(h.effect)
			old := text(t.Context(), "s", "old")
			old.Type = "shop.v0.Forgotten"
			receive(t, inbox, old)
			h.run(inbox.Run)
			until(t, "it is parked", func() bool { return h.stats(t).parked == 1 })
			parked, err := h.desk(t).Parked(t.Context())
			if err != nil || len(parked) != 1 || !strings.Contains(parked[0].Error, "no handler for events of type shop.v0.Forgotten") {
				t.Errorf("parked %+v, %v", parked, err)
			}
		})
	})
}

func TestInboxResumesAtOnceAfterARestart(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			h := setup(t, engine)
			var failed atomic.Int64
			inbox := h.inbox(func(context.Context, outbox.Event, func(*db.Tx) error) error {
				failed.Add(1)
				return errors.New("not now")
			})
			h.run(inbox.Run)
			e := text(t.Context(), "s", "x")
			receive(t, inbox, e)
			until(t, "it has failed a few times", func() bool { return failed.Load() >= 6 })
			h.close()
			h = reopen(t, h.url)
			if s := h.stats(t); s != (stats{inbox: 1}) {
				t.Fatalf("after the restart: %+v, want one that waits", s)
			}
			h.run(h.inbox(h.effect).Run)
			synctest.Wait()
			if diff := cmp.Diff(map[string][]string{"s": {e.ID}}, h.effects(t)); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
		})
	})
}

func TestInboxFinishesHandlersWhenItStops(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		for name, c := range map[string]struct {
			takes time.Duration
			want  stats
		}{
			"one within the grace":                     {takes: 4 * time.Second},
			"one beyond it is interrupted, not failed": {takes: time.Hour, want: stats{inbox: 1}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					h := setup(t, engine)
					inbox := h.inbox(func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
						select {
						case <-time.After(c.takes):
							return h.effect(ctx, e, done)
						case <-ctx.Done():
							return ctx.Err()
						}
					})
					ctx, stop := context.WithCancel(t.Context())
					ended := make(chan struct{})
					go func() {
						defer close(ended)
						inbox.Run(ctx)
					}()
					receive(t, inbox, text(t.Context(), "s", "x"))
					synctest.Wait()
					begun := time.Now()
					stop()
					<-ended
					if d := time.Since(begun); d > 5*time.Second {
						t.Errorf("stopped after %s of the clock, want at most 5s", d)
					}
					if s := h.stats(t); s != c.want {
						t.Errorf("left over: %+v, want %+v", s, c.want)
					}
					if n := count(t, h.db, `SELECT sum(attempts) FROM inbox`); n != 0 {
						t.Errorf("%d failed attempts, want 0", n)
					}
				})
			})
		}
	})
}
