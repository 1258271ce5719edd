// Package load sends requests to an HTTP server and says how it bore them: as many as it takes over some connections (a closed
// loop), or at a constant rate whether it keeps up or not (an open loop).
//
// It promises that in an open loop every request counts from the instant that it was due, also those that had to wait for a
// connection and those that were never sent: a server that stalls cannot hide it by holding back its own clients. It owns the
// connections, the clock and the histograms, and knows nothing of what is asked: the caller writes the requests and judges the
// answers. It sends HTTP/1.1 only, follows no redirect, and repeats nothing.
package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Run is one measurement: what to send, where, how hard and for how long.
type Run struct {
	URL         string  // the server: http:// or https://, host and port; a path is the requests' own
	Connections int     // requests under way at once, at most
	Rate        float64 // requests a second, due at even distances; 0 is a closed loop
	Duration    time.Duration
	// First is the number of the first request: what a run sends is a function of the numbers, so that one can go on where another ended.
	First uint64
	// Next appends request n, as it goes over the wire, to buf. It is called by many goroutines.
	Next func(n uint64, buf []byte) []byte
	// Judge names the outcome of an answer to request n, and says whether it was the one that is wanted: only such have their
	// latency counted. The body is gone when it returns. It is called by many goroutines.
	Judge func(n uint64, status int, body []byte) (outcome string, served bool)
	// Progress, if not nil, is called five times a second with the requests answered so far.
	Progress func(elapsed time.Duration, answered int64)
}

const (
	// timeout is how long an answer may take. It is recorded as if it had come then.
	timeout = 10 * time.Second
	// grace is how long requests that were due may still be sent after the end: past it they count as unsent.
	grace = time.Second
	// every is the time between two calls of Progress.
	every = 200 * time.Millisecond
	// digits of a latency are kept; 3 are one part in a thousand.
	digits = 3
)

// Result is what became of a run. Latencies are in microseconds.
type Result struct {
	Offered  float64       // requests a second, 0 in a closed loop
	Took     time.Duration // from the first request due to the last answer
	Served   int64         // answers that were wanted
	Unserved int64         // all other requests: other answers, none, and not sent in time
	Outcomes map[string]int64
	// Errors are why requests had no answer, each with one example's words.
	Errors map[string]int64
	// Latency is that of the answers that were wanted, and, in an open loop, what the requests that were not sent had waited.
	Latency *hdrhistogram.Histogram
	// Late is by how much this program itself sent requests too late although a connection was free: it is part of their latency, and the
	// client's own fault.
	Late *hdrhistogram.Histogram
	// Seconds are the wanted answers of each second since the start.
	Seconds []int64
}

// PerSecond is the rate at which wanted answers came.
func (r *Result) PerSecond() float64 {
	if r.Took <= 0 {
		return 0
	}
	return float64(r.Served) / r.Took.Seconds()
}

// Quantile is the latency that a share of the requests, such as 0.99, did not exceed.
func (r *Result) Quantile(share float64) time.Duration {
	return time.Duration(r.Latency.ValueAtQuantile(100*share)) * time.Microsecond
}

// ErrNobody says that no connection could be made at all.
var ErrNobody = errors.New("nobody answers")

// Do runs it. The end of ctx ends it early and is no error: the result is of what was sent until then. An error means that nothing
// could be sent.
func (r *Run) Do(ctx context.Context) (*Result, error) {
	if r.Connections < 1 || r.Rate < 0 || r.Duration <= 0 {
		return nil, errors.New("load: a run needs connections, and an end")
	}
	dial, err := dialer(r.URL)
	if err != nil {
		return nil, err
	}
	probe, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrNobody, r.URL, err)
	}
	probe.Close()
	g := &generator{Run: r, dial: dial, start: time.Now()}
	g.end = g.start.Add(r.Duration)
	g.next.Store(r.First)
	workers := make([]*worker, r.Connections)
	var wait sync.WaitGroup
	for i := range workers {
		workers[i] = newWorker(g)
		wait.Go(func() { workers[i].work(ctx) })
	}
	stop := g.watch()
	wait.Wait()
	stop()
	return g.sum(workers), nil
}

// generator is a run under way.
type generator struct {
	*Run
	dial     func(context.Context) (net.Conn, error)
	start    time.Time
	end      time.Time
	next     atomic.Uint64
	answered atomic.Int64
}

// watch reports progress until stop is called.
func (g *generator) watch() (stop func()) {
	if g.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				g.Progress(time.Since(g.start), g.answered.Load())
			}
		}
	})
	return func() { close(done); wait.Wait() }
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), digits)
}

// sum puts together what the workers have counted.
func (g *generator) sum(workers []*worker) *Result {
	sum := &Result{Offered: g.Rate, Outcomes: map[string]int64{}, Errors: map[string]int64{}, Latency: newHistogram(), Late: newHistogram()}
	last := g.start
	for _, w := range workers {
		sum.Served += w.served
		sum.Unserved += w.unserved
		sum.Latency.Merge(w.latency)
		sum.Late.Merge(w.late)
		for name, n := range w.outcomes {
			sum.Outcomes[name] += n
		}
		for name, n := range w.errors {
			sum.Errors[name] += n
		}
		for len(sum.Seconds) < len(w.seconds) {
			sum.Seconds = append(sum.Seconds, 0)
		}
		for i, n := range w.seconds {
			sum.Seconds[i] += n
		}
		if w.last.After(last) {
			last = w.last
		}
	}
	sum.Took = last.Sub(g.start)
	return sum
}

// dialer connects to the server of a URL.
func dialer(raw string) (func(context.Context) (net.Conn, error), error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("load: the server is not a URL such as http://127.0.0.1:3000")
	}
	return wire(u), nil
}
