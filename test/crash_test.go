package test

import (
	"context"
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Settings of the crash test, by environment: how often the process is killed, and with which seed the run is repeated.
const (
	roundsEnv = "ORDERKEEP_TEST_KILLS"
	seedEnv   = "ORDERKEEP_TEST_SEED"
)

// buyersUnderFire is how many buyers are there when the process is killed: enough for batches, and for orders in every step.
const buyersUnderFire = 12

// TestKillUnderLoadBreaksNoPromise kills the process at a random instant under load, a hundred times in a row on the same
// data, and looks each time at what the next one makes of what is left.
func TestKillUnderLoadBreaksNoPromise(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.add(stage.Launch{Path: program, Args: s.serve()}, "orders", "inventory", "payments")
	s.start(t)
	killUnderLoad(t, s, fromEnv(t, roundsEnv, 100))
}

// TestKillOfAReplicaUnderLoadBreaksNoPromise kills one of two processes on the same PostgreSQL databases, now the one and now
// the other. What it was driving waits for its leases to run out, 15 seconds, so the rounds are few.
func TestKillOfAReplicaUnderLoadBreaksNoPromise(t *testing.T) {
	t.Parallel()
	killUnderLoad(t, onPostgres(2)(t, 0), fromEnv(t, roundsEnv, 3))
}

// killUnderLoad kills one of the shop's processes in each round.
func killUnderLoad(t *testing.T, s *shop, rounds int) {
	t.Helper()
	seed := uint64(fromEnv(t, seedEnv, int(time.Now().UnixNano())))
	t.Logf("seed %d: %s=%d repeats the choices, though not the instants", seed, seedEnv, seed)
	chance := rand.New(rand.NewPCG(seed, 0))

	s.layIn(t)
	l := &ledger{of: map[string]string{}}
	for round := range rounds {
		// Between the first request and the end of the load every instant is as likely.
		instant := time.Duration(chance.Int64N(int64(200 * time.Millisecond)))
		asked := s.besiege(t, fmt.Sprintf("round-%d", round), chance.Uint64(), s.deal, func() {
			wait := time.NewTimer(instant)
			<-wait.C
			s.services[round%len(s.services)].process.Kill()
		})
		s.start(t)
		l.settle(t, s, asked)
		s.verify(t)
		if t.Failed() {
			t.Fatalf("round %d, killed after %v, seed %d", round, instant, seed)
		}
	}
	l.account(t, s)
	s.close(t)
	t.Logf("%d kills: %d requests asked, %d answered before the kill, %d of them 201; %d orders confirmed or fulfilled in the end",
		rounds, l.asked, l.answered, l.promised, l.confirmed)
	if l.asked == l.answered || l.promised == 0 {
		t.Error("no request was under way when the process was killed, or none was answered before: the test does not test what it says")
	}
}

func fromEnv(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, want a number above 0", name, text)
	}
	return n
}

// besieged is the stock of those who are under fire: one SKU lasts, one sells out soon, one after a while.
var besieged = map[string]int{"LASTS": 100_000_000, "SCARCE": 300, "HALF": 5_000}

// layIn puts it on the shelf.
func (s *shop) layIn(t testing.TB) {
	t.Helper()
	sheet := "sku,title,on_hand,tracked\n" + wrapping + ",,0,false\n"
	for sku, units := range besieged {
		sheet += fmt.Sprintf("%s,,%d,true\n", sku, units)
	}
	if out, log, code := s.cli(t, sheet, "--url", s.process("inventory").URL, "stock", "import", "-"); code != 0 {
		t.Fatalf("stock import exits with %d: %s%s", code, out, log)
	}
}

// request is one that a buyer sent, and what came back.
type request struct {
	key   string // "" for one that nobody can repeat
	order order
	then  string // what is done to the order when it is confirmed: cancel, fulfil, return or nothing

	answer answer
	err    error // no answer
}

