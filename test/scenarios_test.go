package test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
)

// scenario is something that a shop may expect, on any topology that has what it needs.
type scenario struct {
	name  string
	needs feature
	units int // of each SKU, at first
	play  func(t *testing.T, s *shop)
}

// scenarios is the table. After each one verify has to prove the promises, and the log must tell of no error.
var scenarios = []scenario{
	{"an order takes its units and its money", 0, 5, takesUnitsAndMoney},
	{"the smallest client needs only the first contract", 0, 5, firstContract},
	{"lines of one SKU are summed", 0, 5, sumsLines},
	{"an order that is short of one line takes nothing", ownInventory, 5, takesAllOrNothing},
	{"an unknown SKU is refused by name", ownInventory, 5, refusesUnknownSKU},
	{"a declined card gives the units back", 0, 5, givesBackWhenDeclined},
	{"an order of total 0 needs no payment", 0, 5, freeOrder},
	{"cancelling gives units and money back", ownInventory, 5, cancels},
	{"cancelling gives the money back whoever keeps the stock", 0, 5, cancelsMoney},
	{"fulfilling takes units and money for good, and a return brings them back", ownInventory, 5, fulfilsAndReturns},
	{"what a crowd says of one order at once comes to one end", ownInventory | crowds, 50, fulfilsInACrowd},

	{"a key acts once however often it is sent at once", crowds, 50, actsOnce},
	{"of 200 buyers of 50 units exactly 50 get one, ten times", crowds, 50, sellsOut},

	{"money held with the answer lost ends confirmed", 0, 5, endsConfirmed("pm_simulated_timeout_charged")},
	{"money not held with the call lost ends confirmed, held once", 0, 5, endsConfirmed("pm_simulated_timeout_not_charged")},
	{"a provider that is down is waited for", 0, 5, endsConfirmed("pm_simulated_down_1s")},
	{"a decline with the answer lost ends rejected", 0, 5, endsRejected},
	{"a pending order can be cancelled", ownInventory, 5, cancelsPending},

	{"without Inventory no order is taken and the key stays free", inventoryWire, 5, inventoryAway},
	{"without Payments orders wait and then end", paymentsWire, 5, paymentsAway},

	{"killing Inventory leaves Orders and Payments at work, and loses nothing", ownProcesses, 5, inventoryKilled},
	{"killing Payments leaves Orders and Inventory at work, and loses nothing", ownProcesses, 5, paymentsKilled},
	{"killing Orders leaves Inventory and Payments at work, and loses nothing", ownProcesses, 5, ordersKilled},

	{"the feed tells every order in its order", crowds, 200, feedIsWhole},
	{"one correlation id goes through all contexts", ownInventory, 5, correlates},
	{"a card number is refused and leaves no trace", 0, 5, refusesCardNumbers},

	{"a replica stands in for one that is ended", replicas | inventoryWire | paymentsWire | crowds, manyUnits, standIn},
	{"replicas count a client's requests together", sharedLimits, 5, countsInRedis},

	{"SIGTERM lets the requests under way end", crowds, 50, drains},
}

func takesUnitsAndMoney(t *testing.T, s *shop) {
	a := s.place(t, "", paid(visa, line{book, 2, 1250}, line{record, 1, 999}, line{wrapping, 1, 100}))
	want(t, a, http.StatusCreated, "")
	if a.Status != "confirmed" || a.TotalMinor != 3599 || a.header.Get("Location") != "/v1/orders/"+a.OrderID {
		t.Errorf("placed: %v, at %s", a, a.header.Get("Location"))
	}
	if o := s.get(t, "/v1/orders/"+a.OrderID); o.Status != "confirmed" || o.TotalMinor != 3599 || len(o.Items) != 3 {
		t.Errorf("looked up: %v", o)
	}
	s.hasAvailable(t, book, 3)
	s.hasAvailable(t, record, 4)
	if p := s.get(t, "/v1/payments/"+a.OrderID); p.Status != "authorized" || p.AuthorizedMinor != 3599 {
		t.Errorf("paid: %v", p)
	}
}

func firstContract(t *testing.T, s *shop) {
	smallest := order{Items: []line{{SKU: book, Qty: 5}}}
	a := s.do(t, http.MethodPost, "/orders", smallest)
	want(t, a, http.StatusCreated, "")
	if o := s.get(t, "/v1/orders/"+a.OrderID); o.Status != "confirmed" {
		t.Errorf("looked up: %v", o)
	}
	want(t, s.do(t, http.MethodPost, "/orders", smallest), http.StatusConflict, "out_of_stock")
	want(t, s.get(t, "/anything/else"), http.StatusNotFound, "not_found")
	if h := s.get(t, "/health"); h.status != http.StatusOK || h.text != `{"status":"ok"}` {
		t.Errorf("health: %v", h)
	}
}

