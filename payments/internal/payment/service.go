package payment

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/orderkeep/orderkeep/internal/card"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/money"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// ErrCardNumber refuses a request that holds a card number. It does not repeat it.
var ErrCardNumber = fault.New(fault.Invalid, "card_number_refused", "The request holds what looks like a card number. Send a token of the payment provider instead; card numbers are never taken.")

// Decide runs f on the order's record and makes what it changed durable, with the events of its facts, in one transaction.
// An error from f is returned, and nothing is changed. f may run more than once, on fresh copies of the record; only its
// last run counts.
type Decide func(ctx context.Context, order string, f func(*Record) error) error

// Store keeps the records.
type Store interface {
	// Decide waits for its turn.
	Decide(ctx context.Context, order string, f func(*Record) error) error
	// TryDecide is Decide, except that it fails as unavailable when too many are waiting.
	TryDecide(ctx context.Context, order string, f func(*Record) error) error
	// Payment returns an order's payment. ErrNotFound if there is none.
	Payment(ctx context.Context, order string) (Payment, error)
	// Due returns up to n payments whose capture, void or refund under way is to be taken up at now, or later than tooLate:
	// that is from before the clock was set back. The longest due come first.
	Due(ctx context.Context, now, tooLate time.Time, n int) ([]Payment, error)
}

// Request asks for an order's money.
type Request struct {
	Order    string
	Amount   int64 // minor units
	Currency string
	Provider string
	Token    telemetry.Secret
}

// maxToken is the contract's.
const maxToken = 255

// Service runs the operations. All methods may be called at once from many goroutines, on one order too.
type Service struct {
	store     Store
	providers map[string]Provider
}

// NewService returns the operations over a store and the providers by name. How long a provider has for an answer is its own to
// say, or that of what stands around it.
func NewService(s Store, providers map[string]Provider) *Service {
	return &Service{store: s, providers: providers}
}

// Payment returns an order's payment. ErrNotFound if there is none.
func (s *Service) Payment(ctx context.Context, order string) (Payment, error) {
	return s.store.Payment(ctx, order)
}

// Ask asks the provider how it sees a payment, and changes nothing. ErrUnavailable or ErrUnknownOutcome if it does not say.
func (s *Service) Ask(ctx context.Context, p Payment) (Outcome, error) {
	provider := s.providers[p.Provider]
	if provider == nil {
		return Outcome{}, ErrUnavailable
	}
	return provider.Lookup(ctx, ChargeKey(p.Order))
}

// Authorize asks the provider to hold the order's money, once. The payment says how it came out: Pending is a
// provider that did not say. Provider and token of a repeat are not looked at: those of the first stand. ErrMismatch if
// the order has a payment of another amount or currency.
func (s *Service) Authorize(ctx context.Context, q Request) (Payment, error) {
	if err := s.check(q); err != nil {
		return Payment{}, err
	}
	p, _, err := s.run(ctx, q.Order, func(r *Record, now time.Time) (Call, error) { return r.beginAuthorize(q, now) })
	return p, err
}

// Capture takes the authorized amount, once. ErrNotAuthorized where there is none, ErrProviderAway while the provider
// does not say.
func (s *Service) Capture(ctx context.Context, order string) (Payment, error) {
	p, _, err := s.run(ctx, order, (*Record).beginCapture)
	if err != nil {
		return Payment{}, err
	}
	return p, answerCapture(p.Status)
}

// Void gives an authorization back, and bars an order that has none from getting one. ErrAlreadyCaptured once
// captured, ErrProviderAway while the provider does not say: the void then stands begun, and repeating it finishes it. A
// payment that was declined stays declined, and one that was refunded, refunded: both hold nothing.
func (s *Service) Void(ctx context.Context, order string) (Payment, error) {
	p, _, err := s.run(ctx, order, (*Record).beginVoid)
	if err != nil {
		return Payment{}, err
	}
	return p, answerVoid(p.Status)
}

// Refund gives captured money back, once. ErrNotCaptured where there is none, ErrProviderAway while the provider does
// not say.
func (s *Service) Refund(ctx context.Context, order string) (Payment, error) {
	for {
		p, c, err := s.run(ctx, order, (*Record).beginRefund)
		if err != nil {
			return Payment{}, err
		}
		if c.Step == StepCapture && p.Status == Captured {
			continue // the capture under way is finished; now the refund
		}
		return p, answerRefund(p.Status)
	}
}

// GiveBack voids or refunds whatever the order has, and bars an order that has nothing from getting it. The write that
// ends it goes through last, with the fact that says so, also if nothing was left to do. ErrProviderAway while the
// provider does not say; then last has done nothing.
func (s *Service) GiveBack(ctx context.Context, order string, last Decide) error {
	return s.conclude(ctx, order, last, (*Record).beginReturn, (*Record).tellReturned, StateVoided, StateDeclined, StateRefunded)
}

// Collect captures the money of an order that was fulfilled. The write that ends it goes through last, with the fact that says
// how the payment stands, also if nothing was left to do: a payment that went back before cannot be captured any more, and
// trying again would not change that. ErrProviderAway while the provider does not say, ErrNotFound and ErrNotAuthorized
// where there is nothing to capture yet; then last has done nothing.
func (s *Service) Collect(ctx context.Context, order string, last Decide) error {
	return s.conclude(ctx, order, last, (*Record).beginCapture, (*Record).tellCollected, StateCaptured, StateVoided, StateDeclined, StateRefunded)
}

