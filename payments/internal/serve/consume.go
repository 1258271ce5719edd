package serve

import (
	"context"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	"google.golang.org/protobuf/proto"
)

// Consumers are the events that Payments listens to: the money of a fulfilled order is captured, that of a cancelled or
// returned one goes back. with makes a Decide that marks the event in its transaction.
//
// Events of one order come in their order, but one that fails for long is parked and may be redriven after those that
// followed it. So what is returned before it was captured is voided, and a capture that comes after that finds nothing to take.
func Consumers(payments *payment.Service, with func(done func(*db.Tx) error) payment.Decide) map[string]outbox.Handler {
	handlers := map[string]outbox.Handler{}
	hear[*ordersv1.OrderCancelled](handlers, payments.GiveBack, with)
	hear[*ordersv1.OrderFulfilled](handlers, payments.Collect, with)
	hear[*ordersv1.OrderReturned](handlers, payments.GiveBack, with)
	return handlers
}

// orderEvent is what Payments reads of an event of Orders.
type orderEvent interface {
	proto.Message
	GetOrderId() string
	GetPaid() bool
}

// hear adds the handler of the events of type M: act on the order that it is about, if that has a payment.
func hear[M orderEvent](handlers map[string]outbox.Handler, act func(context.Context, string, payment.Decide) error, with func(func(*db.Tx) error) payment.Decide) {
	outbox.Hear(handlers, func(ctx context.Context, m M, _ outbox.Event, done func(*db.Tx) error) error {
		if !m.GetPaid() {
			return nil
		}
		order, err := parseOrder(m.GetOrderId())
		if err != nil {
			return err
		}
		return act(ctx, order, with(done))
	})
}
