package call

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// Edges are all guarded calls of one process. They are safe for concurrent use. A nil *Edges has none, and each target of it
// stands alone.
type Edges struct {
	table   Table
	log     *slog.Logger
	metrics *telemetry.Metrics

	mu      sync.Mutex
	targets []*Target
}

// NewEdges returns the edges of a process that has called nobody yet. Changes of the breakers are logged to log; metrics
// may be nil.
func NewEdges(policies Table, log *slog.Logger, metrics *telemetry.Metrics) *Edges {
	return &Edges{table: policies, log: log, metrics: metrics}
}

// Target returns the guards of one target: all who call it share them.
func (e *Edges) Target(name string) *Target {
	if e == nil {
		return New(name, slog.New(slog.DiscardHandler))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.targets {
		if t.name == name {
			return t
		}
	}
	t := &Target{name: name, edges: e, guards: map[string]*guard{}}
	t.use(Policy.plain)
	e.targets = append(e.targets, t)
	return t
}

// State is one edge, a method of a target, as an operator sees it.
type State struct {
	Edge     string `json:"edge"` // its name in settings, such as inventory/Reserve
	Target   string `json:"target"`
	Method   string `json:"method"`
	Breaker  string `json:"breaker"`  // closed, open or half-open
	Calls    uint   `json:"calls"`    // that ended within the last 10 s; before it opened, if the breaker is open
	Failures uint   `json:"failures"` // of them
	InFlight int64  `json:"inFlight"`
	Repeats  int64  `json:"repeats"` // of those in flight
	Policy   Policy `json:"policy"`  // in force
}

// States returns the state of every edge in use.
func (e *Edges) States() []State {
	var all []State
	for _, t := range e.all() {
		all = append(all, t.States()...)
	}
	return all
}

// ErrUnknownEdge refuses to reset what is not there.
var ErrUnknownEdge = fault.New(fault.NotFound, "unknown_edge", "This process makes no call by this name.")

// Reset closes the breakers of the edges that are named, and forgets what they counted. A name is an edge's, or a target's
// for all of its edges; without any, it is all edges. It returns the names of the edges that it reset. ErrUnknownEdge if a name is
// not in use; then nothing is reset.
func (e *Edges) Reset(names ...string) ([]string, error) {
	found := map[string]bool{}
	var guards []*guard
	for _, t := range e.all() {
		for _, g := range t.all() {
			for _, name := range []string{t.name, g.policy.Edge()} {
				found[name] = true
			}
			if len(names) == 0 || slices.Contains(names, t.name) || slices.Contains(names, g.policy.Edge()) {
				guards = append(guards, g)
			}
		}
	}
	for _, name := range names {
		if !found[name] {
			return nil, ErrUnknownEdge.Detailf("This process makes no call by the name %q. GET /internal/calls lists those that it makes.", name)
		}
	}
	reset := []string{}
	for _, g := range guards {
		g.reset()
		reset = append(reset, g.policy.Edge())
	}
	return reset, nil
}

func (e *Edges) all() []*Target {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.targets)
}

// MarshalJSON writes the numbers of a policy: what names it stands beside it.
func (p Policy) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		TimeoutSeconds float64 `json:"timeoutSeconds"` // of one attempt
		Attempts       int     `json:"attempts"`
		InFlight       int     `json:"inFlight"`
		OpenAfter      int     `json:"openAfter"` // failures in a row
		OpenForSeconds float64 `json:"openForSeconds"`
		Fallback       string  `json:"fallback"`
		Why            string  `json:"why"`
	}{p.Timeout.Seconds(), p.Attempts, p.InFlight, p.OpenAfter, p.OpenFor.Seconds(), p.Fallback, p.Why})
}

// figures are what an edge counts, for the process's metrics.
type figures struct {
	ok, refused, failed, left, barred, full *telemetry.Counter
	repeated, denied                        *telemetry.Counter
}

func newFigures(g *guard, m *telemetry.Metrics) *figures {
	at := []string{"target", g.policy.Target, "method", strings.TrimPrefix(g.policy.Edge(), g.policy.Target+"/")}
	ended := func(result string) *telemetry.Counter {
		return m.Counter("orderkeep_call_attempts_total", "Attempts of calls, by how they ended.", append(at[:4:4], "result", result)...)
	}
	m.Gauge("orderkeep_calls_in_flight", "Calls under way.", func() float64 { return float64(g.inFlight.Load()) }, at...)
	m.Gauge("orderkeep_calls_in_flight_limit", "Calls that may be under way; the next is refused.", func() float64 { return float64(g.policy.InFlight) }, at...)
	m.Gauge("orderkeep_call_repeats_in_flight", "Calls under way that are repeats; a fifth of all, or three, may be.", func() float64 { return float64(g.repeats.Load()) }, at...)
	m.Gauge("orderkeep_call_breaker_state", "0: closed, 1: half-open, 2: open.", func() float64 {
		return map[string]float64{"half-open": 1, "open": 2}[g.gate.State().String()]
	}, at...)
	return &figures{
		ok: ended("ok"), refused: ended("refused"), failed: ended("failed"), left: ended("left"), barred: ended("breaker_open"), full: ended("too_many"),
		repeated: m.Counter("orderkeep_call_repeats_total", "Attempts that were repeats.", at...),
		denied:   m.Counter("orderkeep_call_repeats_denied_total", "Repeats that the budget did not allow.", at...),
	}
}
