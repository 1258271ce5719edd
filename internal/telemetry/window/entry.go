package window

import (
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Kinds of entries.
const (
	Log  = "log"
	Span = "span"
)

// Entry is one log line or one finished span.
type Entry struct {
	Kind          string    `json:"kind"`
	At            time.Time `json:"at"` // of a span: when it began
	Service       string    `json:"service"`
	CorrelationID string    `json:"correlationId,omitempty"`
	TraceID       string    `json:"traceId,omitempty"` // 32 hexadecimal digits
	SpanID        string    `json:"spanId,omitempty"`  // 16 hexadecimal digits; of a line: the span that it was written in

	// Of a line.
	Level   string `json:"level,omitempty"` // DEBUG, INFO, WARN or ERROR
	Message string `json:"message,omitempty"`

	// Of a span.
	Name       string  `json:"name,omitempty"`
	SpanKind   string  `json:"spanKind,omitempty"` // server, client, producer, consumer or internal
	ParentID   string  `json:"parentId,omitempty"`
	DurationMS float64 `json:"durationMs,omitempty"`
	Error      string  `json:"error,omitempty"` // empty if it went well
	Links      []Link  `json:"links,omitempty"`

	Attrs map[string]any `json:"attrs,omitempty"`
}

// Link is a span in another trace, or elsewhere in this one, that a span has to do with.
type Link struct {
	TraceID string `json:"traceId"`
	SpanID  string `json:"spanId"`
}

// Failed reports a line of level WARN or above, or a span with an error.
func (e *Entry) Failed() bool { return e.Error != "" || severity(e.Level) >= severity("WARN") }

// severity orders levels; what is none is below all.
func severity(level string) int {
	return slices.Index([]string{"DEBUG", "INFO", "WARN", "ERROR"}, level)
}

// Page is what a process answers to a Query.
type Page struct {
	Service string     `json:"service"`          // the names of its contexts, with + between them
	Oldest  *time.Time `json:"oldest,omitempty"` // what is older than this is not kept any more; absent if nothing is kept
	Next    string     `json:"next"`             // the Query.After that goes on after this page
	More    bool       `json:"more"`             // there was more than Limit
	// TraceURL is where traces are looked up, if the process sends them to a collector: {traceId} and {correlationId} stand for theirs.
	TraceURL string  `json:"traceUrl,omitempty"`
	Entries  []Entry `json:"entries"` // in the order in which they were written
}

// Limits of a Query.
const (
	DefaultLimit = 200
	MaxLimit     = 1000
	MaxText      = 200 // bytes of one text
	MaxTexts     = 16
	MaxWait      = 25 * time.Second
)

// Query selects entries; what is zero selects all.
type Query struct {
	Correlation string
	Trace       string
	Text        []string  // that an entry has in it as it is written in JSON; one of them is enough
	Kind        string    // Log or Span
	Level       string    // INFO, WARN or ERROR: lines of this level or above; of spans, for WARN and ERROR, those that failed
	From        time.Time // inclusive
	After       string    // a cursor: Page.Next
	Limit       int       // DefaultLimit if 0. Without After it is the newest, and with it the next
	// Wait is how long the answer may be held back until there is something after After.
	Wait time.Duration
}

// Values is q as GET /internal/window takes it.
func (q Query) Values() url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("correlation", q.Correlation)
	set("trace", q.Trace)
	set("kind", q.Kind)
	set("level", q.Level)
	set("after", q.After)
	for _, t := range q.Text {
		v.Add("text", t)
	}
	if !q.From.IsZero() {
		v.Set("from", q.From.UTC().Format(time.RFC3339Nano))
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Wait != 0 {
		v.Set("wait", strconv.Itoa(int(q.Wait.Seconds())))
	}
	return v
}

// matches reports whether an entry is one of those that q selects, Text apart.
func (q *Query) matches(e *Entry) bool {
	return (q.Correlation == "" || e.CorrelationID == q.Correlation) && (q.Trace == "" || e.TraceID == q.Trace) &&
		(q.Kind == "" || e.Kind == q.Kind) && !e.At.Before(q.From) && q.severe(e)
}

func (q *Query) severe(e *Entry) bool {
	if least := severity(q.Level); e.Kind == Log || least <= severity("INFO") {
		return severity(e.Level) >= least || e.Kind == Span
	}
	return e.Failed()
}
