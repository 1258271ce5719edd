package serve

import (
	"context"
	"fmt"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/inventory/internal/store"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"google.golang.org/protobuf/proto"
)

// Consume returns what Inventory does about the events of others, by event type.
func Consume(s *store.Store) map[string]outbox.Handler {
	cancelled := string((&ordersv1.OrderCancelled{}).ProtoReflect().Descriptor().FullName())
	return map[string]outbox.Handler{
		// The units of a cancelled order go back, and StockReleased says so, in the transaction that marks the event.
		cancelled: func(ctx context.Context, e outbox.Event, done func(*db.Tx) error) error {
			var m ordersv1.OrderCancelled
			if err := proto.Unmarshal(e.Data, &m); err != nil {
				return fmt.Errorf("read %s %s: %w", e.Type, e.ID, err)
			}
			id, err := reservationID(m.GetOrderId())
			if err != nil {
				return err
			}
			return s.ReleaseCancelled(ctx, id, done)
		},
	}
}
