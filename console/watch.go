package console

import (
	"bufio"
	"bytes"
	"context"
	"math"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// watchEvery is how often the processes are asked while somebody looks.
	watchEvery = 3 * time.Second
	// watchKeep is a quarter of an hour of readings, in 300 points.
	watchKeep = 300
	// watchLonger is how long readings go on after the last look: whoever comes back finds what happened meanwhile. An idle process
	// that nobody looks at is not read at all.
	watchLonger = 15 * time.Minute
)

// watch reads what the processes say of themselves, and keeps the last quarter of an hour of it.
type watch struct {
	console *console

	mu       sync.Mutex
	lookedAt time.Time
	running  bool
	points   []point
	latest   []vitals
	before   map[string]totals   // of the reading before, by process
	runs     map[string][]string // the contexts of processes that have answered: one that is down does not say
}

// point is one reading of all processes.
type point struct {
	At     time.Time
	Values map[string]float64 // by series
}

// value is that of a series, if there is one: no order is no latency, and a process that is away has no queue. A rate that nobody counted is 0.
func (p point) value(series string) (float64, bool) {
	v, ok := p.Values[series]
	return v, ok || strings.HasPrefix(series, "orders ") || strings.HasPrefix(series, seriesRefused)
}

// vitals is one process as it is.
type vitals struct {
	process
	Ready   readiness
	Version string
	Calls   []edge
	Trouble *trouble // it did not answer
	Closed  *trouble // what is for the operator is not for us
	sum     totals
}

// runs are the contexts that it has told of.
func (v vitals) runs() (all []string) {
	for _, name := range contexts {
		_, asIs := v.Ready.Events[name]
		if _, broken := v.Ready.NotReady[name]; asIs || broken {
			all = append(all, name)
		}
	}
	return all
}

// edge is a guarded call, as /internal/calls has it.
type edge struct {
	Edge     string `json:"edge"`
	Target   string `json:"target"`
	Method   string `json:"method"`
	Breaker  string `json:"breaker"`
	Calls    uint64 `json:"calls"`
	Failures uint64 `json:"failures"`
	InFlight int64  `json:"inFlight"`
}

// totals are the figures of a process at one instant, by series with its labels.
type totals struct {
	at     time.Time
	series map[string]sample
}

// sample is one figure of one series.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

func newWatch(c *console) *watch {
	return &watch{console: c, before: map[string]totals{}, runs: map[string][]string{}}
}

// look returns what is known, and keeps it coming.
func (w *watch) look(ctx context.Context) ([]vitals, []point) {
	w.mu.Lock()
	w.lookedAt = time.Now()
	first := len(w.points) == 0
	start := !w.running
	w.running = true
	w.mu.Unlock()
	if start {
		if first {
			w.read(ctx)
		}
		w.console.working.Go(w.run)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest, slices.Clone(w.points)
}

func (w *watch) run() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.console.work.Done():
			return
		case <-tick.C:
		}
		w.mu.Lock()
		if time.Since(w.lookedAt) > watchLonger {
			w.running, w.points, w.before = false, nil, map[string]totals{}
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		w.read(w.console.work)
	}
}

// read asks every process once. Where a context runs in none of those that the settings name, as far as is known, whoever answers for
// it is asked besides: a service must not be missing for a line in a list.
func (w *watch) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	processes := w.console.peers.processes()
	listed := len(w.console.peers.listed)
	if listed > 0 {
		processes = slices.Concat(processes, w.unlisted())
	}
	all := make([]vitals, len(processes))
	var asking sync.WaitGroup
	for i, p := range processes {
		asking.Go(func() { all[i] = w.console.vitals(ctx, p) })
	}
	asking.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range all[:listed] {
		v := &all[i]
		if told := v.runs(); len(told) > 0 {
			w.runs[v.URL] = told
		}
		if known := w.runs[v.URL]; known != nil {
			v.Contexts = known
		}
	}
	if listed > 0 {
		all = slices.DeleteFunc(all, func(v vitals) bool { return !v.Listed && covered(all[:listed], v.Contexts) })
	}
	next := point{At: time.Now(), Values: map[string]float64{}}
	figures(next.Values, all, w.before)
	for _, v := range all {
		if v.Trouble == nil {
			w.before[v.URL] = v.sum
		}
	}
	w.latest = all
	if w.points = append(w.points, next); len(w.points) > watchKeep {
		w.points = slices.Delete(w.points, 0, len(w.points)-watchKeep)
	}
}

// known are the contexts of a process, as far as is known without asking it.
func (w *watch) known(p process) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if told := w.runs[p.URL]; told != nil {
		return told
	}
	return p.Contexts
}

// unlisted answer for contexts of which no process in the list is known.
func (w *watch) unlisted() []process {
	var known []vitals
	for _, p := range w.console.peers.listed {
		p.Contexts = w.known(p)
		known = append(known, vitals{process: p})
	}
	return slices.DeleteFunc(w.console.peers.answering(), func(p process) bool { return covered(known, p.Contexts) })
}

// covered reports that each of the contexts runs in one of the processes.
func covered(by []vitals, names []string) bool {
	for _, name := range names {
		if !slices.ContainsFunc(by, func(v vitals) bool { return slices.Contains(v.Contexts, name) }) {
			return false
		}
	}
	return true
}

