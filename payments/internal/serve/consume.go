package serve

import (
	"context"
	"fmt"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	"google.golang.org/protobuf/proto"
)

// Consumers are the events that Payments listens to: the money of a cancelled order goes back. with makes a Decide that
// marks the event in its transaction.
func Consumers(payments *payment.Service, with func(done func(*db.Tx) error) payment.Decide) map[string]outbox.Handler {
	cancelled := string((&ordersv1.OrderCancelled{}).ProtoReflect().Descriptor().FullName())
	return map[string]outbox.Handler{
		cancelled: func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
			m := &ordersv1.OrderCancelled{}
			if err := proto.Unmarshal(e.Data, m); err != nil {
				return fmt.Errorf("event %s of type %s: %w", e.ID, e.Type, err)
			}
			if !m.Paid {
				return nil
			}
			order, err := parseOrder(m.OrderId)
			if err != nil {
				return err
			}
			return payments.GiveBack(ctx, order, with(done))
		},
	}
}