func sumsLines(t *testing.T, s *shop) {
	a := s.place(t, "", paid(visa, line{book, 3, 100}, line{book, 3, 100}))
	want(t, a, http.StatusConflict, "out_of_stock")
	if len(a.Items) != 1 || a.Items[0].SKU != book || a.Items[0].Requested != 6 {
		t.Errorf("short of: %v", a)
	}
	s.hasAvailable(t, book, 5)
	b := s.place(t, "", paid(visa, line{book, 3, 100}, line{book, 2, 100}))
	want(t, b, http.StatusCreated, "")
	if len(b.Items) != 2 || b.TotalMinor != 500 {
		t.Errorf("the lines are not kept as lines: %v", b)
	}
	s.hasAvailable(t, book, 0)
}

func takesAllOrNothing(t *testing.T, s *shop) {
	a := s.place(t, "", paid(visa, line{record, 5, 100}, line{book, 6, 100}, line{wrapping, 1000, 1}))
	want(t, a, http.StatusConflict, "out_of_stock")
	if len(a.Items) != 1 || a.Items[0].SKU != book || a.Items[0].Requested != 6 || a.Items[0].Available != 5 {
		t.Errorf("short of: %v", a)
	}
	s.hasAvailable(t, book, 5)
	s.hasAvailable(t, record, 5)
	want(t, s.get(t, "/v1/payments/"+a.OrderID), http.StatusNotFound, "payment_not_found")
	// Refused once, a SKU is asked for before anything is written; what is there again must be sold again.
	want(t, s.place(t, "", paid(visa, line{book, 6, 100})), http.StatusConflict, "out_of_stock")
	want(t, s.place(t, "", paid(visa, line{book, 5, 100})), http.StatusCreated, "")
}

func refusesUnknownSKU(t *testing.T, s *shop) {
	a := s.place(t, "", paid(visa, one, line{"book-001", 1, 100}))
	want(t, a, http.StatusConflict, "unknown_sku")
	if len(a.Items) != 1 || a.Items[0].SKU != "book-001" {
		t.Errorf("unknown: %v", a)
	}
	s.hasAvailable(t, book, 5)
}

func givesBackWhenDeclined(t *testing.T, s *shop) {
	for _, token := range []string{"pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds", "pm_nobody_issued_this"} {
		a := s.place(t, token, paid(token, line{book, 5, 1250}))
		want(t, a, http.StatusPaymentRequired, "payment_declined")
		again := s.place(t, token, paid(token, line{book, 5, 1250}))
		want(t, again, http.StatusPaymentRequired, "payment_declined")
		if !again.replayed() || again.OrderID != a.OrderID {
			t.Errorf("a repeat gives %v, want the first answer, %v", again, a)
		}
		if o := s.get(t, "/v1/orders/"+a.OrderID); o.Status != "rejected" || o.Reason != "payment_declined" {
			t.Errorf("looked up: %v", o)
		}
		if p := s.get(t, "/v1/payments/"+a.OrderID); p.Status != "declined" || p.AuthorizedMinor != 0 {
			t.Errorf("the payment of a declined card: %v", p)
		}
		if s.of["inventory"] == nil {
			return // the units stay where a contract without release keeps them
		}
		s.hasAvailable(t, book, 5)
	}
}

func freeOrder(t *testing.T, s *shop) {
	a := s.place(t, "", order{Items: []line{{SKU: book, Qty: 1}}, Customer: "ada"})
	want(t, a, http.StatusCreated, "")
	if a.TotalMinor != 0 {
		t.Errorf("placed: %v", a)
	}
	want(t, s.get(t, "/v1/payments/"+a.OrderID), http.StatusNotFound, "payment_not_found")
	want(t, s.place(t, "", order{Items: []line{one}, Currency: "GBP"}), http.StatusBadRequest, "payment_required")
}

