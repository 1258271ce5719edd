package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Outcomes of requests that no answer came to. Those of answers are the caller's words.
const (
	NoAnswer = "no_answer" // the connection broke, or the answer took too long; what was asked for may have happened
	Unsent   = "unsent"    // due, and not sent when the run ended
)

// worker is one connection, and one request at a time on it.
type worker struct {
	g    *generator
	conn net.Conn
	in   *bufio.Reader
	calm func() bool // takes back what ends a request under way when the run is interrupted
	buf  []byte
	body bytes.Buffer

	served, unserved int64
	outcomes, errors map[string]int64
	latency, late    *hdrhistogram.Histogram
	seconds          []int64
	last             time.Time
}

func newWorker(g *generator) *worker {
	return &worker{g: g, outcomes: map[string]int64{}, errors: map[string]int64{}, latency: newHistogram(), late: newHistogram()}
}

func (w *worker) work(ctx context.Context) {
	defer w.hangUp()
	for ctx.Err() == nil {
		n, due, ok := w.turn(ctx)
		if !ok {
			return
		}
		if w.g.Rate > 0 && time.Now().After(w.g.end.Add(grace)) {
			w.count(Unsent, false)
			record(w.latency, time.Since(due))
			continue
		}
		status, err := w.ask(ctx, n)
		now := time.Now()
		w.last = now
		w.g.answered.Add(1)
		if err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted")
			}
			w.errors[reason(err)]++
			w.count(NoAnswer, false)
			w.hangUp()
			w.pause(ctx)
			continue
		}
		outcome, served := w.g.Judge(n, status, w.body.Bytes())
		w.count(outcome, served)
		if served {
			record(w.latency, now.Sub(due))
			second := int(now.Sub(w.g.start) / time.Second)
			for len(w.seconds) <= second {
				w.seconds = append(w.seconds, 0)
			}
			w.seconds[second]++
		}
	}
}

// turn takes the next request, and waits until it is due.
func (w *worker) turn(ctx context.Context) (n uint64, due time.Time, ok bool) {
	g := w.g
	n = g.next.Add(1) - 1
	if g.Rate == 0 {
		due = time.Now()
		return n, due, !due.After(g.end)
	}
	due = g.start.Add(time.Duration(float64(n-g.First) / g.Rate * float64(time.Second)))
	if !due.Before(g.end) {
		return n, due, false
	}
	if wait := time.Until(due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return n, due, false
		case <-timer.C:
		}
		record(w.late, time.Since(due))
	}
	return n, due, true
}

// ask sends request n and reads the whole answer; its body is in w.body.
func (w *worker) ask(ctx context.Context, n uint64) (status int, err error) {
	if w.conn == nil {
		if w.conn, err = w.g.dial(ctx); err != nil {
			return 0, err
		}
		conn := w.conn
		w.calm = context.AfterFunc(ctx, func() { conn.Close() })
		if w.in == nil {
			w.in = bufio.NewReaderSize(w.conn, 4<<10)
		} else {
			w.in.Reset(w.conn)
		}
	}
	if err := w.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, err
	}
	w.buf = w.g.Next(n, w.buf[:0])
	if _, err := w.conn.Write(w.buf); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return 0, err
	}
	w.body.Reset()
	_, err = w.body.ReadFrom(res.Body)
	res.Body.Close()
	if err == nil && res.Close {
		w.hangUp()
	}
	return res.StatusCode, err
}

func (w *worker) hangUp() {
	if w.conn != nil {
		w.calm()
		w.conn.Close()
		w.conn = nil
	}
}

// pause keeps a closed loop from spinning on a server that is gone.
func (w *worker) pause(ctx context.Context) {
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (w *worker) count(outcome string, served bool) {
	w.outcomes[outcome]++
	if served {
		w.served++
	} else {
		w.unserved++
	}
}

// record keeps a latency; one beyond the histogram's end counts as its end.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	us := max(1, int64(d/time.Microsecond))
	if h.RecordValue(us) != nil {
		_ = h.RecordValue(h.HighestTrackableValue())
	}
}

// reason is an error in few words, so that thousands of the same are one line: addresses and ports differ.
func reason(err error) string {
	var e *net.OpError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no answer within %v", timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the server closed the connection"
	case errors.As(err, &e):
		return e.Op + ": " + e.Err.Error()
	}
	return err.Error()
}

// wire makes connections to a server, with TLS if its URL says so.
func wire(u *url.URL) func(context.Context) (net.Conn, error) {
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	d := &net.Dialer{Timeout: 5 * time.Second}
	if u.Scheme == "https" {
		secure := &tls.Dialer{NetDialer: d, Config: &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}}}
		return func(ctx context.Context) (net.Conn, error) { return secure.DialContext(ctx, "tcp", host) }
	}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", host) }
}

// AppendRequest appends a request as it goes over the wire to buf. header is more lines of the header, each with its CRLF; a body is
// JSON.
func AppendRequest(buf []byte, method, host, path, header string, body []byte) []byte {
	buf = append(buf, method...)
	buf = append(buf, ' ')
	buf = append(buf, path...)
	buf = append(buf, " HTTP/1.1\r\nHost: "...)
	buf = append(buf, host...)
	buf = append(buf, "\r\n"...)
	buf = append(buf, header...)
	if body != nil {
		buf = append(buf, "Content-Type: application/json\r\nContent-Length: "...)
		buf = strconv.AppendInt(buf, int64(len(body)), 10)
		buf = append(buf, "\r\n"...)
	}
	buf = append(buf, "\r\n"...)
	return append(buf, body...)
}
