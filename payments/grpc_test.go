package payments

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	unknown    = paymentsv1.PaymentState_PAYMENT_STATE_UNKNOWN
	authorized = paymentsv1.PaymentState_PAYMENT_STATE_AUTHORIZED
	declined   = paymentsv1.PaymentState_PAYMENT_STATE_DECLINED
	captured   = paymentsv1.PaymentState_PAYMENT_STATE_CAPTURED
	voided     = paymentsv1.PaymentState_PAYMENT_STATE_VOIDED
	refunded   = paymentsv1.PaymentState_PAYMENT_STATE_REFUNDED
)

func authorize(order, token string) *paymentsv1.AuthorizeRequest {
	return &paymentsv1.AuthorizeRequest{OrderId: order, Amount: &paymentsv1.Money{AmountMinor: 1000, Currency: "EUR"}, Provider: "simulated", Token: token}
}

// does runs one command of the contract, and returns the state that it answers.
func (b *bundle) does(op, order string) (paymentsv1.PaymentState, error) {
	ctx := b.t.Context()
	switch op {
	case "capture":
		r, err := b.grpc.Capture(ctx, &paymentsv1.CaptureRequest{OrderId: order})
		return r.GetState(), err
	case "void":
		r, err := b.grpc.Void(ctx, &paymentsv1.VoidRequest{OrderId: order, Reason: "a test"})
		return r.GetState(), err
	case "refund":
		r, err := b.grpc.Refund(ctx, &paymentsv1.RefundRequest{OrderId: order, Reason: "a test"})
		return r.GetState(), err
	}
	r, err := b.grpc.Authorize(ctx, authorize(order, op))
	return r.GetState(), err
}

func TestPaymentsOverGRPC(t *testing.T) {
	t.Parallel()
	b := setup(t)
	type step struct {
		op    string // a command, or the token of an authorization
		state paymentsv1.PaymentState
		code  string // of the error
	}
	for name, steps := range map[string][]step{
		"captured and refunded": {
			{"pm_card_visa", authorized, ""}, {"pm_card_visa", authorized, ""}, {"refund", 0, "not_captured"}, {"capture", captured, ""}, {"capture", captured, ""},
			{"pm_card_visa", captured, ""}, {"void", 0, "already_captured"}, {"refund", refunded, ""}, {"refund", refunded, ""}, {"pm_card_visa", refunded, ""}, {"void", refunded, ""},
		},
		"voided":          {{"pm_card_visa", authorized, ""}, {"void", voided, ""}, {"void", voided, ""}, {"pm_card_visa", voided, ""}, {"capture", 0, "not_authorized"}},
		"voided unseen":   {{"void", voided, ""}, {"pm_card_visa", voided, ""}},
		"declined":        {{"pm_card_chargeDeclined", declined, ""}, {"pm_card_visa", declined, ""}, {"capture", 0, "not_authorized"}, {"void", declined, ""}},
		"lost and found":  {{"pm_simulated_timeout_charged", unknown, ""}, {"pm_simulated_timeout_charged", authorized, ""}},
		"never arrived":   {{"pm_simulated_timeout_not_charged", unknown, ""}, {"pm_simulated_timeout_not_charged", authorized, ""}},
		"away":            {{"pm_simulated_down_1m", unknown, ""}, {"void", 0, "provider_unavailable"}, {"pm_simulated_down_1m", voided, ""}},
		"never heard of":  {{"capture", 0, "payment_not_found"}, {"refund", 0, "payment_not_found"}},
		"a card number":   {{"4242424242424242", 0, "card_number_refused"}, {"capture", 0, "payment_not_found"}},
		"an empty token":  {{"", 0, "invalid_token"}, {"capture", 0, "payment_not_found"}},
		"a token of rags": {{"pm\x00", 0, "invalid_token"}, {"capture", 0, "payment_not_found"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := uuid.NewString()
			for i, s := range steps {
				state, err := b.does(s.op, id)
				code := ""
				if err != nil {
					code = fault.Of(fault.FromGRPC(err)).Code
				}
				if state != s.state || code != s.code {
					t.Errorf("step %d, %q: %v and %q, want %v and %q", i, s.op, state, code, s.state, s.code)
				}
			}
		})
	}
}

func TestDeclineOverGRPCIsAnAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuid.NewString()
	for range 2 {
		r, err := b.grpc.Authorize(t.Context(), authorize(id, "pm_card_chargeDeclinedLostCard"))
		if err != nil || r.State != declined || r.DeclineCode != "lost_card" || r.PaymentId == "" {
			t.Errorf("%v, %v", r, err)
		}
	}
}

