package test

import (
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// market is a crowd that goes on buying, a book each time.
type market struct {
	shop   *shop
	close  func() // lets the buyers go when they have what they asked for
	buyers sync.WaitGroup

	mu     sync.Mutex
	orders map[string]string // key -> the order that was confirmed under it
	upsets map[string]int    // what was answered instead, and asked again
	err    error
}

// openMarket opens one until it is closed, or the test has failed.
func openMarket(t testing.TB, s *shop, buyers int) *market {
	closed := make(chan struct{})
	m := &market{shop: s, orders: map[string]string{}, upsets: map[string]int{}}
	m.close = sync.OnceFunc(func() {
		close(closed)
		m.buyers.Wait()
		if m.err != nil {
			t.Error(m.err)
		}
	})
	t.Cleanup(m.close)
	for b := range buyers {
		m.buyers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-closed:
					return
				default:
				}
				if err := m.buy(fmt.Sprintf("buyer-%d-order-%d", b, n)); err != nil {
					m.mu.Lock()
					m.err = err
					m.mu.Unlock()
					return
				}
			}
		})
	}
	return m
}

// buy asks under a key until the order is confirmed. Whom it asks may have gone away in the middle; the other replica then is next.
func (m *market) buy(key string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	orphan := false // the replica that drives the order has died: the others wait for its lease, and then answer as a recovery goes
	for end := time.Now().Add(stage.Patience); ; <-tick.C {
		a, err := m.shop.try(http.MethodPost, "/v1/orders", paid(visa, one), "Idempotency-Key", key)
		m.mu.Lock()
		if err == nil && a.status == http.StatusCreated {
			m.orders[key] = a.OrderID
			m.mu.Unlock()
			return nil
		}
		switch {
		case err != nil:
			orphan = true
			m.upsets["no answer"]++
		case !orphan:
			m.upsets[fmt.Sprint(a.status, " ", a.Error)]++
		}
		m.mu.Unlock()
		again := err != nil || a.status == http.StatusAccepted || a.status == http.StatusServiceUnavailable || a.Error == "idempotency_key_in_flight"
		if !again || time.Now().After(end) {
			return fmt.Errorf("the order under %s ends with %v, %w", key, a, err)
		}
	}
}

// sells waits until that many more orders are confirmed, and returns what else was answered meanwhile.
func (m *market) sells(t testing.TB, more int) map[string]int {
	t.Helper()
	m.mu.Lock()
	want, before := len(m.orders)+more, maps.Clone(m.upsets)
	m.mu.Unlock()
	upsets := map[string]int{}
	stage.Eventually(t, fmt.Sprint(want, " orders are confirmed"), func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.err != nil {
			t.Fatal(m.err)
		}
		for what, n := range m.upsets {
			if n > before[what] {
				upsets[what] = n - before[what]
			}
		}
		return len(m.orders) >= want
	})
	return upsets
}

// standIn ends one replica of each service after the other while buyers buy, and starts it again. Whatever the replica was doing
// for all, such as publishing events, the other one does while it is away.
func standIn(t *testing.T, s *shop) {
	const some = 40 // orders: hundreds of calls, half of which would be the absent one's
	peers := map[string]stage.Wires{"inventory": s.inventoryWire, "payments": s.paymentsWire}
	m := openMarket(t, s, 8)
	m.sells(t, some)
	for context, ws := range peers {
		for n, w := range ws {
			if share := w.Carried.Load(); share < ws.Carried()/4 {
				t.Errorf("replica %d of %s got %d bytes of %d", n, context, share, ws.Carried())
			}
		}
	}
	// Orders first: what a dead one was driving waits for its lease to end, and the rest can be looked at meanwhile.
	for _, context := range []string{"orders", "inventory", "payments"} {
		// The first to start publishes and handles the events, and after its death the second.
		for n, kill := range []bool{true, false} {
			sv := s.of[context][n]
			what := "the drain of a replica of " + context
			if kill {
				what = "the death of a replica of " + context
				sv.process.Kill()
			} else {
				sv.stop(t)
			}
			upsets := m.sells(t, some)
			if !kill && context != "orders" && len(upsets) > 0 {
				t.Errorf("%s upset buyers: %v", what, upsets)
			}
			t.Logf("after %s: %v", what, upsets)
			s.allReady(t)
			undoes(t, s)
			s.start(t)
			s.allReady(t)
			if ws := peers[context]; ws != nil {
				before := ws[n].Carried.Load()
				stage.Eventually(t, "the replica that is back gets calls", func() bool { return ws[n].Carried.Load() > before+4096 })
			}
			m.sells(t, some)
		}
	}
	m.close()

	sold := map[string]bool{}
	for _, o := range s.orders(t, "status=confirmed") {
		sold[o.OrderID] = true
	}
	for key, id := range m.orders {
		if !sold[id] {
			t.Errorf("the order %s under %s was confirmed, and is not", id, key)
		}
	}
	if len(sold) != len(m.orders) {
		t.Errorf("%d orders are confirmed, and %d were asked for", len(sold), len(m.orders))
	}
	s.hasAvailable(t, book, manyUnits-len(sold))
}

// manyUnits are more than a market can buy.
const manyUnits = 1_000_000

// undoes places an order of its own and cancels it: events go from Orders to the others and back.
func undoes(t testing.TB, s *shop) {
	t.Helper()
	a := s.place(t, "", paid(visa, line{record, 1, 999}))
	if a.status != http.StatusCreated {
		accepted(t, a)
	}
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/cancel", nil), http.StatusOK, "")
	stage.Eventually(t, "Inventory and Payments have acted", func() bool { return s.get(t, "/v1/orders/"+a.OrderID).Undo == "done" })
}

// allReady waits until each process that runs says that it is ready.
func (s *shop) allReady(t testing.TB) {
	t.Helper()
	for _, sv := range s.services {
		if !sv.process.Gone() {
			stage.Eventually(t, "it is ready", func() bool { return s.ready(sv) })
		}
	}
}

// countsInRedis looks whether each replica counts its clients where the other one does.
func countsInRedis(t *testing.T, s *shop) {
	o, err := redis.ParseURL(s.redis)
	if err != nil {
		t.Fatal(err)
	}
	shared := redis.NewClient(o)
	defer shared.Close()
	for range s.of["orders"] {
		// A machine that stands still for a moment makes a replica count for itself until a second later.
		stage.Eventually(t, "a request is counted in Redis", func() bool {
			if err := shared.FlushDB(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			a := s.get(t, "/v1/orders")
			if policy := a.header.Get("RateLimit-Policy"); policy != `"client";q=1000000;w=1` {
				t.Fatalf("the policy is %q", policy)
			}
			keys, err := shared.Keys(t.Context(), "*").Result()
			if err != nil {
				t.Fatal(err)
			}
			return slices.Equal(keys, []string{"rate:orders address:127.0.0.1"})
		})
	}
}
