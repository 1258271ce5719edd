package faults

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// sound is a run in which everything is right: an order of each kind, and its records.
func sound() ([]*Request, Records) {
	basket := &Basket{Lines: []Line{{"BOOK", 2, 500}, {"WRAP", 1, 0}}, Token: "pm_card_visa"}
	var history []*Request
	r := Records{
		Opening:      map[string]int{"BOOK": 20},
		Orders:       map[string]Order{},
		Items:        map[string]Item{"BOOK": {OnHand: 23, Reserved: 5, Moved: 23}},
		Reservations: map[string]Reservation{"h1": {State: "reserved", Lines: map[string]int{"BOOK": 3}, Hold: true}, "h2": {State: "released", Lines: map[string]int{"BOOK": 9}, Hold: true, Late: true}},
		Payments:     map[string]Payment{},
		Outbox:       map[string][]Fact{},
		Inbox:        map[string][]Received{"orders": nil, "inventory": nil, "payments": nil},
		Audit:        Audit{OK: true},
	}
	say := func(context, subject, what string) {
		n := len(r.Outbox[context]) + 1
		f := Fact{"/" + context, subject, context + "-" + string(rune('a'+n)), "orderkeep." + context + ".v1." + what, int64(n)}
		r.Outbox[context] = append(r.Outbox[context], f)
		for consumer := range r.Inbox {
			if slices.Contains(Hears(consumer), f.Type) {
				r.Inbox[consumer] = append(r.Inbox[consumer], Received{f, "done"})
			}
		}
	}
	at := time.Duration(0)
	ask := func(q Request) *Request {
		q.Began, q.Ended = at, at+time.Millisecond
		at += time.Second
		history = append(history, &q)
		return &q
	}
	for _, o := range []struct {
		id, state, units string
		verbs            []string
		money            Payment
		charge           string
		answers          []string
	}{
		{"o1", "confirmed", "reserved", nil, Payment{"authorized", 1000, 0, 0, 0}, "authorized", nil},
		{"o2", "cancelled", "released", []string{Cancel}, Payment{"voided", 1000, 0, 1000, 0}, "voided", []string{"StockReleased", "PaymentVoided"}},
		{"o3", "fulfilled", "committed", []string{Fulfil}, Payment{"captured", 1000, 1000, 0, 0}, "captured", []string{"StockCommitted", "PaymentCaptured"}},
		{"o4", "returned", "returned", []string{Fulfil, Return}, Payment{"refunded", 1000, 1000, 0, 1000}, "refunded", []string{"StockCommitted", "PaymentCaptured", "StockReturned", "PaymentRefunded"}},
		{"o5", "rejected", "released", nil, Payment{"declined", 0, 0, 0, 0}, "declined", nil},
	} {
		intent := "buyer-" + o.id
		q := Request{Verb: Place, Intent: intent, Key: "key-" + o.id, Wants: basket, Status: 201, Got: o.id, State: "confirmed"}
		if o.state == "rejected" {
			q.Status, q.Code, q.Got, q.State = 402, "payment_declined", "", ""
		}
		lost := q
		lost.Status, lost.Code, lost.Got, lost.State = 0, "", "", ""
		ask(lost)
		ask(q)
		ask(q)
		for _, verb := range o.verbs {
			ask(Request{Verb: verb, Order: o.id, Status: 200})
		}
		if q.Got != "" {
			ask(Request{Verb: Look, Order: o.id, Status: 200, State: o.state})
		}
		r.Orders[o.id] = Order{State: o.state, Customer: intent, Key: q.Key, Total: 1000, Lines: basket.Lines}
		r.Reservations[o.id] = Reservation{State: o.units, Lines: map[string]int{"BOOK": 2, "WRAP": 1}}
		r.Payments[o.id] = o.money
		r.Charges = append(r.Charges, Charge{o.id, o.charge, o.money.Authorized, o.money.Captured, o.money.Voided, o.money.Repaid})
		for _, what := range told[o.state] {
			say("orders", o.id, what)
		}
		for _, what := range o.answers {
			if strings.HasPrefix(what, "Stock") {
				say("inventory", o.id, what)
			} else {
				say("payments", o.id, what)
			}
		}
	}
	ask(Request{Verb: Place, Intent: "buyer-without-key", Wants: basket, Status: 503, Code: "inventory_unavailable"})
	ask(Request{Verb: Place, Intent: "buyer-waits", Key: "key-waits", Wants: basket, Status: 409, Code: "idempotency_key_in_flight"})
	ask(Request{Verb: Place, Intent: "buyer-waits", Key: "key-waits", Wants: basket, Status: 409, Code: "out_of_stock"})
	ask(Request{Verb: Adjust, Intent: "delivery", Key: "delivery", SKU: "BOOK", Delta: 5, Status: 200, Result: 23})
	ask(Request{Verb: Adjust, Intent: "delivery", Key: "delivery", SKU: "BOOK", Delta: 5, Status: 200, Result: 23})
	return history, r
}

