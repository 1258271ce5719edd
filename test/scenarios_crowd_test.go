package test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// crowd is how many buyers come at once.
const crowd = 200

// atOnce lets n buyers go at the same time and returns what each of them gets.
func atOnce(t testing.TB, n int, buy func(i int) (answer, error)) []answer {
	t.Helper()
	answers, failures := make([]answer, n), make([]error, n)
	gate := make(chan struct{})
	var buyers sync.WaitGroup
	for i := range n {
		buyers.Go(func() {
			<-gate
			answers[i], failures[i] = buy(i)
		})
	}
	close(gate)
	buyers.Wait()
	for _, err := range failures {
		if err != nil {
			t.Fatal(err)
		}
	}
	return answers
}

func actsOnce(t *testing.T, s *shop) {
	id := ""
	for round := range 5 {
		key := fmt.Sprintf("attempt-%d", round)
		first := 0
		id = ""
		for _, a := range atOnce(t, 20, func(int) (answer, error) {
			for {
				a, err := s.try(http.MethodPost, "/v1/orders", paid(visa, line{book, 2, 1250}), "Idempotency-Key", key)
				if err != nil || a.Error != "idempotency_key_in_flight" {
					return a, err
				}
			}
		}) {
			want(t, a, http.StatusCreated, "")
			if id == "" {
				id = a.OrderID
			}
			if a.OrderID != id {
				t.Errorf("one key gives the orders %s and %s", id, a.OrderID)
			}
			if !a.replayed() {
				first++
			}
		}
		if first != 1 {
			t.Errorf("%d answers say that they are the first, want one", first)
		}
		s.hasAvailable(t, book, 50-2*(round+1))
		want(t, s.place(t, key, paid(visa, line{book, 3, 1250})), http.StatusUnprocessableEntity, "idempotency_key_reused")
	}
	if p := s.get(t, "/v1/payments/"+id); p.AuthorizedMinor != 2500 {
		t.Errorf("paid: %v", p)
	}
}

func sellsOut(t *testing.T, s *shop) {
	for round := range sales {
		o := paid(visa, line{hot(round), 1, 500})
		got := map[string]int{}
		for _, a := range atOnce(t, crowd, func(i int) (answer, error) {
			key := ""
			if i%2 == 0 {
				key = fmt.Sprintf("sale-%d-buyer-%d", round, i)
			}
			return s.try(http.MethodPost, "/v1/orders", o, "Idempotency-Key", key)
		}) {
			got[fmt.Sprintf("%d %s", a.status, a.Error)]++
		}
		if len(got) != 2 || got["201 "] != 50 || got["409 out_of_stock"] != 150 {
			t.Errorf("sale %d of 50 units to %d buyers: %v", round, crowd, got)
		}
		s.hasAvailable(t, hot(round), 0)
	}
}
