package store

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
)

// mute is a provider whose answers to captures, voids and refunds are lost, whether or not it acts.
type mute struct {
	payment.Provider
	acts bool
}

var errLost = errors.New("the connection broke")

func (m mute) lose(f func(context.Context, string) (payment.Outcome, error), ctx context.Context, key string) (payment.Outcome, error) {
	if m.acts {
		if _, err := f(ctx, key); err != nil {
			return payment.Outcome{}, err
		}
	}
	return payment.Outcome{}, errLost
}

func (m mute) Capture(ctx context.Context, key string) (payment.Outcome, error) {
	return m.lose(m.Provider.Capture, ctx, key)
}

func (m mute) Void(ctx context.Context, key string) (payment.Outcome, error) {
	return m.lose(m.Provider.Void, ctx, key)
}

func (m mute) Refund(ctx context.Context, key string) (payment.Outcome, error) {
	return m.lose(m.Provider.Refund, ctx, key)
}

// leave runs the operations, and loses the provider's answer to the last.
func (b *bundle) leave(order string, acts bool, ops ...string) {
	b.t.Helper()
	last := len(ops) - 1
	b.operate(order, ops[:last]...)
	lossy := payment.NewService(b.Store, map[string]payment.Provider{"simulated": mute{b.provider, acts}})
	if err := operate(b.t.Context(), lossy, order, ops[last]); !errors.Is(err, payment.ErrProviderAway) {
		b.t.Fatalf("%s: %v, want ErrProviderAway", ops[last], err)
	}
}

// recoverOne runs recovery until an event was appended: it has ended something.
func (b *bundle) recoverOne() {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.t.Context(), time.Minute)
	defer stop()
	b.Appended = stop
	b.payments.Recover(ctx, slog.New(slog.DiscardHandler))
}

func TestRecoveryEndsWhatIsOnDisk(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		for want, ops := range map[payment.Status][]string{
			payment.Captured: {"authorize", "capture"},
			payment.Voided:   {"authorize", "void"},
			payment.Refunded: {"authorize", "capture", "refund"},
		} {
			for _, acts := range []bool{false, true} {
				b := setup(t, e)
				id := orderID(1)
				b.leave(id, acts, ops...)
				before := b.record(id)
				if err := b.exec(`UPDATE payments SET due_at = 1`); err != nil { // as if the time had passed
					t.Fatal(err)
				}
				b.recoverOne()
				r := b.record(id)
				if r.Payment.Status != want || !r.Payment.Due.IsZero() {
					t.Errorf("%s: recovered it is %s, due at %v", want, r.Payment.Status, r.Payment.Due)
				}
				if r.Payment.ID != before.Payment.ID || r.Payment.Correlation != before.Payment.Correlation {
					t.Errorf("recovery made %+v of %+v", r.Payment, before.Payment)
				}
				b.sound()
			}
		}
	})
}

// The process dies while the provider is asked, before it acts or after. The next one needs nobody to repeat the call, and
// does not wait for the time of the dead.
func TestKillAroundTheProviderIsRepairedByRecovery(t *testing.T) {
	t.Parallel()
	for want, ops := range map[payment.Status][]string{
		payment.Captured: {"authorize", "capture"},
		payment.Voided:   {"authorize", "void"},
		payment.Refunded: {"authorize", "capture", "refund"},
	} {
		dir := t.TempDir()
		b := reopen(t, in(dir))
		last := len(ops) - 1
		b.operate(orderID(1), ops[:last]...)
		left := map[string]string{}
		dying := payment.NewService(b.Store, map[string]payment.Provider{"simulated": killed{b.provider, func(when string) { left[when] = snapshot(t, dir) }}})
		if err := operate(t.Context(), dying, orderID(1), ops[last]); err != nil {
			t.Fatal(err)
		}
		for _, when := range []string{"before", "after"} {
			next := reopen(t, in(left[when]))
			now := time.Now()
			if due, err := next.Due(t.Context(), now, now.Add(time.Hour), 1); err != nil || len(due) != 1 {
				t.Fatalf("killed %s the provider acts: %v, %v is due", when, due, err)
			}
			next.recoverOne()
			if s := next.record(orderID(1)).Payment.Status; s != want {
				t.Errorf("killed %s the provider acts, recovered: %q, want %q", when, s, want)
			}
			next.sound()
		}
	}
}

func TestDueIsWhatWaitsLongest(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		now := time.Now().UTC().Truncate(time.Microsecond)
		tooLate := now.Add(time.Hour)
		for n, due := range []time.Duration{-time.Second, -time.Minute, time.Minute, time.Hour, time.Hour + time.Second, 0} {
			b.leave(orderID(n), false, "authorize", "capture")
			err := b.Decide(t.Context(), orderID(n), func(r *payment.Record) error {
				r.Payment.Due = now.Add(due)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		b.operate(orderID(6), "authorize", "capture")
		b.operate(orderID(7), "authorize pm_simulated_down")
		for n, want := range map[int][]string{10: {orderID(1), orderID(0), orderID(5), orderID(4)}, 2: {orderID(1), orderID(0)}} {
			due, err := b.Due(t.Context(), now, tooLate, n)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range due {
				got = append(got, p.Order)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%d at most (-want +got):\n%s", n, d)
			}
		}
	})
}
