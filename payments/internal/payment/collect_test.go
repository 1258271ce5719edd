package payment

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
)

func TestCollectEndsWithTheFactThatSaysSo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before []string
		hand   func(*Outcome)
		told   []Status
	}{
		"an authorized payment is captured":      {told: []Status{Authorized, Captured}},
		"one captured before is told again":      {before: []string{"capture"}, told: []Status{Authorized, Captured, Captured}},
		"a repeat is told again, and takes once": {before: []string{"collect"}, told: []Status{Authorized, Captured, Captured}},
		"one voided before is told again":        {before: []string{"void"}, told: []Status{Authorized, Voided, Voided}},
		"one given back before it, too":          {before: []string{"collect", "give back"}, told: []Status{Authorized, Captured, Refunded, Refunded}},
		"a hold that lapsed":                     {hand: voided, told: []Status{Authorized, Voided}},
		"captured by hand at the provider":       {hand: captured, told: []Status{Authorized, Captured}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup()
			b.authorize(t)
			for _, op := range tc.before {
				if _, err := operations[op](b, t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if tc.hand != nil {
				b.book.byHand(tc.hand)
			}
			if err := b.collect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.told, b.memory.told()); d != "" {
				t.Errorf("told (-want +got):\n%s", d)
			}
			sound(t, b)
		})
	}
}

// A capture whose outcome is unknown is asked again under the same key until it is known, and takes the money once.
func TestCollectAsksAgainUntilItIsKnown(t *testing.T) {
	t.Parallel()
	for _, tr := range []trouble{away, unheard, unsaid} {
		b := setup()
		b.authorize(t)
		b.book.trouble = tr
		last := func(context.Context, string, func(*Record) error) error {
			t.Errorf("trouble %d: it ended", tr)
			return nil
		}
		for range 3 {
			before := len(b.book.did())
			if err := b.Collect(t.Context(), orderA, last); !errors.Is(err, ErrProviderAway) {
				t.Errorf("trouble %d: %v, want ErrProviderAway", tr, err)
			}
			if n := len(b.book.did()) - before; n != 1 {
				t.Errorf("trouble %d: a provider in trouble was called %d times at once", tr, n)
			}
			if s := b.memory.record(orderA).Payment.Status; s != Capturing {
				t.Errorf("trouble %d: %q, want it to stand begun", tr, s)
			}
			sound(t, b)
		}
		b.book.trouble = none
		if err := b.collect(t.Context()); err != nil {
			t.Errorf("trouble %d: %v", tr, err)
		}
		if d := cmp.Diff([]Status{Authorized, Captured}, b.memory.told()); d != "" || b.book.outcome(orderA).Captured != ask().Amount {
			t.Errorf("trouble %d: the provider has %+v, told (-want +got):\n%s", tr, b.book.outcome(orderA), d)
		}
		sound(t, b)
	}
}

func TestCollectDoesNotActAgainForAnEventThatWasHandled(t *testing.T) {
	t.Parallel()
	b := setup()
	b.authorize(t)
	handled := fault.New(fault.Conflict, "event_handled", "")
	last := func(context.Context, string, func(*Record) error) error { return handled }
	if err := b.Collect(t.Context(), orderA, last); !errors.Is(err, handled) {
		t.Errorf("%v, want what the last write said", err)
	}
}

// A return may overtake its fulfilment, when that was parked. Whichever comes last, the provider keeps nothing.
func TestReturnAndFulfilmentInEitherOrder(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ops  []string
		told []Status
	}{
		"fulfilled, returned":        {[]string{"collect", "give back"}, []Status{Authorized, Captured, Refunded}},
		"returned, fulfilled":        {[]string{"give back", "collect"}, []Status{Authorized, Voided, Voided}},
		"returned twice, fulfilled":  {[]string{"give back", "give back", "collect"}, []Status{Authorized, Voided, Voided, Voided}},
		"fulfilled twice, returned":  {[]string{"collect", "collect", "give back"}, []Status{Authorized, Captured, Captured, Refunded}},
		"fulfilled, returned, again": {[]string{"collect", "give back", "collect"}, []Status{Authorized, Captured, Refunded, Refunded}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup()
			b.authorize(t)
			for _, op := range tc.ops {
				if _, err := operations[op](b, t.Context()); err != nil {
					t.Fatalf("%s: %v", op, err)
				}
				sound(t, b)
			}
			if d := cmp.Diff(tc.told, b.memory.told()); d != "" || b.book.holds(orderA) != 0 {
				t.Errorf("the provider has %d, told (-want +got):\n%s", b.book.holds(orderA), d)
			}
		})
	}
}
