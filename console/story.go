package console

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
	paymentsapi "github.com/orderkeep/orderkeep/payments/v1/rest"
)

// line is one thing that happened, from whichever service.
type line struct {
	At      time.Time
	Lasted  time.Duration // 0 for an instant
	Service string
	Process string // its address, where there are several of the service; else ""
	Kind    string // step, call, retry, refused, event, undo, hand, log, span or work
	What    string
	Detail  string
	Bad     bool

	// On the time axis of its scene, in thousandths of its width.
	X, W   int
	Offset string
}

// scene is what happened without a long pause between, on one time axis.
type scene struct {
	From, To time.Time
	Lines    []line
	After    string // how long nothing had happened before it; "" for the first
}

// pause is how long nothing happens between two scenes: on one axis with a return after three days, the second in which the
// order was placed would be a point.
const pause = 20 * time.Second

// story collects the lines of an order from several services at once.
type story struct {
	mu    sync.Mutex
	lines []line
}

func (s *story) add(lines ...line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, lines...)
}

// happenedAt says which service a step of the stored timeline belongs to.
func happenedAt(what string) string {
	switch {
	case what == "reserved", strings.HasPrefix(what, "stock_"), strings.HasPrefix(what, "units_"):
		return "inventory"
	case what == "authorized", strings.HasPrefix(what, "payment_"):
		return "payments"
	}
	return "orders"
}

// steps are those of the timeline that Orders keeps.
func (s *story) steps(entries []ordersapi.TimelineEntry) {
	for _, e := range entries {
		l := line{At: e.At, Service: happenedAt(e.What), Kind: "step", What: strings.ReplaceAll(e.What, "_", " "), Detail: e.Detail.Value}
		switch e.What {
		case "rejected":
			l.Bad = true
		case "stock_released", "stock_returned", "payment_voided", "payment_refunded":
			l.Kind = "undo"
		case "stock_committed", "payment_captured":
			l.Kind = "event"
		}
		s.add(l)
	}
}

func (s *story) attempts(r *paymentsapi.PaymentRecord) {
	for _, a := range r.Attempts {
		l := line{At: a.StartedAt, Service: "payments", Kind: "call", What: string(a.Step) + " at the provider", Detail: string(a.Result)}
		if a.Error.Value != "" {
			l.Detail += ": " + a.Error.Value
		}
		if a.EndedAt.Set {
			l.Lasted = a.EndedAt.Value.Sub(a.StartedAt)
		}
		l.Bad = a.Result == paymentsapi.AttemptResultDeclined || a.Result == paymentsapi.AttemptResultUnknown
		if a.Step == paymentsapi.AttemptStepVoid || a.Step == paymentsapi.AttemptStepRefund {
			l.Kind = "undo"
		}
		s.add(l)
	}
}

func (s *story) acts(service string, acts []act) {
	for _, a := range acts {
		s.add(line{At: a.At, Service: service, Kind: "hand", What: strings.ReplaceAll(a.What, "_", " ") + " by " + a.Actor, Detail: a.Reason})
	}
}

// scenes are all lines in the order of time, each with its place on its scene's axis.
func (s *story) scenes() []scene {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.lines, func(a, b line) int { return a.At.Compare(b.At) })
	again(s.lines)
	var all []scene
	for _, l := range s.lines {
		n := len(all)
		if n == 0 || l.At.Sub(all[n-1].To) > pause {
			next := scene{From: l.At, To: l.At}
			if n > 0 {
				next.After = human(l.At.Sub(all[n-1].To))
			}
			all = append(all, next)
			n++
		}
		sc := &all[n-1]
		sc.Lines = append(sc.Lines, l)
		if end := l.At.Add(l.Lasted); end.After(sc.To) {
			sc.To = end
		}
	}
	for i := range all {
		sc := &all[i]
		whole := max(sc.To.Sub(sc.From), time.Millisecond)
		for j := range sc.Lines {
			l := &sc.Lines[j]
			at := l.At.Sub(sc.From)
			l.X = int(990 * at / whole)
			l.W = max(10, int(990*l.Lasted/whole))
			l.Offset = "+" + took(at)
		}
	}
	return all
}

