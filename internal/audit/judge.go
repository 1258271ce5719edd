package audit

import (
	"fmt"
	"slices"
	"time"
)

// verdict compares all that is said about one order.
type verdict struct {
	id    string
	said  map[What]bool // what the contexts that are read state between them
	order *Claim        // nil if Orders knows none of this id
	// unrecorded is since when an order of this id may be under way that is not recorded yet, or zero.
	unrecorded time.Time
	units      []Claim
	money      []book
	found      []Violation
}

// ours is the place of our books among the records of an order's money.
const ours = 0

// book is what one record says about an order's money.
type book struct {
	name   string
	claims []Claim
}

// ofOrders reports whether Orders says it.
func (c Claim) ofOrders() bool { return c.What <= OrderReturned }

// judge compares all that is said about one order, by contexts that between them state what is in said.
func judge(claims []Claim, said map[What]bool, unrecorded time.Time) []Violation {
	v := verdict{id: claims[0].Order, said: said, unrecorded: unrecorded, money: []book{{name: "our books"}, {name: "the provider's record"}}}
	for i, c := range claims {
		switch c.What {
		case OrderPending, OrderConfirmed, OrderOff, OrderFulfilled, OrderReturned:
			v.order = &claims[i]
		case UnitsHeld, UnitsTaken, UnitsBack:
			v.units = append(v.units, c)
		case MoneyHeld, MoneyTaken, MoneyBack:
			v.money[0].claims = append(v.money[0].claims, c)
		case ProviderHeld, ProviderTaken, ProviderBack:
			v.money[1].claims = append(v.money[1].claims, c)
		}
	}
	for _, r := range v.money {
		if len(r.claims) > 1 {
			v.broken(OrderIsChargedOnce, "%d charges in %s%s", len(r.claims), r.name, refs(r.claims))
		}
	}
	if !said[OrderConfirmed] {
		return v.found
	}
	switch {
	case v.order == nil || v.order.What == OrderOff:
		v.off()
	case v.order.What == OrderPending && v.order.Past:
		v.broken(PendingOrderIsDriven, "pending past its lease, or for more than an hour; a running serve drives it on within seconds, so start one, or look for the order in its log")
		v.repair(DriveOrder, "orders")
	case v.order.What == OrderPending:
		v.pending()
	case v.order.What == OrderConfirmed:
		v.shelf(ConfirmedOrderHasItsUnits, "confirmed, and no units are reserved for it or have left the shelf", UnitsHeld, UnitsTaken)
		v.paid(ConfirmedOrderIsPaid, "confirmed", "is held", MoneyHeld, MoneyTaken)
	case v.order.What == OrderFulfilled:
		v.fulfilled()
	case v.order.What == OrderReturned:
		v.returned()
	}
	v.answered()
	return v.found
}

func (v *verdict) broken(rule, format string, args ...any) {
	v.found = append(v.found, Violation{Rule: rule, Detail: "order " + v.id + ": " + fmt.Sprintf(format, args...)})
}

// repair says what puts right what was found last.
func (v *verdict) repair(do Do, context string) {
	v.found[len(v.found)-1].Repair = Repair{Do: do, Context: context, Of: v.id, Unknown: v.order == nil}
}

// unitsDue and moneyDue report that an answer is still on its way, and with it what it is about.
func (v *verdict) unitsDue() bool {
	return v.order != nil && !v.order.Since.IsZero() && !v.order.UnitsAnswer
}
func (v *verdict) moneyDue() bool {
	return v.order != nil && !v.order.Since.IsZero() && !v.order.MoneyAnswer
}

// pending notes an order that is on its way to its end.
func (v *verdict) pending() {
	if since := v.order.Since.UTC(); !since.IsZero() {
		v.broken(PendingOrderIsDriven, "pending since %s, and driven on", since.Format(seconds))
		v.found[len(v.found)-1].Since = since
	}
}

// off judges an order that is rejected, cancelled or not known: nothing may be held for it.
func (v *verdict) off() {
	state := "rejected or cancelled"
	if v.order == nil {
		state = "not an order that is known"
	}
	for _, u := range v.units {
		switch {
		case v.unitsDue():
		case u.What == UnitsHeld && v.order == nil && !v.unrecorded.IsZero():
			v.broken(ReservationHasLiveOrder, "has units reserved, and is recorded when it is decided, or they go back%s", refs([]Claim{u}))
			v.found[len(v.found)-1].Since = v.unrecorded
			v.repair(ReleaseUnits, "inventory")
		case u.What == UnitsHeld:
			v.broken(ReservationHasLiveOrder, "%s, and has units reserved%s; put them back with DELETE /v1/reservations/%s", state, refs([]Claim{u}), v.id)
			v.repair(ReleaseUnits, "inventory")
		case u.What == UnitsTaken && v.order != nil:
			v.broken(ReservationHasLiveOrder, "%s, and its units have left the shelf%s; count them", state, refs([]Claim{u}))
		}
	}
	v.kept(MoneyHasLiveOrder, state)
}

