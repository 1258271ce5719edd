package faults

import (
	"net/http"
	"sync"
	"time"
)

// What a client may ask for.
const (
	Place  = "place"
	Look   = "look"
	Cancel = "cancel"
	Fulfil = "fulfil"
	Return = "return"
	Adjust = "adjust"
	Hold   = "hold" // units of no order, until they expire
)

// Request is one that a client sent, and what came back. Times are since the beginning of the run, by one clock.
type Request struct {
	Verb   string        `json:"verb"`
	Intent string        `json:"intent,omitempty"` // of Place, Adjust and Hold: what the client wants, however often it asks. It stands in the order as the customer
	Key    string        `json:"key,omitempty"`    // the idempotency key
	Wants  *Basket       `json:"wants,omitempty"`  // of Place and Hold
	Order  string        `json:"order,omitempty"`  // of the others: which
	SKU    string        `json:"sku,omitempty"`    // of Adjust
	Delta  int           `json:"delta,omitempty"`  // of Adjust
	Lasts  int           `json:"lasts,omitempty"`  // of Hold, in seconds
	Began  time.Duration `json:"began"`
	Ended  time.Duration `json:"ended"`
	Status int           `json:"status"`           // 0: no answer
	Code   string        `json:"code,omitempty"`   // of a problem
	Got    string        `json:"got,omitempty"`    // the id of the order that was answered
	State  string        `json:"state,omitempty"`  // the order's state in the answer
	Result int           `json:"result,omitempty"` // of Adjust: what is on hand after it
}

// Basket is what a client wants to buy.
type Basket struct {
	Lines []Line `json:"lines"`
	Token string `json:"token,omitempty"` // of the simulated provider; "" for an order of total 0
}

// Line is one of a basket or an order. Price is of one unit, in minor units.
type Line struct {
	SKU   string `json:"sku"`
	Qty   int    `json:"qty"`
	Price int    `json:"price"`
}

// Total is what the basket costs, in minor units.
func (b *Basket) Total() int { return total(b.Lines) }

func total(lines []Line) (sum int) {
	for _, l := range lines {
		sum += l.Qty * l.Price
	}
	return sum
}

// final reports that a request to place an order, or to adjust stock, was answered once and for all: a repeat under its key has to
// get the same. 202 is an order under way, 503 took nothing, and an attempt in flight has its answer still to come.
func (r *Request) final() bool {
	switch r.Status {
	case http.StatusCreated, http.StatusOK, http.StatusPaymentRequired:
		return true
	case http.StatusConflict:
		return r.Code != "idempotency_key_in_flight"
	}
	return false
}

// History is what all clients of a run asked, in the order in which they began. It is safe for concurrent use until it is read.
type History struct {
	mu  sync.Mutex
	all []*Request
}

func (h *History) add(r *Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, r)
}

// Requests is all of it, of a run that has come to rest.
func (h *History) Requests() []*Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all
}