func TestCheckerFindsNothingWhereNothingIsWrong(t *testing.T) {
	t.Parallel()
	if found := Check(sound()); len(found) > 0 {
		t.Errorf("%v", found)
	}
}

// find is the nth request with a verb, from 0.
func find(history []*Request, verb string, n int) *Request {
	for _, q := range history {
		if q.Verb == verb {
			if n == 0 {
				return q
			}
			n--
		}
	}
	return nil
}

// set changes an order, pay an order's payment.
func set(id string, change func(*Order)) func([]*Request, *Records) {
	return func(_ []*Request, r *Records) {
		o := r.Orders[id]
		change(&o)
		r.Orders[id] = o
	}
}

func pay(id string, p Payment) func([]*Request, *Records) {
	return func(_ []*Request, r *Records) { r.Payments[id] = p }
}

// mistakes are what a shop could do wrong, each with the promise that it breaks.
var mistakes = map[string]struct {
	promise string
	plant   func([]*Request, *Records)
}{
	"a unit is sold that was not there": {"no_unit_sold_twice", func(_ []*Request, r *Records) { r.Opening["BOOK"] = 1; r.Items["BOOK"] = Item{1, 5, 1} }},
	"a unit is gone":                    {"no_unit_sold_twice", func(_ []*Request, r *Records) { r.Items["BOOK"] = Item{22, 5, 22} }},
	"a unit stays reserved":             {"no_unit_sold_twice", func(_ []*Request, r *Records) { r.Items["BOOK"] = Item{23, 6, 23} }},
	"units of a hold are not reserved":  {"no_unit_sold_twice", func(_ []*Request, r *Records) { r.Items["BOOK"] = Item{23, 2, 23} }},
	"an expired hold keeps its units": {"comes_to_rest", func(_ []*Request, r *Records) {
		r.Reservations["h2"] = Reservation{State: "reserved", Hold: true, Late: true}
	}},
	"a movement is missing":                  {"no_unit_sold_twice", func(_ []*Request, r *Records) { r.Items["BOOK"] = Item{23, 5, 24} }},
	"an adjustment acts twice":               {"no_unit_sold_twice", func(_ []*Request, r *Records) { r.Items["BOOK"] = Item{28, 5, 28} }},
	"a SKU is forgotten":                     {"no_unit_sold_twice", func(_ []*Request, r *Records) { delete(r.Items, "BOOK") }},
	"an order is lost":                       {"created_is_kept", func(_ []*Request, r *Records) { delete(r.Orders, "o1") }},
	"an order is rejected after its 201":     {"created_is_kept", set("o1", func(o *Order) { o.State = "rejected" })},
	"an order is cancelled and nobody asked": {"created_is_kept", set("o1", func(o *Order) { o.State = "cancelled" })},
	"an order has other lines":               {"created_is_kept", set("o1", func(o *Order) { o.Lines = []Line{{"BOOK", 1, 1000}} })},
	"an order is somebody else's":            {"created_is_kept", set("o1", func(o *Order) { o.Customer = "another" })},
	"an accepted order is lost":              {"accepted_ends", func(h []*Request, _ *Records) { h[0].Status, h[0].Got = 202, "lost" }},
	"an accepted order does not end": {"accepted_ends", func(h []*Request, r *Records) {
		h[0].Status, h[0].Got = 202, "o9"
		r.Orders["o9"] = Order{State: "pending"}
	}},
	"a key has two orders":          {"one_key_one_outcome", func(h []*Request, _ *Records) { find(h, Place, 2).Got = "o2" }},
	"a key has two answers":         {"one_key_one_outcome", func(h []*Request, _ *Records) { find(h, Place, 2).Status = 402 }},
	"an adjustment has two answers": {"one_key_one_outcome", func(h []*Request, _ *Records) { find(h, Adjust, 1).Result = 28 }},
	"one wish makes two orders":     {"one_key_one_outcome", func(_ []*Request, r *Records) { r.Orders["o9"] = r.Orders["o1"] }},
	"a refused order is there":      {"refused_holds_nothing", set("o5", func(o *Order) { o.State = "confirmed" })},
	"an order that was not taken is there": {"refused_holds_nothing", func(_ []*Request, r *Records) {
		r.Orders["o9"] = Order{State: "confirmed", Customer: "buyer-without-key"}
	}},
	"a key with other contents makes an order": {"refused_holds_nothing", func(h []*Request, _ *Records) {
		h[0].Intent, h[0].Status = "buyer-o2", 422
		find(h, Place, 4).Status, find(h, Place, 5).Status = 0, 0
	}},
	"a rejected order keeps units":        {"refused_holds_nothing", func(_ []*Request, r *Records) { r.Reservations["o5"] = Reservation{State: "reserved"} }},
	"a rejected order keeps money":        {"refused_holds_nothing", pay("o5", Payment{"authorized", 1000, 0, 0, 0})},
	"a cancellation is forgotten":         {"done_is_done", set("o2", func(o *Order) { o.State = "confirmed" })},
	"a fulfilment is forgotten":           {"done_is_done", set("o3", func(o *Order) { o.State = "confirmed" })},
	"a return is forgotten":               {"done_is_done", set("o4", func(o *Order) { o.State = "fulfilled" })},
	"a look does not find the order":      {"reads_see_it", func(h []*Request, _ *Records) { find(h, Look, 0).Status = 404 }},
	"a look sees the order pending again": {"reads_see_it", func(h []*Request, _ *Records) { find(h, Look, 0).State = "pending" }},
	"units are not released": {"units_follow_orders", func(_ []*Request, r *Records) {
		r.Reservations["o2"] = Reservation{State: "reserved", Lines: r.Reservations["o2"].Lines}
	}},
	"a confirmed order has no units":          {"units_follow_orders", func(_ []*Request, r *Records) { delete(r.Reservations, "o1") }},
	"a reservation has too few units":         {"units_follow_orders", func(_ []*Request, r *Records) { r.Reservations["o1"].Lines["BOOK"] = 1 }},
	"units are reserved for nobody":           {"units_follow_orders", func(_ []*Request, r *Records) { r.Reservations["o9"] = Reservation{State: "reserved"} }},
	"a cancelled order is charged":            {"money_follows_orders", pay("o2", Payment{"captured", 1000, 1000, 0, 0})},
	"a confirmed order is not paid":           {"money_follows_orders", pay("o1", Payment{})},
	"a fulfilled order is not captured":       {"money_follows_orders", pay("o3", Payment{"authorized", 1000, 0, 0, 0})},
	"a return is not refunded":                {"money_follows_orders", pay("o4", Payment{"captured", 1000, 1000, 0, 0})},
	"money is kept for nobody":                {"money_follows_orders", pay("o9", Payment{"authorized", 1000, 0, 0, 0})},
	"the provider charges twice":              {"provider_agrees", func(_ []*Request, r *Records) { r.Charges = append(r.Charges, r.Charges[0]) }},
	"the provider has not voided":             {"provider_agrees", func(_ []*Request, r *Records) { r.Charges[1] = Charge{"o2", "authorized", 1000, 0, 0, 0} }},
	"the provider charges for nobody":         {"provider_agrees", func(_ []*Request, r *Records) { r.Charges = append(r.Charges, Charge{"o9", "authorized", 5, 0, 0, 0}) }},
	"the provider knows nothing of a payment": {"provider_agrees", func(_ []*Request, r *Records) { r.Charges = r.Charges[1:] }},
	"an event is missing":                     {"events_are_true", func(_ []*Request, r *Records) { r.Outbox["orders"] = r.Outbox["orders"][1:] }},
	"an event is said twice": {"events_are_true", func(_ []*Request, r *Records) {
		r.Outbox["orders"] = append(r.Outbox["orders"], Fact{"/orders", "o1", "x", "orderkeep.orders.v1.OrderConfirmed", 99})
	}},
	"an event tells of no order": {"events_are_true", func(_ []*Request, r *Records) {
		r.Outbox["orders"] = append(r.Outbox["orders"], Fact{"/orders", "o9", "x", "orderkeep.orders.v1.OrderConfirmed", 99})
	}},
	"an event is not published": {"events_arrive", func(_ []*Request, r *Records) { r.Outbox["payments"][0].Position = 0 }},
	"events are published out of order": {"events_arrive", func(_ []*Request, r *Records) {
		out := r.Outbox["orders"]
		out[1].Position, out[2].Position = out[2].Position, out[1].Position
	}},
	"two events have one place in the feed": {"events_arrive", func(_ []*Request, r *Records) { r.Outbox["orders"][0].Position = r.Outbox["orders"][1].Position }},
	"two events have one id":                {"events_arrive", func(_ []*Request, r *Records) { r.Outbox["orders"][1].ID = r.Outbox["orders"][0].ID }},
	"an event is not consumed":              {"events_arrive", func(_ []*Request, r *Records) { r.Inbox["inventory"] = r.Inbox["inventory"][1:] }},
	"an event is parked":                    {"events_arrive", func(_ []*Request, r *Records) { r.Inbox["inventory"][0].State = "parked" }},
	"events of an order are consumed in disorder": {"events_arrive", func(_ []*Request, r *Records) {
		in := r.Inbox["inventory"]
		in[len(in)-1], in[len(in)-2] = in[len(in)-2], in[len(in)-1]
	}},
	"an event is consumed that nobody has said": {"events_arrive", func(_ []*Request, r *Records) {
		r.Inbox["payments"] = append(r.Inbox["payments"], Received{Fact{"/orders", "o9", "x", "orderkeep.orders.v1.OrderCancelled", 0}, "done"})
	}},
	"an order is left pending":         {"comes_to_rest", func(_ []*Request, r *Records) { r.Orders["o9"] = Order{State: "pending"} }},
	"a void is left half done":         {"comes_to_rest", pay("o2", Payment{"voiding", 1000, 0, 0, 0})},
	"a key never gets its answer":      {"comes_to_rest", func(_ []*Request, r *Records) { r.Restless = []string{"the key"} }},
	"verify finds something":           {"verify_is_clean", func(_ []*Request, r *Records) { r.Audit = Audit{Violations: []AuditLine{{Rule: "r"}}} }},
	"verify fails":                     {"verify_is_clean", func(_ []*Request, r *Records) { r.Audit = Audit{} }},
	"something is on its way for ever": {"verify_is_clean", func(_ []*Request, r *Records) { r.Audit.OnItsWay = []AuditLine{{Rule: "r", Count: 1}} }},
	"a process dies by itself":         {"nobody_dies", func(_ []*Request, r *Records) { r.Deaths = []string{"orders"} }},
}

func TestCheckerFindsWhatIsPlanted(t *testing.T) {
	t.Parallel()
	for name, c := range mistakes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			history, records := sound()
			c.plant(history, &records)
			found := Check(history, records)
			if !slices.ContainsFunc(found, func(v Violation) bool { return v.Promise == c.promise }) {
				t.Errorf("%s is not found to be broken; found is %v", c.promise, found)
			}
		})
	}
}