// steps bounds conclude: the longest way is a void that finds the money captured, the refund, and the telling.
const steps = 4

// conclude drives a payment to one of the states ends, from wherever it stands, a step of begin at a time, and lets tell say
// in the write of last how it ended.
func (s *Service) conclude(ctx context.Context, order string, last Decide, begin func(*Record, time.Time) (Call, error), tell func(*Record, time.Time) error, ends ...State) error {
	for range steps {
		_, c, err := s.decide(ctx, s.store.Decide, order, begin)
		if err != nil {
			return err
		}
		if c.Step == "" {
			return last(ctx, order, func(r *Record) error { return tell(r, s.now()) })
		}
		lab.Point("payments.due")
		o, asked := s.ask(ctx, c)
		lab.Point("payments.answered")
		if asked == nil && slices.Contains(ends, o.State) {
			return last(ctx, order, func(r *Record) error {
				r.learn(c, o, nil, s.now())
				return tell(r, s.now())
			})
		}
		if _, err := s.note(ctx, c, o, asked); err != nil {
			return err
		}
		if asked != nil {
			return ErrProviderAway.Because(asked)
		}
	}
	return ErrProviderAway
}

// run is one operation: the durable beginning, the provider, the durable outcome.
func (s *Service) run(ctx context.Context, order string, begin func(*Record, time.Time) (Call, error)) (Payment, Call, error) {
	p, c, err := s.decide(ctx, s.store.TryDecide, order, begin)
	if err != nil || c.Step == "" {
		return p, c, err
	}
	lab.Point("payments.begun")
	o, asked := s.ask(ctx, c)
	lab.Point("payments.asked")
	p, err = s.note(ctx, c, o, asked)
	lab.Point("payments.noted")
	return p, c, err
}

func (s *Service) decide(ctx context.Context, decide Decide, order string, begin func(*Record, time.Time) (Call, error)) (Payment, Call, error) {
	var p Payment
	var c Call
	err := decide(ctx, order, func(r *Record) error {
		var err error
		c, err = begin(r, s.now())
		p = r.Payment
		return err
	})
	if err != nil {
		// The decision may still be running if ctx ended; what it writes is not looked at.
		return Payment{}, Call{}, err
	}
	return p, c, nil
}

// ask calls the provider, outside of any transaction.
func (s *Service) ask(ctx context.Context, c Call) (Outcome, error) {
	p, ok := s.providers[c.Provider]
	if !ok {
		return Outcome{}, fmt.Errorf("provider %q is not configured any more: %w", c.Provider, ErrUnavailable)
	}
	switch c.Step {
	case StepCapture:
		return p.Capture(ctx, c.Charge.Key)
	case StepVoid:
		return p.Void(ctx, c.Charge.Key)
	case StepRefund:
		return p.Refund(ctx, c.Charge.Key)
	}
	if !c.First {
		if o, err := p.Lookup(ctx, c.Charge.Key); err != nil || o.State != StateAbsent {
			return o, err
		}
	}
	return p.Authorize(ctx, c.Charge)
}

// note makes the outcome durable. It does so for a caller that has gone away too: money may have moved.
func (s *Service) note(ctx context.Context, c Call, o Outcome, asked error) (Payment, error) {
	order := strings.TrimSuffix(c.Charge.Key, ":"+string(StepAuthorize))
	var p Payment
	err := s.store.Decide(context.WithoutCancel(ctx), order, func(r *Record) error {
		r.learn(c, o, asked, s.now())
		p = r.Payment
		return nil
	})
	return p, err
}

// now is what the database keeps: microseconds, UTC.
func (s *Service) now() time.Time { return lab.Now().UTC().Truncate(time.Microsecond) }

// check refuses what must not reach the store. Its errors repeat nothing of what the caller sent.
func (s *Service) check(q Request) error {
	if card.LooksLikeNumber(string(q.Token)) || card.LooksLikeNumber(q.Provider) || card.LooksLikeNumber(q.Currency) {
		return ErrCardNumber
	}
	if q.Amount <= 0 {
		return fault.New(fault.Invalid, "invalid_amount", "The amount must be at least 1 minor unit; an order of total 0 needs no payment.")
	}
	if !money.ValidCurrency(q.Currency) {
		return fault.New(fault.Invalid, "invalid_currency", "The currency must be an ISO 4217 code in capitals, such as EUR.")
	}
	if _, ok := s.providers[q.Provider]; !ok {
		names := make([]string, 0, len(s.providers))
		for n := range s.providers {
			names = append(names, n)
		}
		slices.Sort(names)
		return fault.New(fault.Invalid, "unknown_provider", "There is no such payment provider. There is: %s.", strings.Join(names, ", "))
	}
	// What is no character would be stored by one engine and refused by another. Broken UTF-8 reads as RuneError.
	odd := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if n := utf8.RuneCountInString(string(q.Token)); n == 0 || n > maxToken || strings.ContainsFunc(string(q.Token), odd) {
		return fault.New(fault.Invalid, "invalid_token", "The token must have 1 to %d printable characters.", maxToken)
	}
	return nil
}