// besiege lets buyers deal while something happens, and returns all that they asked for. A dealing that goes on when that has
// happened is told by its context.
func (s *shop) besiege(t testing.TB, name string, seed uint64, deal func(context.Context, *request), happens func()) []*request {
	t.Helper()
	var mu sync.Mutex
	var asked []*request
	over, end := context.WithCancel(t.Context())
	var buyers sync.WaitGroup
	for b := range buyersUnderFire {
		buyers.Go(func() {
			chance := rand.New(rand.NewPCG(seed, uint64(b)))
			for n := 0; over.Err() == nil; n++ {
				r := choose(chance, fmt.Sprintf("%s-buyer-%d-order-%d", name, b, n))
				mu.Lock()
				asked = append(asked, r)
				mu.Unlock()
				deal(over, r)
			}
		})
	}
	func() {
		defer buyers.Wait() // also if the test ends here
		defer end()
		happens()
	}()
	s.client.CloseIdleConnections()
	return asked
}

// buy sends a request once.
func (s *shop) buy(r *request) {
	r.answer, r.err = s.try(http.MethodPost, "/v1/orders", r.order, "Idempotency-Key", r.key)
}

// deal sends a request, and what is to be done to its order, once.
func (s *shop) deal(_ context.Context, r *request) {
	s.buy(r)
	if r.err != nil || r.answer.status != http.StatusCreated {
		return
	}
	for _, verb := range verbs[r.then] {
		_, _ = s.try(http.MethodPost, "/v1/orders/"+r.answer.OrderID+"/"+verb, nil) // repeated when the dust has settled
	}
}

// choose makes one buyer's next request. The name stands in it as the customer, so that what became of it can be found.
func choose(chance *rand.Rand, name string) *request {
	tokens := []string{visa, visa, visa, visa, "pm_card_chargeDeclined", "pm_simulated_slow_20ms"}
	skus := []string{"LASTS", "LASTS", "SCARCE", "HALF", wrapping}
	r := &request{}
	if n := chance.IntN(10); n < 3 {
		r.then = []string{"cancel", "fulfil", "return"}[n]
	}
	if chance.IntN(8) > 0 {
		r.key = name
	}
	if chance.IntN(100) == 0 { // rare, because recovery takes its time to ask again
		tokens = []string{"pm_simulated_timeout_charged", "pm_simulated_timeout_not_charged"}
	}
	price := 0
	if chance.IntN(6) > 0 {
		price = 1 + chance.IntN(2000)
	}
	for range 1 + chance.IntN(3) {
		r.order.Items = append(r.order.Items, line{skus[chance.IntN(len(skus))], 1 + chance.IntN(3), price})
	}
	r.order.Customer = name
	if price > 0 {
		r.order.Currency, r.order.Payment = "GBP", &payment{"simulated", tokens[chance.IntN(len(tokens))]}
	}
	return r
}

// verbs are what has to be done to a confirmed order, one after the other, for what is wanted of it.
var verbs = map[string][]string{"cancel": {"cancel"}, "fulfil": {"fulfil"}, "return": {"fulfil", "return"}}

// outcomes are the states that an order is in after what was done to it.
var outcomes = map[string]state{"cancel": "cancelled", "fulfil": "fulfilled", "return": "returned"}

// ledger is what the buyers know, over all rounds.
type ledger struct {
	of                                   map[string]string // customer -> the order that was made of the request
	asked, answered, promised, confirmed int
}

// settle repeats what was not answered, lets every order end, and holds what is there against what was promised.
func (l *ledger) settle(t testing.TB, s *shop, asked []*request) {
	t.Helper()
	for _, r := range asked {
		l.asked++
		if r.err == nil {
			l.answered++
		}
		first := r.answer
		if r.err == nil && first.status == http.StatusCreated {
			l.promised++
			if o := s.get(t, "/v1/orders/"+first.OrderID); o.Status != "confirmed" && !slices.ContainsFunc(verbs[r.then], func(verb string) bool { return o.Status == outcomes[verb] }) {
				t.Errorf("it was answered 201, and is %v", o)
			}
		}
		if r.key != "" {
			r.answer = l.repeat(t, s, r)
			if r.err == nil && first.status != http.StatusAccepted && first.status != http.StatusServiceUnavailable &&
				(r.answer.status != first.status || r.answer.OrderID != first.OrderID) {
				t.Errorf("under the key %s the first answer was %v, and the repeat is %v", r.key, first, r.answer)
			}
		}
		if r.then != "" && r.answer.status == http.StatusCreated {
			s.finish(t, r)
		}
	}
	stage.Eventually(t, "no order is pending", func() bool { return len(s.newest(t, 1, "status=pending")) == 0 })
	l.match(t, s, asked)
}

