package payment

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The authorization is on its way to the provider when the void comes: whichever the provider sees first, nothing is held.
func TestVoidWinsOverAnAuthorizationUnderWay(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"authorize", "void"} {
		t.Run(first+" arrives first", func(t *testing.T) {
			t.Parallel()
			b := setup()
			asked, goOn := make(chan struct{}), make(chan struct{})
			late := b.book
			slow := &provider{late, func(ctx context.Context, c Charge) (Outcome, error) {
				if first == "void" {
					close(asked)
					<-goOn
					return late.Authorize(ctx, c)
				}
				o, err := late.Authorize(ctx, c)
				close(asked)
				<-goOn
				return o, err
			}}
			b.providers[sim] = slow
			done := make(chan Payment)
			go func() {
				p, err := b.Authorize(context.Background(), ask())
				if err != nil {
					t.Error(err)
				}
				done <- p
			}()
			<-asked
			if p, err := b.Void(t.Context(), orderA); err != nil || p.Status != Voided {
				t.Errorf("void: %q, %v", p.Status, err)
			}
			close(goOn)
			if p := <-done; p.Status != Voided {
				t.Errorf("the authorization came back %q", p.Status)
			}
			sound(t, b)
			if d := cmp.Diff([]Status{Voided}, b.memory.told()); d != "" {
				t.Errorf("told (-want +got):\n%s", d)
			}
		})
	}
}

// While the void's answer is lost, that of the authorization may still come: what it held is noted, and it wins nothing.
func TestLateAuthorizationIsNotedWhileVoiding(t *testing.T) {
	t.Parallel()
	b := setup()
	held := b.book.Authorize
	b.providers[sim] = &provider{b.book, func(ctx context.Context, c Charge) (Outcome, error) {
		o, err := held(ctx, c)
		b.book.trouble = unheard
		if _, err := b.Void(ctx, orderA); !errors.Is(err, ErrProviderAway) {
			t.Errorf("void: %v", err)
		}
		b.book.trouble = none
		return o, err
	}}
	if p := b.authorize(t); p.Status != Voiding || p.Authorized != 1000 {
		t.Errorf("%+v", p)
	}
	sound(t, b)
	if p, err := b.Void(t.Context(), orderA); err != nil || p.Voided != 1000 {
		t.Errorf("%+v, %v", p, err)
	}
}

// provider is a book with another Authorize.
type provider struct {
	*book
	authorize func(context.Context, Charge) (Outcome, error)
}

func (p *provider) Authorize(ctx context.Context, c Charge) (Outcome, error) {
	return p.authorize(ctx, c)
}

func TestConcurrentRepeatsActOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		b := setup()
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if p, err := b.Authorize(context.Background(), ask()); err != nil || p.Status != Authorized {
					t.Errorf("%q, %v", p.Status, err)
				}
			})
		}
		wg.Wait()
		if b.book.held != 1 {
			t.Fatalf("charged %d times", b.book.held)
		}
		for range 8 {
			wg.Go(func() {
				if p, err := b.Capture(context.Background(), orderA); err != nil {
					t.Errorf("capture: %q, %v", p.Status, err)
				}
			})
			wg.Go(func() {
				if _, err := b.Refund(context.Background(), orderA); err != nil && !errors.Is(err, ErrNotCaptured) {
					t.Errorf("refund: %v", err)
				}
			})
		}
		wg.Wait()
		sound(t, b)
		told := b.memory.told()
		if slices.Sort(told); len(slices.Compact(slices.Clone(told))) != len(told) {
			t.Fatalf("told twice: %v", told)
		}
	}
}

func TestVoidsRaceAuthorizations(t *testing.T) {
	t.Parallel()
	for range 50 {
		b := setup()
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				if i%3 == 0 {
					if _, err := b.Void(context.Background(), orderA); err != nil {
						t.Error(err)
					}
					return
				}
				if _, err := b.Authorize(context.Background(), ask()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s := b.memory.record(orderA).Payment.Status; s != Voided || b.book.holds(orderA) != 0 {
			t.Fatalf("%s, and the provider holds %d", s, b.book.holds(orderA))
		}
		sound(t, b)
	}
}

// The answer to one call tells what another one did, whose own answer is lost: both attempts are settled by it.
func TestOneAnswerSettlesAllAttempts(t *testing.T) {
	t.Parallel()
	b := setup()
	b.book.trouble = unsaid
	b.authorize(t)
	now := time.Now()
	var c Call
	late := func(r *Record) (err error) { c, err = r.beginAuthorize(ask(), now); return err }
	if err := b.memory.Decide(t.Context(), orderA, late); err != nil { // a repeat that asks the provider slowly
		t.Fatal(err)
	}
	if _, err := b.Void(t.Context(), orderA); !errors.Is(err, ErrProviderAway) { // its answer is lost
		t.Fatalf("void: %v", err)
	}
	b.book.trouble = none
	o, err := b.ask(t.Context(), c)
	if _, err := b.note(t.Context(), c, o, err); err != nil {
		t.Fatal(err)
	}
	if s := b.memory.record(orderA).Payment.Status; s != Voided {
		t.Errorf("the payment is %q", s)
	}
	sound(t, b)
}
