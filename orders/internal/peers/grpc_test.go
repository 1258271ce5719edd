package peers

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
)

func TestReserveOverGRPC(t *testing.T) {
	t.Parallel()
	short := []*inventoryv1.Shortage{{Sku: "BOOK", Requested: 2, Available: 1}, {Sku: "book", Requested: 1, Unknown: true}}
	for name, c := range map[string]struct {
		state     inventoryv1.ReservationState
		shortages []*inventoryv1.Shortage
		held      bool
		want      []order.Shortage
		code      string // of the error
	}{
		"reserved":              {state: inventoryv1.ReservationState_RESERVATION_STATE_RESERVED, held: true},
		"committed":             {state: inventoryv1.ReservationState_RESERVATION_STATE_COMMITTED, held: true},
		"released":              {state: inventoryv1.ReservationState_RESERVATION_STATE_RELEASED},
		"refused":               {state: inventoryv1.ReservationState_RESERVATION_STATE_REFUSED, shortages: short, want: []order.Shortage{{SKU: "BOOK", Requested: 2, Available: 1}, {SKU: "book", Requested: 1, Unknown: true}}},
		"refused, without why":  {state: inventoryv1.ReservationState_RESERVATION_STATE_REFUSED, want: []order.Shortage{{SKU: "BOOK", Requested: 2}}},
		"unspecified":           {state: inventoryv1.ReservationState_RESERVATION_STATE_UNSPECIFIED, code: "peer_unavailable"},
		"a state of the future": {state: 99, code: "peer_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got *inventoryv1.ReserveRequest
			s, _ := overTCP(t, &stockPeer{reserve: func(_ context.Context, r *inventoryv1.ReserveRequest) (*inventoryv1.ReserveResponse, error) {
				got = r
				return &inventoryv1.ReserveResponse{State: c.state, Shortages: c.shortages}, nil
			}}, &moneyPeer{})
			held, short, err := s.Reserve(t.Context(), asked(twoBooks...))
			if held != c.held || (err != nil) != (c.code != "") || err != nil && fault.Of(err).Code != c.code {
				t.Errorf("held %v, err %v", held, err)
			}
			if d := cmp.Diff(c.want, short); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(&inventoryv1.ReserveRequest{ReservationId: string(id), Lines: []*inventoryv1.Line{{Sku: "BOOK", Qty: 2}}}, got, protocmp.Transform()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatInventoryHoldsOverGRPC(t *testing.T) {
	t.Parallel()
	var got *inventoryv1.ListReservationsRequest
	s, _ := overTCP(t, &stockPeer{list: func(_ context.Context, r *inventoryv1.ListReservationsRequest) (*inventoryv1.ListReservationsResponse, error) {
		got = r
		return &inventoryv1.ListReservationsResponse{NextAfter: "n", Reservations: []*inventoryv1.Reservation{
			{ReservationId: "a", CorrelationId: "c", Lines: []*inventoryv1.Line{{Sku: "BOOK", Qty: 2}, {Sku: "PEN", Qty: 1}}}, {ReservationId: "b"},
		}}, nil
	}}, &moneyPeer{})
	held, next, err := s.Held(t.Context(), "from", "to")
	want := []order.Holding{{ID: "a", CorrelationID: "c", Lines: []order.Line{{SKU: "BOOK", Qty: 2}, {SKU: "PEN", Qty: 1}}}, {ID: "b"}}
	if d := cmp.Diff(want, held); d != "" || next != "n" || err != nil {
		t.Errorf("next %q, %v\n%s", next, err, d)
	}
	if d := cmp.Diff(&inventoryv1.ListReservationsRequest{After: "from", Before: "to"}, got, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	older, _ := overTCP(t, &stockPeer{}, &moneyPeer{})
	if held, _, err := older.Held(t.Context(), "from", "to"); err == nil || held != nil {
		t.Errorf("an Inventory that cannot say it holds %v, %v", held, err)
	}
	var rest order.Stock = &RESTStock{}
	if _, ok := rest.(order.Lister); ok {
		t.Error("over REST there is no such question")
	}
}

func TestAuthorizeOverGRPC(t *testing.T) {
	t.Parallel()
	for state, want := range map[paymentsv1.PaymentState]order.Outcome{
		paymentsv1.PaymentState_PAYMENT_STATE_AUTHORIZED: order.Authorized, paymentsv1.PaymentState_PAYMENT_STATE_CAPTURED: order.Authorized,
		paymentsv1.PaymentState_PAYMENT_STATE_DECLINED: order.Declined, paymentsv1.PaymentState_PAYMENT_STATE_VOIDED: order.Voided,
		paymentsv1.PaymentState_PAYMENT_STATE_REFUNDED: order.Voided, paymentsv1.PaymentState_PAYMENT_STATE_UNKNOWN: order.Unknown,
		paymentsv1.PaymentState_PAYMENT_STATE_UNSPECIFIED: order.Unknown, 99: order.Unknown,
	} {
		var asked *paymentsv1.AuthorizeRequest
		_, c := overTCP(t, &stockPeer{}, &moneyPeer{authorize: func(_ context.Context, r *paymentsv1.AuthorizeRequest) (*paymentsv1.AuthorizeResponse, error) {
			asked = r
			return &paymentsv1.AuthorizeResponse{State: state, PaymentId: "pay-1", DeclineCode: "lost_card"}, nil
		}})
		got, err := c.Authorize(t.Context(), paidFor)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(order.Authorization{Outcome: want, PaymentID: "pay-1", DeclineCode: "lost_card"}, got); d != "" {
			t.Errorf("%v: %s", state, d)
		}
		if d := cmp.Diff(&paymentsv1.AuthorizeRequest{
			OrderId: string(id), Amount: &paymentsv1.Money{AmountMinor: 2500, Currency: "GBP"}, Provider: "simulated", Token: "pm_card_visa",
		}, asked, protocmp.Transform()); d != "" {
			t.Error(d)
		}
	}
}

// each makes every call of both peers, with an error that is the same for all.
func each(t *testing.T, fail func(context.Context) error) map[string]func(context.Context) error {
	t.Helper()
	s, c := overTCP(t, &stockPeer{
		reserve: func(ctx context.Context, _ *inventoryv1.ReserveRequest) (*inventoryv1.ReserveResponse, error) {
			return nil, fail(ctx)
		},
		release: func(ctx context.Context, _ *inventoryv1.ReleaseRequest) (*inventoryv1.ReleaseResponse, error) {
			return nil, fail(ctx)
		},
		check: func(ctx context.Context, _ *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
			return nil, fail(ctx)
		},
	}, &moneyPeer{
		authorize: func(ctx context.Context, _ *paymentsv1.AuthorizeRequest) (*paymentsv1.AuthorizeResponse, error) {
			return nil, fail(ctx)
		},
		void: func(ctx context.Context, _ *paymentsv1.VoidRequest) (*paymentsv1.VoidResponse, error) {
			return nil, fail(ctx)
		},
		refund: func(ctx context.Context, _ *paymentsv1.RefundRequest) (*paymentsv1.RefundResponse, error) {
			return nil, fail(ctx)
		},
	})
	return map[string]func(context.Context) error{
		"reserve":   func(ctx context.Context) error { _, _, err := s.Reserve(ctx, asked(twoBooks...)); return err },
		"release":   func(ctx context.Context) error { return s.Release(ctx, id, "out_of_stock") },
		"check":     func(ctx context.Context) error { _, err := s.Check(ctx, twoBooks); return err },
		"authorize": func(ctx context.Context) error { _, err := c.Authorize(ctx, paidFor); return err },
		"void":      func(ctx context.Context) error { return c.Void(ctx, id, "out_of_stock") },
		"refund":    func(ctx context.Context) error { return c.Refund(ctx, id, "out_of_stock") },
	}
}

func TestErrorsKeepKindAndCodeOverGRPC(t *testing.T) {
	t.Parallel()
	for _, kind := range fault.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			sent := fault.New(kind, "a_code", "Say what to do.")
			sent.RetryAfter = 3 * time.Second // so that it is not asked again
			for name, do := range each(t, func(context.Context) error { return fault.ToGRPC(sent) }) {
				got := fault.Of(do(t.Context()))
				if kind == fault.Internal {
					if got.Kind != fault.Internal || got.Detail == sent.Detail {
						t.Errorf("%s: %v", name, got)
					}
					continue
				}
				if got.Kind != kind || got.Code != "a_code" || got.Detail != "Say what to do." {
					t.Errorf("%s: %v %v", name, got.Kind, got)
				}
			}
		})
	}
	for code, want := range map[codes.Code]fault.Kind{
		codes.Unauthenticated: fault.Denied, codes.ResourceExhausted: fault.Unavailable, codes.Unknown: fault.Internal,
		codes.Unimplemented: fault.Unavailable, codes.DataLoss: fault.Internal, codes.AlreadyExists: fault.Conflict,
	} {
		for name, do := range each(t, func(context.Context) error { return status.Error(code, "a stranger's text") }) {
			if got := kindOf(do(t.Context())); got != want {
				t.Errorf("%s answered %v: %v, want %v", name, code, got, want)
			}
		}
	}
}

func TestDeadlineAndCorrelationCrossOverGRPC(t *testing.T) {
	t.Parallel()
	const far = time.Second / 2 // less than every timeout of the policies
	seen := make(chan context.Context, 10)
	for name, do := range each(t, func(ctx context.Context) error {
		seen <- ctx
		return fault.ToGRPC(fault.New(fault.Invalid, "seen", "Seen."))
	}) {
		ctx, cancel := context.WithTimeout(telemetry.WithCorrelation(t.Context(), "shop-17"), far)
		_ = do(ctx)
		cancel()
		there := <-seen
		if at, ok := there.Deadline(); !ok || time.Until(at) > far {
			t.Errorf("%s: deadline %v %v", name, at, ok)
		}
		if got := metadata.ValueFromIncomingContext(there, "x-correlation-id"); len(got) != 1 || got[0] != "shop-17" {
			t.Errorf("%s: correlation %q", name, got)
		}
	}
}

func TestAPeerThatHangsCostsNoMoreThanTheDeadlineOverGRPC(t *testing.T) {
	t.Parallel()
	for name, do := range each(t, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }) {
		if got := fault.Of(do(soon(t))); got == nil || got.Kind != fault.Unavailable || got.Code != "deadline_exceeded" {
			t.Errorf("%s: %v", name, got)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := do(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("%s after its caller went away: %v", name, err)
		}
	}
}
