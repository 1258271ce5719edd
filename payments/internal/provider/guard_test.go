package provider_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	"github.com/orderkeep/orderkeep/payments/internal/provider"
)

// far is a provider whose answer to everything is a function.
type far struct {
	calls  []string
	answer func(ctx context.Context) (payment.Outcome, error)
}

func (f *far) note(ctx context.Context, method, key string) (payment.Outcome, error) {
	f.calls = append(f.calls, method+" "+key)
	return f.answer(ctx)
}

func (f *far) Authorize(ctx context.Context, c payment.Charge) (payment.Outcome, error) {
	return f.note(ctx, "Authorize", c.Key)
}
func (f *far) Lookup(ctx context.Context, key string) (payment.Outcome, error) {
	return f.note(ctx, "Lookup", key)
}
func (f *far) Capture(ctx context.Context, key string) (payment.Outcome, error) {
	return f.note(ctx, "Capture", key)
}
func (f *far) Void(ctx context.Context, key string) (payment.Outcome, error) {
	return f.note(ctx, "Void", key)
}
func (f *far) Refund(ctx context.Context, key string) (payment.Outcome, error) {
	return f.note(ctx, "Refund", key)
}

func setup(answer func(context.Context) (payment.Outcome, error)) (*far, payment.Provider, *call.Edges) {
	f := &far{answer: answer}
	e := call.NewEdges(call.Policies(), slog.New(slog.DiscardHandler), nil)
	return f, provider.Guard(f, e.Target("simulated")), e
}

// methods are all that a provider does.
func methods(p payment.Provider) map[string]func(context.Context, string) (payment.Outcome, error) {
	return map[string]func(context.Context, string) (payment.Outcome, error){
		"Authorize": func(ctx context.Context, key string) (payment.Outcome, error) {
			return p.Authorize(ctx, payment.Charge{Key: key})
		},
		"Lookup": p.Lookup, "Capture": p.Capture, "Void": p.Void, "Refund": p.Refund,
	}
}

func TestAnswersPass(t *testing.T) {
	t.Parallel()
	want := payment.Outcome{State: payment.StateDeclined, Decline: "insufficient_funds", Ref: "r"}
	f, p, e := setup(func(context.Context) (payment.Outcome, error) { return want, nil })
	for name, ask := range methods(p) {
		for range 20 { // a decline is no failure
			if got, err := ask(t.Context(), "k"); got != want || err != nil {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
		if last := f.calls[len(f.calls)-1]; last != name+" k" {
			t.Errorf("%s asked for %s", name, last)
		}
	}
	if all := e.States(); len(all) != 5 {
		t.Errorf("%d edges are in use: the table lacks a method, or has one too many", len(all))
	} else {
		for _, s := range all {
			if s.Calls != 20 || s.Failures != 0 || s.Breaker != "closed" || s.Policy.Attempts != 1 {
				t.Errorf("%+v", s)
			}
		}
	}
}

func TestProviderThatHangsHasItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, p, _ := setup(func(ctx context.Context) (payment.Outcome, error) {
			<-ctx.Done()
			return payment.Outcome{State: payment.StateAuthorized}, ctx.Err()
		})
		for name, ask := range methods(p) {
			start := time.Now()
			o, err := ask(t.Context(), "k")
			if !errors.Is(err, payment.ErrUnknownOutcome) || errors.Is(err, payment.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || o != (payment.Outcome{}) {
				t.Errorf("%s: %+v, %v", name, o, err)
			}
			if took := time.Since(start); took != 3*time.Second {
				t.Errorf("%s has %v", name, took)
			}
		}
		if len(f.calls) != 5 {
			t.Errorf("asked %v: never twice", f.calls)
		}
	})
}

func TestBreakerOfAProvider(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]error{
		"that is away":                   payment.ErrUnavailable,
		"that is silent":                 payment.ErrUnknownOutcome,
		"that is silent, for its reason": errors.Join(payment.ErrUnknownOutcome, errors.New("the line is cut")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answer := fail
				f, p, e := setup(func(context.Context) (payment.Outcome, error) {
					return payment.Outcome{State: payment.StateAuthorized}, answer
				})
				for range 10 {
					if _, err := p.Capture(t.Context(), "k"); !errors.Is(err, fail) {
						t.Fatalf("%v", err)
					}
				}
				// Held back, it was not asked: nothing is unknown about that.
				_, err := p.Capture(t.Context(), "k")
				if !errors.Is(err, payment.ErrUnavailable) || errors.Is(err, payment.ErrUnknownOutcome) || len(f.calls) != 10 {
					t.Errorf("%v after %d calls", err, len(f.calls))
				}
				answer = nil
				if _, err := p.Authorize(t.Context(), payment.Charge{}); err != nil {
					t.Errorf("another method: %v", err)
				}
				time.Sleep(2 * time.Second)
				if o, err := p.Capture(t.Context(), "k"); err != nil || o.State != payment.StateAuthorized {
					t.Errorf("when it is back: %+v, %v", o, err)
				}
				for _, s := range e.States() {
					if s.Breaker != "closed" {
						t.Errorf("%+v", s)
					}
				}
			})
		})
	}
}

func TestCallerThatLeavesIsNoSignOfSickness(t *testing.T) {
	t.Parallel()
	_, p, e := setup(func(ctx context.Context) (payment.Outcome, error) {
		<-ctx.Done()
		return payment.Outcome{}, errors.Join(payment.ErrUnknownOutcome, ctx.Err())
	})
	for range 20 {
		ctx, leave := context.WithCancel(t.Context())
		leave()
		if _, err := p.Void(ctx, "k"); !errors.Is(err, payment.ErrUnknownOutcome) {
			t.Fatal(err)
		}
	}
	for _, s := range e.States() {
		if s.Breaker != "closed" || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	}
}
