package serve

import (
	"context"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/inventory/internal/store"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"google.golang.org/protobuf/proto"
)

// Consume returns what Inventory does about the events of others, by event type: the units of a cancelled order are
// released, those of a fulfilled one leave the shelf, those of a returned one come back to it. Each is answered by an event of
// ours, in the transaction that marks the one that was heard.
func Consume(s *store.Store) map[string]outbox.Handler {
	handlers := map[string]outbox.Handler{}
	hear[*ordersv1.OrderCancelled](handlers, s.ReleaseCancelled)
	hear[*ordersv1.OrderFulfilled](handlers, s.CommitFulfilled)
	hear[*ordersv1.OrderReturned](handlers, s.RestockReturned)
	return handlers
}

// orderEvent is what Inventory reads of an event of Orders.
type orderEvent interface {
	proto.Message
	GetOrderId() string
}

// hear adds the handler of the events of type M: act on the reservation of the order that it is about.
func hear[M orderEvent](handlers map[string]outbox.Handler, act func(ctx context.Context, id string, done func(*db.Tx) error) error) {
	outbox.Hear(handlers, func(ctx context.Context, m M, _ outbox.Event, done func(*db.Tx) error) error {
		id, err := reservationID(m.GetOrderId())
		if err != nil {
			return err
		}
		return act(ctx, id, done)
	})
}
