package payment

import (
	"context"
	"errors"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// Provider moves money. Everything that it does is named by a charge's key, and one key has one outcome for ever: asked
// again it says what happened and does nothing more. All methods may be called at once from many goroutines, honour
// ctx, and return ErrUnavailable or ErrUnknownOutcome where there is no answer.
type Provider interface {
	// Authorize holds the money of a charge. A decline is an answer. A charge voided before is Voided.
	Authorize(context.Context, Charge) (Outcome, error)
	// Lookup says how the charge stands: Absent if the provider never saw it.
	Lookup(ctx context.Context, key string) (Outcome, error)
	// Capture takes the money that is held, whole.
	Capture(ctx context.Context, key string) (Outcome, error)
	// Void gives the hold back. A charge never seen is remembered as voided, so that a late Authorize is refused.
	Void(ctx context.Context, key string) (Outcome, error)
	// Refund gives captured money back, whole.
	Refund(ctx context.Context, key string) (Outcome, error)
}

// ErrUnavailable says that the provider is away and did nothing.
var ErrUnavailable = errors.New("the payment provider is away")

// ErrUnknownOutcome says that the provider was asked and did not answer: it may have acted, or still act.
var ErrUnknownOutcome = errors.New("the payment provider did not answer")

// Charge is what a provider is asked to hold.
type Charge struct {
	Key      string
	Amount   int64 // minor units
	Currency string
	Token    telemetry.Secret
}

// State is how a charge stands at the provider.
type State int

// The states of a charge.
const (
	StateAbsent State = iota
	StateAuthorized
	StateDeclined
	StateCaptured
	StateVoided
	StateRefunded
)

// Outcome is the provider's word on a charge, with what it moved so far in minor units.
type Outcome struct {
	State      State
	Authorized int64 // held once, whether or not it still is
	Captured   int64
	Voided     int64
	Refunded   int64
	Decline    string // with StateDeclined: why, such as "insufficient_funds"
	Ref        string // the provider's id of the charge
}

// cause is what the outcome means to the state machine; Absent means nothing to it.
func (o Outcome) cause() Cause {
	return map[State]Cause{
		StateAuthorized: SaysAuthorized, StateDeclined: SaysDeclined, StateCaptured: SaysCaptured,
		StateVoided: SaysVoided, StateRefunded: SaysRefunded,
	}[o.State]
}
