package outbox_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/outbox"
)

// waitFor returns once cond holds; every change that it looks at is announced on changed.
func waitFor(t *testing.T, changed <-chan struct{}, cond func() bool) {
	t.Helper()
	for !cond() {
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// Three processes share a publisher's database and three a consumer's, all of them append, relay and handle at once, and the
// server ends their sessions at random instants. Each event has one effect, those of a subject in order, and the
// feed has each once.
func TestReplicasShareTheWorkThoughSessionsAreKilled(t *testing.T) {
	t.Parallel()
	const replicas, subjects, each = 3, 4, 40
	publishers, consumers := []*house{setup(t, dbtest.Postgres)}, []*house{setup(t, dbtest.Postgres)}
	for range replicas - 1 {
		publishers, consumers = append(publishers, reopen(t, publishers[0].url)), append(consumers, reopen(t, consumers[0].url))
	}
	changed := make(chan struct{}, 1)
	note := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	var appended, handled atomic.Int64
	relays := make([]*outbox.Relay, replicas)
	for n := range replicas {
		c := consumers[n]
		inbox := outbox.NewInbox("consumer", c.db, c.write, map[string]outbox.Handler{textType: func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
			err := c.effect(ctx, e, done)
			if err == nil {
				handled.Add(1)
				note()
			}
			return err
		}}, c.log)
		c.run(inbox.Run)
		relays[n] = outbox.NewRelay("/test", publishers[n].db, publishers[n].write, relayed(t, inbox.Subscription()), publishers[n].log)
		publishers[n].run(relays[n].Run)
	}

	ctx, stop := context.WithCancel(t.Context())
	var killing sync.WaitGroup
	for _, url := range []string{publishers[0].url, consumers[0].url} {
		killer := dbtest.Raw(t, url)
		killing.Go(func() {
			for seen := int64(-1); ctx.Err() == nil; {
				// A slow machine takes longer for a new session than the next kill: something is to get done in between.
				done := appended.Load() + handled.Load()
				if done == seen {
					if _, err := killer.Exec(`SELECT pg_sleep(0.01)`); err != nil {
						t.Error(err)
					}
					continue
				}
				seen = done
				_, err := killer.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity, pg_sleep(0.05 + random() * 0.1)
					WHERE usename = current_user AND pid <> pg_backend_pid() AND random() < 0.5`)
				if err != nil {
					t.Error(err)
				}
			}
		})
	}

	want := map[string][]string{}
	var appending sync.WaitGroup
	for s := range subjects {
		subject := fmt.Sprintf("subject %d", s)
		var all []outbox.Event
		for n := range each {
			e := text(t.Context(), subject, named(n))
			all = append(all, e)
			want[subject] = append(want[subject], e.ID)
		}
		appending.Go(func() {
			// One after the other, from any process: as the changes of one order are.
			for n, e := range all {
				p := publishers[(s+n)%replicas]
				if err := p.write(context.Background(), func(tx *db.Tx) error { return outbox.Append(tx, []outbox.Event{e}) }); err != nil {
					t.Error(err)
				}
				appended.Add(1)
				relays[(s+n)%replicas].Wake()
			}
		})
	}
	appending.Wait()
	waitFor(t, changed, func() bool { return handled.Load() >= subjects*each })
	stop()
	killing.Wait()

	if diff := cmp.Diff(want, consumers[0].effects(t)); diff != "" {
		t.Errorf("effects by subject (-want +got):\n%s", diff)
	}
	if n := count(t, publishers[0].db, `SELECT count(DISTINCT position) FROM outbox WHERE position IS NOT NULL`); n != subjects*each {
		// The last mark may be under way: what was published and not marked is published again.
		for n < subjects*each {
			if err := relays[0].Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			n = count(t, publishers[0].db, `SELECT count(DISTINCT position) FROM outbox WHERE position IS NOT NULL`)
		}
	}
	if n := count(t, publishers[0].db, `SELECT max(position) FROM outbox`); n != subjects*each {
		t.Errorf("the last position is %d, want %d: the feed has gaps", n, subjects*each)
	}
}

func TestOneRelayOfAllPublishes(t *testing.T) {
	t.Parallel()
	first := setup(t, dbtest.Postgres)
	second := reopen(t, first.url)
	var published [2][]string
	relay := func(n int, h *house) *outbox.Relay {
		return outbox.NewRelay("/test", h.db, h.write, busFunc(func(_ context.Context, events []outbox.Event) error {
			published[n] = append(published[n], ids(events)...)
			return nil
		}), h.log)
	}
	relays := [2]*outbox.Relay{relay(0, first), relay(1, second)}
	drain := func(r *outbox.Relay) {
		t.Helper()
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	drain(relays[0]) // takes the lease
	var want []string
	for n := range 3 {
		e := text(t.Context(), "s", named(n))
		want = append(want, e.ID)
		second.append(t, e)
		drain(relays[1])
		drain(relays[0])
	}
	if !slices.Equal(published[0], want) || len(published[1]) != 0 {
		t.Errorf("published %v, want all by the first", published)
	}
	first.close() // which gives the lease back
	e := text(t.Context(), "s", "last")
	second.append(t, e)
	drain(relays[1])
	if !slices.Equal(published[1], []string{e.ID}) {
		t.Errorf("the second published %v after the first had gone, want the last", published[1])
	}
}