// again makes retries of calls that failed before: those that recovery makes later are first attempts to whoever makes them.
func again(lines []line) {
	failed := map[string]bool{}
	for i := range lines {
		l := &lines[i]
		call := l.Service + " " + l.What
		if l.Kind == "call" && failed[call] {
			l.Kind = "retry"
		}
		if (l.Kind == "call" || l.Kind == "retry" || l.Kind == "refused") && l.Bad {
			failed[call] = true
		}
	}
}

// Span is how long a scene is.
func (s scene) Span() string {
	if s.To.Sub(s.From) == 0 {
		return "at once"
	}
	return took(s.To.Sub(s.From)) + " in all"
}

// window is how a process's recent log lines and spans could be had.
type window struct {
	Services []string
	Address  string    // "" if the services say enough
	Oldest   time.Time // of what it keeps; zero if it keeps nothing
	Trouble  *trouble
}

// Name is whose it is, in a sentence.
func (w window) Name() string {
	name := strings.Join(w.Services, ", ")
	switch {
	case w.Address == "":
		return name
	case name == "":
		return w.Address
	}
	return name + " at " + w.Address
}

// Kept are the windows in which something is kept.
func (p orderPage) Kept() []window {
	return slices.DeleteFunc(slices.Clone(p.Windows), func(w window) bool { return w.Trouble != nil || w.Oldest.IsZero() })
}

// entry is a log line or a span, as /internal/window has it.
type entry struct {
	Kind          string         `json:"kind"`
	At            time.Time      `json:"at"`
	DurationMs    float64        `json:"durationMs"`
	Service       string         `json:"service"`
	CorrelationID string         `json:"correlationId"`
	TraceID       string         `json:"traceId"`
	SpanID        string         `json:"spanId"`
	Level         string         `json:"level"`
	Message       string         `json:"message"`
	Name          string         `json:"name"`
	SpanKind      string         `json:"spanKind"`
	Error         string         `json:"error"`
	Attrs         map[string]any `json:"attrs"`
}

// mostEntries bounds what one process adds to the story of an order.
const mostEntries = 500

// beforeOrder is how long before an order was placed its story may begin: with what was asked under its correlation id before, by clocks that differ.
// What a process has kept of older times it need not read.
const beforeOrder = 10 * time.Minute

