package serve

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	"github.com/orderkeep/orderkeep/payments/v1/rest"
)

const (
	// askMost bounds the payments of a page that the provider is asked about.
	askMost = 100
	// askAtOnce is far below what its policy lets through: people look while orders are placed.
	askAtOnce = 8
	// askTime is how long a page waits for the provider. What it has not said by then is unavailable.
	askTime = 2 * time.Second
)

// GetPaymentRecord implements rest.Handler.
func (h *REST) GetPaymentRecord(ctx context.Context, params rest.GetPaymentRecordParams) (rest.GetPaymentRecordRes, error) {
	r, err := h.records.Record(ctx, params.OrderId.String())
	if err != nil {
		return nil, err
	}
	out := asRecord(r)
	h.ask(ctx, []payment.Record{r}, []*rest.PaymentRecord{&out})
	return &out, nil
}

// ListPayments implements rest.Handler. The cursor is the order id of the last payment of the page before.
func (h *REST) ListPayments(ctx context.Context, params rest.ListPaymentsParams) (rest.ListPaymentsRes, error) {
	before := ""
	if params.Cursor.Set {
		id, err := uuid.Parse(params.Cursor.Value)
		if err != nil || id.String() != params.Cursor.Value {
			return nil, fault.New(fault.Invalid, "invalid_cursor", "The cursor is not one that a page gave. Start without one.")
		}
		before = id.String()
	}
	limit := int(params.Limit.Value)
	if params.Provider.Value {
		limit = min(limit, askMost)
	}
	found, err := h.records.Payments(ctx, before, limit+1) // one more tells whether there is a next page
	if err != nil {
		return nil, err
	}
	page := &rest.PaymentPage{Payments: []rest.PaymentRecord{}}
	if len(found) > limit {
		found = found[:limit]
		page.NextCursor = rest.NewOptString(found[limit-1].Payment.Order)
	}
	for _, r := range found {
		page.Payments = append(page.Payments, asRecord(r))
	}
	if params.Provider.Value {
		answers := make([]*rest.PaymentRecord, len(found))
		for i := range answers {
			answers[i] = &page.Payments[i]
		}
		h.ask(ctx, found, answers)
	}
	return page, nil
}

// ask asks the provider about payments, and puts what it says beside what we say.
func (h *REST) ask(ctx context.Context, records []payment.Record, out []*rest.PaymentRecord) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var asking sync.WaitGroup
	turn := make(chan struct{}, askAtOnce)
	for i, r := range records {
		if r.Payment.ID == "" {
			continue // voided before it was asked for: no provider has heard of it
		}
		turn <- struct{}{}
		asking.Go(func() {
			defer func() { <-turn }()
			o, err := h.payments.Ask(ctx, r.Payment)
			out[i].Provider = rest.NewOptProviderView(asView(r.Payment, o, err))
		})
	}
	asking.Wait()
}

var views = map[payment.State]rest.ProviderViewState{
	payment.StateAbsent: rest.ProviderViewStateAbsent, payment.StateAuthorized: rest.ProviderViewStateAuthorized, payment.StateDeclined: rest.ProviderViewStateDeclined,
	payment.StateCaptured: rest.ProviderViewStateCaptured, payment.StateVoided: rest.ProviderViewStateVoided, payment.StateRefunded: rest.ProviderViewStateRefunded,
}

func asView(p payment.Payment, o payment.Outcome, err error) rest.ProviderView {
	if err != nil {
		return rest.ProviderView{State: rest.ProviderViewStateUnavailable}
	}
	v := rest.ProviderView{
		State: views[o.State], AuthorizedMinor: rest.NewOptInt64(o.Authorized), CapturedMinor: rest.NewOptInt64(o.Captured),
		VoidedMinor: rest.NewOptInt64(o.Voided), RefundedMinor: rest.NewOptInt64(o.Refunded),
	}
	switch p.Status {
	case payment.Pending, payment.Capturing, payment.Voiding, payment.Refunding:
	default:
		v.Agrees = rest.NewOptBool(o.Authorized == p.Authorized && o.Captured == p.Captured && o.Voided == p.Voided && o.Refunded == p.Refunded)
	}
	return v
}

func asRecord(r payment.Record) rest.PaymentRecord {
	out := rest.PaymentRecord{
		Payment: asPayment(r.Payment), Step: string(r.Payment.Status), Attempts: []rest.Attempt{},
		CreatedAt: r.Payment.Created, UpdatedAt: r.Payment.Updated, CorrelationId: r.Payment.Correlation,
	}
	for _, step := range []payment.Step{payment.StepAuthorize, payment.StepCapture, payment.StepVoid, payment.StepRefund} {
		a, ok := r.Attempts[step]
		if !ok {
			continue
		}
		attempt := rest.Attempt{Step: rest.AttemptStep(a.Step), Result: rest.AttemptResult(a.Result), AmountMinor: a.Amount, StartedAt: a.Started}
		if a.Error != "" {
			attempt.Error = rest.NewOptString(a.Error)
		}
		if !a.Ended.IsZero() {
			attempt.EndedAt = rest.NewOptDateTime(a.Ended)
		}
		out.Attempts = append(out.Attempts, attempt)
	}
	return out
}