// finish does to an order what is still to be done to it, and the last of it once more.
func (s *shop) finish(t testing.TB, r *request) {
	t.Helper()
	path := "/v1/orders/" + r.answer.OrderID
	todo := verbs[r.then]
	if s.get(t, path).Status != "confirmed" {
		todo = todo[len(todo)-1:]
	}
	for _, verb := range todo {
		want(t, s.do(t, http.MethodPost, path+"/"+verb, nil), http.StatusOK, "")
	}
}

// repeat sends a request again until its outcome is known.
func (l *ledger) repeat(t testing.TB, s *shop, r *request) answer {
	t.Helper()
	var a answer
	stage.Eventually(t, "the key "+r.key+" has its answer", func() bool {
		a = s.place(t, r.key, r.order)
		return a.status != http.StatusAccepted && a.status != http.StatusServiceUnavailable && a.Error != "idempotency_key_in_flight"
	})
	switch a.status {
	case http.StatusCreated, http.StatusPaymentRequired:
	case http.StatusConflict:
		if a.Error != "out_of_stock" {
			t.Errorf("the key %s ends with %v", r.key, a)
		}
	default:
		t.Errorf("the key %s ends with %v", r.key, a)
	}
	return a
}

// match looks every request of the round up by its customer: one order was made of it at most, and the one that was told.
func (l *ledger) match(t testing.TB, s *shop, asked []*request) {
	t.Helper()
	live := map[string][]listed{}
	for _, o := range s.newest(t, 2*len(asked), "") {
		if o.Status != "rejected" {
			live[o.Customer] = append(live[o.Customer], o)
		}
	}
	for _, r := range asked {
		mine := live[r.order.Customer]
		delete(live, r.order.Customer)
		if len(mine) > 0 {
			l.of[r.order.Customer] = mine[0].OrderID
		}
		served := r.answer.status == http.StatusCreated && (r.err == nil || r.key != "")
		switch {
		case len(mine) > 1:
			t.Errorf("one request of %s made the orders %v", r.order.Customer, mine)
		case served && (len(mine) != 1 || mine[0].OrderID != r.answer.OrderID):
			t.Errorf("%s was told %v, and has %v", r.order.Customer, r.answer, mine)
		case r.err == nil && !served && r.answer.status != http.StatusAccepted && len(mine) > 0:
			t.Errorf("%s was told %v, and has %v", r.order.Customer, r.answer, mine)
		}
	}
	for customer, mine := range live { // of rounds before
		if len(mine) > 1 || l.of[customer] != mine[0].OrderID {
			t.Errorf("%s had the order %q, and has %v", customer, l.of[customer], mine)
		}
	}
}

// account holds the shelf, and the orders of all rounds, against what was promised.
func (l *ledger) account(t testing.TB, s *shop) {
	t.Helper()
	sold, live := map[string]int{}, map[string]string{}
	for _, o := range s.orders(t, "") {
		switch o.Status {
		case "confirmed", "fulfilled":
			l.confirmed++
			for _, i := range o.Items {
				sold[i.SKU] += i.Qty
			}
		case "cancelled", "returned":
		default:
			continue
		}
		live[o.Customer] = o.OrderID
	}
	if !maps.Equal(live, l.of) {
		t.Errorf("%d requests were served over all rounds, and %d are in the end", len(l.of), len(live))
	}
	for sku, units := range besieged {
		s.hasAvailable(t, sku, units-sold[sku])
	}
	if n := sold["SCARCE"]; n == 0 || n > besieged["SCARCE"] {
		t.Errorf("%d units of SCARCE are sold, and there were %d", n, besieged["SCARCE"])
	}
}
