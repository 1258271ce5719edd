package payment

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// What a command on a payment can be refused with.
var (
	ErrNotFound        = fault.New(fault.NotFound, "payment_not_found", "There is no payment for this order.")
	ErrMismatch        = fault.New(fault.Conflict, "payment_mismatch", "The order has a payment of another amount or currency. One order has one payment.")
	ErrNotAuthorized   = fault.New(fault.Conflict, "not_authorized", "Only an authorized payment can be captured.")
	ErrNotCaptured     = fault.New(fault.Conflict, "not_captured", "Only a captured payment can be refunded; void it instead.")
	ErrAlreadyCaptured = fault.New(fault.Conflict, "already_captured", "The payment is captured or about to be; refund it instead.")
	ErrProviderAway    = fault.New(fault.Unavailable, "provider_unavailable", "The payment provider does not answer. Repeat the call: it acts once.")
)

// Call is what to ask the provider after the record is durable. The zero Call asks nothing.
type Call struct {
	Step     Step
	Provider string
	Charge   Charge
	First    bool // nobody can have asked before
}

// beginAuthorize asks for the order's money, unless it was asked for before.
func (r *Record) beginAuthorize(q Request, now time.Time) (Call, error) {
	p := &r.Payment
	switch {
	case p.Status == None:
		to, _ := next(None, AskAuthorize)
		p.ID, p.Created = uuid.Must(uuid.NewV7()).String(), now
		p.Amount, p.Currency, p.Provider, p.Token = q.Amount, q.Currency, q.Provider, q.Token
		r.move(to, now)
		r.start(StepAuthorize, now)
		c := r.call(StepAuthorize)
		c.First = true
		return c, nil
	case p.ID != "" && (p.Amount != q.Amount || p.Currency != q.Currency):
		return Call{}, ErrMismatch
	case p.Status == Pending:
		return r.call(StepAuthorize), nil
	}
	return Call{}, nil
}

// beginCapture goes on with a capture under way, or begins one of an authorized payment.
func (r *Record) beginCapture(now time.Time) (Call, error) {
	return r.begin(AskCapture, StepCapture, Capturing, now), nil
}

// beginVoid bars an authorization from winning any more before the provider is asked to give it back. An order never
// heard of is voided at once: the attempt is always stored before the provider is called, so the provider cannot have it.
func (r *Record) beginVoid(now time.Time) (Call, error) {
	if r.Payment.Status == None {
		r.bury(now)
		return Call{}, nil
	}
	return r.begin(AskVoid, StepVoid, Voiding, now), nil
}

// beginRefund finishes a capture under way first.
func (r *Record) beginRefund(now time.Time) (Call, error) {
	if r.Payment.Status == Capturing {
		return r.call(StepCapture), nil
	}
	return r.begin(AskRefund, StepRefund, Refunding, now), nil
}

// beginReturn gives the money back from wherever the payment stands. It changes nothing where no provider need be
// asked.
func (r *Record) beginReturn(now time.Time) (Call, error) {
	switch r.Payment.Status {
	case None:
		return Call{}, nil
	case Pending, Authorized, Voiding:
		return r.beginVoid(now)
	}
	return r.beginRefund(now)
}

// tellReturned ends giving back: it leaves a tombstone for an order never heard of, tells again how a payment ended
// before, and fails with ErrProviderAway while money may still be held.
func (r *Record) tellReturned(now time.Time) error {
	switch r.Payment.Status {
	case None:
		r.bury(now)
	case Voided, Declined, Refunded:
		r.tell(now)
	default:
		return ErrProviderAway
	}
	return nil
}

// tellCollected ends collecting: it tells again how a payment ended before, and fails while it is not known whether the
// money can be had.
func (r *Record) tellCollected(now time.Time) error {
	switch s := r.Payment.Status; s {
	case Captured, Voided, Declined, Refunded:
		r.tell(now)
		return nil
	default:
		return answerCapture(s)
	}
}

// tell records how the payment stands, unless that is a fact of this decision already.
func (r *Record) tell(now time.Time) {
	if len(r.Facts) == 0 {
		r.Facts = append(r.Facts, Fact{Payment: r.Payment, At: now})
	}
}

func (r *Record) begin(on Cause, step Step, doing Status, now time.Time) Call {
	if to, ok := next(r.Payment.Status, on); ok {
		r.move(to, now)
		r.start(step, now)
	}
	if r.Payment.Status != doing {
		return Call{}
	}
	return r.call(step)
}

func (r *Record) call(step Step) Call {
	p := r.Payment
	return Call{Step: step, Provider: p.Provider, Charge: Charge{Key: ChargeKey(p.Order), Amount: p.Amount, Currency: p.Currency, Token: p.Token}}
}

func (r *Record) start(step Step, now time.Time) {
	r.Attempts[step] = Attempt{Step: step, Result: Started, Started: now}
}

// bury leaves the tombstone.
func (r *Record) bury(now time.Time) {
	to, _ := next(None, AskVoid)
	r.Payment.Created = now
	r.move(to, now)
}

