// Package provider puts the policy of internal/call around a payment provider: how long it may take for an answer, how
// many calls may be under way, and a circuit breaker for each method.
//
// It promises that a call which the policy holds back is payment.ErrUnavailable, because the provider was not asked, and
// one that took too long payment.ErrUnknownOutcome, because it was. It refuses to repeat: a charge whose outcome is unknown
// is asked about by its key, later, by whoever has written down that it is open.
package provider

import (
	"context"
	"errors"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
)

// Guard returns p with the policies of the target around its methods, which have their names there.
func Guard(p payment.Provider, target *call.Target) payment.Provider { return guarded{p, target} }

type guarded struct {
	provider payment.Provider
	target   *call.Target
}

func (g guarded) Authorize(ctx context.Context, c payment.Charge) (payment.Outcome, error) {
	return g.ask(ctx, "Authorize", func(ctx context.Context) (payment.Outcome, error) { return g.provider.Authorize(ctx, c) })
}

func (g guarded) Lookup(ctx context.Context, key string) (payment.Outcome, error) {
	return g.ask(ctx, "Lookup", func(ctx context.Context) (payment.Outcome, error) { return g.provider.Lookup(ctx, key) })
}

func (g guarded) Capture(ctx context.Context, key string) (payment.Outcome, error) {
	return g.ask(ctx, "Capture", func(ctx context.Context) (payment.Outcome, error) { return g.provider.Capture(ctx, key) })
}

func (g guarded) Void(ctx context.Context, key string) (payment.Outcome, error) {
	return g.ask(ctx, "Void", func(ctx context.Context) (payment.Outcome, error) { return g.provider.Void(ctx, key) })
}

func (g guarded) Refund(ctx context.Context, key string) (payment.Outcome, error) {
	return g.ask(ctx, "Refund", func(ctx context.Context) (payment.Outcome, error) { return g.provider.Refund(ctx, key) })
}

func (g guarded) ask(ctx context.Context, method string, ask func(context.Context) (payment.Outcome, error)) (payment.Outcome, error) {
	var o payment.Outcome
	err := g.target.Do(ctx, method, func(ctx context.Context) error {
		var err error
		o, err = ask(ctx)
		return judged(err)
	})
	switch {
	case err == nil:
		return o, nil
	case call.NotSent(err):
		return payment.Outcome{}, errors.Join(payment.ErrUnavailable, err)
	case !errors.Is(err, payment.ErrUnavailable) && !errors.Is(err, payment.ErrUnknownOutcome):
		return payment.Outcome{}, errors.Join(payment.ErrUnknownOutcome, err)
	}
	return payment.Outcome{}, err
}

var errAway = fault.New(fault.Unavailable, "provider_unavailable", "The payment provider does not answer.")

// judged says which errors are about the provider's health: it is away, or asked and silent. An attempt that ran out of its
// time, or whose caller left, is the policy's to judge.
func judged(err error) error {
	if errors.Is(err, payment.ErrUnavailable) || errors.Is(err, payment.ErrUnknownOutcome) {
		return errAway.Because(err)
	}
	return err
}
