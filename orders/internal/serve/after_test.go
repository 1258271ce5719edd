package serve

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	"github.com/orderkeep/orderkeep/orders/v1/rest"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A replay answers as the placement was answered, whatever became of the order since.
func TestPlacementIsAnsweredAsItWas(t *testing.T) {
	t.Parallel()
	o := &order.Order{ID: order.NewID(), State: order.Confirmed, TotalMinor: 1, Currency: "GBP", PlacedAt: noon, DecidedAt: noon, Payment: order.Payment{ID: "pay-1"}}
	want := asPlaced(o)
	for _, m := range [][]order.Move{
		{{To: order.Cancelled, At: noon, Reason: "r"}}, {{To: order.Fulfilled, At: noon}}, {{To: order.Fulfilled, At: noon}, {To: order.Returned, At: noon, Reason: "r"}},
	} {
		later := *o
		for _, m := range m {
			later.Apply(m)
		}
		later.UnitsTakenAt, later.MoneyTakenAt, later.UnitsBackAt, later.MoneyBackAt = noon, noon, noon, noon
		if d := cmp.Diff(want, asPlaced(&later)); d != "" {
			t.Errorf("%s: -want +got:\n%s", later.State, d)
		}
		if got := rest.OrderStatus(placed(later.State).Status()); got != rest.OrderStatusConfirmed {
			t.Errorf("%s: the plain answer says %s", later.State, got)
		}
	}
	for _, s := range []order.State{order.Pending, order.Undoing, order.Rejected} {
		if placed(s) != s {
			t.Errorf("%s was answered as %s", s, placed(s))
		}
	}
}

// jotted is one call of a Notebook.
type jotted struct {
	Order   order.ID
	EventID string
	Note    order.Note
	Means   order.Answer
}

type notebook []jotted

func (n *notebook) Note(_ context.Context, id order.ID, eventID string, note order.Note, means order.Answer, done func(*db.Tx) error) error {
	*n = append(*n, jotted{id, eventID, note, means})
	return done(nil)
}

func TestEventsOfOthersBecomeNotesAndAnswers(t *testing.T) {
	t.Parallel()
	at := timestamppb.New(noon)
	lines := []*inventoryv1.Line{{Sku: "A", Qty: 2}, {Sku: "B", Qty: 1}}
	for _, tc := range []struct {
		m    proto.Message
		note order.Note
		want order.Answer
	}{
		{&inventoryv1.StockReleased{OrderId: "o", Lines: lines, ReleasedAt: at}, order.Note{At: noon, What: "stock_released", Detail: "3 units"}, order.UnitsBack},
		{&inventoryv1.StockCommitted{OrderId: "o", Lines: lines, CommittedAt: at}, order.Note{At: noon, What: "stock_committed", Detail: "3 units"}, order.UnitsTaken},
		{&inventoryv1.StockReturned{OrderId: "o", Lines: lines, ReturnedAt: at}, order.Note{At: noon, What: "stock_returned", Detail: "3 units"}, order.UnitsBack},
		{&paymentsv1.PaymentCaptured{OrderId: "o", PaymentId: "p", CapturedAt: at}, order.Note{At: noon, What: "payment_captured", Detail: "p"}, order.MoneyTaken},
		{&paymentsv1.PaymentVoided{OrderId: "o", PaymentId: "p", VoidedAt: at}, order.Note{At: noon, What: "payment_voided", Detail: "p"}, order.MoneyBack},
		{&paymentsv1.PaymentRefunded{OrderId: "o", PaymentId: "p", RefundedAt: at}, order.Note{At: noon, What: "payment_refunded", Detail: "p"}, order.MoneyBack},
	} {
		var n notebook
		handlers := Consumers(&n)
		e := outbox.New(t.Context(), tc.m, "o", noon)
		marked := errors.New("marked")
		if err := handlers[e.Type](t.Context(), e, func(*db.Tx) error { return marked }); !errors.Is(err, marked) {
			t.Errorf("%s: %v, want what marking it gives", e.Type, err)
		}
		if d := cmp.Diff(notebook{{"o", e.ID, tc.note, tc.want}}, n); d != "" {
			t.Errorf("%s: -want +got:\n%s", e.Type, d)
		}
		e.Data = []byte("\xff")
		if err := handlers[e.Type](t.Context(), e, func(*db.Tx) error { return nil }); err == nil || len(n) != 1 {
			t.Errorf("%s: rags are taken for an event: %v", e.Type, err)
		}
	}
}
