package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/orderkeep/orderkeep/internal/httpd"
)

const (
	// heartbeat is under the 30 s or 60 s after which proxies commonly cut a silent connection.
	heartbeat = 15 * time.Second
	// partTime is how long a client may take to accept what is sent to it at once, before it counts as gone. It
	// resumes with its cursor.
	partTime = 20 * time.Second
	// streamBatch bounds the memory that one stream takes.
	streamBatch = 100
)

// stream sends the events after a position as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)
// until the request's context ends or the client does not keep up.
func (r *Relay) stream(w http.ResponseWriter, q *http.Request, after int64) {
	ctx := q.Context()
	next := r.signal.next() // before the read: a position given between the two is not missed
	events, err := r.read(ctx, queryFeed, after, streamBatch)
	if err != nil {
		httpd.WriteProblem(w, q, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would otherwise hold events back
	w.WriteHeader(http.StatusOK)
	out := part{w: w, control: http.NewResponseController(w)}
	if err := out.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return
	}
	out.buf.WriteString(": " + r.source + "\n\n") // so that the client sees at once that it is connected
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	poll := time.NewTicker(relayPoll) // another process may publish too
	defer poll.Stop()
	for {
		for _, p := range events {
			if err := out.event(p); err != nil {
				r.log.ErrorContext(ctx, "an event cannot be sent", "source", r.source, "eventId", p.ID, "error", err)
				return
			}
			after = p.position
		}
		if err := out.send(); err != nil {
			return // the client is gone, or as good as gone
		}
		if len(events) < streamBatch && !out.idle(ctx, next, beat.C, poll.C) {
			return
		}
		next = r.signal.next()
		if events, err = r.read(ctx, queryFeed, after, streamBatch); err != nil {
			if ctx.Err() == nil {
				r.log.WarnContext(ctx, "a stream of events ends: its client will come back", "source", r.source, "error", err)
			}
			return
		}
	}
}

// part collects what is sent at once.
type part struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
}

func (p *part) event(e published) error {
	fmt.Fprintf(&p.buf, "id: %s\nevent: %s\ndata: ", strconv.FormatInt(e.position, 10), e.Type)
	if err := encode(&p.buf, e.cloud()); err != nil {
		return err
	}
	p.buf.WriteByte('\n')
	return nil
}

// idle waits for something to read, sending heartbeats. It is false when the stream is over.
func (p *part) idle(ctx context.Context, next <-chan struct{}, beat, poll <-chan time.Time) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-next:
			return true
		case <-poll:
			return true
		case <-beat:
			p.buf.WriteString(": still here\n\n")
			if err := p.send(); err != nil {
				return false
			}
		}
	}
}

// send writes and flushes. The time for it replaces the server's for a whole answer, and is lifted while nothing is
// sent. A ResponseWriter that knows no deadlines is one without a network.
func (p *part) send() error {
	if p.buf.Len() == 0 {
		return nil
	}
	if err := p.control.SetWriteDeadline(time.Now().Add(partTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := p.w.Write(p.buf.Bytes()); err != nil {
		return err
	}
	p.buf.Reset()
	if err := p.control.Flush(); err != nil {
		return err
	}
	if err := p.control.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
