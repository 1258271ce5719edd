package audit

// The rules between contexts. The names are stable and say what is promised; docs/cli.md says what to do when one is broken.
const (
	// ReservationHasLiveOrder: units are held for orders that are pending or confirmed, and for no others; none have left the
	// shelf for an order that is off.
	ReservationHasLiveOrder = "reservation_has_live_order"
	// ConfirmedOrderHasItsUnits: an order that was confirmed and is not off has a reservation, live or committed.
	ConfirmedOrderHasItsUnits = "confirmed_order_has_its_units"
	// MoneyHasLiveOrder: money is held or kept, in our books or the provider's, for no order that is off.
	MoneyHasLiveOrder = "money_has_live_order"
	// ConfirmedOrderIsPaid: a confirmed order with a total has it authorized, in our books and the provider's.
	ConfirmedOrderIsPaid = "confirmed_order_is_paid"
	// OrderIsChargedOnce: no order has two charges in one record; one of total 0 has none.
	OrderIsChargedOnce = "order_is_charged_once"
	// PendingOrderIsDriven: no order is pending past its lease, and none for longer than Patience.
	PendingOrderIsDriven = "pending_order_is_driven"
	// FulfilledOrderIsShipped: the units of a fulfilled order have left the shelf, once Inventory has said so.
	FulfilledOrderIsShipped = "fulfilled_order_is_shipped"
	// FulfilledOrderIsCaptured: a fulfilled order with a total has it captured once, in our books and the provider's, once
	// Payments has answered; before, it has it authorized or captured.
	FulfilledOrderIsCaptured = "fulfilled_order_is_captured"
	// ReturnedOrderIsBack: the units of a returned order have left the shelf and come back, once Inventory has said so.
	ReturnedOrderIsBack = "returned_order_is_back"
	// ReturnedOrderIsRefunded: nothing is held or kept for a returned order, once Payments has answered; what was captured is
	// refunded whole.
	ReturnedOrderIsRefunded = "returned_order_is_refunded"
	// OrderIsAnswered: Inventory and Payments answer what Orders tells them about an order. It is on its way for an hour.
	OrderIsAnswered = "order_is_answered"
)

// Rules lists the rules between contexts.
func Rules() []string {
	return []string{
		ReservationHasLiveOrder, ConfirmedOrderHasItsUnits, MoneyHasLiveOrder, ConfirmedOrderIsPaid, OrderIsChargedOnce, PendingOrderIsDriven,
		FulfilledOrderIsShipped, FulfilledOrderIsCaptured, ReturnedOrderIsBack, ReturnedOrderIsRefunded, OrderIsAnswered,
	}
}
