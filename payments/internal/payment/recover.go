package payment

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// underWay are the statuses that recovery leads out of, each with the step that does it.
var underWay = map[Status]Step{Capturing: StepCapture, Voiding: StepVoid, Refunding: StepRefund}

// The pauses of recovery: it comes when whoever began has had time for several attempts, and then after as long as the
// operation has been open, so that the pauses double; every five minutes a provider that is away for a day bears.
const (
	firstPause = 15 * time.Second
	lastPause  = 5 * time.Minute
)

// clockSlack is more than clocks of replicas differ.
const clockSlack = 2 * time.Minute

// tooLate is past every Due that can be given at now.
func tooLate(now time.Time) time.Time { return now.Add(lastPause + clockSlack) }

// resume takes up what is under way, if it is due and no other replica has taken it up meanwhile.
func (r *Record) resume(now time.Time) (Call, error) {
	p := &r.Payment
	step := underWay[p.Status]
	if step == "" || now.Before(p.Due) && !p.Due.After(tooLate(now)) {
		return Call{}, nil
	}
	p.Due = now.Add(min(lastPause, max(firstPause, now.Sub(r.Attempts[step].Started))))
	return r.call(step), nil
}

const (
	// poll is how often recovery looks for work; looking costs no write.
	poll = time.Second
	// recoverers is how many payments one replica drives at once in recovery: enough to hide a slow provider, few enough not
	// to starve the customers who wait.
	recoverers = 16
)

// Recover drives captures, voids and refunds that have begun, and that nobody has brought to their end, until ctx ends.
func (s *Service) Recover(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		for s.recoverSome(ctx, log) && ctx.Err() == nil {
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// recoverSome takes up what is due, and reports whether more may be.
func (s *Service) recoverSome(ctx context.Context, log *slog.Logger) bool {
	now := s.now()
	due, err := s.store.Due(ctx, now, tooLate(now), recoverers)
	if err != nil {
		if ctx.Err() == nil {
			log.WarnContext(ctx, "look for payments to recover", "error", err)
		}
		return false
	}
	var wg sync.WaitGroup
	var failed atomic.Bool
	for _, p := range due {
		wg.Go(func() {
			ctx, op := telemetry.Enter(context.WithoutCancel(ctx), p.Correlation, "", telemetry.Internal)
			telemetry.Keep(ctx)
			op.Name = "recover payment"
			after, c, err := s.run(ctx, p.Order, (*Record).resume)
			op.End(err)
			switch {
			case err != nil:
				failed.Store(true) // it is still due: not again before the next tick
				log.WarnContext(ctx, "recover payment", "orderId", p.Order, "error", err)
			case underWay[after.Status] != "":
				log.InfoContext(ctx, "payment waits for its provider", "orderId", p.Order, "step", underWay[after.Status], "nextAt", after.Due)
			case c.Step != "":
				log.InfoContext(ctx, "payment recovered", "orderId", p.Order, "status", after.Status)
			}
		})
	}
	wg.Wait()
	return len(due) == recoverers && !failed.Load()
}
