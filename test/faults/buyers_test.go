package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
)

// crowd is how many buyers there are: enough for batches, and for orders in every step of their lives when something breaks.
const crowd = 12

// pace is how long a buyer thinks at most between two requests. It keeps the history at a size that is judged in seconds.
const pace = 30 * time.Millisecond

// patient is how long a client waits for an answer before it asks again: less than a call between contexts may take, so that some
// repeats meet the first one under way.
const patient = 4 * time.Second

// buyers are the clients of a run. They keep their wishes until each has its answer.
type buyers struct {
	w      *world
	seed   uint64
	client *http.Client
	buying sync.WaitGroup
	close  func()

	mu     sync.Mutex
	wishes []*wish
}

// wish is what a client wants, however often it has to ask.
type wish struct {
	Request          // as it is sent
	then    []string // what is to be done to the order when it is there

	mu    sync.Mutex
	last  Request // the final answer, or the last one
	asked int     // how much of then is done
}

// open lets the buyers in, until close.
func (b *buyers) open() {
	transport := &http.Transport{MaxIdleConnsPerHost: crowd}
	b.client = &http.Client{Transport: transport, Timeout: patient}
	b.w.t.Cleanup(transport.CloseIdleConnections)
	ctx, end := context.WithCancel(context.Background())
	b.close = func() {
		end()
		b.buying.Wait()
		transport.CloseIdleConnections()
	}
	for n := range crowd {
		b.buying.Go(func() {
			chance := rand.New(rand.NewPCG(b.seed, uint64(100+n)))
			for i := 0; ctx.Err() == nil; i++ {
				b.deal(ctx, chance, b.choose(chance, fmt.Sprintf("buyer-%d-%d", n, i)))
			}
		})
	}
}

// choose makes a buyer's next wish.
func (b *buyers) choose(chance *rand.Rand, name string) *wish {
	v := &wish{Request: Request{Verb: Place, Intent: name, Key: name}}
	if chance.IntN(25) == 0 {
		v.Verb, v.SKU, v.Delta = Adjust, "MOVING", 1+chance.IntN(40)
		if chance.IntN(2) == 0 {
			v.Delta = -v.Delta
		}
		return v
	}
	if chance.IntN(25) == 0 { // a cart, say
		v.Verb, v.Intent, v.Key, v.Lasts = Hold, uuid.NewSHA1(uuid.Nil, fmt.Append(nil, b.seed, name)).String(), "", 1+chance.IntN(5)
		v.Wants = &Basket{Lines: []Line{{"MOVING", 1 + chance.IntN(5), 0}, {"SCARCE", 1, 0}}}
		return v
	}
	if chance.IntN(5) == 0 {
		v.Key = "" // nobody can repeat it
	}
	tokens := []string{"pm_card_visa", "pm_card_visa", "pm_card_mastercard", "pm_card_visa", "pm_card_chargeDeclined", "pm_simulated_slow_50ms"}
	if chance.IntN(40) == 0 { // rare, because recovery takes its time to ask again
		tokens = []string{"pm_simulated_timeout_charged", "pm_simulated_timeout_not_charged", "pm_simulated_timeout_declined", "pm_simulated_down_1s"}
	}
	skus := []string{"LASTS", "LASTS", "LASTS", "HOT", "SCARCE", "MOVING", wrapping}
	price := 0
	if chance.IntN(5) > 0 && (v.Key != "" || chance.IntN(2) == 0) { // without either, units are reserved first
		price = 1 + chance.IntN(2000)
	}
	v.Wants = &Basket{}
	for range 1 + chance.IntN(3) {
		v.Wants.Lines = append(v.Wants.Lines, Line{skus[chance.IntN(len(skus))], 1 + chance.IntN(3), price})
	}
	if price > 0 {
		v.Wants.Token = tokens[chance.IntN(len(tokens))]
	}
	v.then = [][]string{nil, nil, {Look}, {Look, Cancel}, {Cancel, Look}, {Fulfil}, {Fulfil, Return}}[chance.IntN(7)]
	return v
}

// deal asks for what a buyer wants, again where there is no answer, and then for what is to be done to the order.
func (b *buyers) deal(ctx context.Context, chance *rand.Rand, v *wish) {
	b.mu.Lock()
	b.wishes = append(b.wishes, v)
	b.mu.Unlock()
	if v.Key != "" && chance.IntN(10) == 0 { // twice at once, as a double click does
		b.buying.Go(func() { b.ask(v) })
	}
	for range 3 {
		pause(ctx, time.Duration(chance.Int64N(int64(pace))))
		b.ask(v)
		if v.Key == "" && v.Verb != Hold || v.answered() {
			break
		}
	}
	if v.Key != "" && v.Verb == Place && v.answered() && chance.IntN(50) == 0 {
		other := &wish{Request: v.Request}
		other.Intent, other.Wants = v.Intent+"-other", &Basket{Lines: []Line{{"LASTS", 1, 0}}}
		b.ask(other)
	}
	b.follow(ctx, v)
}

