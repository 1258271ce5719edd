package test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
)

// What becomes of the calls past the bound of those that may be in flight. The bound is a small one here; that of each call is in
// docs/resilience.md.

// bound is how many may be in flight, and tooMany how many more come.
const bound, tooMany = 4, 20

// waiting places as many orders as may be in flight, and returns when all of them are.
func (s *shop) waiting(t *testing.T, edge string, o order) (answers func() []answer) {
	t.Helper()
	got, failed := make([]answer, bound), make([]error, bound)
	var buyers sync.WaitGroup
	for i := range bound {
		buyers.Go(func() {
			got[i], failed[i] = s.try(http.MethodPost, "/v1/orders", o, "Idempotency-Key", fmt.Sprint("in flight ", i))
		})
	}
	s.fills(t, edge)
	return func() []answer {
		buyers.Wait()
		for _, err := range failed {
			if err != nil {
				t.Fatal(err)
			}
		}
		return got
	}
}

// series is one of an edge's in /metrics.
func series(name, edge, more string) string {
	target, method, _ := strings.Cut(edge, "/")
	return fmt.Sprintf(`%s{target=%q,method=%q%s}`, name, target, method, more)
}

// fills waits until as many calls as may be are in flight.
func (s *shop) fills(t *testing.T, edge string) {
	t.Helper()
	stage.Eventually(t, "all seats are taken", func() bool { return s.figure(t, series("orderkeep_calls_in_flight", edge, "")) == bound })
}

// turnedAway is how many calls found no seat.
func (s *shop) turnedAway(t *testing.T, edge string) int {
	t.Helper()
	return int(s.figure(t, series("orderkeep_call_attempts_total", edge, `,result="too_many"`)))
}

func TestAnOrderPastTheBoundOfPaymentsIsPendingAndEndsByItself(t *testing.T) {
	t.Parallel()
	for _, edge := range []string{"payments/Authorize", "simulated/Authorize"} {
		t.Run(edge, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.add(stage.Launch{Path: program, Args: s.serve("--call-policy", fmt.Sprintf("%s in-flight=%d timeout=30s", edge, bound))}, "orders", "inventory", "payments")
			s.start(t)
			s.stock(t, 1000)
			first := s.waiting(t, edge, paid("pm_simulated_slow_6s", one)) // for so long the seats are taken
			var all []string
			for i, a := range atOnce(t, tooMany, func(i int) (answer, error) {
				return s.try(http.MethodPost, "/v1/orders", paid(visa, one), "Idempotency-Key", fmt.Sprint("past ", i))
			}) {
				want(t, a, http.StatusAccepted, "")
				if a.Status != "pending" {
					t.Errorf("order %d: %v", i, a)
				}
				all = append(all, a.OrderID)
			}
			if n := s.turnedAway(t, edge); n < tooMany {
				t.Errorf("%d calls found no seat, want %d at least: the bound is not what made them wait", n, tooMany)
			}
			if a := s.get(t, "/v1/stock/"+book); a.Reserved != bound+tooMany {
				t.Errorf("%v: want the units of all %d reserved", a, bound+tooMany)
			}
			for _, a := range first() {
				if a.status != http.StatusCreated && a.status != http.StatusAccepted { // where the machine is slow too
					t.Fatal(a)
				}
				all = append(all, a.OrderID)
			}
			for _, id := range all {
				if a := s.ends(t, id); a.Status != "confirmed" {
					t.Errorf("an order that nobody asked about again: %v", a)
				}
			}
			s.hasAvailable(t, book, 1000-bound-tooMany)
			s.settles(t)
			s.close(t)
		})
	}
}

func TestAnOrderPastTheBoundOfInventoryIsRefusedAndItsKeyIsFree(t *testing.T) {
	t.Parallel()
	const edge = "inventory/Reserve"
	s := newShop(t)
	back := stage.NewWire(t)
	goOn := make(chan struct{})
	free := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(free)
	slow := stage.Between(t, back.Addr(), func(ctx context.Context, c *stage.Call) ([]byte, error) {
		if strings.HasSuffix(c.Method, "/Reserve") {
			select {
			case <-goOn:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return c.Send(ctx)
	})
	s.add(stage.Launch{Path: program, Args: s.serve("--run", "orders,inventory,payments", "--grpc-listen", "127.0.0.1:0",
		"--inventory-url", "grpc://"+slow, "--call-policy", fmt.Sprintf("%s in-flight=%d timeout=30s", edge, bound))}, "orders", "inventory", "payments").
		started = func(p *stage.Process) { back.Lead(p.GRPC) }
	s.start(t)
	s.stock(t, 1000)
	first := s.waiting(t, edge, paid(visa, one))
	place := func(i int) (answer, error) {
		return s.try(http.MethodPost, "/v1/orders", paid(visa, one), "Idempotency-Key", fmt.Sprint("past ", i))
	}
	for _, a := range atOnce(t, tooMany, place) {
		want(t, a, http.StatusServiceUnavailable, "inventory_unavailable")
		if a.header.Get("Retry-After") == "" {
			t.Error("it does not say when to come back")
		}
	}
	if n := s.turnedAway(t, edge); n < tooMany {
		t.Errorf("%d calls found no seat, want %d", n, tooMany)
	}
	free()
	for _, a := range first() {
		want(t, a, http.StatusCreated, "")
	}
	for i := range tooMany {
		a, err := place(i)
		if err != nil {
			t.Fatal(err)
		}
		want(t, a, http.StatusCreated, "")
		if a.replayed() {
			t.Error("the key of an order that was refused was not free")
		}
	}
	s.hasAvailable(t, book, 1000-bound-tooMany)
	s.settles(t)
	s.close(t)
}
