package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/program"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/telemetry/window"
	api "github.com/orderkeep/orderkeep/orders/v1/rest"
)

// processes are those whose recent log lines and spans are asked for. The console takes the same setting.
type processes struct {
	Process []string `env:"ORDERKEEP_PROCESSES" placeholder:"URL" help:"A process to ask for its recent log lines and spans, all replicas of all services; once for each. Default: the server that --url names."`
}

func (p *processes) urls(s *session) []string {
	if len(p.Process) == 0 {
		return []string{s.url}
	}
	return p.Process
}

// page asks one process.
func (s *session) page(ctx context.Context, url string, q window.Query) (p window.Page, err error) {
	at := *s
	at.ctx, at.url = ctx, url
	text, err := at.internal(http.MethodGet, "/internal/window?"+q.Values().Encode())
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(text, &p)
}

// recent asks all processes at once, and merges what they have by time. Who does not answer is told of and left out; none that does is
// an error.
func (p *processes) recent(s *session, q window.Query) (entries []window.Entry, missing map[string]error, pages map[string]window.Page, err error) {
	urls := p.urls(s)
	pages, missing = map[string]window.Page{}, map[string]error{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, url := range urls {
		all.Go(func() {
			found, err := s.page(s.ctx, url, q)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing[url] = err
				return
			}
			pages[url] = found
		})
	}
	all.Wait()
	for _, url := range urls {
		entries = append(entries, pages[url].Entries...)
	}
	slices.SortStableFunc(entries, func(a, b window.Entry) int { return a.At.Compare(b.At) })
	if len(pages) == 0 {
		return nil, missing, nil, missing[urls[0]]
	}
	return entries, missing, pages, nil
}

// note tells of the processes that did not answer.
func (s *session) note(missing map[string]error) {
	for _, url := range slices.Sorted(maps.Keys(missing)) {
		fmt.Fprintf(s.err, "Without the log lines and spans of %s: %v\n", program.Masked(url), missing[url])
	}
}

type logsCmd struct {
	Correlation string        `placeholder:"ID" help:"Only what is of this request, by its correlation id."`
	Order       string        `placeholder:"ID" help:"Only what names this order."`
	Kind        string        `enum:"log,span," default:"" placeholder:"KIND" help:"Only log lines (log) or spans (span)."`
	Level       string        `enum:"info,warn,error," default:"" placeholder:"LEVEL" help:"Only lines of this level or above: info, warn or error; with the last two, spans that failed."`
	Since       time.Duration `placeholder:"DURATION" help:"Only what began within this time, such as 15m."`
	Limit       int           `default:"200" help:"At most so many of each process, the newest; 1 to 1000."`
	Follow      bool          `help:"Go on with what comes, until interrupted."`
	processes
}

func (c *logsCmd) Run(s *session) error {
	if c.Limit < 1 || c.Limit > window.MaxLimit {
		return usage("--limit: must be from 1 to %d", window.MaxLimit)
	}
	q := window.Query{Correlation: c.Correlation, Kind: c.Kind, Level: c.Level, Limit: c.Limit}
	if c.Order != "" {
		q.Text = []string{c.Order}
	}
	if c.Since > 0 {
		q.From = time.Now().Add(-c.Since)
	}
	entries, missing, pages, err := c.recent(s, q)
	if err != nil {
		return err
	}
	s.note(missing)
	if s.json && !c.Follow {
		if entries == nil {
			entries = []window.Entry{}
		}
		return s.document(map[string]any{"entries": entries})
	}
	for i := range entries {
		if err := s.entry(&entries[i]); err != nil {
			return err
		}
	}
	if !c.Follow {
		return nil
	}
	return c.follow(s, q, pages)
}

// followWait is how long one question of a follower may be held, and followAgain how long it waits for a process that is away.
const (
	followWait  = 20 * time.Second
	followAgain = time.Second
)

// follow prints what comes, from each process on its own.
func (c *logsCmd) follow(s *session, q window.Query, pages map[string]window.Page) error {
	var mu sync.Mutex
	var gone error // writing failed
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var all sync.WaitGroup
	q.From, q.Limit, q.Wait = time.Time{}, window.MaxLimit, followWait
	for _, url := range c.urls(s) {
		all.Go(func() {
			q := q
			q.After = pages[url].Next // of one that did not answer: "", what it has now
			away := false
			for ctx.Err() == nil {
				p, err := s.page(ctx, url, q)
				mu.Lock()
				switch {
				case ctx.Err() != nil:
				case err != nil && !away:
					s.note(map[string]error{url: err})
				case err == nil && away:
					fmt.Fprintf(s.err, "%s answers again\n", program.Masked(url))
				}
				away = err != nil
				for i := range p.Entries {
					if err := s.entry(&p.Entries[i]); err != nil {
						gone = err
						cancel()
						break
					}
				}
				mu.Unlock()
				if away {
					select {
					case <-ctx.Done():
					case <-time.After(followAgain):
					}
					continue
				}
				q.After = p.Next
			}
		})
	}
	all.Wait()
	return gone // interrupted, as it is meant to end
}