// answered reports whether the wish has its final answer.
func (v *wish) answered() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last.final()
}

// order is the one that was made of the wish, or "".
func (v *wish) order() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last.Status == http.StatusCreated {
		return v.last.Got
	}
	return ""
}

// follow does what is still to be done to a wish's order, as far as it is answered.
func (b *buyers) follow(ctx context.Context, v *wish) {
	id := v.order()
	if id == "" {
		return
	}
	for v.asked < len(v.then) {
		q := Request{Verb: v.then[v.asked], Order: id}
		b.send(&q)
		if q.Status == 0 || q.Status >= http.StatusInternalServerError {
			return
		}
		v.asked++
		if ctx.Err() != nil {
			return
		}
	}
}

// ask sends a wish once.
func (b *buyers) ask(v *wish) {
	q := v.Request
	b.send(&q)
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.last.final() {
		v.last = q
	}
}

// send sends a request and notes what came back.
func (b *buyers) send(q *Request) {
	b.w.history.add(q)
	q.Began = time.Since(b.w.began)
	defer func() { q.Ended = time.Since(b.w.began) }()
	r := b.request(q)
	if q.Key != "" {
		r.Header.Set("Idempotency-Key", q.Key)
	}
	res, err := b.client.Do(r)
	if err != nil {
		return
	}
	defer res.Body.Close()
	var a struct {
		OrderID, Error string
		Status         any // of a problem, it is a number
		OnHand         int
	}
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return // it broke off in the middle
	}
	q.Status, q.Code, q.Got, q.Result = res.StatusCode, a.Error, a.OrderID, a.OnHand
	q.State, _ = a.Status.(string)
}

func (b *buyers) request(q *Request) *http.Request {
	base, method, path := "http://"+b.w.doors[rand.IntN(len(b.w.doors))].addr(), http.MethodPost, "/v1/orders"
	var body any
	switch q.Verb {
	case Place:
		lines := []map[string]any{}
		for _, l := range q.Wants.Lines {
			line := map[string]any{"sku": l.SKU, "qty": l.Qty}
			if l.Price > 0 {
				line["unitPrice"] = l.Price
			}
			lines = append(lines, line)
		}
		order := map[string]any{"items": lines, "customer": q.Intent}
		if q.Wants.Token != "" {
			order["currency"], order["payment"] = "GBP", map[string]string{"provider": "simulated", "token": q.Wants.Token}
		}
		body = order
	case Hold:
		lines := []map[string]any{}
		for _, l := range q.Wants.Lines {
			lines = append(lines, map[string]any{"sku": l.SKU, "qty": l.Qty})
		}
		base, method, path, body = "http://"+b.w.stock.addr(), http.MethodPut, "/v1/reservations/"+q.Intent, map[string]any{"lines": lines, "expiresIn": q.Lasts}
	case Look:
		method, path = http.MethodGet, path+"/"+q.Order
	case Adjust:
		base, path, body = "http://"+b.w.stock.addr(), "/v1/stock/"+q.SKU+"/adjustments", map[string]any{"delta": q.Delta, "reason": "counted"}
	default:
		path += "/" + q.Order + "/" + q.Verb
	}
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			panic(err) // maps of strings and numbers
		}
	}
	r, err := http.NewRequest(method, base+path, &text)
	if err != nil {
		panic(err) // of what is written above
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// settle repeats, when the faults have ended, what has no final answer, and does what is still to be done. It returns the keys that
// get none.
func (b *buyers) settle() (open []string) {
	var mu sync.Mutex
	b.spread(func(v *wish) {
		for end := time.Now().Add(restful()); v.Key != "" && !v.answered(); pause(context.Background(), 100*time.Millisecond) {
			if time.Now().After(end) {
				mu.Lock()
				defer mu.Unlock()
				open = append(open, fmt.Sprintf("%s (%d %s)", v.Key, v.last.Status, v.last.Code))
				return
			}
			b.ask(v)
		}
		for range 10 {
			b.follow(context.Background(), v)
		}
	})
	return open
}

// repeats is how many keys are sent again when everything is at rest.
const repeats = 1000

// confirmAll asks once more, at rest, under keys that have their answers, and looks at orders that are there.
func (b *buyers) confirmAll() {
	every := max(1, len(b.wishes)/repeats)
	n := 0
	b.spread(func(v *wish) {
		b.mu.Lock()
		n++
		mine := n%every == 0
		b.mu.Unlock()
		if !mine {
			return
		}
		if v.Key != "" {
			b.ask(v)
		}
		if id := v.order(); id != "" {
			b.send(&Request{Verb: Look, Order: id})
		}
	})
}

// spread calls f for all wishes, several at once.
func (b *buyers) spread(f func(*wish)) {
	todo := make(chan *wish)
	var working sync.WaitGroup
	for range crowd {
		working.Go(func() {
			for v := range todo {
				f(v)
			}
		})
	}
	for _, v := range b.wishes {
		todo <- v
	}
	close(todo)
	working.Wait()
}
