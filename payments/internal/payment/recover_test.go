package payment

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// begun are the operations that a provider in trouble left under way, each with how recovery ends it.
var begun = []struct {
	ops  []string // the last is the one that the provider does not answer
	want Status
}{
	{[]string{"authorize", "capture"}, Captured},
	{[]string{"authorize", "void"}, Voided},
	{[]string{"authorize", "capture", "refund"}, Refunded},
}

// leave runs the operations, the last of them with the provider in trouble.
func leave(t *testing.T, b *bundle, ops []string, tr trouble) {
	t.Helper()
	for i, op := range ops {
		if i == len(ops)-1 {
			b.book.trouble = tr
		}
		_, _ = operations[op](b, t.Context())
	}
	b.book.trouble = none
	if s := b.memory.record(orderA).Payment.Status; underWay[s] == "" {
		t.Fatalf("%v left it %s", ops, s)
	}
}

// recovery runs Recover for a while.
func recovery(b *bundle, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	b.Recover(ctx, slog.New(slog.DiscardHandler))
}

func TestRecoveryEndsWhatItsCallerLeft(t *testing.T) {
	t.Parallel()
	for _, tc := range begun {
		for _, tr := range []trouble{away, unheard, unsaid} {
			synctest.Test(t, func(t *testing.T) {
				b := setup()
				leave(t, b, tc.ops, tr)
				calls := len(b.book.did())
				recovery(b, firstPause-time.Second)
				if n := len(b.book.did()) - calls; n != 0 {
					t.Errorf("%v: asked %d times while the caller may still ask", tc.ops, n)
				}
				recovery(b, 3*time.Second)
				r := b.memory.record(orderA)
				if r.Payment.Status != tc.want || b.book.held != 1 {
					t.Errorf("%v, trouble %d: %s, charged %d times; want %s", tc.ops, tr, r.Payment.Status, b.book.held, tc.want)
				}
				told := b.memory.told()
				if len(told) == 0 || told[len(told)-1] != tc.want {
					t.Errorf("%v: told %v, want %s in the end", tc.ops, told, tc.want)
				}
				sound(t, b)
			})
		}
	}
}

// An authorization is its caller's affair: without one nobody wants the money.
func TestRecoveryDoesNotAuthorize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		b.book.trouble = unheard
		b.authorize(t)
		b.book.trouble = none
		recovery(b, time.Hour)
		if s := b.memory.record(orderA).Payment.Status; s != Pending || b.book.held != 0 {
			t.Errorf("%s, charged %d times", s, b.book.held)
		}
	})
}

func TestRecoveryAsksAtGrowingIntervals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		start := time.Now()
		leave(t, b, []string{"authorize", "capture"}, away)
		b.book.trouble = away
		var asked []time.Duration
		b.book.seen = func(string, *Charge) { asked = append(asked, time.Since(start).Round(5*time.Second)) }
		recovery(b, 20*time.Minute)
		var want []time.Duration
		for _, s := range []int{15, 30, 60, 120, 240, 480, 780, 1080} {
			want = append(want, time.Duration(s)*time.Second)
		}
		if d := cmp.Diff(want, asked, cmp.Comparer(func(x, y time.Duration) bool { return (x - y).Abs() <= 10*time.Second })); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		b.book.trouble = none
		recovery(b, lastPause)
		if s := b.memory.record(orderA).Payment.Status; s != Captured {
			t.Errorf("the provider is back, and it is %s", s)
		}
	})
}

// A crash after it was taken up, before or after the provider acted: it is taken up again.
func TestRecoveryThatDiesIsRecovered(t *testing.T) {
	t.Parallel()
	for _, tc := range begun {
		synctest.Test(t, func(t *testing.T) {
			b := setup()
			leave(t, b, tc.ops, unheard)
			time.Sleep(firstPause)
			b.memory.fail = 2 // the write of the outcome; the first is the taking up
			b.recoverSome(t.Context(), slog.New(slog.DiscardHandler))
			if b.memory.fail != 0 {
				t.Fatalf("%v: it did not come to the write of the outcome", tc.ops)
			}
			sound(t, b)
			recovery(b, firstPause+5*time.Second)
			if s := b.memory.record(orderA).Payment.Status; s != tc.want || b.book.held != 1 {
				t.Errorf("%v: %s, charged %d times; want %s", tc.ops, s, b.book.held, tc.want)
			}
			sound(t, b)
		})
	}
}

func TestOneReplicaTakesItUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		leave(t, b, []string{"authorize", "capture"}, away)
		b.book.trouble = away
		time.Sleep(firstPause)
		calls := len(b.book.did())
		var wg sync.WaitGroup
		for range 8 { // which have all seen that it is due
			wg.Go(func() {
				if _, _, err := b.run(context.Background(), orderA, (*Record).resume); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(b.book.did()) - calls; n != 1 {
			t.Errorf("eight replicas asked %d times", n)
		}
	})
}

func TestRecoveryAfterTheClockWentBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		leave(t, b, []string{"authorize", "capture"}, away)
		r := b.memory.record(orderA)
		r.Payment.Due = time.Now().Add(24 * time.Hour) // it was begun when the clock was a day ahead
		b.memory.records[orderA] = r
		recovery(b, 2*time.Second)
		if s := b.memory.record(orderA).Payment.Status; s != Captured {
			t.Errorf("it is %s, and waits for yesterday's tomorrow", s)
		}
	})
}

// What does not come to a decision is left until the next look, and does not keep recovery busy.
func TestRecoveryWaitsWhereItCannotWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		leave(t, b, []string{"authorize", "capture"}, away)
		for n := range recoverers - 1 {
			r := b.memory.record(orderA)
			r.Payment.Order = fmt.Sprintf("0197b7b0-0000-7000-8000-%012d", n)
			b.memory.records[r.Payment.Order] = r
		}
		time.Sleep(firstPause)
		b.memory.fail = 1
		if b.recoverSome(t.Context(), slog.New(slog.DiscardHandler)) {
			t.Error("it looks again at once")
		}
	})
}
