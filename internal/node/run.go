package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/telemetry/window"
	"github.com/orderkeep/orderkeep/internal/trail"
)

// Run opens the contexts, joins and serves them, and drains them when ctx ends or the process gets SIGINT or SIGTERM; a
// second signal ends the process at once. ready, if not nil, is called with the address once it answers. A nil error is a
// clean drain; any other says what to do.
func Run(ctx context.Context, cfg Config, contexts []Context, log *slog.Logger, ready func(addr string)) error {
	if err := cfg.Check(contexts); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	unlock, err := cfg.lockData(cfg.files(cfg.Here(contexts)))
	if err != nil {
		return err
	}
	defer unlock()
	listener, err := listen(cfg.Listen, "--listen")
	if err != nil {
		return err
	}
	defer listener.Close()
	var grpcListener net.Listener
	if cfg.GRPCListen != "" {
		if grpcListener, err = listen(cfg.GRPCListen, "--grpc-listen"); err != nil {
			return err
		}
		defer grpcListener.Close()
	}
	tracing, kept, err := cfg.telemetry(ctx, cfg.Here(contexts), log)
	if err != nil {
		return err
	}
	defer kept.Close()
	if kept != nil {
		log = telemetry.Keeping(log, kept, strings.Join(names(cfg.Here(contexts)), "+"))
	}
	n := newNode(cfg, contexts, log)
	n.tracing, n.window = tracing, kept
	defer n.forget()
	if err := n.open(ctx); err != nil {
		return errors.Join(err, n.close(cfg.DrainTimeout))
	}
	return n.serve(ctx, stop, listener, grpcListener, ready)
}

// telemetry opens what records the process: spans, and the window that keeps them and the log lines.
func (c Config) telemetry(ctx context.Context, here []Context, log *slog.Logger) (*telemetry.Tracing, *window.Window, error) {
	var kept *window.Window
	if c.WindowSize > 0 {
		var err error
		if kept, err = window.Open(filepath.Join(c.Data, "window"), strings.Join(names(here), "+"), int64(c.WindowSize), c.WindowAge, log); err != nil {
			// They are for looking back. A container that may not write, because its databases are elsewhere, serves without them.
			log.Warn("recent log lines and spans are not kept: give --data a directory that can be written to, or say --window-size 0", "error", err.Error())
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	tracing, err := telemetry.NewTracing(ctx, telemetry.TracingOptions{
		Version: Version().Version, Instance: fmt.Sprintf("%s-%d", host, os.Getpid()), Slow: c.Slow, Window: kept, Log: log,
	})
	if err != nil {
		return nil, nil, errors.Join(err, kept.Close())
	}
	return tracing, kept, nil
}

// startTime is after how long a process that serves has started: what only that needed is given back then.
const startTime = time.Second

// exportTime is how long the end of the process waits for a collector.
const exportTime = 2 * time.Second

// forget exports the spans that are left.
func (n *node) forget() {
	ctx, cancel := context.WithTimeout(context.Background(), exportTime)
	defer cancel()
	n.tracing.Close(ctx)
}

// edge is where requests come in.
type edge struct {
	serve func() error
	drain func(context.Context) error
}

// serve answers until ctx ends or an edge fails, then drains.
func (n *node) serve(ctx context.Context, stop func(), listener, grpcListener net.Listener, ready func(addr string)) error {
	server := n.server()
	n.inside.open(server)
	edges := []edge{{func() error { return server.Serve(listener) }, server.Drain}}
	where := []any{"address", "http://" + listener.Addr().String()}
	warnOpen(n.log, listener.Addr())
	unready := func() {}
	if grpcListener != nil {
		g := n.grpcServer(grpcListener)
		edges = append(edges, edge{g.Serve, g.Drain})
		where = append(where, "grpc", grpcListener.Addr().String())
		warnOpen(n.log, grpcListener.Addr())
		unready = g.health.end
	}
	failed := make(chan error, len(edges))
	for _, e := range edges {
		go func() { failed <- e.serve() }()
	}
	n.log.Info("serving", where...)
	time.AfterFunc(startTime, unmapFile)
	if ready != nil {
		ready(listener.Addr().String())
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		stop()
		// From here on a signal has its default effect, whoever else waits for it: it ends the process.
		signal.Reset(os.Interrupt, syscall.SIGTERM)
		n.log.Info("draining", "timeout", n.cfg.DrainTimeout.String())
	}
	unready()
	err = errors.Join(err, n.drain(edges), n.close(n.cfg.DrainTimeout))
	if err == nil {
		n.log.Info("stopped")
	}
	return err
}

// drain closes the edges one after the other: a request that came in by the first may need a call through the next.
func (n *node) drain(edges []edge) error {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout)
	defer cancel()
	var failures []error
	for _, e := range edges {
		failures = append(failures, e.drain(ctx))
	}
	return errors.Join(failures...)
}

func (n *node) server() *httpd.Server {
	routes := map[string]http.Handler{}
	tracers := map[string]*telemetry.Tracer{}
	var contracts [][]byte
	for _, s := range n.services {
		if !s.context.Client {
			contracts = append(contracts, s.context.Contract)
		}
		for p, h := range s.service.Routes {
			routes[p] = h
			tracers[p] = n.tracers[s.context.Name]
		}
	}
	return httpd.New(httpd.Options{
		Routes: routes, Tracers: tracers, Contracts: contracts, Ready: n.condition, Calls: n.calls, Note: n.note, Log: n.log,
		Metrics: n.metrics, MetricsFrom: n.cfg.MetricsFrom, Window: n.window, WindowFrom: n.cfg.WindowFrom, Service: strings.Join(names(n.contexts), "+"), TraceURL: n.cfg.TraceURL,
		Rate: n.rate, Clients: httpd.Clients{Proxies: n.cfg.Proxies, Header: n.cfg.ClientHeader},
		BodyLimit: int64(n.cfg.BodyLimit), ReadTimeout: n.cfg.ReadTimeout,
		// A shop's whole catalogue: 256 MiB is millions of rows, and ten minutes take it over a slow line.
		Large: map[string]httpd.Large{"POST /v1/stock.csv": {BodyLimit: 256 << 20, ReadTimeout: 10 * time.Minute}},
	})
}

// note writes into the trail that somebody has reset breakers of this process. Breakers are no context's; the trail is that of the first which
// has one.
func (n *node) note(ctx context.Context, actor, reason, calls string) error {
	for _, s := range n.services {
		if write := s.service.Write; write != nil {
			ctx = trail.By(ctx, trail.ResetBreaker, actor, reason)
			return write(ctx, func(tx *db.Tx) error { return trail.Append(ctx, tx, calls) })
		}
	}
	return nil
}

// listen opens the address that a flag names; its errors say what to do.
func listen(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another process; stop it, or name another address with %s (port 0 takes a free one)", address, flag)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s may not be used by this user; name a port above 1023 with %s", address, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s is not an address of this machine; name one that is with %s", address, flag)
	}
	return nil, fmt.Errorf("listen on %s: %w; name another address with %s", address, err, flag)
}

// warnOpen says what is missing for an address that others can reach.
func warnOpen(log *slog.Logger, a net.Addr) {
	if t, ok := a.(*net.TCPAddr); ok && !t.IP.IsLoopback() {
		log.Warn("this address can be reached from other machines, and there is no TLS and no authentication here; put something in front that has both", "address", a.String())
	}
}