// windows asks every process what it logged and did for an order, and returns where its trace is, if traces are kept elsewhere too.
func (c *console) windows(ctx context.Context, o *ordersapi.Order, s *story) (all []window, traceURL string) {
	order, correlation := o.OrderId.String(), o.CorrelationId
	from := o.PlacedAt.Add(-beforeOrder).UTC().Format(time.RFC3339Nano)
	processes := c.peers.processes()
	var mu sync.Mutex
	found := map[string]entry{} // a process that is named twice tells things once
	at := map[string]process{}
	all = make([]window, len(processes))
	urls := make([]string, len(processes))
	var asking sync.WaitGroup
	for i, p := range processes {
		asking.Go(func() {
			all[i] = window{Services: c.watch.known(p), Address: p.Address()}
			var both sync.WaitGroup
			for _, by := range []url.Values{{"correlation": {correlation}}, {"text": {order}}} {
				by.Set("limit", strconv.Itoa(mostEntries))
				by.Set("from", from)
				both.Go(func() {
					var page struct {
						Service  string  `json:"service"`
						Oldest   string  `json:"oldest"`
						TraceURL string  `json:"traceUrl"`
						Entries  []entry `json:"entries"`
					}
					bad := p.ask(ctx, http.MethodGet, "/internal/window", by, &page)
					mu.Lock()
					defer mu.Unlock()
					if bad != nil {
						all[i].Trouble = bad
						return
					}
					all[i].Oldest, _ = time.Parse(time.RFC3339Nano, page.Oldest)
					urls[i] = page.TraceURL
					if page.Service != "" {
						all[i].Services = strings.Split(page.Service, "+")
					}
					for _, e := range page.Entries {
						if e.CorrelationID == correlation || !strings.HasPrefix(e.Name, "GET ") { // who only looked at it did nothing to it
							found[e.key()], at[e.key()] = e, p
						}
					}
				})
			}
			both.Wait()
		})
	}
	asking.Wait()
	trace := ""
	several := map[string]int{}
	for _, w := range all {
		for _, name := range w.Services {
			several[name]++
		}
	}
	for key, e := range found {
		l := e.line(strings.Join(at[key].Contexts, ", "))
		if several[l.Service] > 1 {
			l.Process = at[key].Address()
		}
		s.add(l)
		if e.CorrelationID == correlation && e.TraceID != "" {
			trace = e.TraceID // all know the same
		}
	}
	for _, template := range urls {
		if template != "" && (trace != "" || !strings.Contains(template, "{traceId}")) {
			traceURL = strings.NewReplacer("{traceId}", trace, "{correlationId}", url.PathEscape(correlation)).Replace(template)
		}
	}
	return all, traceURL
}

// key is the same for an entry that was found by the correlation id and by the order's.
func (e entry) key() string {
	return e.Kind + e.At.Format(time.RFC3339Nano) + e.SpanID + e.Name + e.Message
}

func (e entry) line(process string) line {
	l := line{At: e.At, Service: e.Service, Lasted: time.Duration(e.DurationMs * float64(time.Millisecond)), Kind: e.Kind, Bad: e.Error != ""}
	if l.Service == "" {
		l.Service = process
	}
	if e.Kind == "log" {
		l.What, l.Detail = e.Message, attributes(e.Attrs, "orderId")
		l.Bad = e.Level == "WARN" || e.Level == "ERROR"
		return l
	}
	l.What, l.Detail = e.Name, e.Error
	refused, _ := e.Attrs["refused"].(string)
	attempt, _ := e.Attrs["attempt"].(float64)
	switch {
	case refused != "":
		l.Kind, l.Detail = "refused", strings.TrimSpace(strings.ReplaceAll(refused, "_", " ")+" "+e.Error)
	case attempt > 1:
		l.Kind, l.What = "retry", fmt.Sprintf("%s, attempt %d", strings.TrimSuffix(e.Name, " attempt"), int(attempt))
	case attempt == 1:
		l.Kind, l.What = "call", strings.TrimSuffix(e.Name, " attempt")
	case strings.HasPrefix(e.Name, "publish "), strings.HasPrefix(e.Name, "consume "):
		l.Kind = "event"
	case e.SpanKind == "client":
		l.Kind = "call"
	case e.SpanKind == "internal":
		l.Kind = "work"
	}
	if service, method, ok := strings.Cut(strings.TrimPrefix(e.Name, "/orderkeep."), "/"); ok && strings.HasPrefix(e.Name, "/orderkeep.") {
		l.What = service[strings.LastIndexByte(service, '.')+1:] + "/" + method
	}
	if status, ok := e.Attrs["http.response.status_code"].(float64); ok && l.Detail == "" {
		l.Detail = fmt.Sprintf("answered %d", int(status))
	} else if l.Detail == "" {
		l.Detail = attributes(e.Attrs, "orderId", "attempt", "target", "refused", "subject", "rpc.system", "rpc.grpc.status_code")
	}
	return l
}

// attributes are the others of an entry, in one line.
func attributes(all map[string]any, but ...string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(but, name) {
			out = append(out, fmt.Sprintf("%s %v", name, all[name]))
		}
	}
	return strings.Join(out, ", ")
}
