package console

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Where each context tells of its parked events, and takes them back.
var parkedPaths = map[string]string{"orders": "/v1/events/parked", "inventory": "/v1/events/inventory/parked", "payments": "/v1/events/payments/parked"}

// feedPaths are where each context tells what it has published.
var feedPaths = map[string]string{"orders": "/v1/events", "inventory": "/v1/events/inventory", "payments": "/v1/events/payments"}

// mostRecent is as many published events as a page shows.
const mostRecent = 25

type eventsPage struct {
	Consumers []consumer
	Recent    []recentEvent
	Older     string // where the page after this one is, or ""
	Back      bool   // this page is not the first
	Unheard   bool   // not every feed could be read
	Unasked   bool   // not every inbox could be
	Who       string
	Parked    int
}

// consumer is a context as it publishes and consumes.
type consumer struct {
	Name    string
	Lag     *lag
	Parked  []parkedEvent
	Trouble *trouble
	feed    []recentEvent // the newest first
	FeedBad *trouble
}

// recentEvent is one that its context has published.
type recentEvent struct {
	facts
	Context       string
	Cursor        string `json:"cursor"`
	CorrelationID string `json:"correlationid"`
}

// facts are of any event, as CloudEvents name them.
type facts struct {
	ID      string          `json:"id"`
	Source  string          `json:"source"`
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Time    time.Time       `json:"time"`
	Data    json.RawMessage `json:"data"`
}

// Order reports that the subject is an order.
func (f facts) Order() bool { return uuid.Validate(f.Subject) == nil }

// Name is the type without the package, which is its context's.
func (f facts) Name() string { return f.Type[strings.LastIndexByte(f.Type, '.')+1:] }

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
	facts
	Consumer string `json:"consumer"`
	Attempts int    `json:"attempts"`
	Error    string `json:"error"`
}

// Payload is the data, to be read.
func (e facts) Payload() string {
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
			both.Go(func() {
				var page struct{ Events []recentEvent }
				back := url.Values{"before": {r.URL.Query().Get(name)}, "limit": {strconv.Itoa(mostRecent + 1)}}
				one.FeedBad = c.peers.ask(ctx, name, http.MethodGet, feedPaths[name], back, &page)
				one.feed = page.Events
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
		p.Unasked = p.Unasked || x.Trouble != nil
	}
	p.recent(r.URL.Query())
	c.show(w, r, http.StatusOK, "events", "Events", p)
}

// recent merges the feeds, the newest first; each stays in its own order. asked has a cursor for each context, from the page before.
func (p *eventsPage) recent(asked url.Values) {
	next := url.Values{}
	for _, x := range p.Consumers {
		p.Unheard = p.Unheard || x.FeedBad != nil
		if at := asked.Get(x.Name); at != "" {
			p.Back = true
			next.Set(x.Name, at)
		}
	}
	at := make([]int, len(p.Consumers))
	for {
		newest := -1
		for i, x := range p.Consumers {
			if at[i] < len(x.feed) && (newest < 0 || x.feed[at[i]].Time.After(p.Consumers[newest].feed[at[newest]].Time)) {
				newest = i
			}
		}
		if newest < 0 {
			return
		}
		if len(p.Recent) == mostRecent {
			p.Older = "/console/events?" + next.Encode() + "#recent"
			return
		}
		x := &p.Consumers[newest]
		e := x.feed[at[newest]]
		e.Context = x.Name
		p.Recent = append(p.Recent, e)
		next.Set(x.Name, e.Cursor)
		at[newest]++
	}
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
