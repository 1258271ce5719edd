package outbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
)

type item struct {
	ID      string `json:"id"`
	Subject string `json:"subject"`
	Cursor  string `json:"cursor"`
}

type feedPage struct {
	Events []item `json:"events"`
	Next   string `json:"next"`
}

func page(t testing.TB, r *outbox.Relay, after string, limit int) feedPage {
	t.Helper()
	w := httptest.NewRecorder()
	r.Feed().ServeHTTP(w, httptest.NewRequest(http.MethodGet, fmt.Sprintf("/v1/events?after=%s&limit=%d", url.QueryEscape(after), limit), nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET after %q: %d %s", after, w.Code, w.Body)
	}
	var p feedPage
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// Back from the newest, a feed is the same events in the other order, page by page; what is published meanwhile moves no page.
func TestFeedGoesBack(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		relay := outbox.NewRelay("/test", h.db, h.write, relayed(t), h.log)
		back := func(query string) (p feedPage) {
			t.Helper()
			w := httptest.NewRecorder()
			relay.Feed().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/events?"+query, nil))
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusOK {
				t.Fatalf("%s: %d %s %v", query, w.Code, w.Body, err)
			}
			return p
		}
		if p := back("before="); len(p.Events) != 0 || p.Next != "" {
			t.Errorf("an empty feed is %+v", p)
		}
		publish := func(from, to int) {
			for n := from; n <= to; n++ {
				h.append(t, outbox.Event{ID: fmt.Sprint("e-", n), Type: "x.Y", Subject: "s", Time: time.Unix(int64(n), 0), Data: []byte{}})
			}
			if err := relay.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		publish(1, 5)
		var got []string
		for p := back("before=&limit=2"); len(p.Events) > 0 && len(got) < 10; p = back("limit=2&before=" + p.Next) {
			for _, e := range p.Events {
				got = append(got, e.ID)
			}
			publish(10+len(got), 10+len(got))
		}
		if d := cmp.Diff([]string{"e-5", "e-4", "e-3", "e-2", "e-1"}, got); d != "" {
			t.Error(d)
		}
		if p := back("before=1"); len(p.Events) != 0 || p.Next != "1" {
			t.Errorf("before the first is %+v", p)
		}
		w := httptest.NewRecorder()
		q := httptest.NewRequest(http.MethodGet, "/v1/events?before=", nil)
		q.Header.Set("Accept", "text/event-stream")
		if relay.Feed().ServeHTTP(w, q); w.Code != http.StatusBadRequest {
			t.Errorf("a stream backwards: %d %s", w.Code, w.Body)
		}
	})
}

func TestFeedIsCloudEvents(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		ctx := telemetry.WithCorrelation(t.Context(), "req-7")
		e := outbox.New(ctx, &ordersv1.OrderCancelled{OrderId: "o-1", Reason: "<changed> her mind"}, "o-1", time.Date(2011, 3, 1, 9, 30, 0, 5000, time.UTC))
		e.ID, e.CausationID, e.TraceParent = "e-1", "c-1", "00-4bf9-00"
		foreign := outbox.Event{ID: "e-2", Type: "shop.v9.Unknown", Subject: "x", Time: e.Time, Data: []byte{1, 2, 3}}
		h.append(t, e, foreign)
		relay := outbox.NewRelay("/orders", h.db, h.write, relayed(t), h.log)
		if err := relay.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		relay.Feed().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/events", nil))
		want := `{"events":[` +
			`{"specversion":"1.0","id":"e-1","source":"/orders","type":"orderkeep.orders.v1.OrderCancelled","subject":"o-1","time":"2011-03-01T09:30:00.000005Z",` +
			`"datacontenttype":"application/json","correlationid":"req-7","causationid":"c-1","traceparent":"00-4bf9-00","cursor":"1",` +
			`"data":{"orderId":"o-1","reason":"<changed> her mind","paid":false}},` +
			`{"specversion":"1.0","id":"e-2","source":"/orders","type":"shop.v9.Unknown","subject":"x","time":"2011-03-01T09:30:00.000005Z",` +
			`"datacontenttype":"application/protobuf","cursor":"2","data_base64":"AQID"}],"next":"2"}` + "\n"
		if diff := cmp.Diff(want, w.Body.String()); diff != "" {
			t.Errorf("page (-want +got):\n%s", diff)
		}
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type %q, want application/json", got)
		}
	})
}

