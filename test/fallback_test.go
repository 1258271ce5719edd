package test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/orderkeep/orderkeep/internal/rate/ratetest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// What the shop does without what is away. Payments and its provider are scenarios (paymentsAway, paymentsKilled, endsConfirmed), and
// so is Inventory (inventoryAway, inventoryKilled).

// says waits until each process says of itself what is to be.
func (s *shop) says(t *testing.T, what string, yes func(condition) bool) {
	t.Helper()
	for _, sv := range s.services {
		stage.Eventually(t, what, func() bool {
			c, err := s.condition(sv)
			return err == nil && yes(c)
		})
	}
}

func ready(c condition) bool { return c.Status == "ready" }

// degraded looks for a process that goes on without one thing, and that a load balancer keeps.
func degraded(name string) func(condition) bool {
	return func(c condition) bool {
		return c.Status == "degraded" && c.code == http.StatusOK && len(c.Away) == 1 && c.Away[name] != ""
	}
}

func TestWithoutABrokerOrdersGoOnAndEventsWait(t *testing.T) {
	t.Parallel()
	m := mortalOwn(t)
	m.start(t)
	s := threeProcesses("grpc", func(testing.TB) string { return m.url })(t, 50)
	s.says(t, "it is ready", ready)
	m.kill()
	s.says(t, "it is degraded", degraded("broker"))
	for _, sv := range s.services {
		out, log, code := stage.Launch{Path: program, Args: []string{"health", "--listen", strings.TrimPrefix(sv.process.URL, "http://")}}.Run(t, "")
		if code != 0 || out != "degraded\n" || !strings.Contains(log, "broker: ") {
			t.Errorf("health of %s exits with %d: %s%s", sv.contexts, code, out, log)
		}
	}
	const several = 5
	var taken []string
	for range several {
		a := s.place(t, "", paid(visa, one))
		want(t, a, http.StatusCreated, "")
		want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/cancel", nil), http.StatusOK, "")
		taken = append(taken, a.OrderID)
	}
	orders := s.of["orders"][0]
	c, err := s.condition(orders)
	if lag := c.Events["orders"].Outbox; err != nil || lag.Waiting < several || lag.OldestSeconds <= 0 {
		t.Errorf("the lag of Orders: %+v, %v; want %d events of some age", c, err, several)
	}
	if a := s.get(t, "/v1/orders/"+taken[0]); a.Undo != "pending" {
		t.Errorf("answered without a broker: %v", a)
	}
	m.start(t)
	s.says(t, "it is ready, and nothing waits", func(c condition) bool {
		for _, e := range c.Events {
			if e.Outbox.Waiting+e.Inbox.Waiting+e.Parked > 0 {
				return false
			}
		}
		return ready(c) && len(c.Events) == 1
	})
	for _, id := range taken {
		stage.Eventually(t, "what waited is answered", func() bool { return s.get(t, "/v1/orders/"+id).Undo == "done" })
	}
	s.hasAvailable(t, book, 50)
	s.verify(t)
	s.close(t)
}

func TestWithoutRedisOrdersGoOn(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	url, stop := ratetest.Redis(t)
	s.add(stage.Launch{Path: program, Args: s.serve("--redis-url", url, "--rate-limit", "1000000/s")}, "orders", "inventory", "payments")
	s.start(t)
	s.stock(t, 50)
	s.says(t, "it is ready", ready)
	stop()
	s.says(t, "it is degraded", degraded("redis"))
	for range 5 {
		a := s.place(t, "", paid(visa, one))
		want(t, a, http.StatusCreated, "")
		if a.header.Get("RateLimit") == "" {
			t.Errorf("nobody counts: %v", a.header)
		}
	}
	ratetest.Restart(t, url)
	s.says(t, "it is ready", ready)
	s.verify(t)
	s.close(t)
}

// An Inventory that hangs costs the first orders the time that they have. The breaker then answers the others.
func TestWhileTheBreakerIsOpenOrdersAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	released := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hangs.Close)
	t.Cleanup(func() { close(released) })
	s := newShop(t)
	s.add(stage.Launch{Path: program, Args: s.serve("--inventory-url", hangs.URL)}, "orders", "payments")
	s.start(t)
	place := func(int) (answer, error) { return s.try(http.MethodPost, "/v1/orders", paid(visa, one)) }
	refused := func(n int) {
		t.Helper()
		for _, a := range atOnce(t, n, place) {
			want(t, a, http.StatusServiceUnavailable, "inventory_unavailable")
			if a.header.Get("Retry-After") == "" {
				t.Error("it does not say when to come back")
			}
		}
	}
	const opens = 10 // failures in a row
	refused(opens)
	before := asked.Load()
	const many = 100
	refused(many)
	// One call is let through now and then to see whether it is back, and it hangs for five seconds.
	if more := asked.Load() - before; more > many/10 {
		t.Errorf("Inventory was asked %d times more while the breaker was open", more)
	}
}
