package call

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"go.opentelemetry.io/otel/attribute"
)

// guard runs the calls of one method by its policy.
type guard struct {
	policy Policy
	edge   string // its name
	// gate lets calls through or not, and opens after failures in a row. rate watches their share and opens the gate;
	// failsafe-go's breaker counts one way or the other, and both are wanted.
	gate, rate circuitbreaker.CircuitBreaker[any]
	seats      bulkhead.Bulkhead[any]
	retry      failsafe.Executor[any] // nil if the method is not repeatable
	budget     spender                // of the repeats
	log        *slog.Logger
	figures    *figures
	inFlight   atomic.Int64
	repeats    atomic.Int64          // of those in flight
	begun      atomic.Int64          // when the last call was sent, in Unix nanoseconds
	stranger   atomic.Bool           // the peer did not speak the contract when it was asked last
	cuts       atomic.Uint64         // times that the peer was found cut off
	failed     atomic.Pointer[error] // why the last call failed that counts as the peer's failure
}

// spender is what failsafe-go's budget counts the calls under way with.
type spender interface {
	RecordExecution()
	ReleaseExecution()
}

// refusal marks an error that the guard made itself: the peer was not asked.
type refusal struct{ why, result string }

func (r refusal) Error() string { return r.why }

// NotSent reports whether an error says that the call was held back here, so that the peer knows nothing of it.
func NotSent(err error) bool {
	var own refusal
	return errors.As(err, &own)
}

func newGuard(p Policy, log *slog.Logger, m *telemetry.Metrics) *guard {
	g := &guard{policy: p, edge: p.Edge(), seats: bulkhead.New[any](uint(p.InFlight)), log: log}
	g.gate = circuitbreaker.NewBuilder[any]().WithFailureThreshold(uint(p.OpenAfter)).WithSuccessThreshold(1).
		WithDelay(p.OpenFor).WithJitterFactor(openJitter).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			if e.NewState == circuitbreaker.ClosedState {
				forget(g.rate)
			}
			g.tell(e.OldState, e.NewState)
		}).Build()
	g.rate = circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(failureRate, failureCalls, failureWindow).
		OnOpen(func(circuitbreaker.StateChangedEvent) { g.gate.Open() }).Build()
	g.figures = newFigures(g, m)
	if p.Attempts > 1 {
		repeats := budget.NewBuilder().WithMaxRate(retryShare).WithMinConcurrency(retryMinimum).
			OnBudgetExceeded(func(budget.ExceededEvent) { g.figures.denied.Inc() }).Build()
		g.budget = repeats.(spender)
		g.retry = failsafe.With(retrypolicy.NewBuilder[any]().
			HandleIf(func(_ any, err error) bool { return repeatable(err) }).
			WithMaxAttempts(p.Attempts).WithBackoff(backoffFirst, backoffLast).WithJitterFactor(1).
			WithBudget(repeats).ReturnLastFailure().Build())
	}
	return g
}

// tell logs an outage once when it begins, and once when it is over: its probes, one a second, are for whoever looks closer.
func (g *guard) tell(from, to circuitbreaker.State) {
	level := slog.LevelDebug
	args := []any{"target", g.policy.Target, "method", g.policy.Method, "from", from.String(), "to", to.String()}
	switch why := g.failed.Load(); {
	case to == circuitbreaker.ClosedState:
		level = slog.LevelInfo
	case from == circuitbreaker.ClosedState && why != nil:
		level = slog.LevelWarn
		args = append(args, "error", *why, "meanwhile", g.policy.Fallback)
	}
	g.log.Log(context.Background(), level, "circuit breaker", args...)
}

// do runs call by the policy. call returns faults.
func (g *guard) do(ctx context.Context, call func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return g.named(err)
	}
	if g.retry == nil {
		return g.attempt(ctx, 1, call)
	}
	// Most calls succeed, and what drives the repeats costs more than all else here: it is asked only when there may be something to repeat.
	g.budget.RecordExecution()
	last := g.attempt(ctx, 1, call)
	g.budget.ReleaseExecution()
	if last == nil {
		return nil
	}
	n := 0
	err := g.retry.WithContext(ctx).Run(func() error {
		if n++; n == 1 {
			return last
		}
		telemetry.Keep(ctx)
		g.figures.repeated.Inc()
		g.repeats.Add(1)
		defer g.repeats.Add(-1)
		last = g.attempt(ctx, n, call)
		return last
	})
	if err != nil && ctx.Err() != context.Canceled {
		// Out of budget, or out of time between two attempts: what the peer said last tells more.
		return last
	}
	return err
}

// attempt is the nth of a call. One that the peer failed, or that was not sent, is told of; a refusal is an answer.
func (g *guard) attempt(ctx context.Context, n int, call func(context.Context) error) error {
	ctx, op := telemetry.Start(ctx, g.edge, telemetry.Client)
	err := g.try(ctx, call)
	trouble := err
	if err != nil && fault.KindOf(err) != fault.Unavailable {
		trouble = nil
	}
	if op.Kept(trouble) {
		about := []attribute.KeyValue{attribute.String("target", g.policy.Target), attribute.Int("attempt", n)}
		if own := (refusal{}); errors.As(err, &own) {
			about = append(about, attribute.String("refused", own.result)) // the peer was not asked
		} else if err != nil {
			about = append(about, attribute.String("answer", fault.Of(err).Code))
		}
		op.End(trouble, about...)
	}
	return err
}