// clock is how entries tell the time: in UTC, to the millisecond.
const clock = "2006-01-02T15:04:05.000Z"

// entry prints one, as a line for people or as a line of JSON.
func (s *session) entry(e *window.Entry) error {
	if s.json {
		return json.NewEncoder(s.out).Encode(e)
	}
	what, detail := told(e)
	level := e.Level
	if e.Kind == window.Span {
		level = "span"
	}
	line := fmt.Sprintf("%s  %-9s  %-5s  %s", e.At.UTC().Format(clock), e.Service, level, what)
	if detail != "" {
		line += "  " + detail
	}
	if e.CorrelationID != "" {
		line += "  correlationId=" + e.CorrelationID
	}
	_, err := io.WriteString(s.out, line+"\n")
	return err
}

// told is an entry in words.
func told(e *window.Entry) (what, detail string) {
	var parts []string
	what = e.Message
	if e.Kind == window.Span {
		what = e.Name
		parts = append(parts, strconv.FormatFloat(e.DurationMS, 'f', 1, 64)+"ms")
	}
	for _, name := range slices.Sorted(maps.Keys(e.Attrs)) {
		v := fmt.Sprint(e.Attrs[name])
		if v == "" || strings.ContainsAny(v, " \"\n\t") {
			v = strconv.Quote(v)
		}
		parts = append(parts, name+"="+v)
	}
	if e.Error != "" {
		parts = append(parts, "error="+strconv.Quote(e.Error))
	}
	return what, strings.Join(parts, " ")
}

type orderTimelineCmd struct {
	orderID
	processes
}

// moment is one thing on an order's time axis.
type moment struct {
	At         time.Time `json:"at"`
	What       string    `json:"what"`
	Detail     string    `json:"detail,omitempty"`
	Kind       string    `json:"kind"` // record: kept for ever, by Orders; log or span: of a process, for as long as it keeps them
	Service    string    `json:"service"`
	DurationMS float64   `json:"durationMs,omitempty"` // of a span
	Error      string    `json:"error,omitempty"`      // of a span that failed
}

func (c *orderTimelineCmd) Run(s *session) error {
	cl, err := s.client(1, false)
	if err != nil {
		return err
	}
	res, err := cl.orders.GetOrderTimeline(s.ctx, api.GetOrderTimelineParams{OrderId: c.ID})
	if err := cl.explain(answer(res, err)); err != nil {
		return err
	}
	t := res.(*api.Timeline)
	found, err := cl.orders.GetOrder(s.ctx, api.GetOrderParams{OrderId: c.ID})
	if err := cl.explain(answer(found, err)); err != nil {
		return err
	}
	id := found.(*api.Order).CorrelationId
	q := window.Query{Limit: window.MaxLimit, Text: []string{t.OrderId.String()}}
	if id != "" && len(id) <= window.MaxText {
		q.Text = append(q.Text, id, telemetry.TraceID(id).String()) // a batch names the trace that it links to
	}
	entries, missing, _, _ := c.recent(s, q) // without any, the record is left
	all := []moment{}
	for _, e := range t.Entries {
		all = append(all, moment{At: e.At, What: e.What, Detail: e.Detail.Value, Kind: "record", Service: "orders"})
	}
	for i := range entries {
		e := &entries[i]
		m := moment{At: e.At, Kind: e.Kind, Service: e.Service, DurationMS: e.DurationMS, Error: e.Error}
		m.What, m.Detail = told(e)
		all = append(all, m)
	}
	slices.SortStableFunc(all, func(a, b moment) int { return a.At.Compare(b.At) })
	s.note(missing)
	if s.json {
		return s.document(map[string]any{"orderId": t.OrderId, "entries": all})
	}
	rows := make([][]string, len(all))
	for n, m := range all {
		rows[n] = []string{m.At.UTC().Format(clock), m.Service, m.Kind, m.What, m.Detail}
	}
	return table(s.out, []string{"AT", "SERVICE", "KIND", "WHAT", "DETAIL"}, rows)
}
