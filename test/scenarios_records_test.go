package test

import (
	"encoding/json"
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// listed is an order in a list.
type listed struct {
	OrderID, Status, Reason, Customer string
	TotalMinor                        int
	Items                             []line
}

// orders lists all orders that a query gives, newest first.
func (s *shop) orders(t testing.TB, query string) []listed {
	t.Helper()
	return s.newest(t, math.MaxInt, query)
}

// newest lists the newest orders that a query gives: n of them, or some more, or all.
func (s *shop) newest(t testing.TB, n int, query string) []listed {
	t.Helper()
	var all []listed
	for cursor := ""; ; {
		a := s.get(t, "/v1/orders?limit=1000&"+query+cursor)
		var page struct {
			Orders     []listed
			NextCursor string
		}
		if err := json.Unmarshal([]byte(a.text), &page); err != nil || a.status != http.StatusOK {
			t.Fatalf("list of orders: %v, %v", a, err)
		}
		all = append(all, page.Orders...)
		if page.NextCursor == "" || len(all) >= n {
			return all
		}
		cursor = "&cursor=" + page.NextCursor
	}
}

// What the feed tells of an order.
const (
	toldConfirmed = "orderkeep.orders.v1.OrderConfirmed"
	toldRejected  = "orderkeep.orders.v1.OrderRejected"
	toldCancelled = "orderkeep.orders.v1.OrderCancelled"
)

// feedIsWhole plays a busy hour and holds the feed against the orders.
func feedIsWhole(t *testing.T, s *shop) {
	tokens := []string{visa, visa, "pm_card_chargeDeclined", visa, "pm_simulated_timeout_charged", visa}
	want := map[string][]string{}
	placed := atOnce(t, 60, func(i int) (answer, error) {
		return s.try(http.MethodPost, "/v1/orders", paid(tokens[i%len(tokens)], one), "Idempotency-Key", fmt.Sprint(i))
	})
	atOnce(t, len(placed)/10, func(i int) (answer, error) {
		return s.try(http.MethodPost, "/v1/orders/"+placed[10*i].OrderID+"/cancel", nil)
	})
	for _, a := range placed {
		switch end := s.ends(t, a.OrderID); end.Status {
		case "confirmed":
			want[a.OrderID] = []string{toldConfirmed}
		case "rejected":
			want[a.OrderID] = []string{toldRejected}
		case "cancelled":
			want[a.OrderID] = []string{toldConfirmed, toldCancelled}
		}
	}
	n := 0
	for _, told := range want {
		n += len(told)
	}
	var events []event
	stage.Eventually(t, "every event is in the feed", func() bool {
		events = s.feed(t, "/v1/events")
		return len(events) >= n
	})
	got, seen := map[string][]string{}, map[string]bool{}
	for i, e := range events {
		got[e.Subject] = append(got[e.Subject], e.Type)
		if seen[e.ID] || e.ID == "" || e.Time.IsZero() || i > 0 && e.Cursor == events[i-1].Cursor {
			t.Errorf("event %d: %+v", i, e)
		}
		seen[e.ID] = true
	}
	if len(got) != len(want) {
		t.Errorf("the feed tells of %d orders, want %d", len(got), len(want))
	}
	for id, told := range want {
		if !slices.Equal(got[id], told) {
			t.Errorf("of order %s the feed tells %v, want %v", id, got[id], told)
		}
	}
}

func correlates(t *testing.T, s *shop) {
	const id = "till-7/2026-03-02"
	a := s.do(t, http.MethodPost, "/v1/orders", paid(visa, one), "X-Correlation-ID", id)
	want(t, a, http.StatusCreated, "")
	c := s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/cancel", nil, "X-Correlation-ID", id)
	want(t, c, http.StatusOK, "")
	if got := a.header.Get("X-Correlation-ID"); got != id || a.CorrelationID != id {
		t.Errorf("the answer has the correlation id %q, the order %q, want %q", got, a.CorrelationID, id)
	}
	// What was authorized knows it from the call, what was released and voided from the event.
	for feed, types := range map[string][]string{
		"/v1/events":           {toldConfirmed, toldCancelled},
		"/v1/events/inventory": {"orderkeep.inventory.v1.StockReleased"},
		"/v1/events/payments":  {"orderkeep.payments.v1.PaymentAuthorized", "orderkeep.payments.v1.PaymentVoided"},
	} {
		var told []string
		stage.Eventually(t, feed+" tells what became of the order", func() bool {
			told = nil
			for _, e := range s.feed(t, feed) {
				if e.Type == "orderkeep.inventory.v1.StockAdjusted" {
					continue // the import
				}
				told = append(told, e.Type)
				if e.CorrelationID != id {
					t.Errorf("%s: %+v, want the correlation id %s", feed, e, id)
				}
			}
			return len(told) >= len(types)
		})
		if !slices.Equal(told, types) {
			t.Errorf("%s tells %v, want %v", feed, told, types)
		}
	}
}

func refusesCardNumbers(t *testing.T, s *shop) {
	const number = "4242424242424242"
	for _, written := range []string{number, "4242 4242 4242 4242", "4242-4242-4242-4242", "tok_" + number} {
		a := s.place(t, "", paid(written, one))
		if a.status != http.StatusBadRequest || a.Error != "card_number_refused" {
			t.Errorf("the token %s: %v, want 400 card_number_refused", written, a)
		}
		b := paid(visa, one)
		b.Payment.Provider = written
		if a := s.place(t, "", b); a.status != http.StatusBadRequest {
			t.Errorf("the provider %s: %v, want 400", written, a)
		}
		p := s.do(t, http.MethodPut, "/v1/payments/01990000-0000-7000-8000-000000000001",
			map[string]any{"amountMinor": 1, "currency": "GBP", "provider": "simulated", "token": written})
		if p.status != http.StatusBadRequest {
			t.Errorf("the payment with %s: %v, want 400", written, p)
		}
		for _, x := range []answer{a, p} {
			if hasCard(x.text, number) {
				t.Errorf("an answer repeats the number: %v", x)
			}
		}
	}
	want(t, s.place(t, "", paid(visa, one)), http.StatusCreated, "")
	for name, text := range s.files(t) {
		if hasCard(text, number) {
			t.Errorf("%s has the card number in it", name)
		}
	}
}

// hasCard looks for a card number, however it is written.
func hasCard(text, number string) bool {
	spaced := strings.Join([]string{number[:4], number[4:8], number[8:12], number[12:]}, " ")
	for _, written := range []string{number, spaced, strings.ReplaceAll(spaced, " ", "-"), strings.ReplaceAll(spaced, " ", "%20")} {
		if strings.Contains(text, written) {
			return true
		}
	}
	return false
}

// drains stops the shop while it waits for a slow provider.
func drains(t *testing.T, s *shop) {
	const buyers = 20
	answers := make(chan answer, buyers)
	for range buyers {
		go func() {
			a, err := s.try(http.MethodPost, "/v1/orders", paid("pm_simulated_slow_1s", one))
			if err != nil {
				a.text = err.Error()
			}
			answers <- a
		}()
	}
	stage.Eventually(t, "all orders are under way", func() bool { return len(s.orders(t, "status=pending")) == buyers })
	s.close(t) // fails the test unless it ends well
	for range buyers {
		if a := <-answers; a.status != http.StatusCreated {
			t.Errorf("an order under way got %v, want 201", a)
		}
	}
	s.start(t)
	if n := len(s.orders(t, "status=confirmed")); n != buyers {
		t.Errorf("%d orders are confirmed after the restart, want %d", n, buyers)
	}
	s.hasAvailable(t, book, 50-buyers)
}
