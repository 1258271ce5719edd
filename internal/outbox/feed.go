package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

const (
	feedDefault = 100
	feedMost    = 1000
)

var (
	errCursor = fault.New(fault.Invalid, "invalid_cursor", "The cursor is none that this feed gave out. Start without one, or give the cursor of the last event that you have seen.")
	errBefore = fault.New(fault.Invalid, "invalid_cursor", "before looks back, the newest first: leave out after, and do not ask for a stream.")
	errGone   = fault.New(fault.NotFound, "cursor_expired", "")
	errLimit  = fault.New(fault.Invalid, "invalid_limit", "The limit is a whole number from 1 to %d.", feedMost)
)

// Feed serves what has been published, in order of position: a page of CloudEvents as JSON, or, to a client that
// accepts text/event-stream, all of them and then each new one. It skips nothing and repeats nothing: a cursor
// before what was archived is refused as cursor_expired, and who has no cursor begins with the oldest event that there is. With the parameter before,
// pages go back from the newest, to that one. A stream ends with its request's context.
func (r *Relay) Feed() http.Handler { return http.HandlerFunc(r.feed) }

func (r *Relay) feed(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodGet {
		httpd.MethodNotAllowed(w, q, http.MethodGet)
		return
	}
	query := q.URL.Query()
	after, err := cursor(query.Get("after"))
	if err != nil {
		httpd.WriteProblem(w, q, err)
		return
	}
	back := query.Has("before")
	if back && (query.Has("after") || accepts(q, "text/event-stream")) {
		httpd.WriteProblem(w, q, errBefore)
		return
	}
	if accepts(q, "text/event-stream") {
		// A client that reconnects repeats its first URL and adds where it was.
		if last := q.Header.Get("Last-Event-ID"); last != "" {
			if after, err = cursor(last); err != nil {
				httpd.WriteProblem(w, q, err)
				return
			}
		}
		r.stream(w, q, after)
		return
	}
	limit := feedDefault
	if query.Has("limit") {
		if limit, err = strconv.Atoi(query.Get("limit")); err != nil || limit < 1 || limit > feedMost {
			httpd.WriteProblem(w, q, errLimit)
			return
		}
	}
	if !back {
		r.page(w, q, queryFeed, after, query.Get("after"), limit)
		return
	}
	before := int64(math.MaxInt64)
	if query.Get("before") != "" {
		if before, err = cursor(query.Get("before")); err != nil {
			httpd.WriteProblem(w, q, err)
			return
		}
	}
	r.page(w, q, queryFeedBack, before, query.Get("before"), limit)
}

// page answers with the events beyond a position in the order of the statement; given is how it was asked for.
func (r *Relay) page(w http.ResponseWriter, q *http.Request, statement string, beyond int64, given string, limit int) {
	events, err := r.read(q.Context(), statement, beyond, limit)
	if err != nil {
		httpd.WriteProblem(w, q, err)
		return
	}
	page := struct {
		Events []cloudEvent `json:"events"`
		Next   string       `json:"next"`
	}{Events: make([]cloudEvent, 0, len(events)), Next: given}
	for _, p := range events {
		page.Events = append(page.Events, p.cloud())
	}
	if len(events) > 0 {
		page.Next = page.Events[len(events)-1].Cursor
	}
	var body bytes.Buffer
	if err := encode(&body, page); err != nil {
		httpd.WriteProblem(w, q, fmt.Errorf("write a page of the feed beyond %d: %w", beyond, err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	_, _ = w.Write(body.Bytes()) // a client that is gone asks again
}

// anywhere is the cursor of a reader that has none: it begins with the oldest event that there is.
const anywhere = -1

// cursor reads a position that the feed gave out; "" is the beginning.
func cursor(s string) (int64, error) {
	if s == "" {
		return anywhere, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, errCursor
	}
	return n, nil
}

func accepts(q *http.Request, mediaType string) bool {
	for _, line := range q.Header.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), mediaType) {
				return true
			}
		}
	}
	return false
}

// published is an event with its place in the feed.
type published struct {
	Event
	position int64
}

const queryFeed = `SELECT position, id, type, subject, time, correlation_id, causation_id, traceparent, data
	FROM outbox WHERE position IS NOT NULL AND position > $1 ORDER BY position LIMIT $2`

// queryFeedBack is the same the other way, for people who look at what was last.
const queryFeedBack = `SELECT position, id, type, subject, time, correlation_id, causation_id, traceparent, data
	FROM outbox WHERE position IS NOT NULL AND position < $1 ORDER BY position DESC LIMIT $2`

func (r *Relay) read(ctx context.Context, statement string, beyond int64, limit int) ([]published, error) {
	rows, err := r.db.Query(ctx, statement, beyond, limit)
	if err != nil {
		return nil, fmt.Errorf("read the feed beyond %d: %w", beyond, err)
	}
	defer rows.Close()
	var events []published
	for rows.Next() {
		p := published{Event: Event{Source: r.source}}
		if err := p.scan(rows, &p.position); err != nil {
			return nil, fmt.Errorf("read the feed beyond %d: %w", beyond, err)
		}
		events = append(events, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the feed beyond %d: %w", beyond, err)
	}
	// Positions have no gaps, and the last event always stays: what is missing was archived.
	if statement == queryFeed && len(events) > 0 && beyond != anywhere && events[0].position != beyond+1 {
		return nil, errGone.Detailf("The events after cursor %d up to %d were moved out into an archive. Read them there (orderkeep archive), or go on without them after cursor %[2]d.",
			beyond, events[0].position-1)
	}
	return events, nil
}

// cloudEvent is the JSON format of CloudEvents 1.0; the names of its attributes are given there, and have no capitals.
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            string          `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	CorrelationID   string          `json:"correlationid,omitempty"`
	CausationID     string          `json:"causationid,omitempty"`
	TraceParent     string          `json:"traceparent,omitempty"`
	Cursor          string          `json:"cursor"`
	Data            json.RawMessage `json:"data,omitempty"`
	DataBase64      []byte          `json:"data_base64,omitempty"`
}

func (p published) cloud() cloudEvent {
	c := cloudEvent{
		SpecVersion: "1.0", ID: p.ID, Source: p.Source, Type: p.Type, Subject: p.Subject, Time: p.Time.Format(time.RFC3339Nano),
		CorrelationID: p.CorrelationID, CausationID: p.CausationID, TraceParent: p.TraceParent, Cursor: strconv.FormatInt(p.position, 10),
	}
	data, err := dataJSON(p.Type, p.Data)
	if err != nil {
		// Written by a program with another contract: a reader that knows the message can still have it.
		c.DataContentType, c.DataBase64 = "application/protobuf", p.Data
		return c
	}
	c.DataContentType, c.Data = "application/json", data
	return c
}

// dataJSON renders a message as Protobuf's JSON mapping says, fields at their zero value included. Its white space varies
// from one build to the next, and goes when the event around it is encoded.
func dataJSON(eventType string, data []byte) ([]byte, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(eventType))
	if err != nil {
		return nil, err
	}
	m := t.New().Interface()
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, err
	}
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
}

// encode writes v as compact JSON on one line that ends with a line feed.
func encode(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