func (g *guard) try(ctx context.Context, call func(context.Context) error) error {
	if !g.seats.TryAcquirePermit() {
		g.figures.full.Inc()
		return g.unavailable(refusal{"too many calls are in flight", "too_many"})
	}
	defer g.seats.ReleasePermit()
	if !g.gate.TryAcquirePermit() {
		g.figures.barred.Inc()
		e := g.unavailable(refusal{"the circuit breaker is open", "breaker_open"})
		e.RetryAfter = max(g.gate.RemainingDelay(), time.Millisecond)
		return e
	}
	g.inFlight.Add(1)
	defer g.inFlight.Add(-1)
	start, cuts := time.Now(), g.cuts.Load()
	g.begun.Store(start.UnixNano())
	attempt, cancel := context.WithTimeout(ctx, g.policy.Timeout)
	defer cancel()
	err := call(attempt)
	if err == nil {
		g.figures.ok.Inc()
		g.gate.RecordSuccess()
		g.rate.RecordSuccess()
		if g.stranger.Load() {
			g.stranger.Store(false)
		}
		return nil
	}
	err = g.named(err)
	if errors.Is(err, fault.ErrContract) && !g.stranger.Swap(true) {
		g.log.ErrorContext(ctx, "the peer speaks another contract: deploy versions that share one", "target", g.policy.Target, "asked", g.policy.Method, "answer", errors.Unwrap(err))
	}
	g.record(ctx, err, time.Since(start), cuts)
	return err
}

// record tells the breaker what an error says about the peer. A peer that understood and refused is well. The caller's
// own cancellation says nothing; so does a deadline that left the peer less than half of an attempt's time.
func (g *guard) record(ctx context.Context, err error, took time.Duration, cuts uint64) {
	switch {
	case ctx.Err() != nil && (ctx.Err() == context.Canceled || took < g.policy.Timeout/2):
		g.figures.left.Inc()
		if g.gate.IsHalfOpen() {
			// This was the probe, and it found nothing out: wait for the next one.
			g.gate.Open()
		}
	case g.known(err, cuts):
		g.figures.failed.Inc()
	case fault.KindOf(err) == fault.Unavailable && !errors.Is(err, fault.ErrContract):
		g.figures.failed.Inc()
		g.failed.Store(&err)
		g.gate.RecordFailure()
		g.rate.RecordFailure()
	default:
		g.figures.refused.Inc()
		g.gate.RecordSuccess()
		g.rate.RecordSuccess()
	}
}

// known reports whether an error says that the peer was cut off when that was noted already, since the call began. A replica that dies
// takes many calls with it at once, which is one piece of news: the next calls go to the others. A probe always has news.
func (g *guard) known(err error, cuts uint64) bool {
	cutOff := fault.Of(err).Code == g.policy.Target+"_unavailable"
	return cutOff && !g.cuts.CompareAndSwap(cuts, cuts+1) && !g.gate.IsHalfOpen()
}

// named gives the errors of the wire itself the target's name, and keeps what the peer said.
func (g *guard) named(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	var f *fault.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &f) && f.Code == "deadline_exceeded" {
		return fault.New(fault.Unavailable, "deadline_exceeded", "%s did not answer in time.", title(g.policy.Target)).Because(err)
	}
	if errors.Is(err, fault.ErrContract) {
		return fault.ErrContract.Detailf("%s does not speak the version of the contract that it was asked in. Deploy versions that share one.", title(g.policy.Target)).Because(err)
	}
	if f != nil && f.Code == fault.Unavailable.String() {
		return g.unavailable(err)
	}
	return err
}

// unavailable is the fault of a peer that could not be asked. Its cause is for the log.
func (g *guard) unavailable(cause error) *fault.Error {
	return fault.New(fault.Unavailable, g.policy.Target+"_unavailable", "%s cannot be reached. Try again in a moment.", title(g.policy.Target)).Because(cause)
}

// repeatable reports whether trying again may help: the peer was asked and is unavailable, and has not said when to come
// back. Overload says so, and is not made worse.
func repeatable(err error) bool {
	f := fault.Of(err)
	return f != nil && f.Kind == fault.Unavailable && f.RetryAfter == 0 && !NotSent(err)
}

func (g *guard) state() State {
	m := g.rate.Metrics()
	s := State{
		Edge: g.policy.Edge(), Target: g.policy.Target, Method: g.policy.Method, Breaker: g.gate.State().String(),
		Calls: m.Executions(), Failures: m.Failures(), InFlight: g.inFlight.Load(), Repeats: g.repeats.Load(), Policy: g.policy,
	}
	// The window moves on with the next call only: without one it would be shown as it was for ever.
	if idle := time.Since(time.Unix(0, g.begun.Load())); s.Breaker == "closed" && idle > failureWindow+g.policy.Timeout {
		s.Calls, s.Failures = 0, 0
	}
	return s
}

func (g *guard) reset() {
	g.gate.Close()
	forget(g.gate)
	forget(g.rate)
}

// forget closes a breaker and empties its window; Close alone keeps the window of one that is closed already.
func forget(b circuitbreaker.CircuitBreaker[any]) {
	if r, ok := b.(interface{ Reset() }); ok {
		r.Reset()
	}
}
