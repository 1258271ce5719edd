// Package orders is the door of the Orders context.
//
// Orders owns the customers' orders: their lines, their state, the answer that each idempotency key was given, and what is
// told about them. It promises that an order which it accepted reaches one end, that nothing is held for an
// order that was rejected, and that the same key never places two. It never touches stock or money itself: it asks
// Inventory and Payments by their v1 contracts, and knows nothing of their insides.
package orders

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	"github.com/orderkeep/orderkeep/orders/internal/peers"
	"github.com/orderkeep/orderkeep/orders/internal/serve"
	"github.com/orderkeep/orderkeep/orders/internal/store"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"google.golang.org/grpc"
)

// Context is Orders as a process sees it.
func Context() node.Context {
	return node.Context{
		Name: "orders", Peers: []string{"inventory", "payments"}, Contract: ordersv1.OpenAPI, Open: open, Schema: store.Schema(),
		Inspect: func(ctx context.Context, db, _ string) (audit.Source, error) { return store.Inspect(ctx, db) },
	}
}

func open(ctx context.Context, env node.Env) (*node.Service, error) {
	stock, err := stockOver(env)
	if err != nil {
		return nil, err
	}
	cashier, err := cashierOver(env)
	if err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, env.DB)
	if err != nil {
		return nil, err
	}
	relay := outbox.NewRelay("/orders", st.DB(), st.Write, env.Bus, env.Log)
	st.Appended = relay.Wake
	st.Measure(env.Metrics)
	inbox := outbox.NewInbox("orders", st.DB(), st.Write, serve.Consumers(st), env.Log)
	if err := env.Bus.Subscribe(inbox.Subscription()); err != nil {
		st.Close()
		return nil, err
	}
	svc := order.NewService(st, st, stock, cashier, order.Config{
		Backlog: backlog(env),
		Figures: order.NewFigures(env.Metrics),
		Alone:   st.DB().Exclusive(),
	}, env.Log)
	rest, err := serve.NewREST(svc, st)
	if err != nil {
		st.Close()
		return nil, err
	}
	// The relay ends last: stopped in the middle of a batch it would not know whether that is marked.
	ctx = context.WithoutCancel(ctx)
	relayCtx, stopRelay := context.WithCancel(ctx)
	work, stop := context.WithCancel(ctx)
	var relaying, working sync.WaitGroup
	relaying.Go(func() { relay.Run(relayCtx) })
	working.Go(func() { svc.Recover(work) })
	working.Go(func() { inbox.Run(work) })
	return &node.Service{
		Routes: map[string]http.Handler{
			"/v1/orders": rest, "/orders": rest,
			"/v1/events": httpd.Exact("/v1/events", relay.Feed()), "/v1/events/parked": inbox.Parked("/v1/events/parked"),
			"/v1/acts": trail.Handler("/v1/acts", st.DB()), archive.Path("orders"): st.Keeper(env.Archive).Handler(),
		},
		Register: func(r grpc.ServiceRegistrar) { ordersv1.RegisterOrdersServiceServer(r, serve.NewGRPC(svc, st)) },
		Ready:    st.DB().Ping,
		Lag:      outbox.NewMeter("orders", st.DB(), env.Metrics).Lag,
		Backlog:  st.Backlog,
		Write:    st.Write,
		Close: func(ctx context.Context) error {
			stop()
			working.Wait()
			if err := relay.Drain(ctx); err != nil {
				env.Log.WarnContext(ctx, "events wait for the next start", "error", err)
			}
			stopRelay()
			relaying.Wait()
			return st.Close()
		},
	}, nil
}

// backlog is that of the queues in this process that an order has to pass.
func backlog(env node.Env) func(paid bool) time.Duration {
	if env.Backlog == nil {
		return nil
	}
	return func(paid bool) time.Duration {
		if paid {
			return env.Backlog("orders", "inventory", "payments")
		}
		return env.Backlog("orders", "inventory")
	}
}

func stockOver(env node.Env) (order.Stock, error) {
	p := env.Peers["inventory"]
	switch {
	case p.Conn != nil:
		return peers.NewStock(p.Conn), nil
	case p.URL != "":
		return peers.NewRESTStock(p.URL, p.HTTP, env.Log)
	}
	return nil, fmt.Errorf("orders needs Inventory: run it in this process or set INVENTORY_URL")
}

func cashierOver(env node.Env) (order.Cashier, error) {
	p := env.Peers["payments"]
	switch {
	case p.Conn != nil:
		return peers.NewCashier(p.Conn), nil
	case p.URL != "":
		return peers.NewRESTCashier(p.URL, p.HTTP)
	}
	return nil, fmt.Errorf("orders needs Payments: run it in this process or set PAYMENTS_URL")
}
