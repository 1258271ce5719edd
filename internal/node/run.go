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
	"syscall"
	"time"

	"github.com/orderkeep/orderkeep/internal/httpd"
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
	unlock, err := lockData(cfg.Data)
	if err != nil {
		return err
	}
	defer unlock()
	listener, err := listen(cfg.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	n := newNode(cfg, contexts, log)
	if err := n.open(ctx); err != nil {
		return errors.Join(err, n.close(cfg.DrainTimeout))
	}
	return n.serve(ctx, stop, listener, ready)
}

// serve answers until ctx ends, then drains.
func (n *node) serve(ctx context.Context, stop func(), listener net.Listener, ready func(addr string)) error {
	server := n.server()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	addr := listener.Addr().String()
	warnOpen(n.log, listener.Addr())
	n.log.Info("serving", "address", "http://"+addr)
	if ready != nil {
		ready(addr)
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		stop()
		// From here on a signal has its default effect, whoever else waits for it: it ends the process.
		signal.Reset(os.Interrupt, syscall.SIGTERM)
		n.log.Info("draining", "timeout", n.cfg.DrainTimeout.String())
		drain, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout)
		err = server.Drain(drain)
		cancel()
	}
	err = errors.Join(err, n.close(n.cfg.DrainTimeout))
	if err == nil {
		n.log.Info("stopped")
	}
	return err
}

func (n *node) server() *httpd.Server {
	routes := map[string]http.Handler{}
	var contracts [][]byte
	for _, s := range n.services {
		contracts = append(contracts, s.context.Contract)
		for p, h := range s.service.Routes {
			routes[p] = h
		}
	}
	return httpd.New(httpd.Options{
		Routes: routes, Contracts: contracts, Ready: n.ready, Calls: n.calls, Log: n.log,
		Rate: n.rate, Clients: httpd.Clients{Proxies: n.cfg.Proxies, Header: n.cfg.ClientHeader},
		BodyLimit: int64(n.cfg.BodyLimit), ReadTimeout: n.cfg.ReadTimeout,
		// A shop's whole catalogue: 256 MiB is millions of rows, and ten minutes take it over a slow line.
		Large: map[string]httpd.Large{"POST /v1/stock.csv": {BodyLimit: 256 << 20, ReadTimeout: 10 * time.Minute}},
	})
}

// listen opens the address; its errors say what to do.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another process; stop it, or name another address with --listen (port 0 takes a free one)", address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s may not be used by this user; name a port above 1023 with --listen", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s is not an address of this machine; name one that is with --listen", address)
	}
	return nil, fmt.Errorf("listen on %s: %w; name another address with --listen", address, err)
}

// warnOpen says what is missing for an address that others can reach.
func warnOpen(log *slog.Logger, a net.Addr) {
	if t, ok := a.(*net.TCPAddr); ok && !t.IP.IsLoopback() {
		log.Warn("this address can be reached from other machines, and there is no TLS and no authentication here; put something in front that has both", "address", a.String())
	}
}
