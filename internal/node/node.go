package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/broker"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/rate"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/telemetry/window"
)

// node is the process under way.
type node struct {
	cfg      Config
	program  []Context // all that the program has
	contexts []Context // those that run here
	log      *slog.Logger
	metrics  *telemetry.Metrics
	tracing  *telemetry.Tracing // nil makes no spans
	window   *window.Window     // nil keeps nothing
	tracers  map[string]*telemetry.Tracer
	locals   map[string]*local // the wires to those that run here
	services []opened          // in the order of contexts
	hangUp   []func() error
	inside   inside // how this process asks itself
	calls    *call.Edges
	rate     *rate.Limiter // nil without a limit
	broker   *broker.Bus   // nil while events stay within this process
}

// opened is a context that is open.
type opened struct {
	context Context
	service *Service
}

func newNode(cfg Config, contexts []Context, log *slog.Logger) *node {
	n := &node{cfg: cfg, log: log, metrics: telemetry.NewMetrics(), tracers: map[string]*telemetry.Tracer{}, locals: map[string]*local{}, program: contexts, contexts: cfg.Here(contexts)}
	b := Version()
	n.metrics.Gauge("orderkeep_build_info", "1; the labels say which program this is.", func() float64 { return 1 }, "version", b.Version, "commit", b.Commit, "go", b.Go)
	n.metrics.Gauge("orderkeep_window_bytes", "Disk that recent log lines and spans take.", func() float64 { return float64(n.window.Size()) })
	n.metrics.Count("orderkeep_window_dropped_total", "Log lines and spans that could not be kept there.", func() float64 { return float64(n.window.Dropped()) })
	policies, _ := cfg.policies() // Check has found no mistake
	n.calls = call.NewEdges(policies, log, n.metrics)
	return n
}