func TestFeedRefusesBadRequests(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		feed := outbox.NewRelay("/test", h.db, h.write, relayed(t), h.log).Feed()
		for name, c := range map[string]struct {
			method, query, lastEvent string
			status                   int
			code                     string
		}{
			"a cursor that is no number":        {query: "?after=abc", status: 400, code: "invalid_cursor"},
			"a negative cursor":                 {query: "?after=-1", status: 400, code: "invalid_cursor"},
			"a padded cursor":                   {query: "?after=007", status: 400, code: "invalid_cursor"},
			"a cursor too great":                {query: "?after=9223372036854775808", status: 400, code: "invalid_cursor"},
			"a limit of 0":                      {query: "?limit=0", status: 400, code: "invalid_limit"},
			"a limit above the most":            {query: "?limit=1001", status: 400, code: "invalid_limit"},
			"a before that is no number":        {query: "?before=abc", status: 400, code: "invalid_cursor"},
			"before beside after":               {query: "?before=3&after=1", status: 400, code: "invalid_cursor"},
			"an empty limit":                    {query: "?limit=", status: 400, code: "invalid_limit"},
			"a Last-Event-ID that is no number": {lastEvent: "abc", status: 400, code: "invalid_cursor"},
			"POST":                              {method: http.MethodPost, status: 405, code: "method_not_allowed"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				q := httptest.NewRequest(c.method, "/v1/events"+c.query, nil)
				if c.lastEvent != "" {
					q.Header.Set("Accept", "text/event-stream")
					q.Header.Set("Last-Event-ID", c.lastEvent)
				}
				w := httptest.NewRecorder()
				feed.ServeHTTP(w, q)
				var problem struct{ Error string }
				if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
					t.Fatalf("%v in %s", err, w.Body)
				}
				if w.Code != c.status || problem.Error != c.code {
					t.Errorf("%d %s, want %d %s", w.Code, problem.Error, c.status, c.code)
				}
				if allow := w.Header().Get("Allow"); (c.status == 405) != (allow == "GET") {
					t.Errorf("Allow is %q", allow)
				}
			})
		}
	})
}

func TestFeedOfNothingGivesTheCursorBack(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		relay := outbox.NewRelay("/test", h.db, h.write, relayed(t), h.log)
		for _, after := range []string{"", "0", "41"} {
			if got := page(t, relay, after, 10); got.Next != after || got.Events == nil || len(got.Events) != 0 {
				t.Errorf("after %q: %+v, want an empty list and the same cursor", after, got)
			}
		}
	})
}

// While writers commit and the relay marks, a reader of pages and a reader of a stream that keeps breaking off both see
// every event once, and each subject's in order.
func TestFeedSkipsNothingAndRepeatsNothingWhileWritersRun(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		const writers, each = 8, 60
		relay := outbox.NewRelay("/test", h.db, h.write, relayed(t), h.log)
		h.run(relay.Run)
		server := httptest.NewServer(relay.Feed())
		t.Cleanup(server.Close)

		var writing sync.WaitGroup
		for n := range writers {
			writing.Go(func() {
				for i := range each {
					e := text(context.Background(), fmt.Sprintf("s%d", n), "x")
					e.ID = fmt.Sprintf("s%d-%d", n, i)
					if err := h.write(context.Background(), func(tx *db.Tx) error { return outbox.Append(tx, []outbox.Event{e}) }); err != nil {
						t.Error(err)
					}
					relay.Wake()
				}
			})
		}
		var paged, streamed []item
		var reading sync.WaitGroup
		reading.Go(func() {
			for after := ""; len(paged) < writers*each && !t.Failed(); {
				p := page(t, relay, after, 1+rand.IntN(20))
				paged, after = append(paged, p.Events...), p.Next
			}
		})
		reading.Go(func() {
			for after := ""; len(streamed) < writers*each && !t.Failed(); {
				more := readStream(t, server.URL, after, min(1+rand.IntN(200), writers*each-len(streamed)))
				streamed, after = append(streamed, more...), more[len(more)-1].Cursor
			}
		})
		writing.Wait()
		reading.Wait()
		for name, got := range map[string][]item{"pages": paged, "stream": streamed} {
			next := map[string]int{}
			for i, e := range got {
				if e.Cursor != strconv.Itoa(i+1) {
					t.Fatalf("%s: item %d has cursor %s", name, i+1, e.Cursor)
				}
				if want := fmt.Sprintf("%s-%d", e.Subject, next[e.Subject]); e.ID != want {
					t.Fatalf("%s: %s where %s was due", name, e.ID, want)
				}
				next[e.Subject]++
			}
		}
	})
}

