package test

import (
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// The scenarios here kill the process of one context under load, look at what the others still do, and start it again. What
// they ask, and what is promised of it, is the crash test's.

// rushed is how many requests a rush has: enough for batches, and for a breaker to open and to close.
const rushed = 80

// rush lets buyers send requests, and does something when half of them have been answered, or have failed.
func (s *shop) rush(t *testing.T, name string, half func()) []*request {
	t.Helper()
	asked := make([]*request, rushed)
	var next, ended atomic.Int64
	middle := make(chan struct{})
	var buyers sync.WaitGroup
	for b := range buyersUnderFire {
		buyers.Go(func() {
			chance := rand.New(rand.NewPCG(uint64(b), 0))
			for i := next.Add(1) - 1; i < rushed; i = next.Add(1) - 1 {
				r := choose(chance, fmt.Sprintf("%s-%d", name, i))
				asked[i] = r
				s.deal(t.Context(), r)
				if ended.Add(1) == rushed/2 {
					close(middle)
				}
			}
		})
	}
	<-middle
	half()
	buyers.Wait()
	return asked
}

// aftermath are three confirmed orders, of which one is to be cancelled, one fulfilled and one, which has left, returned.
func (s *shop) aftermath(t *testing.T) []*request {
	t.Helper()
	var asked []*request
	for _, then := range []string{"cancel", "fulfil", "return"} {
		r := &request{key: "to-" + then, then: then, order: paid(visa, line{"LASTS", 2, 1250})}
		r.order.Customer = r.key
		r.answer = s.place(t, r.key, r.order)
		want(t, r.answer, http.StatusCreated, "")
		asked = append(asked, r)
	}
	back := asked[2].answer.OrderID
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+back+"/fulfil", nil), http.StatusOK, "")
	stage.Eventually(t, "it has left, and is paid for", func() bool { return s.get(t, "/v1/orders/"+back).Settlement == "done" })
	return asked
}

// asks does to each what is to be done, and looks whether the order waits for the context that is away.
func (s *shop) asks(t *testing.T, after []*request) {
	t.Helper()
	for i, a := range atOnce(t, len(after), func(i int) (answer, error) { return s.act(after[i].answer.OrderID, after[i].then) }) {
		if a.Status != outcomes[after[i].then] || a.Undo != "pending" && a.Settlement != "pending" {
			t.Errorf("%s: %v", after[i].then, a)
		}
	}
}

// mends lets every order come to its end once all is there again, and holds what is there against what was promised. The first
// of the requests are the aftermath.
func (s *shop) mends(t *testing.T, asked []*request) {
	t.Helper()
	l := &ledger{of: map[string]string{}}
	l.settle(t, s, asked)
	for _, r := range asked[:3] {
		stage.Eventually(t, r.then+" is answered", func() bool {
			o := s.get(t, "/v1/orders/"+r.answer.OrderID)
			return o.Status == outcomes[r.then] && o.Undo != "pending" && o.Settlement != "pending"
		})
	}
	s.settles(t)
	l.account(t, s)
}

// onlyWaits fails the test unless verify says, while a context is away, that the aftermath is on its way and that nothing is wrong.
func (s *shop) onlyWaits(t *testing.T) {
	t.Helper()
	if a := s.audited(t); !a.OK || a.waits("order_is_answered") < 3 {
		t.Errorf("verify says %+v, want orders on their way and nothing wrong", a)
	}
}

// moneyMoved waits until Payments has done its part of the aftermath.
func (s *shop) moneyMoved(t *testing.T, after []*request) {
	t.Helper()
	for i, status := range []state{"voided", "captured", "refunded"} {
		stage.Eventually(t, "a payment is "+string(status), func() bool {
			return s.get(t, "/v1/payments/"+after[i].answer.OrderID).Status == status
		})
	}
}

// Each kills its context twice: in a calm moment, to see who does what about events that the dead one has to hear, and under
// load.

func inventoryKilled(t *testing.T, s *shop) {
	s.layIn(t)
	asked := s.aftermath(t)
	s.process("inventory").Kill()
	s.asks(t, asked)
	for _, path := range []string{"/v1/orders/" + asked[0].answer.OrderID, "/v1/orders/" + asked[0].answer.OrderID + "/timeline", "/v1/orders?status=confirmed", "/v1/events"} {
		want(t, s.get(t, path), http.StatusOK, "")
	}
	s.moneyMoved(t, asked)
	s.onlyWaits(t)
	s.start(t)

	asked = append(asked, s.rush(t, "before", s.process("inventory").Kill)...)
	for range 20 { // twice what opens a breaker
		a := s.place(t, "k", paid(visa, one))
		want(t, a, http.StatusServiceUnavailable, "inventory_unavailable")
		if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 {
			t.Errorf("Retry-After: %q, want seconds", a.header.Get("Retry-After"))
		}
	}
	// It need not even ask, which is what makes the answer quick, and is as ready as before.
	if r := s.get(t, "/readyz"); r.status != http.StatusOK || !strings.Contains(r.text, `"target":"inventory"`) {
		t.Errorf("Orders says %v, want it ready, and a breaker that is not closed", r)
	}
	asked = append(asked, s.rush(t, "after", func() { s.start(t) })...)
	s.mends(t, asked)
	a := s.place(t, "k", paid(visa, one))
	want(t, a, http.StatusCreated, "")
	if a.replayed() {
		t.Error("the key that was refused was not free")
	}
}

