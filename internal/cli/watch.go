package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// watching are the settings of verify that goes on.
type watching struct {
	Watch         bool          `help:"Go on until Ctrl-C or SIGTERM, and print a line whenever something changes. The exit code is that of the last verdict."`
	Interval      time.Duration `default:"1m" placeholder:"DURATION" help:"With --watch: from the end of one audit to the beginning of the next."`
	MetricsListen string        `placeholder:"ADDRESS" help:"With --watch: answer GET /metrics here, such as 127.0.0.1:9464."`
	MetricsFrom   node.Prefixes `placeholder:"CIDR" help:"Networks, besides this machine, that may read /metrics, separated by commas."`
}

func (c *watching) check(json bool) error {
	switch {
	case !c.Watch && (c.MetricsListen != "" || len(c.MetricsFrom) > 0):
		return usage("--metrics-listen goes with --watch")
	case c.Watch && json:
		return usage("--watch has no end that one JSON document could have; --metrics-listen is for programs")
	case c.Interval <= 0:
		return usage("--interval must be above 0, such as 1m")
	}
	return nil
}

// watch audits again and again. What cannot be read is said once and tried again.
func (s *session) watch(c *watching, cfg node.Config) error {
	w := &watch{out: s.out}
	if c.MetricsListen != "" {
		stop, err := w.serve(s.err, c)
		if err != nil {
			return err
		}
		defer stop()
	}
	for {
		begin := time.Now()
		r, err := s.audit(cfg)
		if s.ctx.Err() == nil {
			if err := w.note(begin, time.Now(), r, err); err != nil {
				return err
			}
			select {
			case <-time.After(c.Interval):
				continue
			case <-s.ctx.Done():
			}
		}
		switch {
		case w.said == nothing:
			return s.ctx.Err()
		case w.said != kept:
			return errShown
		}
		return nil
	}
}

// verdict is what an audit came to.
type verdict int

const (
	nothing verdict = iota // not yet
	kept
	violated
	unknown // it could not read
)

// watch is what was found so far.
type watch struct {
	out    io.Writer
	said   verdict
	broken map[audit.Violation]bool

	metrics *telemetry.Metrics // nil if nobody asks
	rules   map[string]bool    // that have their series
	mu      sync.Mutex         // guards found
	found   readings
}

// readings are what the last audit found, by rule.
type readings struct {
	broken, waiting, oldest map[string]float64
	ended, took             float64 // seconds
	failures                float64
}

// note tells what has changed.
func (w *watch) note(begin, end time.Time, r audit.Report, failed error) error {
	w.measure(begin, end, r, failed)
	var lines []string
	line := func(format string, args ...any) {
		lines = append(lines, end.UTC().Format(time.RFC3339)+" "+fmt.Sprintf(format, args...)+"\n")
	}
	if failed != nil {
		if w.said != unknown {
			line("unknown: %s", strings.ReplaceAll(failed.Error(), "\n", "; "))
		}
		w.said = unknown
		return w.print(lines)
	}
	found := map[audit.Violation]bool{}
	for _, v := range r.Violations {
		found[v] = true
		if !w.broken[v] {
			line("broken: %s %s", v.Rule, v.Detail)
		}
	}
	for _, v := range slices.SortedFunc(maps.Keys(w.broken), func(a, b audit.Violation) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Detail, b.Detail))
	}) {
		if !found[v] {
			line("mended: %s %s", v.Rule, v.Detail)
		}
	}
	now := kept
	if !r.OK {
		now = violated
	}
	if now != w.said || len(lines) > 0 {
		if r.OK {
			line("ok: no promise is broken")
		} else {
			line("%s", plural(int64(len(r.Violations)), "violation"))
		}
	}
	w.said, w.broken = now, found
	return w.print(lines)
}

func (w *watch) print(lines []string) error {
	_, err := io.WriteString(w.out, strings.Join(lines, ""))
	return err
}

// measure makes the figures those of this audit. One that could not read leaves those of the last that could.
func (w *watch) measure(begin, end time.Time, r audit.Report, failed error) {
	f := readings{
		broken: map[string]float64{}, waiting: map[string]float64{}, oldest: map[string]float64{},
		ended: float64(end.UnixMilli()) / 1000, took: end.Sub(begin).Seconds(),
	}
	for _, v := range r.Violations {
		f.broken[v.Rule] += float64(max(1, v.Times))
		w.series(v.Rule)
	}
	for _, x := range r.OnItsWay {
		f.waiting[x.Rule], f.oldest[x.Rule] = float64(x.Count), float64(x.OldestSeconds)
		w.series(x.Rule)
	}
	w.mu.Lock() // no sooner: series waits for who reads, and who reads waits for this
	defer w.mu.Unlock()
	if failed != nil {
		w.found.failures++
		return
	}
	f.failures = w.found.failures
	w.found = f
}

// series adds the metrics of a rule, once. A context's own rules are known when they are first broken.
func (w *watch) series(rule string) {
	if w.metrics == nil || w.rules[rule] {
		return
	}
	w.rules[rule] = true
	w.metrics.Gauge("orderkeep_verify_violations", "What the last audit found broken.", w.read(func(f readings) float64 { return f.broken[rule] }), "rule", rule)
	w.metrics.Gauge("orderkeep_verify_waiting", "What the last audit found on its way.", w.read(func(f readings) float64 { return f.waiting[rule] }), "rule", rule)
	w.metrics.Gauge("orderkeep_verify_oldest_seconds", "The age of the oldest that it found on its way.", w.read(func(f readings) float64 { return f.oldest[rule] }), "rule", rule)
}

func (w *watch) read(f func(readings) float64) func() float64 {
	return func() float64 {
		w.mu.Lock()
		defer w.mu.Unlock()
		return f(w.found)
	}
}

// serve answers GET /metrics until stop.
func (w *watch) serve(log io.Writer, c *watching) (stop func(), err error) {
	w.metrics, w.rules = telemetry.NewMetrics(), map[string]bool{}
	for _, rule := range audit.Rules() {
		w.series(rule)
	}
	w.metrics.Gauge("orderkeep_verify_last_timestamp_seconds", "When the last audit ended that could read, since 1970; 0 if none did.", w.read(func(f readings) float64 { return f.ended }))
	w.metrics.Gauge("orderkeep_verify_last_duration_seconds", "How long it took.", w.read(func(f readings) float64 { return f.took }))
	w.metrics.Count("orderkeep_verify_failures_total", "Audits that could not read.", w.read(func(f readings) float64 { return f.failures }))
	l, err := net.Listen("tcp", c.MetricsListen)
	if err != nil {
		return nil, fmt.Errorf("--metrics-listen: %w", err)
	}
	server := httpd.New(httpd.Options{Metrics: w.metrics, MetricsFrom: c.MetricsFrom})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	fmt.Fprintf(log, "orderkeep: metrics at http://%s/metrics\n", l.Addr())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // a reader that hangs is not waited for
		defer cancel()
		if err := errors.Join(server.Drain(ctx), <-ended); err != nil {
			fmt.Fprintf(log, "orderkeep: %v\n", err)
		}
	}, nil
}
