package test

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
)

// accepted fails the test unless the order was taken: confirmed at once, or pending.
func accepted(t testing.TB, a answer) {
	t.Helper()
	if a.status != http.StatusAccepted && a.status != http.StatusCreated {
		t.Fatalf("got %v, want 202, or 201 where it was asked twice", a)
	}
}

// endsConfirmed plays an order whose payment is not certain at first, and is in the end.
func endsConfirmed(token string) func(*testing.T, *shop) {
	return func(t *testing.T, s *shop) {
		o := paid(token, line{book, 3, 1250}) // not to be had twice
		a := s.place(t, "k", o)
		accepted(t, a)
		s.hasAvailable(t, book, 2)
		if end := s.ends(t, a.OrderID); end.Status != "confirmed" {
			t.Errorf("it ends as %v", end)
		}
		again := s.place(t, "k", o)
		want(t, again, http.StatusCreated, "")
		if again.OrderID != a.OrderID || !again.replayed() {
			t.Errorf("the key gives %v, want the order %s", again, a.OrderID)
		}
		if p := s.get(t, "/v1/payments/"+a.OrderID); p.Status != "authorized" || p.AuthorizedMinor != 3750 {
			t.Errorf("paid: %v", p)
		}
		s.hasAvailable(t, book, 2)
	}
}

func endsRejected(t *testing.T, s *shop) {
	o := paid("pm_simulated_timeout_declined", line{book, 2, 1250})
	a := s.place(t, "k", o)
	if a.status != http.StatusPaymentRequired { // where every command is sent twice, the second one finds it out
		want(t, a, http.StatusAccepted, "")
	}
	if end := s.ends(t, a.OrderID); end.Status != "rejected" || end.Reason != "payment_declined" {
		t.Errorf("it ends as %v", end)
	}
	again := s.place(t, "k", o)
	want(t, again, http.StatusPaymentRequired, "payment_declined")
	if again.OrderID != a.OrderID || !again.replayed() {
		t.Errorf("the key gives %v, want the order %s", again, a.OrderID)
	}
	s.hasAvailable(t, book, 5)
}

func cancelsPending(t *testing.T, s *shop) {
	for _, token := range []string{"pm_simulated_down", "pm_simulated_timeout_charged", "pm_simulated_timeout_not_charged"} {
		a := s.place(t, "", paid(token, line{book, 5, 1250}))
		accepted(t, a)
		s.hasAvailable(t, book, 0)
		want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/cancel", nil), http.StatusOK, "")
		// Recovery may have been faster, and then it is a confirmed order that was cancelled.
		if end := s.ends(t, a.OrderID); end.Status != "cancelled" && (end.Status != "rejected" || end.Reason != "cancelled") {
			t.Errorf("with %s it ends as %v", token, end)
		}
		stage.Eventually(t, "the units are back", func() bool { return s.get(t, "/v1/stock/"+book).Available == 5 })
		stage.Eventually(t, "no money is held", func() bool {
			p := s.get(t, "/v1/payments/"+a.OrderID)
			return p.Status == "voided" && p.AuthorizedMinor == p.VoidedMinor
		})
	}
}

func inventoryAway(t *testing.T, s *shop) {
	o := paid(visa, line{book, 2, 1250})
	want(t, s.place(t, "before", o), http.StatusCreated, "")
	s.inventoryWire.Sever()
	for range 3 {
		a := s.place(t, "k", o)
		want(t, a, http.StatusServiceUnavailable, "inventory_unavailable")
		if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 {
			t.Errorf("Retry-After: %q, want seconds", a.header.Get("Retry-After"))
		}
	}
	want(t, s.place(t, "before", o), http.StatusCreated, "") // stored answers need nobody
	s.inventoryWire.Mend()
	var a answer
	stage.Eventually(t, "an order is taken under the key that was refused", func() bool {
		a = s.place(t, "k", o)
		return a.status != http.StatusServiceUnavailable
	})
	want(t, a, http.StatusCreated, "")
	if a.replayed() {
		t.Error("the key was not free")
	}
	s.hasAvailable(t, book, 1)
	for _, listed := range s.orders(t, "status=rejected") {
		if listed.Reason != "inventory_unavailable" {
			t.Errorf("an order that was not taken: %+v", listed)
		}
	}
	if n := len(s.orders(t, "status=confirmed")); n != 2 {
		t.Errorf("%d orders are confirmed, want 2", n)
	}
}

func paymentsAway(t *testing.T, s *shop) {
	s.paymentsWire.Sever()
	a := s.place(t, "k", paid(visa, line{book, 2, 1250}))
	want(t, a, http.StatusAccepted, "")
	free := s.place(t, "", order{Items: []line{{SKU: book, Qty: 1}}}) // nobody else is kept waiting
	want(t, free, http.StatusCreated, "")
	s.hasAvailable(t, book, 2)
	s.paymentsWire.Mend()
	if end := s.ends(t, a.OrderID); end.Status != "confirmed" {
		t.Errorf("it ends as %v", end)
	}
	if p := s.get(t, "/v1/payments/"+a.OrderID); p.Status != "authorized" || p.AuthorizedMinor != 2500 {
		t.Errorf("paid: %v", p)
	}
}
