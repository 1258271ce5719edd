// Package payment is the domain of Payments: one order's money, from the first attempt to its end.
//
// It owns the state machine (Moves), the decisions (Record) and the order of writes and calls (Service). It promises
// that every operation of an order has one outcome, however often and however concurrently it is asked for; that the
// provider is called only after the attempt is durable, outside of any transaction, and always under the same key; and
// that no money is held for an order once Void has answered. It refuses card numbers, amounts that are not
// positive, currencies that do not exist, and providers that it does not know.
//
// What a crash leaves behind, and how repeating the call finishes it:
//
//	after the write of        the record says            repeating
//	authorize, begun          pending, attempt started   asks the provider by key; sends it again under the same key if it was never seen
//	authorize, outcome        authorized or declined     gives the stored outcome
//	void of an unseen order   voided, no payment id      gives the stored outcome; a late authorize is refused
//	void, begun               voiding, attempt started   voids again by key: a late authorization cannot win any more
//	void, outcome             voided                     gives the stored outcome
//	capture, begun            capturing                  captures again by key; the provider captures once
//	capture, outcome          captured                   gives the stored outcome
//	refund, begun             refunding                  refunds again by key; the provider refunds once
//	refund, outcome           refunded                   gives the stored outcome
//
// Between the two writes of an operation the provider may or may not have acted; its answer to a repeat says which.
//
// A capture, void or refund that has begun needs no caller to repeat it: Recover does. The write that begins one says when
// recovery takes it up, and taking it up says when it is taken up next, before the provider is asked. So a crash at any
// point costs a wait and no more, two replicas do not take up the same one, and what the provider does not answer is asked
// at growing intervals. Recovery and a caller may act at once: the key has one outcome for both. An authorization under
// way is its caller's: without one nobody wants the money.
package payment

import (
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// Step names one command of an order. Order id and step are the key of its one attempt.
type Step string

// The steps, one for each operation while amounts are whole.
const (
	StepAuthorize Step = "authorize"
	StepCapture   Step = "capture"
	StepVoid      Step = "void"
	StepRefund    Step = "refund"
)

// ChargeKey is the key under which the provider knows an order's money. It starts with the order id and never
// changes, so that nothing can be charged twice.
func ChargeKey(order string) string { return order + ":" + string(StepAuthorize) }

// Payment is one order's money. Amounts are minor units.
type Payment struct {
	ID         string // empty if the payment was voided before it was ever asked for
	Order      string
	Status     Status
	Amount     int64 // what was asked for
	Currency   string
	Authorized int64 // what the provider held, whether or not it still does
	Captured   int64
	Voided     int64
	Refunded   int64
	Provider   string
	Token      telemetry.Secret
	Decline    string // the provider's reason, with Declined
	// Correlation is the correlation id of the request that began the payment.
	Correlation string
	Created     time.Time // microseconds, UTC
	Updated     time.Time
	// Due is when recovery takes up the capture, void or refund under way; zero if none is.
	Due time.Time
}

// Result is how an attempt stands.
type Result string

// The results of an attempt. The database holds these words.
const (
	Started   Result = "started" // stored; the provider may or may not have been called
	Succeeded Result = "succeeded"
	Refused   Result = "declined" // the provider will not do it, now or later
	Unclear   Result = "unknown"  // the provider did not say
)

// Attempt is the one attempt of an order at a step.
type Attempt struct {
	Step    Step
	Result  Result
	Amount  int64  // moved by it, in minor units
	Ref     string // the provider's id of it
	Error   string // why it is unknown or was declined, as a short code; never the provider's text
	Started time.Time
	Ended   time.Time // zero while there is no outcome
}

func (a Attempt) final() bool { return a.Result == Succeeded || a.Result == Refused }

// Fact is a change of status that others are told of.
type Fact struct {
	Payment Payment // after the change
	At      time.Time
}

// Record is everything about one order's money. Its decisions are pure: they look at the record and change it.
type Record struct {
	Payment  Payment
	Attempts map[Step]Attempt
	Facts    []Fact // what the decision made happen
}

// NewRecord returns the record of an order that Payments has never heard of.
func NewRecord(order string) *Record {
	return &Record{Payment: Payment{Order: order}, Attempts: map[Step]Attempt{}}
}

// Clone returns a copy without the facts, to decide on.
func (r *Record) Clone() *Record {
	c := &Record{Payment: r.Payment, Attempts: make(map[Step]Attempt, len(r.Attempts)+1)}
	for s, a := range r.Attempts {
		c.Attempts[s] = a
	}
	return c
}
