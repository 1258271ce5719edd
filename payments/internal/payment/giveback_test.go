package payment

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
)

func TestGiveBackEndsWithTheFactThatSaysSo(t *testing.T) {
	t.Parallel()
	b := setup()
	b.authorize(t)
	if _, err := b.Void(t.Context(), orderA); err != nil {
		t.Fatal(err)
	}
	if err := b.giveBack(t.Context()); err != nil { // it asks for the answer again
		t.Fatal(err)
	}
	if d := cmp.Diff([]Status{Authorized, Voided, Voided}, b.memory.told()); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	handled := fault.New(fault.Conflict, "event_handled", "")
	last := func(context.Context, string, func(*Record) error) error { return handled }
	if err := b.GiveBack(t.Context(), orderA, last); !errors.Is(err, handled) {
		t.Errorf("a second effect: %v", err)
	}
}

func TestGiveBackDoesNotEndWhileMoneyMayBeHeld(t *testing.T) {
	t.Parallel()
	for _, tr := range []trouble{away, unheard, unsaid} {
		b := setup()
		b.authorize(t)
		b.book.trouble = tr
		before := len(b.book.did())
		last := func(context.Context, string, func(*Record) error) error {
			t.Errorf("trouble %d: it ended", tr)
			return nil
		}
		if err := b.GiveBack(t.Context(), orderA, last); !errors.Is(err, ErrProviderAway) {
			t.Errorf("trouble %d: %v, want ErrProviderAway", tr, err)
		}
		if n := len(b.book.did()) - before; n != 1 {
			t.Errorf("trouble %d: a provider in trouble was called %d times at once", tr, n)
		}
		b.book.trouble = none
		if err := b.giveBack(t.Context()); err != nil || b.book.holds(orderA) != 0 {
			t.Errorf("trouble %d: %v, and the provider holds %d", tr, err, b.book.holds(orderA))
		}
		sound(t, b)
	}
}

// An authorization that begins between GiveBack's look and its end is not overlooked.
func TestGiveBackSeesAnAuthorizationThatSlippedIn(t *testing.T) {
	t.Parallel()
	b := setup()
	last := func(ctx context.Context, order string, f func(*Record) error) error {
		b.authorize(t)
		return b.memory.Decide(ctx, order, f)
	}
	if err := b.GiveBack(t.Context(), orderA, last); !errors.Is(err, ErrProviderAway) {
		t.Errorf("%v, want ErrProviderAway: the money is held", err)
	}
	if err := b.giveBack(t.Context()); err != nil || b.book.holds(orderA) != 0 {
		t.Errorf("again: %v, and the provider holds %d", err, b.book.holds(orderA))
	}
}

func TestWhatTheProviderDidByItselfIsBelieved(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		hand  func(*Outcome)
		op    string
		want  Status
		err   error
		steps map[Step]string // the errors of the attempts that are not the authorization's
	}{
		{"the hold lapsed before a capture", voided, "capture", Voided, ErrNotAuthorized, map[Step]string{StepCapture: "too_late", StepVoid: "by_provider"}},
		{"it was captured before a void", captured, "void", Captured, ErrAlreadyCaptured, map[Step]string{StepVoid: "too_late", StepCapture: "by_provider"}},
		{"it was captured before it was given back", captured, "give back", Refunded, nil, map[Step]string{StepVoid: "too_late", StepCapture: "by_provider", StepRefund: ""}},
		{"it was refunded before a void", func(o *Outcome) { captured(o); refunded(o) }, "void", Refunded, nil,
			map[Step]string{StepVoid: "too_late", StepCapture: "by_provider", StepRefund: "by_provider"}},
		{"it was refunded before a capture", func(o *Outcome) { captured(o); refunded(o) }, "capture", Refunded, nil,
			map[Step]string{StepCapture: "", StepRefund: "by_provider"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup()
			b.authorize(t)
			b.book.byHand(tt.hand)
			if _, err := operations[tt.op](b, t.Context()); !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v", err, tt.err)
			}
			r := b.memory.record(orderA)
			if r.Payment.Status != tt.want {
				t.Errorf("%q, want %q", r.Payment.Status, tt.want)
			}
			steps := map[Step]string{}
			for s, a := range r.Attempts {
				if s != StepAuthorize {
					steps[s] = a.Error
				}
			}
			if d := cmp.Diff(tt.steps, steps); d != "" {
				t.Errorf("attempts (-want +got):\n%s", d)
			}
			sound(t, b)
		})
	}
	for want, hand := range map[Status]func(*Outcome){Captured: captured, Voided: voided, Refunded: func(o *Outcome) { captured(o); refunded(o) }} {
		b := setup()
		b.book.trouble = unsaid
		b.authorize(t)
		b.book.byHand(hand)
		b.book.trouble = none
		if p := b.authorize(t); p.Status != want {
			t.Errorf("while pending: %q, want %q", p.Status, want)
		}
		sound(t, b)
	}
}