func TestErrorKindsOverGRPC(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuid.NewString()
	if _, err := b.grpc.Authorize(t.Context(), authorize(id, "pm_card_visa")); err != nil {
		t.Fatal(err)
	}
	away := uuid.NewString()
	if _, err := b.grpc.Authorize(t.Context(), authorize(away, "pm_simulated_down_1m")); err != nil {
		t.Fatal(err)
	}
	with := func(f func(*paymentsv1.AuthorizeRequest)) func() error {
		return func() error {
			q := authorize(uuid.NewString(), "pm_card_visa")
			f(q)
			_, err := b.grpc.Authorize(t.Context(), q)
			return err
		}
	}
	op := func(name, order string) func() error {
		return func() error { _, err := b.does(name, order); return err }
	}
	for name, tc := range map[string]struct {
		call func() error
		grpc codes.Code
		code string
	}{
		"no order":                       {with(func(q *paymentsv1.AuthorizeRequest) { q.OrderId = "" }), codes.InvalidArgument, "invalid_request"},
		"an order that is no UUID":       {with(func(q *paymentsv1.AuthorizeRequest) { q.OrderId = "order-1" }), codes.InvalidArgument, "invalid_request"},
		"no amount":                      {with(func(q *paymentsv1.AuthorizeRequest) { q.Amount = nil }), codes.InvalidArgument, "invalid_amount"},
		"a negative amount":              {with(func(q *paymentsv1.AuthorizeRequest) { q.Amount.AmountMinor = -1 }), codes.InvalidArgument, "invalid_amount"},
		"a currency that is none":        {with(func(q *paymentsv1.AuthorizeRequest) { q.Amount.Currency = "EURO" }), codes.InvalidArgument, "invalid_currency"},
		"a provider that is not there":   {with(func(q *paymentsv1.AuthorizeRequest) { q.Provider = "bank" }), codes.InvalidArgument, "unknown_provider"},
		"another amount":                 {with(func(q *paymentsv1.AuthorizeRequest) { q.OrderId = id; q.Amount.AmountMinor = 1 }), codes.FailedPrecondition, "payment_mismatch"},
		"another currency":               {with(func(q *paymentsv1.AuthorizeRequest) { q.OrderId = id; q.Amount.Currency = "USD" }), codes.FailedPrecondition, "payment_mismatch"},
		"a capture of no UUID":           {op("capture", "x"), codes.InvalidArgument, "invalid_request"},
		"a void of no UUID":              {op("void", ""), codes.InvalidArgument, "invalid_request"},
		"a refund of no UUID":            {op("refund", "x"), codes.InvalidArgument, "invalid_request"},
		"a capture of nothing":           {op("capture", uuid.NewString()), codes.NotFound, "payment_not_found"},
		"a refund of what is not ours":   {op("refund", id), codes.FailedPrecondition, "not_captured"},
		"a void while nobody is reached": {op("void", away), codes.Unavailable, "provider_unavailable"},
	} {
		err := tc.call()
		if status.Code(err) != tc.grpc || fault.Of(fault.FromGRPC(err)).Code != tc.code {
			t.Errorf("%s: %v, want %v %s", name, err, tc.grpc, tc.code)
		}
	}
}

// One order is one order, however its id is written: in capitals, in braces, and over either wire.
func TestOrderIDsAreComparedAsUUIDs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const id = "0197b7b0-aaaa-7000-8000-00000000000a"
	first, err := b.grpc.Authorize(t.Context(), authorize(id, "pm_card_visa"))
	if err != nil {
		t.Fatal(err)
	}
	for _, same := range []string{"0197B7B0-AAAA-7000-8000-00000000000A", "{0197b7b0-aaaa-7000-8000-00000000000a}", "urn:uuid:0197b7b0-aaaa-7000-8000-00000000000a", "0197b7b0aaaa7000800000000000000a"} {
		r, err := b.grpc.Authorize(t.Context(), authorize(same, "pm_card_visa"))
		if err != nil || r.PaymentId != first.PaymentId {
			t.Errorf("%s has another payment: %v, %v", same, r, err)
		}
	}
	b.call("GET", "/v1/payments/0197B7B0-AAAA-7000-8000-00000000000A", "").is(200).has(`{"orderId":"` + id + `","paymentId":"` + first.PaymentId + `"}`)
}

func TestConcurrentCommandsOverBothWires(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuid.NewString()
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			if i%3 == 0 {
				if _, err := b.grpc.Void(t.Context(), &paymentsv1.VoidRequest{OrderId: id}, grpc.WaitForReady(true)); err != nil {
					t.Error(err)
				}
				return
			}
			if a := b.call("PUT", "/v1/payments/"+id, newPayment("pm_card_visa")); a.status != 200 && a.status != 409 {
				t.Errorf("%d %s", a.status, a.raw)
			}
		})
	}
	wg.Wait()
	got := b.call("GET", "/v1/payments/"+id, "").is(200)
	if d := cmp.Diff(got.body["authorizedMinor"], got.body["voidedMinor"]); got.body["status"] != "voided" || d != "" {
		t.Errorf("money is left: %s", got.raw)
	}
}
