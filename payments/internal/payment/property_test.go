package payment

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestNoHistoryBreaksAPromise runs random commands on one order, with calls that are lost, writes that fail as in a crash, a
// provider that is away, and hands at the provider's console. After each step the record and the provider's book are
// held against each other, and in the end, when all works again, both agree.
func TestNoHistoryBreaksAPromise(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := setup()
		ctx := context.Background()
		if rapid.Bool().Draw(t, "declines") {
			b.book.decline = "card_declined"
		}
		meddled := false
		var final Status // once a final answer was given
		names := slices.Sorted(maps.Keys(operations))
		run := func(op string) error {
			_, err := operations[op](b, ctx)
			r := b.memory.record(orderA)
			sound(t, b)
			if final != "" && r.Payment.Status != final {
				t.Fatalf("the payment was %s and is %s", final, r.Payment.Status)
			}
			if s := r.Payment.Status; s == Declined || s == Voided || s == Refunded {
				final = s
			}
			gave := op == "void" || op == "refund" || op == "give back"
			if held := b.book.holds(orderA); gave && err == nil && held != 0 {
				t.Fatalf("%s succeeded and the provider has %d", op, held)
			}
			if b.book.held > 1 || b.book.outcome(orderA).Authorized > ask().Amount {
				t.Fatalf("charged %d times, %+v", b.book.held, b.book.outcome(orderA))
			}
			return err
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if rapid.IntRange(0, 9).Draw(t, "hand") == 0 {
				b.book.byHand(rapid.SampledFrom([]func(*Outcome){captured, voided, refunded}).Draw(t, "by hand"))
				meddled = true
			}
			b.book.trouble = rapid.SampledFrom([]trouble{none, none, away, unheard, unsaid}).Draw(t, "trouble")
			b.memory.fail = rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3}).Draw(t, "crash at write")
			_ = run(rapid.SampledFrom(names).Draw(t, "op"))
		}

		b.book.trouble, b.memory.fail = none, 0
		// Whatever is under way is finished by a repeat of what began it.
		again := map[Status]string{Pending: "authorize", Capturing: "capture", Voiding: "void", Refunding: "refund"}
		if op, ok := again[b.memory.record(orderA).Payment.Status]; ok {
			if err := run(op); err != nil && !meddled {
				t.Fatalf("the repeat of %s: %v", op, err)
			}
			if s := b.memory.record(orderA).Payment.Status; again[s] != "" {
				t.Fatalf("the repeat of %s left it %s", op, s)
			}
		}
		p := b.memory.record(orderA).Payment
		if held := b.book.holds(orderA); !meddled && held != p.Authorized-p.Voided-p.Refunded {
			t.Fatalf("%s: our books have %+v, the provider %d", p.Status, p, held)
		}
		if err := run("give back"); err != nil {
			t.Fatalf("in the end nothing can be given back: %v", err)
		}
		if _, err := b.Authorize(ctx, ask()); err != nil || b.book.holds(orderA) != 0 {
			t.Fatalf("an authorization after it was given back: %v, %d held", err, b.book.holds(orderA))
		}
	})
}

// Facts are told in an order that the machine has, and each once, except that GiveBack tells the end again.
func TestFactsAreTheMovesThatHappened(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := setup()
		var want []Status
		last := None
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			b.book.trouble = rapid.SampledFrom([]trouble{none, away, unsaid}).Draw(t, "trouble")
			op := rapid.SampledFrom([]string{"authorize", "capture", "void", "refund"}).Draw(t, "op")
			_, err := operations[op](b, context.Background())
			if err != nil && !errors.Is(err, ErrProviderAway) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotAuthorized) &&
				!errors.Is(err, ErrNotCaptured) && !errors.Is(err, ErrAlreadyCaptured) {
				t.Fatalf("%s: %v", op, err)
			}
			s := b.memory.record(orderA).Payment.Status
			if s == Refunded && last == Capturing {
				want = append(want, Captured) // refund finishes the capture under way first
			}
			if s != last && (s == Authorized || s == Captured || s == Voided || s == Refunded) {
				want = append(want, s)
			}
			if s == Refunding && last == Capturing {
				want = append(want, Captured)
			}
			last = s
		}
		if got := b.memory.told(); !slices.Equal(want, got) {
			t.Fatalf("told %v, want %v", got, want)
		}
	})
}
