// Package console is the web console: pages on which people see what the services do, follow one order, and do by hand
// what has to be done.
//
// It is a client like any other: it speaks the v1 contracts over REST and keeps no records. It promises that a page shows
// what can be had when a service is away, and says what cannot; that reading needs no script; that what somebody does is
// confirmed, comes from this site, and is written to the trail of the context that did it. It refuses to answer anybody but
// this machine unless a token is set, which people then sign in with. It decides nothing about orders, stock or money.
package console

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/orderkeep/orderkeep/internal/node"
)

// Context is the console as a process sees it.
func Context() node.Context {
	return node.Context{Name: "console", Client: true, Open: open}
}

func open(ctx context.Context, env node.Env) (*node.Service, error) {
	c, err := newConsole(env)
	if err != nil {
		return nil, err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.work = work
	return &node.Service{
		Routes: map[string]http.Handler{"/console": c},
		Close: func(context.Context) error {
			stop()
			c.working.Wait()
			return nil
		},
	}, nil
}

// console answers the pages.
type console struct {
	peers  peers
	guard  guard
	pages  *pages
	watch  *watch
	proofs *proofs
	mux    *http.ServeMux
	log    *slog.Logger

	work    context.Context // ends with the process
	working sync.WaitGroup  // what goes on beside the requests
}

func newConsole(env node.Env) (*console, error) {
	p, err := newPeers(env.Fronts, env.Processes)
	if err != nil {
		return nil, err
	}
	c := &console{peers: p, guard: newGuard(env.Token), pages: newPages(), proofs: &proofs{audit: env.Audit}, log: env.Log, work: context.Background()}
	c.watch = newWatch(c)
	c.mux = http.NewServeMux()
	for pattern, page := range map[string]http.HandlerFunc{
		"GET /console":                 c.now,
		"GET /console/now.json":        c.figures,
		"GET /console/orders":          c.orders,
		"GET /console/orders/{id}":     c.order,
		"POST /console/orders/{id}":    c.actOnOrder,
		"GET /console/stock":           c.stock,
		"POST /console/stock":          c.adjust,
		"GET /console/stock/import":    c.importForm,
		"POST /console/stock/import":   c.importStock,
		"GET /console/payments":        c.payments,
		"GET /console/events":          c.events,
		"POST /console/events/redrive": c.redrive,
		"GET /console/verify":          c.verify,
		"POST /console/verify":         c.runVerify,
		"POST /console/breakers":       c.resetBreakers,
		"GET /console/sign-in":         c.signInForm,
		"POST /console/sign-in":        c.signIn,
		"POST /console/sign-out":       c.signOut,
		"GET /console/static/{name}":   c.static,
		"GET /console/{rest...}":       c.nothing,
	} {
		c.mux.HandleFunc(pattern, page)
	}
	return c, nil
}

// ServeHTTP answers a page to whoever may see it.
func (c *console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if !c.admitted(w, r) {
		return
	}
	c.mux.ServeHTTP(w, r)
}

func (c *console) nothing(w http.ResponseWriter, r *http.Request) {
	c.refuse(w, r, http.StatusNotFound, "There is no such page", "The navigation has all that there are.")
}
