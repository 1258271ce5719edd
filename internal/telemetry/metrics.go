package telemetry

import (
	"bufio"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// Metrics are the figures of one process, read in the text format of Prometheus. They are safe for concurrent use. To a
// nil *Metrics anything may be added, and it is forgotten.
//
// A name is orderkeep_, what is counted and its unit (seconds, bytes, or _total for what only grows). Labels are pairs
// of a name and a value; values have to be few, as each makes a series that stays. A series that is added twice, or
// under a name that is none, is a mistake in the program, and panics.
type Metrics struct {
	mu       sync.Mutex
	families map[string]*family
}

// family is all series of one name.
type family struct {
	kind, help string
	series     *metrics.Set
}

// NewMetrics makes metrics without any figure of ours.
func NewMetrics() *Metrics { return &Metrics{families: map[string]*family{}} }

// Gauge adds a figure that goes up and down. value is asked at each reading, from any goroutine, and should be quick.
func (m *Metrics) Gauge(name, help string, value func() float64, labels ...string) {
	if m != nil {
		m.family(name, "gauge", help).NewGauge(series(name, labels), value)
	}
}

// Count adds a figure that only grows and is kept elsewhere. value is asked as that of Gauge is.
func (m *Metrics) Count(name, help string, value func() float64, labels ...string) {
	if m != nil {
		m.family(name, "counter", help).NewGauge(series(name, labels), value)
	}
}

// Counter adds a figure that only grows, and returns what to count it with.
func (m *Metrics) Counter(name, help string, labels ...string) *Counter {
	if m == nil {
		return &Counter{}
	}
	return m.family(name, "counter", help).NewCounter(series(name, labels))
}

// Counter counts from the start of the process. It costs an atomic addition.
type Counter = metrics.Counter

// Histogram adds a figure of which is counted how often it was up to each bound; the bounds ascend.
func (m *Metrics) Histogram(name, help string, bounds []float64, labels ...string) *Histogram {
	if m == nil {
		return &Histogram{}
	}
	return &Histogram{m.family(name, "histogram", help).NewPrometheusHistogramExt(series(name, labels), bounds)}
}

// Histogram counts from the start of the process. The zero Histogram, and a nil one, forgets.
type Histogram struct{ h *metrics.PrometheusHistogram }

// Observe adds one.
func (h *Histogram) Observe(v float64) {
	if h != nil && h.h != nil {
		h.h.Update(v)
	}
}

// Seconds are bounds for what takes from a fraction of a millisecond to a customer's patience.
func Seconds() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

func (m *Metrics) family(name, kind, help string) *metrics.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.families[name]
	if f == nil {
		f = &family{kind, help, metrics.NewSet()}
		m.families[name] = f
	}
	return f.series
}

// labelValue writes what may stand between the quotes of a label's value.
var labelValue = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func series(name string, labels []string) string {
	if len(labels) == 0 {
		return name
	}
	var b strings.Builder
	b.WriteString(name)
	before := "{"
	for i := 0; i+1 < len(labels); i += 2 {
		b.WriteString(before + labels[i] + `="` + labelValue.Replace(labels[i+1]) + `"`)
		before = ","
	}
	b.WriteByte('}')
	return b.String()
}

// Write writes all figures in the order of their names, and then those of the Go runtime and of the process (go_*, process_*).
func (m *Metrics) Write(w io.Writer) error {
	var all map[string]*family
	if m != nil {
		m.mu.Lock()
		all = maps.Clone(m.families)
		m.mu.Unlock()
	}
	out := bufio.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		_, _ = out.WriteString("# HELP " + name + " " + f.help + "\n# TYPE " + name + " " + f.kind + "\n")
		f.series.WritePrometheus(out)
	}
	metrics.WriteProcessMetrics(out)
	metrics.WriteFDMetrics(out)
	return out.Flush()
}