// move changes the status, and records the fact if it is one that others wait for.
func (r *Record) move(to Status, now time.Time) {
	r.Payment.Status, r.Payment.Updated, r.Payment.Due = to, now, time.Time{}
	if underWay[to] != "" {
		r.Payment.Due = now.Add(firstPause)
	}
	switch to {
	case Authorized, Declined, Captured, Voided, Refunded:
		r.Facts = append(r.Facts, Fact{Payment: r.Payment, At: now})
	}
}

// learn notes what the provider answered to a call, or that it did not answer. A word that comes too late to
// matter changes nothing.
func (r *Record) learn(c Call, o Outcome, err error, now time.Time) {
	if err != nil {
		r.miss(c.Step, err)
		return
	}
	// Every word of the provider settles every attempt that it says something about: it may come before the answer to
	// the call that did it, or instead of it.
	for step, a := range r.Attempts {
		if !a.final() {
			r.settle(step, o, now)
		}
	}
	to, ok := next(r.Payment.Status, o.cause())
	if !ok {
		return
	}
	p := &r.Payment
	p.Authorized, p.Captured, p.Voided, p.Refunded = o.Authorized, o.Captured, o.Voided, o.Refunded
	r.credit(o, now)
	if to == Declined {
		p.Decline = o.Decline
	}
	r.move(to, now)
}

// settle ends an attempt if the provider's word decides it. While the provider still holds what the step was to move,
// there is no outcome. A charge only goes on from state to state, so that an old word settles nothing wrongly.
func (r *Record) settle(step Step, o Outcome, now time.Time) {
	ended := o.State == StateDeclined || o.State == StateVoided
	switch step {
	case StepAuthorize:
		switch {
		case o.Authorized > 0:
			r.end(step, Succeeded, o.Authorized, o.Ref, "", now)
		case o.State == StateDeclined:
			r.end(step, Refused, 0, o.Ref, o.Decline, now)
		case o.State == StateVoided:
			r.end(step, Refused, 0, o.Ref, "voided", now)
		}
	case StepCapture:
		switch {
		case o.State == StateCaptured || o.State == StateRefunded:
			r.end(step, Succeeded, o.Captured, o.Ref, "", now)
		case ended:
			r.end(step, Refused, 0, o.Ref, "too_late", now)
		}
	case StepVoid:
		switch {
		case ended:
			r.end(step, Succeeded, o.Voided, o.Ref, "", now)
		case o.State == StateCaptured || o.State == StateRefunded:
			r.end(step, Refused, 0, o.Ref, "too_late", now)
		}
	case StepRefund:
		if o.State == StateRefunded {
			r.end(step, Succeeded, o.Refunded, o.Ref, "", now)
		}
	}
}

// credit notes what the provider moved without having been asked, such as a hold that lapsed or a refund made by hand at
// the provider, as an attempt of its own making: a payment's amounts always follow from its attempts.
func (r *Record) credit(o Outcome, now time.Time) {
	for _, m := range []struct {
		step  Step
		moved int64
	}{{StepCapture, o.Captured}, {StepVoid, o.Voided}, {StepRefund, o.Refunded}} {
		if m.moved == r.Attempts[m.step].Amount {
			continue
		}
		if r.Attempts[m.step].Step == "" {
			r.start(m.step, now)
		}
		r.end(m.step, Succeeded, m.moved, o.Ref, byProvider, now)
	}
}

// byProvider marks an attempt that was not ours.
const byProvider = "by_provider"

func (r *Record) end(step Step, result Result, amount int64, ref, reason string, now time.Time) {
	a := r.Attempts[step]
	a.Result, a.Amount, a.Ref, a.Error, a.Ended = result, amount, ref, reason, now
	r.Attempts[step] = a
}

func (r *Record) miss(step Step, err error) {
	a, ok := r.Attempts[step]
	if !ok || a.final() {
		return
	}
	a.Result = Unclear
	switch {
	case errors.Is(err, ErrUnavailable):
		a.Error = "provider_away"
	case errors.Is(err, context.DeadlineExceeded):
		a.Error = "timeout"
	default:
		a.Error = "no_answer"
	}
	r.Attempts[step] = a
}

// answerCapture, answerVoid and answerRefund say what a command comes to, from where the payment stands after it.
func answerCapture(s Status) error {
	switch s {
	case Captured, Refunding, Refunded:
		return nil
	case Capturing:
		return ErrProviderAway
	case None:
		return ErrNotFound
	}
	return ErrNotAuthorized
}

// A declined payment has nothing to give back, and a refunded one has given it back: both are answers.
func answerVoid(s Status) error {
	switch s {
	case Voided, Declined, Refunded:
		return nil
	case Capturing, Captured, Refunding:
		return ErrAlreadyCaptured
	}
	return ErrProviderAway
}

func answerRefund(s Status) error {
	switch s {
	case Refunded:
		return nil
	case Capturing, Refunding:
		return ErrProviderAway
	case None:
		return ErrNotFound
	}
	return ErrNotCaptured
}
