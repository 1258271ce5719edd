package orders

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// event is one event as a reader sees it.
type event struct{ ID, Subject, Type, Cursor, CorrelationID string }

// pageAfter reads one page of the feed.
func (b *bundle) pageAfter(after string) (events []event, next string) {
	b.t.Helper()
	var page struct {
		Events []event
		Next   string
	}
	if err := json.Unmarshal([]byte(b.call("GET", "/v1/events?limit=7&after="+after, "").is(200).raw), &page); err != nil {
		b.t.Fatal(err)
	}
	return page.Events, page.Next
}

// streamAfter reads n events from the stream, reconnecting with Last-Event-ID as browsers do.
func (b *bundle) streamAfter(ctx context.Context, last string, n int) (events []event, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/v1/events", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); len(events) < n && lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var e event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return events, err
			}
			events = append(events, e)
		}
	}
	return events, nil
}

// Customers place and cancel orders while two readers follow; each sees every event once, those of an order in order.
func TestTheFeedTellsEveryoneEverythingInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const customers, each = 4, 10
	var placing, reading sync.WaitGroup
	var paged, streamed []event
	for range customers {
		placing.Go(func() {
			for range each {
				at := b.place(`{"items":[{"sku":"GIFT","qty":1}]}`).is(201).header.Get("Location")
				b.call("POST", at+"/cancel", "").is(200)
			}
		})
	}
	const total = 2 * customers * each
	reading.Go(func() {
		for after := ""; len(paged) < total && !t.Failed(); {
			var events []event
			events, after = b.pageAfter(after)
			paged = append(paged, events...)
		}
	})
	reading.Go(func() {
		for last := ""; len(streamed) < total && !t.Failed(); {
			events, err := b.streamAfter(t.Context(), last, min(9, total-len(streamed)))
			if err != nil || len(events) == 0 {
				t.Errorf("the stream ended after %d events: %v", len(streamed), err)
				return
			}
			streamed, last = append(streamed, events...), events[len(events)-1].Cursor
		}
	})
	placing.Wait()
	reading.Wait()
	for name, got := range map[string][]event{"pages": paged, "stream": streamed} {
		if len(got) != total {
			t.Errorf("%s: %d events, want %d", name, len(got), total)
		}
		seen, state := map[string]bool{}, map[string]string{}
		for _, e := range got {
			if seen[e.ID] {
				t.Errorf("%s: event %s twice", name, e.ID)
			}
			seen[e.ID] = true
			before := map[string]string{"orderkeep.orders.v1.OrderConfirmed": "", "orderkeep.orders.v1.OrderCancelled": "orderkeep.orders.v1.OrderConfirmed"}[e.Type]
			if state[e.Subject] != before || e.CorrelationID == "" {
				t.Errorf("%s: %+v after %q", name, e, state[e.Subject])
			}
			state[e.Subject] = e.Type
		}
	}
	if events, next := b.pageAfter(paged[len(paged)-1].Cursor); len(events) != 0 || next != paged[len(paged)-1].Cursor {
		t.Errorf("after the last: %v, next %q", events, next)
	}
}
