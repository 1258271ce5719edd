package serve

import (
	"context"
	"fmt"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Notebook records what other contexts say about an order.
type Notebook interface {
	Note(ctx context.Context, id order.ID, eventID string, n order.Note, means order.Answer, done func(*db.Tx) error) error
}

// Consumers are the events that Orders listens to: what became of the units and the money of its orders.
func Consumers(b Notebook) map[string]outbox.Handler {
	handlers := map[string]outbox.Handler{}
	hear(handlers, b, func(m *inventoryv1.StockReleased) (string, order.Note, order.Answer) {
		return m.OrderId, note(m.ReleasedAt, "stock_released", units(m.Lines)), order.UnitsBack
	})
	hear(handlers, b, func(m *inventoryv1.StockCommitted) (string, order.Note, order.Answer) {
		return m.OrderId, note(m.CommittedAt, "stock_committed", units(m.Lines)), order.UnitsTaken
	})
	hear(handlers, b, func(m *inventoryv1.StockReturned) (string, order.Note, order.Answer) {
		return m.OrderId, note(m.ReturnedAt, "stock_returned", units(m.Lines)), order.UnitsBack
	})
	hear(handlers, b, func(m *paymentsv1.PaymentCaptured) (string, order.Note, order.Answer) {
		return m.OrderId, note(m.CapturedAt, "payment_captured", m.PaymentId), order.MoneyTaken
	})
	hear(handlers, b, func(m *paymentsv1.PaymentVoided) (string, order.Note, order.Answer) {
		return m.OrderId, note(m.VoidedAt, "payment_voided", m.PaymentId), order.MoneyBack
	})
	hear(handlers, b, func(m *paymentsv1.PaymentRefunded) (string, order.Note, order.Answer) {
		return m.OrderId, note(m.RefundedAt, "payment_refunded", m.PaymentId), order.MoneyBack
	})
	return handlers
}

// hear adds the handler of the events of type M: each becomes a note on the order that it is about.
func hear[M proto.Message](handlers map[string]outbox.Handler, b Notebook, read func(M) (id string, n order.Note, means order.Answer)) {
	outbox.Hear(handlers, func(ctx context.Context, m M, e outbox.Event, done func(*db.Tx) error) error {
		id, n, means := read(m)
		// A time that is missing, or that a row cannot keep, would read as "not yet": the event's own is as good.
		if n.At.UnixMicro() <= 0 || n.At.Year() > 9999 {
			n.At = e.Time
		}
		return b.Note(ctx, order.ID(id), e.ID, n, means, done)
	})
}

func note(at *timestamppb.Timestamp, what, detail string) order.Note {
	return order.Note{At: at.AsTime().UTC(), What: what, Detail: detail}
}

func units(lines []*inventoryv1.Line) string {
	n := int64(0)
	for _, l := range lines {
		n += l.Qty
	}
	return fmt.Sprintf("%d units", n)
}
