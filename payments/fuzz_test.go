package payments

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/outbox"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	"github.com/orderkeep/orderkeep/payments/internal/provider/simulated"
	"github.com/orderkeep/orderkeep/payments/internal/serve"
	"github.com/orderkeep/orderkeep/payments/internal/store"
	"google.golang.org/protobuf/proto"
)

// till is Payments without a process, for as long as a target is fuzzed.
func till(f *testing.F) (*store.Store, *payment.Service) {
	f.Helper()
	dir := f.TempDir()
	st, err := store.Open(f.Context(), "sqlite:"+dir+"/payments.db")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { st.Close() })
	p, err := simulated.Open(f.Context(), "sqlite:"+dir+"/provider.db", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { p.Close() })
	return st, payment.NewService(st, map[string]payment.Provider{simulated.Name: p})
}

// FuzzRequest sends anything as a path and a body. No answer is an internal error, and no payment gives back more than it held.
func FuzzRequest(f *testing.F) {
	st, svc := till(f)
	h, err := serve.NewREST(svc, st)
	if err != nil {
		f.Fatal(err)
	}
	edge := httpd.New(httpd.Options{Routes: map[string]http.Handler{"/v1/payments": h}, Log: slog.New(slog.DiscardHandler)})
	const at = "/v1/payments/0197b7b0-0000-7000-8000-00000000000a"
	f.Add(true, at+"/authorize", newPayment("pm_card_visa"))
	f.Add(true, at, newPayment("pm_simulated_timeout_charged"))
	f.Add(true, at+"/void", "")
	f.Add(true, at+"/refund", `{"reason":"`+strings.Repeat("x", 300)+`"}`)
	f.Add(false, strings.ToUpper(at), "")
	f.Add(true, at+"/authorize", `{"amountMinor":9223372036854775807,"currency":"EUR","provider":"simulated","token":"4242424242424242"}`)
	f.Fuzz(func(t *testing.T, post bool, path, body string) {
		if strings.Contains(body, "slow") || strings.Contains(body, "timeout") && !strings.Contains(body, "pm_simulated_timeout_charged") {
			t.Skip("a script that takes its time")
		}
		method := http.MethodGet
		if post {
			method = http.MethodPost
		}
		r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
		r.URL.Path = path
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		edge.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %q with %q: %d %s", method, path, body, w.Code, w.Body)
		}
		p, err := svc.Payment(t.Context(), strings.TrimPrefix(at, "/v1/payments/"))
		if err == nil && p.Authorized-p.Voided-p.Refunded < 0 {
			t.Errorf("the payment is %+v", p)
		}
	})
}

// FuzzEvents hears anything as an event of Orders. Whatever it is, money that was to be given back is not held afterwards, and bytes
// that are no such event move none.
func FuzzEvents(f *testing.F) {
	st, svc := till(f)
	handlers := serve.Consumers(svc, st.DecideWith)
	types := []string{"orderkeep.orders.v1.OrderCancelled", "orderkeep.orders.v1.OrderFulfilled", "orderkeep.orders.v1.OrderReturned"}
	for i, id := range []string{"0197b7b0-0000-7000-8000-00000000000a", "{0197B7B0-0000-7000-8000-00000000000A}", "urn:uuid:0197b7b0-0000-7000-8000-00000000000a", "", "x"} {
		data, err := proto.Marshal(&ordersv1.OrderCancelled{OrderId: id, Paid: true})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), data)
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		e := outbox.Event{ID: uuid.NewString(), Type: types[int(kind)%len(types)], Data: data}
		done := 0
		err := handlers[e.Type](t.Context(), e, func(*db.Tx) error { done++; return nil })
		var m ordersv1.OrderReturned
		if e.Type != types[2] || proto.Unmarshal(data, &m) != nil || !m.Paid {
			return
		}
		if err != nil {
			if fault.KindOf(err) == fault.Internal || done > 0 {
				t.Errorf("%q: %v, marked %d times", data, err, done)
			}
			return
		}
		order := uuid.MustParse(m.OrderId).String()
		if p, err := svc.Payment(t.Context(), order); err != nil || done == 0 || p.Authorized-p.Voided-p.Refunded != 0 {
			t.Errorf("given back, marked %d times: %+v, %v", done, p, err)
		}
	})
}