func (c *console) vitals(ctx context.Context, p process) vitals {
	v := vitals{process: p}
	var text []byte
	var asking sync.WaitGroup
	asking.Go(func() { v.Trouble = p.ask(ctx, http.MethodGet, "/readyz", nil, &v.Ready) })
	asking.Go(func() {
		var page struct{ Calls []edge }
		if bad := p.ask(ctx, http.MethodGet, "/internal/calls", nil, &page); bad != nil && !bad.Gone() {
			v.Closed = bad
		}
		v.Calls = page.Calls
	})
	asking.Go(func() { text, _ = p.text(ctx, http.MethodGet, "/metrics", nil) })
	asking.Wait()
	if v.Closed != nil { // what holds calls back it tells everybody
		for _, e := range v.Ready.Breakers {
			e.Edge = e.Target + "/" + path.Base(e.Method)
			v.Calls = append(v.Calls, e)
		}
	}
	v.sum = totals{at: time.Now(), series: parseMetrics(text)}
	for _, s := range v.sum.series {
		if s.name == "build_info" {
			v.Version = s.labels["version"]
		}
	}
	return v
}

// ours begins the names of our own figures; sample.name is without it.
const ours = "orderkeep_"

// parseMetrics reads the text format of Prometheus, as far as our own figures go.
func parseMetrics(text []byte) map[string]sample {
	all := map[string]sample{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		l := lines.Text()
		if !strings.HasPrefix(l, ours) {
			continue
		}
		end := strings.LastIndexByte(l, ' ')
		if end < 0 {
			continue
		}
		value, err := strconv.ParseFloat(l[end+1:], 64)
		if err != nil || math.IsNaN(value) {
			continue
		}
		name, labels, _ := strings.Cut(l[len(ours):end], "{")
		all[l[:end]] = sample{name, parseLabels(strings.TrimSuffix(labels, "}")), value}
	}
	return all
}

func parseLabels(text string) map[string]string {
	labels := map[string]string{}
	for text != "" {
		name, rest, ok := strings.Cut(text, `="`)
		if !ok {
			break
		}
		end := 0
		for end < len(rest) && rest[end] != '"' {
			if rest[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end, len(rest))
		labels[strings.TrimPrefix(name, ",")] = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(rest[:end])
		text = strings.TrimPrefix(rest[end:], `"`)
	}
	return labels
}

// The series of the charts. What a process does not count is not there.
const (
	seriesConfirmed = "orders confirmed"
	seriesOthers    = "orders not confirmed"
	seriesRefused   = "refused "         // and the reason
	seriesLatency   = "latency "         // and the step, in milliseconds: what 99 of 100 take at most
	seriesQueue     = "queue "           // and the context, in milliseconds
	seriesOutbox    = "to be published " // and the context, in seconds
	seriesInbox     = "to be handled "   // likewise
)

// figures adds the values of the charts: rates since the reading before, and levels. Replicas are added up, but for what all of them
// read in one database.
func figures(to map[string]float64, all []vitals, before map[string]totals) {
	steps := map[string]map[float64]float64{}
	for _, v := range all {
		if v.Trouble == nil {
			v.figures(to, steps, before[v.URL])
		}
	}
	for step, counts := range steps {
		var b []bucket
		for le, n := range counts {
			b = append(b, bucket{le, n})
		}
		if at, ok := quantile(0.99, b); ok {
			to[seriesLatency+step] = 1000 * at
		}
	}
}

// figures adds those of one process; steps are how many of each step took no longer than so many seconds.
func (v vitals) figures(to map[string]float64, steps map[string]map[float64]float64, before totals) {
	since := v.sum.at.Sub(before.at).Seconds()
	for key, s := range v.sum.series {
		was, known := before.series[key]
		grown := s.value - was.value
		if !known || grown < 0 { // new, or the process started anew
			grown = s.value
		}
		rate := func(series string) {
			if before.series != nil && since > 0 {
				to[series] += grown / since
			}
		}
		switch s.name {
		case "orders_total":
			if s.labels["outcome"] == "confirmed" {
				rate(seriesConfirmed)
				continue
			}
			rate(seriesOthers)
			if grown > 0 { // a reason that never came is no line
				rate(seriesRefused + s.labels["reason"])
			}
		case "order_step_seconds_bucket":
			if le, err := strconv.ParseFloat(s.labels["le"], 64); err == nil && before.series != nil {
				step := s.labels["step"]
				if steps[step] == nil {
					steps[step] = map[float64]float64{}
				}
				steps[step][le] += grown
			}
		case "queue_depth":
			to[seriesQueue+s.labels["context"]] += s.value
		case "outbox_oldest_seconds":
			highest(to, seriesOutbox+s.labels["context"], s.value)
		case "inbox_oldest_seconds":
			highest(to, seriesInbox+s.labels["context"], s.value)
		}
	}
}

func highest(of map[string]float64, series string, value float64) {
	of[series] = max(of[series], value)
}

// bucket is how many took no longer than le, in seconds.
type bucket struct{ le, n float64 }

// quantile is where the share q of the observations in cumulative buckets ends, as Prometheus reckons it.
func quantile(q float64, buckets []bucket) (float64, bool) {
	slices.SortFunc(buckets, func(a, b bucket) int {
		if a.le < b.le {
			return -1
		}
		return 1
	})
	if len(buckets) == 0 || buckets[len(buckets)-1].n <= 0 {
		return 0, false
	}
	want := q * buckets[len(buckets)-1].n
	low, below := 0.0, 0.0
	for _, b := range buckets {
		if b.n >= want {
			if math.IsInf(b.le, 1) {
				return low, true
			}
			return low + (b.le-low)*(want-below)/max(b.n-below, 1e-9), true
		}
		low, below = b.le, b.n
	}
	return low, true
}