// open opens all contexts at once, since each waits for its own disk, and joins them when all are open.
func (n *node) open(ctx context.Context) error {
	if n.cfg.RateLimit != (rate.Limit{}) {
		var err error
		if n.rate, err = rate.New(n.cfg.RateLimit, strings.Join(names(keepers(n.contexts)), "+"), n.cfg.RedisURL, n.calls); err != nil {
			return err
		}
		n.hangUp = append(n.hangUp, n.rate.Close)
	}
	for _, c := range n.contexts {
		n.tracers[c.Name] = n.tracing.Tracer(c.Name)
		n.locals[c.Name] = newLocal(n.log.With(telemetry.ContextKey, c.Name), n.tracers[c.Name])
	}
	peers, err := n.peers()
	if err != nil {
		return err
	}
	bus, err := n.bus()
	if err != nil {
		return err
	}
	fronts, processes := n.fronts(), n.processes()
	services := make([]*Service, len(n.contexts))
	failures := make([]error, len(n.contexts))
	var wait sync.WaitGroup
	for i, c := range n.contexts {
		wait.Go(func() {
			services[i], failures[i] = openContext(telemetry.WithTracer(ctx, n.tracers[c.Name]), c, Env{
				DB: n.cfg.Database(c.Name), Data: n.cfg.Data, ProviderDB: n.cfg.Database(provider), Peers: peers[c.Name], Bus: bus, Backlog: n.backlog, Calls: n.calls, Metrics: n.metrics, Log: n.log.With(telemetry.ContextKey, c.Name),
				Fronts: fronts, Processes: processes, Token: string(n.cfg.ConsoleToken), Audit: n.cfg.audit(n.program),
				Archive: archive.Rules{Keep: n.cfg.Keep, From: n.cfg.ArchiveFrom},
			})
		})
	}
	wait.Wait()
	for i, s := range services {
		if s != nil {
			n.services = append(n.services, opened{n.contexts[i], s})
		}
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	for _, o := range n.services {
		if o.service.Backlog != nil {
			n.metrics.Gauge("orderkeep_backlog_seconds", "How long a write would wait for its transaction.",
				func() float64 { return o.service.Backlog().Seconds() }, "context", o.context.Name)
		}
		l := n.locals[o.context.Name]
		if o.service.Register != nil {
			o.service.Register(l)
		}
		close(l.open)
	}
	bus.Start()
	return nil
}

// bus makes what carries the events, and says what that leaves out.
func (n *node) bus() (interface {
	outbox.Bus
	Start()
}, error) {
	if len(keepers(n.contexts)) == 0 {
		return outbox.NewLocal(), nil
	}
	if n.cfg.BrokerURL != "" {
		var err error
		if n.broker, err = broker.New(n.cfg.BrokerURL, n.cfg.consumers(), n.log); err != nil {
			return nil, fmt.Errorf("BROKER_URL: %w", err)
		}
		return n.broker, nil
	}
	calls := false
	for _, c := range n.contexts {
		for _, name := range c.Peers {
			calls = true
			if s := n.cfg.address(name); s.value != "" && !slices.Contains(names(n.contexts), name) {
				n.log.Warn("without BROKER_URL no event reaches this context: it will not hear that an order was cancelled, fulfilled or returned", "context", name, "setting", s.name)
			}
		}
	}
	if !calls {
		n.log.Info("without BROKER_URL no event leaves this process or reaches it", "contexts", names(n.contexts))
	}
	return outbox.NewLocal(), nil
}

// backlog is the longest that a write would wait in one of these contexts, as far as they run here.
func (n *node) backlog(contexts ...string) time.Duration {
	longest := time.Duration(0)
	for _, o := range n.services {
		if o.service.Backlog != nil && slices.Contains(contexts, o.context.Name) {
			longest = max(longest, o.service.Backlog())
		}
	}
	return longest
}

func openContext(ctx context.Context, c Context, env Env) (*Service, error) {
	s, err := c.Open(ctx, env)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	return s, nil
}

// peers makes, for each context that runs here, the wires to those that it calls. Contexts that call the same one share
// its guards.
func (n *node) peers() (map[string]map[string]Peer, error) {
	made := map[string]Peer{}
	all := map[string]map[string]Peer{}
	for _, c := range n.contexts {
		all[c.Name] = map[string]Peer{}
		for _, name := range c.Peers {
			p, ok := made[name]
			if !ok {
				var err error
				if p, err = n.peer(name, n.locals[name]); err != nil {
					return nil, err
				}
				made[name] = p
			}
			all[c.Name][name] = p
		}
	}
	return all, nil
}

func (n *node) peer(name string, here *local) (Peer, error) {
	target := n.calls.Target(name)
	s := n.cfg.address(name)
	if s.value == "" {
		return Peer{Conn: target.Conn(here)}, nil
	}
	p, hangUp, err := dial(name, s.value, target)
	if err != nil {
		return Peer{}, fmt.Errorf("%s: %w", s.name, err)
	}
	n.hangUp = append(n.hangUp, hangUp)
	return p, nil
}

// close closes the contexts, callers before those that they call, each within the timeout. Events stop coming in before,
// and go out until after.
func (n *node) close(timeout time.Duration) error {
	var failures []error
	if n.broker != nil {
		n.broker.Stop()
		defer n.broker.Close()
	}
	for _, o := range closingOrder(n.services) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		if err := o.service.Close(ctx); err != nil {
			failures = append(failures, fmt.Errorf("close %s: %w", o.context.Name, err))
		}
		cancel()
	}
	for _, hangUp := range n.hangUp {
		if err := hangUp(); err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// closingOrder puts each context before the ones that it calls, and else the last opened first. Contexts that call
// each other in a circle close in the second order.
func closingOrder(services []opened) []opened {
	left := slices.Clone(services)
	slices.Reverse(left)
	var order []opened
	for len(left) > 0 {
		next := slices.IndexFunc(left, func(o opened) bool {
			return !slices.ContainsFunc(left, func(p opened) bool {
				return p.context.Name != o.context.Name && slices.Contains(p.context.Peers, o.context.Name)
			})
		})
		next = max(next, 0)
		order = append(order, left[next])
		left = slices.Delete(left, next, next+1)
	}
	return order
}