func cancels(t *testing.T, s *shop) {
	placed := s.place(t, "k", paid(visa, line{book, 2, 1250}))
	want(t, placed, http.StatusCreated, "")
	for range 2 { // repeating it does nothing more
		c := s.do(t, http.MethodPost, "/v1/orders/"+placed.OrderID+"/cancel", map[string]string{"reason": "changed my mind"})
		if c.status != http.StatusOK || c.Status != "cancelled" || c.Reason != "changed my mind" {
			t.Fatalf("cancelled: %v", c)
		}
	}
	stage.Eventually(t, "units and money are back", func() bool { return s.get(t, "/v1/orders/"+placed.OrderID).Undo == "done" })
	s.hasAvailable(t, book, 5)
	if p := s.get(t, "/v1/payments/"+placed.OrderID); p.Status != "voided" || p.VoidedMinor != 2500 || p.CapturedMinor != 0 {
		t.Errorf("the payment of a cancelled order: %v", p)
	}
	again := s.place(t, "k", paid(visa, line{book, 2, 1250}))
	want(t, again, http.StatusCreated, "")
	if !again.replayed() || again.text != placed.text {
		t.Errorf("the key of a cancelled order gives %v, want the first answer, %v", again, placed)
	}
	s.hasAvailable(t, book, 5)

	declined := s.place(t, "", paid("pm_card_chargeDeclined", one))
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+declined.OrderID+"/cancel", nil), http.StatusConflict, "not_cancellable")
	free := s.place(t, "", order{Items: []line{{SKU: book, Qty: 5}}})
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+free.OrderID+"/cancel", nil), http.StatusOK, "")
	stage.Eventually(t, "units are back", func() bool { return s.get(t, "/v1/orders/"+free.OrderID).Undo == "done" })
	s.hasAvailable(t, book, 5)
}

// cancelsMoney is what is left of cancels where Inventory has no release: the order waits for nothing that will not come, and
// its timeline says what stays reserved.
func cancelsMoney(t *testing.T, s *shop) {
	a := s.place(t, "", paid(visa, line{book, 2, 1250}))
	want(t, a, http.StatusCreated, "")
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/cancel", nil), http.StatusOK, "")
	if o := s.get(t, "/v1/orders/"+a.OrderID); o.Status != "cancelled" {
		t.Errorf("looked up: %v", o)
	}
	stage.Eventually(t, "no money is held", func() bool {
		p := s.get(t, "/v1/payments/"+a.OrderID)
		return p.Status == "voided" && p.VoidedMinor == 2500
	})
	stage.Eventually(t, "the order is done", func() bool { return s.get(t, "/v1/orders/"+a.OrderID).Undo == "done" })
	timeline := s.get(t, "/v1/orders/"+a.OrderID+"/timeline").text
	if kept := strings.Contains(timeline, `"units_kept"`); kept != (s.of["inventory"] == nil) {
		t.Errorf("the timeline says %s", timeline)
	}
	gone := s.place(t, "", order{Items: []line{{SKU: book, Qty: 1}}})
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+gone.OrderID+"/fulfil", nil), http.StatusOK, "")
	stage.Eventually(t, "it is settled", func() bool { return s.get(t, "/v1/orders/"+gone.OrderID).Settlement == "done" })
}

func fulfilsAndReturns(t *testing.T, s *shop) {
	a := s.place(t, "", paid(visa, line{book, 2, 1250}, line{wrapping, 1, 100}))
	want(t, a, http.StatusCreated, "")
	step := func(verb, status string) {
		t.Helper()
		for range 2 { // repeating it does nothing more
			o := s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/"+verb, nil)
			if o.status != http.StatusOK || string(o.Status) != status {
				t.Fatalf("%s: %v", verb, o)
			}
		}
		stage.Eventually(t, "Inventory and Payments have acted", func() bool {
			o := s.get(t, "/v1/orders/"+a.OrderID)
			return o.Undo != "pending" && o.Settlement != "pending"
		})
	}
	holds := func(onHand, reserved, authorized, captured, refunded int) {
		t.Helper()
		if i := s.get(t, "/v1/stock/"+book); i.OnHand != onHand || i.Reserved != reserved {
			t.Errorf("%v, want %d on hand and %d reserved", i, onHand, reserved)
		}
		if p := s.get(t, "/v1/payments/"+a.OrderID); p.AuthorizedMinor != authorized || p.CapturedMinor != captured || p.RefundedMinor != refunded {
			t.Errorf("%v, want %d authorized, %d captured, %d refunded", p, authorized, captured, refunded)
		}
	}
	holds(5, 2, 2600, 0, 0)
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/return", nil), http.StatusConflict, "not_returnable")
	step("fulfil", "fulfilled")
	holds(3, 0, 2600, 2600, 0)
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/cancel", nil), http.StatusConflict, "not_cancellable")
	step("return", "returned")
	holds(5, 0, 2600, 2600, 2600)
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/fulfil", nil), http.StatusConflict, "not_fulfillable")
}