func paymentsKilled(t *testing.T, s *shop) {
	s.layIn(t)
	asked := s.aftermath(t)
	s.process("payments").Kill()
	s.asks(t, asked)
	for i, what := range []string{"stock_released", "stock_committed", "stock_returned"} { // Inventory has done its part
		stage.Eventually(t, what, func() bool {
			return strings.Contains(s.get(t, "/v1/orders/"+asked[i].answer.OrderID+"/timeline").text, what)
		})
	}
	s.onlyWaits(t)
	s.start(t)

	asked = append(asked, s.rush(t, "before", s.process("payments").Kill)...)
	waits := &request{key: "waits", order: paid(visa, line{record, 3, 1250})}
	waits.order.Customer = "waits"
	waits.answer = s.place(t, waits.key, waits.order)
	want(t, waits.answer, http.StatusAccepted, "")
	gone := s.place(t, "", paid(visa, line{record, 2, 1250}))
	want(t, gone, http.StatusAccepted, "")
	s.hasAvailable(t, record, 0) // both hold theirs
	want(t, s.place(t, "", paid(visa, line{record, 1, 1250})), http.StatusConflict, "out_of_stock")
	free := &request{order: order{Items: []line{{SKU: book, Qty: 1}}, Customer: "free"}}
	free.answer = s.place(t, "", free.order)
	want(t, free.answer, http.StatusCreated, "") // nobody else is kept waiting
	asked = append(asked, waits, free)
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+gone.OrderID+"/cancel", nil), http.StatusOK, "")
	s.hasAvailable(t, record, 2)
	if a := s.audited(t); !a.OK {
		t.Errorf("verify says %+v, want nothing wrong about orders that wait for their payment", a)
	}

	asked = append(asked, s.rush(t, "after", func() { s.start(t) })...)
	s.mends(t, asked)
	if o, p := s.get(t, "/v1/orders/"+waits.answer.OrderID), s.get(t, "/v1/payments/"+waits.answer.OrderID); o.Status != "confirmed" || p.Status != "authorized" || p.AuthorizedMinor != 3750 {
		t.Errorf("what waited is %v, paid %v", o, p)
	}
	if end := s.ends(t, gone.OrderID); end.Status != "rejected" || end.Reason != "cancelled" {
		t.Errorf("what was cancelled while it waited ends as %v", end)
	}
	s.hasAvailable(t, record, 2)
}

func ordersKilled(t *testing.T, s *shop) {
	s.layIn(t)
	asked := s.aftermath(t)
	asked = append(asked, s.rush(t, "before", s.process("orders").Kill)...)
	if a, err := s.try(http.MethodGet, "/livez", nil); err == nil {
		t.Fatalf("Orders answers %v: it was not killed", a)
	}
	const hold = "01990000-0000-7000-8000-000000000001" // somebody else's reservation and payment
	want(t, s.do(t, http.MethodPost, "/v1/stock/"+record+"/adjustments", map[string]any{"delta": 5, "reason": "delivery"}), http.StatusOK, "")
	want(t, s.do(t, http.MethodPut, "/v1/reservations/"+hold, map[string]any{"lines": []line{{SKU: record, Qty: 10}}}), http.StatusOK, "")
	s.hasAvailable(t, record, 0)
	want(t, s.do(t, http.MethodDelete, "/v1/reservations/"+hold, nil), http.StatusNoContent, "")
	s.hasAvailable(t, record, 10)
	want(t, s.do(t, http.MethodPut, "/v1/payments/"+hold, map[string]any{"amountMinor": 100, "currency": "GBP", "provider": "simulated", "token": visa}), http.StatusOK, "")
	want(t, s.do(t, http.MethodPost, "/v1/payments/"+hold+"/void", nil), http.StatusOK, "")
	if a := s.audited(t); !a.OK {
		t.Errorf("verify says %+v, want nothing wrong", a)
	}
	s.start(t)

	// The answers to what it told are to find it dead.
	s.process("inventory").Kill()
	s.process("payments").Kill()
	s.asks(t, asked[:3])
	s.process("orders").Kill()
	s.of["inventory"][0].run(t)
	s.of["payments"][0].run(t)
	s.moneyMoved(t, asked)
	s.onlyWaits(t)
	s.start(t)
	s.mends(t, asked)
}
