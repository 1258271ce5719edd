package audit

import "fmt"

// The rules between contexts. The names are stable and say what is promised; docs/cli.md says what to do when one is broken.
const (
	// ReservationHasLiveOrder: units are held for orders that are pending or confirmed, and for no others.
	ReservationHasLiveOrder = "reservation_has_live_order"
	// ConfirmedOrderHasItsUnits: a confirmed order has a reservation, live or committed.
	ConfirmedOrderHasItsUnits = "confirmed_order_has_its_units"
	// MoneyHasLiveOrder: money is held, in our books or the provider's, for orders that are pending or confirmed only.
	MoneyHasLiveOrder = "money_has_live_order"
	// ConfirmedOrderIsPaid: a confirmed order with a total has it authorized, in our books and the provider's.
	ConfirmedOrderIsPaid = "confirmed_order_is_paid"
	// OrderIsChargedOnce: no order has two authorizations in one record; one of total 0 has none.
	OrderIsChargedOnce = "order_is_charged_once"
	// PendingOrderIsDriven: no order is pending past its lease.
	PendingOrderIsDriven = "pending_order_is_driven"
)

// Rules lists the rules between contexts.
func Rules() []string {
	return []string{ReservationHasLiveOrder, ConfirmedOrderHasItsUnits, MoneyHasLiveOrder, ConfirmedOrderIsPaid, OrderIsChargedOnce, PendingOrderIsDriven}
}

// judge compares all that is said about one order, by contexts that between them state what is in said.
func judge(claims []Claim, said map[What]bool) []Violation {
	id := claims[0].Order
	var order *Claim
	var units, books, provider []Claim
	taken := false
	for i, c := range claims {
		switch c.What {
		case OrderPending, OrderConfirmed, OrderOff:
			order = &claims[i]
		case UnitsHeld:
			units = append(units, c)
		case UnitsTaken:
			taken = true
		case MoneyHeld:
			books = append(books, c)
		case ProviderHeld:
			provider = append(provider, c)
		}
	}

	var found []Violation
	broken := func(rule, format string, args ...any) {
		found = append(found, Violation{Rule: rule, Detail: "order " + id + ": " + fmt.Sprintf(format, args...)})
	}
	for _, record := range []struct {
		name  string
		money []Claim
	}{{"our books", books}, {"the provider's record", provider}} {
		if len(record.money) > 1 {
			broken(OrderIsChargedOnce, "%d authorizations in %s%s", len(record.money), record.name, refs(record.money))
		}
	}

	if order != nil && order.What == OrderConfirmed && said[UnitsHeld] && len(units) == 0 && !taken {
		broken(ConfirmedOrderHasItsUnits, "confirmed, and no units are reserved for it or have left the shelf")
	}
	switch {
	case !said[OrderConfirmed]:
	case order == nil || order.What == OrderOff:
		state := "rejected or cancelled"
		if order == nil {
			state = "not an order that is known"
		}
		if len(units) > 0 {
			broken(ReservationHasLiveOrder, "%s, and has units reserved%s; put them back with DELETE /v1/reservations/%s", state, refs(units), id)
		}
		for _, m := range books {
			broken(MoneyHasLiveOrder, "%s, and %s held in our books%s; give it back with POST /v1/payments/%s/void", state, amount(m), refs([]Claim{m}), id)
		}
		for _, m := range provider {
			broken(MoneyHasLiveOrder, "%s, and %s held in the provider's record%s", state, amount(m), refs([]Claim{m}))
		}
	case order.What == OrderPending && order.Past:
		broken(PendingOrderIsDriven, "pending past its lease; a running serve drives it on within seconds, so start one, or look for the order in its log")
	case order.What == OrderConfirmed && order.Amount == 0:
		if held := append(books, provider...); len(held) > 0 {
			broken(OrderIsChargedOnce, "confirmed with total 0, and %s held%s", amount(held[0]), refs(held))
		}
	case order.What == OrderConfirmed && said[MoneyHeld]:
		paid(broken, *order, "our books", books)
		paid(broken, *order, "the provider's record", provider)
	}
	return found
}

// paid proves that a confirmed order's total is what a record holds for it. Too many are another rule's.
func paid(broken func(rule, format string, args ...any), order Claim, record string, money []Claim) {
	if len(money) == 0 {
		broken(ConfirmedOrderIsPaid, "confirmed for %s, and nothing is held in %s", amount(order), record)
	}
	for _, m := range money {
		if m.Amount != order.Amount || m.Currency != order.Currency {
			broken(ConfirmedOrderIsPaid, "confirmed for %s, and %s held in %s%s", amount(order), amount(m), record, refs([]Claim{m}))
		}
	}
}

func amount(c Claim) string { return fmt.Sprintf("%d %s", c.Amount, c.Currency) }

// refs names the ids to find claims by, each once.
func refs(claims []Claim) string {
	s := ""
	seen := map[string]bool{}
	for _, c := range claims {
		if c.Ref == "" || seen[c.Ref] {
			continue
		}
		seen[c.Ref] = true
		if s != "" {
			s += ", "
		}
		s += c.Ref
	}
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}
