package serve

import (
	"context"
	"fmt"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/protobuf/proto"
)

// Notebook records what other contexts say about an order.
type Notebook interface {
	Note(ctx context.Context, id order.ID, eventID string, n order.Note, units, money bool, done func(*db.Tx) error) error
}

// Consumers are the events that Orders listens to: what became of the units and the money of its orders.
func Consumers(b Notebook) map[string]outbox.Handler {
	return map[string]outbox.Handler{
		name(&inventoryv1.StockReleased{}): func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
			m := &inventoryv1.StockReleased{}
			if err := read(e, m); err != nil {
				return err
			}
			units := int64(0)
			for _, l := range m.Lines {
				units += l.Qty
			}
			return b.Note(ctx, order.ID(m.OrderId), e.ID, note(m.ReleasedAt.AsTime(), "stock_released", fmt.Sprintf("%d units", units)), true, false, done)
		},
		name(&paymentsv1.PaymentVoided{}): func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
			m := &paymentsv1.PaymentVoided{}
			if err := read(e, m); err != nil {
				return err
			}
			return b.Note(ctx, order.ID(m.OrderId), e.ID, note(m.VoidedAt.AsTime(), "payment_voided", m.PaymentId), false, true, done)
		},
		name(&paymentsv1.PaymentRefunded{}): func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
			m := &paymentsv1.PaymentRefunded{}
			if err := read(e, m); err != nil {
				return err
			}
			return b.Note(ctx, order.ID(m.OrderId), e.ID, note(m.RefundedAt.AsTime(), "payment_refunded", m.PaymentId), false, true, done)
		},
		name(&paymentsv1.PaymentCaptured{}): func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
			m := &paymentsv1.PaymentCaptured{}
			if err := read(e, m); err != nil {
				return err
			}
			return b.Note(ctx, order.ID(m.OrderId), e.ID, note(m.CapturedAt.AsTime(), "payment_captured", m.PaymentId), false, false, done)
		},
	}
}

func name(m proto.Message) string { return string(m.ProtoReflect().Descriptor().FullName()) }

func read(e outbox.Event, m proto.Message) error {
	if err := proto.Unmarshal(e.Data, m); err != nil {
		return fmt.Errorf("event %s of type %s: %w", e.ID, e.Type, err)
	}
	return nil
}

func note(at time.Time, what, detail string) order.Note {
	return order.Note{At: at.UTC(), What: what, Detail: detail}
}
