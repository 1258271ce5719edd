package console

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Where each context tells of its parked events, and takes them back.
var parkedPaths = map[string]string{"orders": "/v1/events/parked", "inventory": "/v1/events/inventory/parked", "payments": "/v1/events/payments/parked"}

type eventsPage struct {
	Consumers []consumer
	Who       string
	Parked    int
}

// consumer is a context as it publishes and consumes.
type consumer struct {
	Name    string
	Lag     *lag
	Parked  []parkedEvent
	Trouble *trouble
}

type lag struct {
	Outbox waiting `json:"outbox"`
	Inbox  waiting `json:"inbox"`
	Parked int64   `json:"parked"`
}

type waiting struct {
	Waiting       int64   `json:"waiting"`
	OldestSeconds float64 `json:"oldestSeconds"`
}

type parkedEvent struct {
	Consumer string          `json:"consumer"`
	Attempts int             `json:"attempts"`
	Error    string          `json:"error"`
	ID       string          `json:"id"`
	Source   string          `json:"source"`
	Type     string          `json:"type"`
	Subject  string          `json:"subject"`
	Time     time.Time       `json:"time"`
	Data     json.RawMessage `json:"data"`
}

// Payload is the data, to be read.
func (e parkedEvent) Payload() string {
	var out bytes.Buffer
	if json.Indent(&out, e.Data, "", "  ") != nil {
		return ""
	}
	return out.String()
}

// readiness is what a process says of itself.
type readiness struct {
	Status   string            `json:"status"`
	NotReady map[string]string `json:"notReady"`
	Away     map[string]string `json:"away"`
	Breakers []edge            `json:"breakers"` // that are not closed
	Events   map[string]lag    `json:"events"`
}

func (c *console) events(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	p := eventsPage{Who: c.guard.who(r), Consumers: make([]consumer, len(contexts))}
	var asking sync.WaitGroup
	for i, name := range contexts {
		asking.Go(func() {
			one := consumer{Name: name}
			var ready readiness
			var both sync.WaitGroup
			both.Go(func() { _ = c.peers.ask(ctx, name, http.MethodGet, "/readyz", nil, &ready) }) // its lag is then not known
			both.Go(func() {
				var page struct{ Events []parkedEvent }
				one.Trouble = c.peers.ask(ctx, name, http.MethodGet, parkedPaths[name], nil, &page)
				one.Parked = page.Events
			})
			both.Wait()
			if l, ok := ready.Events[name]; ok {
				one.Lag = &l
			}
			p.Consumers[i] = one
		})
	}
	asking.Wait()
	for _, x := range p.Consumers {
		p.Parked += len(x.Parked)
	}
	c.show(w, r, http.StatusOK, "events", "Events", p)
}

func (c *console) redrive(w http.ResponseWriter, r *http.Request) {
	who := c.actor(w, r)
	if who == "" {
		return
	}
	name, id := r.PostFormValue("consumer"), r.PostFormValue("id")
	at, ok := parkedPaths[name]
	if !ok || id == "" {
		c.refuse(w, r, http.StatusUnprocessableEntity, "There is no such event", "Go back to the list and choose one.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patienceActs)
	defer cancel()
	query := url.Values{"actor": {who}, "reason": {r.PostFormValue("reason")}}
	if bad := c.peers.ask(ctx, name, http.MethodPost, at+"/"+url.PathEscape(id)+"/redrive", query, nil); bad != nil {
		c.troubled(w, r, bad)
		return
	}
	back(w, r, "/console/events", "redrive")
}