// readStream reads n events from the stream and breaks off.
func readStream(t testing.TB, address, after string, n int) []item {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// after names the beginning, Last-Event-ID where a reconnecting client was: it wins.
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/v1/events?after=0", nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	q.Header.Set("Accept", "text/event-stream")
	if after != "" {
		q.Header.Set("Last-Event-ID", after)
	}
	response, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer response.Body.Close()
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type %q, want text/event-stream", got)
	}
	var events []item
	var id, event string
	for lines := bufio.NewScanner(response.Body); len(events) < n; {
		if !lines.Scan() {
			t.Errorf("the stream ended after %d of %d events: %v", len(events), n, lines.Err())
			break
		}
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			id = value
		case "event":
			event = value
		case "data":
			var e item
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				t.Error(err)
			}
			if e.Cursor != id || event != textType {
				t.Errorf("id %s and event %s before %s", id, event, value)
			}
			events = append(events, e)
		}
	}
	return events
}

// client is a ResponseWriter that notes what it is told.
type client struct {
	mu       sync.Mutex
	buf      bytes.Buffer
	header   http.Header
	deadline time.Time // for writing
	writes   int
	bare     int // writes without a deadline
	gone     bool
}

func (c *client) Header() http.Header             { return c.header }
func (c *client) WriteHeader(int)                 {}
func (c *client) Flush()                          {}
func (c *client) SetReadDeadline(time.Time) error { return nil }
func (c *client) SetWriteDeadline(at time.Time) error {
	c.deadline = at
	return nil
}

func (c *client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writes++; c.deadline.IsZero() {
		c.bare++
	}
	if c.gone {
		return 0, io.ErrClosedPipe
	}
	return c.buf.Write(p)
}

// taken returns what was written since the last call.
func (c *client) taken() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.buf.Reset()
	return c.buf.String()
}

func TestStreamSendsHeartbeatsAndNewEventsAndEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			h := setup(t, engine)
			relay := outbox.NewRelay("/test", h.db, h.write, relayed(t), h.log)
			h.run(relay.Run)
			ctx, cancel := context.WithCancel(t.Context())
			q := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events", nil)
			q.Header.Set("Accept", "application/json;q=0.1, text/event-stream")
			c := &client{header: http.Header{}}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				relay.Feed().ServeHTTP(c, q)
			}()
			synctest.Wait()
			if got := c.taken(); got != ": /test\n\n" {
				t.Errorf("the stream begins with %q", got)
			}
			time.Sleep(15*time.Second + time.Millisecond)
			synctest.Wait()
			if got := c.taken(); got != ": still here\n\n" {
				t.Errorf("after 15 s of silence: %q", got)
			}
			e := text(t.Context(), "s", "new")
			h.append(t, e)
			relay.Wake()
			synctest.Wait()
			if got := c.taken(); !strings.HasPrefix(got, "id: 1\nevent: "+textType+"\ndata: {") || !strings.HasSuffix(got, "}\n\n") || strings.Count(got, "\n") != 4 {
				t.Errorf("a new event is sent as %q", got)
			}
			if c.bare != 0 || !c.deadline.IsZero() {
				t.Errorf("%d of %d writes had no deadline, and the one while idle is %s", c.bare, c.writes, c.deadline)
			}
			cancel()
			<-ended
		})
	})
}

func TestStreamEndsWhenItsClientDoesNotKeepUp(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			h := setup(t, engine)
			relay := outbox.NewRelay("/test", h.db, h.write, relayed(t), h.log)
			q := httptest.NewRequest(http.MethodGet, "/v1/events", nil)
			q.Header.Set("Accept", "text/event-stream")
			c := &client{header: http.Header{}}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				relay.Feed().ServeHTTP(c, q)
			}()
			synctest.Wait()
			c.mu.Lock()
			c.gone = true
			c.mu.Unlock()
			<-ended // by the next heartbeat
		})
	})
}

func TestFeedAnswersAFailingDatabaseWithAProblem(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, engine dbtest.Engine) {
		h := setup(t, engine)
		relay := outbox.NewRelay("/test", h.db, h.write, relayed(t), h.log)
		h.close()
		for _, accept := range []string{"application/json", "text/event-stream"} {
			q := httptest.NewRequest(http.MethodGet, "/v1/events", nil)
			q.Header.Set("Accept", accept)
			w := httptest.NewRecorder()
			relay.Feed().ServeHTTP(w, q)
			if w.Code != http.StatusInternalServerError || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %d %s, want a problem with 500", accept, w.Code, w.Header().Get("Content-Type"))
			}
		}
	})
}