// kept finds money that is held or was taken and not given back.
func (v *verdict) kept(rule, state string) {
	if v.moneyDue() {
		return
	}
	for _, r := range v.money {
		for _, m := range r.claims {
			switch m.What {
			case MoneyHeld:
				v.broken(rule, "%s, and %s held in our books%s; give it back with POST /v1/payments/%s/void", state, amount(m), refs([]Claim{m}), v.id)
				if rule == MoneyHasLiveOrder {
					v.repair(VoidPayment, "payments")
				}
			case MoneyTaken:
				v.broken(rule, "%s, and %s captured in our books%s; give it back with POST /v1/payments/%s/refund", state, amount(m), refs([]Claim{m}), v.id)
			case ProviderHeld:
				v.broken(rule, "%s, and %s held in the provider's record%s", state, amount(m), refs([]Claim{m}))
				if rule == MoneyHasLiveOrder && v.holds() {
					v.repair(VoidPayment, "payments") // the provider is asked what our books say is held
				}
			case ProviderTaken:
				v.broken(rule, "%s, and %s captured in the provider's record%s", state, amount(m), refs([]Claim{m}))
			}
		}
	}
}

// holds reports whether our books hold money for the order.
func (v *verdict) holds() bool {
	return slices.ContainsFunc(v.money[0].claims, func(c Claim) bool { return c.What == MoneyHeld })
}

func (v *verdict) fulfilled() {
	if v.unitsDue() {
		v.shelf(ConfirmedOrderHasItsUnits, "fulfilled, and no units are reserved for it or have left the shelf", UnitsHeld, UnitsTaken)
	} else {
		v.shelf(FulfilledOrderIsShipped, "fulfilled, and its units have not left the shelf, though Inventory said so", UnitsTaken)
	}
	// A refund by hand, as a favour, does not undo that it was captured.
	if v.moneyDue() {
		v.paid(FulfilledOrderIsCaptured, "fulfilled", "is held or captured", MoneyHeld, MoneyTaken, MoneyBack)
	} else {
		v.paid(FulfilledOrderIsCaptured, "fulfilled", "is captured", MoneyTaken, MoneyBack)
	}
}

func (v *verdict) returned() {
	if v.unitsDue() {
		v.shelf(ReturnedOrderIsBack, "returned, and no units are reserved for it or have left the shelf", UnitsHeld, UnitsTaken, UnitsBack)
	} else {
		v.shelf(ReturnedOrderIsBack, "returned, and its units are not back on the shelf, though Inventory said so", UnitsBack)
	}
	v.kept(ReturnedOrderIsRefunded, "returned")
	refunded := 0
	for _, r := range v.money {
		for _, m := range r.claims {
			if m.What == MoneyBack || m.What == ProviderBack {
				refunded++
			}
		}
	}
	// Voided before it was captured, it is in neither record.
	if v.order.Amount == 0 || refunded > 0 && !v.moneyDue() {
		v.paid(ReturnedOrderIsRefunded, "returned", "was refunded", MoneyHeld, MoneyTaken, MoneyBack)
	}
}

// shelf breaks rule unless the order's units are in one of the states.
func (v *verdict) shelf(rule, detail string, states ...What) {
	if !v.said[UnitsHeld] || v.order.Archived && len(v.units) == 0 {
		return
	}
	for _, u := range v.units {
		for _, s := range states {
			if u.What == s {
				return
			}
		}
	}
	v.broken(rule, "%s", detail)
}

// provider is a state of money in our books, as the provider's record has it.
var provider = map[What]What{MoneyHeld: ProviderHeld, MoneyTaken: ProviderTaken, MoneyBack: ProviderBack}

// paid breaks rule unless the order's total is in one of the states, named as in our books, in each record. Too many charges
// are another rule's.
func (v *verdict) paid(rule, state, lacks string, states ...What) {
	if v.order.Amount == 0 {
		for _, r := range v.money {
			if len(r.claims) > 0 {
				v.broken(OrderIsChargedOnce, "%s with total 0, and %s in %s%s", state, amount(r.claims[0]), r.name, refs(r.claims))
				return
			}
		}
		return
	}
	if !v.said[MoneyHeld] {
		return
	}
	for i, r := range v.money {
		there := v.order.Archived && i == ours && len(r.claims) == 0
		for _, m := range r.claims {
			for _, s := range states {
				if m.What != s && m.What != provider[s] {
					continue
				}
				there = true
				if m.Amount != v.order.Amount || m.Currency != v.order.Currency {
					v.broken(rule, "%s for %s, and %s in %s%s", state, amount(*v.order), amount(m), r.name, refs([]Claim{m}))
				}
			}
		}
		if !there {
			v.broken(rule, "%s for %s, and nothing %s in %s", state, amount(*v.order), lacks, r.name)
		}
	}
}

// answered notes which answers are on their way, from contexts that are read.
func (v *verdict) answered() {
	if v.order != nil && v.order.What == OrderPending {
		return // it is driven, and not answered
	}
	for _, a := range []struct {
		from string
		due  bool
	}{{"Inventory", v.unitsDue() && v.said[UnitsHeld]}, {"Payments", v.moneyDue() && v.said[MoneyHeld]}} {
		if a.due {
			since := v.order.Since.UTC()
			state := map[What]string{OrderOff: "cancelled", OrderFulfilled: "fulfilled", OrderReturned: "returned"}[v.order.What]
			v.broken(OrderIsAnswered, "%s at %s, and %s has not answered yet", state, since.Format(seconds), a.from)
			v.found[len(v.found)-1].Since = since
		}
	}
}

// seconds is how details say a time in UTC.
const seconds = "2006-01-02T15:04:05Z"

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
