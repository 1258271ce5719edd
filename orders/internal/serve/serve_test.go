package serve

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/outbox"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// REST and gRPC are proved from outside, behind a real server, by the tests of the door.

var noon = time.Date(2011, 3, 1, 12, 0, 0, 0, time.UTC)

// noted is one call of a notebook.
type noted struct {
	Order, Event string
	Note         order.Note
	Means        order.Answer
}

type notebook struct {
	got  []noted
	fail error
}

func (b *notebook) Note(_ context.Context, id order.ID, eventID string, n order.Note, means order.Answer, done func(*db.Tx) error) error {
	if b.fail != nil {
		return b.fail
	}
	b.got = append(b.got, noted{string(id), eventID, n, means})
	return done(nil)
}

func TestWhatOthersSayIsNotedWithWhatItMeans(t *testing.T) {
	t.Parallel()
	at := timestamppb.New(noon)
	lines := []*inventoryv1.Line{{Sku: "A", Qty: 2}, {Sku: "B", Qty: 3}}
	tests := []struct {
		message proto.Message
		what    string
		detail  string
		means   order.Answer
	}{
		{&inventoryv1.StockReleased{OrderId: "o", Lines: lines, ReleasedAt: at}, "stock_released", "5 units", order.UnitsBack},
		{&inventoryv1.StockReleased{OrderId: "o", ReleasedAt: at}, "stock_released", "0 units", order.UnitsBack},
		{&inventoryv1.StockCommitted{OrderId: "o", Lines: lines, CommittedAt: at}, "stock_committed", "5 units", order.UnitsTaken},
		{&inventoryv1.StockReturned{OrderId: "o", Lines: lines, ReturnedAt: at}, "stock_returned", "5 units", order.UnitsBack},
		{&paymentsv1.PaymentCaptured{OrderId: "o", PaymentId: "p", CapturedAt: at}, "payment_captured", "p", order.MoneyTaken},
		{&paymentsv1.PaymentVoided{OrderId: "o", PaymentId: "p", VoidedAt: at}, "payment_voided", "p", order.MoneyBack},
		{&paymentsv1.PaymentRefunded{OrderId: "o", PaymentId: "p", RefundedAt: at}, "payment_refunded", "p", order.MoneyBack},
	}
	b := &notebook{}
	handlers := Consumers(b)
	covered := map[string]bool{}
	for _, tt := range tests {
		e := outbox.New(t.Context(), tt.message, "o", noon)
		covered[e.Type] = true
		marked := false
		b.got = nil
		if err := handlers[e.Type](t.Context(), e, func(*db.Tx) error { marked = true; return nil }); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]noted{{"o", e.ID, order.Note{At: noon, What: tt.what, Detail: tt.detail}, tt.means}}, b.got); d != "" || !marked {
			t.Errorf("%s: marked as consumed: %v\n%s", e.Type, marked, d)
		}
		b.fail = errors.New("disk")
		if err := handlers[e.Type](t.Context(), e, func(*db.Tx) error { return nil }); !errors.Is(err, b.fail) {
			t.Errorf("%s: a note that could not be made: %v", e.Type, err)
		}
		b.fail = nil
		e.Data = []byte{0xff}
		if err := handlers[e.Type](t.Context(), e, func(*db.Tx) error { return nil }); err == nil || !strings.Contains(err.Error(), e.ID) {
			t.Errorf("%s of garbage: %v", e.Type, err)
		}
	}
	for name := range handlers {
		if !covered[name] {
			t.Errorf("%s has no row in this test", name)
		}
	}
}

func TestARefusalNamesAFewAndListsAll(t *testing.T) {
	t.Parallel()
	o := &order.Order{ID: "o", Rejection: &order.Rejection{Kind: fault.Conflict, Code: "unknown_sku", Detail: "No such item."}}
	for n, says := range []string{"", `Unknown: "s0".`, `Unknown: "s0", "s1".`, `Unknown: "s0", "s1", "s2".`, `Unknown: "s0", "s1", "s2" and 1 more.`} {
		if n > 0 {
			o.Rejection.Shortages = append(o.Rejection.Shortages, order.Shortage{SKU: "s" + string(rune('0'+n-1)), Requested: 1, Unknown: true})
		}
		f := fault.Of(Refused(o, true))
		if !strings.HasSuffix(f.Detail, says) || len(f.Items) != n || f.OrderID != "o" || !f.Replayed || f.Code != "unknown_sku" || f.Kind != fault.Conflict {
			t.Errorf("%d unknown: %+v", n, f)
		}
	}
}

func TestEveryStatusHasItsProtobufForm(t *testing.T) {
	t.Parallel()
	states := map[order.State]bool{}
	for _, s := range order.Steps {
		states[s.To] = true
	}
	for s := range states {
		got := asProto(&order.Order{State: s}).Status
		if want := "ORDER_STATUS_" + strings.ToUpper(s.Status()); got.String() != want {
			t.Errorf("%s is %s, want %s", s, got, want)
		}
	}
	if len(ordersv1.OrderStatus_name)-1 != len(states)-1 { // without unspecified; undoing is shown as pending
		t.Errorf("the contract has %d statuses, the machine %d", len(ordersv1.OrderStatus_name)-1, len(states)-1)
	}
}
