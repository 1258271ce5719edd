// Package inventory is the door of the Inventory context.
//
// Inventory owns the stock: the items, how many units of each are on hand and reserved, the reservations, and the
// movements that say why on hand changed. It promises that what it reserved is there, that a reservation holds all its lines
// or none, that a repeated command gives the first answer, and that every number can be proved from rows that are never
// changed. It never calls another context, and knows an order only by the id that owns a reservation.
package inventory

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/inventory/internal/serve"
	"github.com/orderkeep/orderkeep/inventory/internal/store"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"google.golang.org/grpc"
)

// Context is Inventory as a process sees it.
func Context() node.Context {
	return node.Context{
		Name: "inventory", Contract: inventoryv1.OpenAPI, Open: open, Schema: store.Schema(),
		Inspect: func(ctx context.Context, db, _ string) (audit.Source, error) { return store.Inspect(ctx, db) },
	}
}

func open(ctx context.Context, env node.Env) (*node.Service, error) {
	st, err := store.Open(ctx, env.DB, env.Data, lab.Now)
	if err != nil {
		return nil, err
	}
	relay := outbox.NewRelay("/inventory", st.DB(), st.Write, env.Bus, env.Log)
	st.Notify(relay.Wake)
	st.Measure(env.Metrics)
	inbox := outbox.NewInbox("inventory", st.DB(), st.Write, serve.Consume(st), env.Log)
	rest, err := serve.NewREST(st)
	if err == nil {
		err = env.Bus.Subscribe(inbox.Subscription())
	}
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	// Their own ends: the inbox stops first, and the relay goes on until what the inbox did last is published. Stopped in the
	// middle of a batch it would not know whether that is marked.
	ctx = context.WithoutCancel(ctx)
	relayCtx, stopRelay := context.WithCancel(ctx)
	inboxCtx, stopInbox := context.WithCancel(ctx)
	sweepCtx, stopSweeper := context.WithCancel(ctx)
	var relaying, consuming, sweeping sync.WaitGroup
	relaying.Go(func() { relay.Run(relayCtx) })
	consuming.Go(func() { inbox.Run(inboxCtx) })
	sweeping.Go(func() { st.Sweep(sweepCtx, env.Log) })
	return &node.Service{
		Routes: map[string]http.Handler{
			"/v1/stock": rest, "/v1/stock.csv": rest, "/v1/reservations": rest, "/reserve": rest,
			"/v1/events/inventory":        httpd.Exact("/v1/events/inventory", relay.Feed()),
			"/v1/events/inventory/parked": inbox.Parked("/v1/events/inventory/parked"),
			"/v1/acts/inventory":          trail.Handler("/v1/acts/inventory", st.DB()),
			archive.Path("inventory"):     st.Keeper(env.Archive).Handler(),
		},
		Register: func(r grpc.ServiceRegistrar) { inventoryv1.RegisterInventoryServiceServer(r, serve.NewGRPC(st)) },
		Ready:    st.Ready,
		Lag:      outbox.NewMeter("inventory", st.DB(), env.Metrics).Lag,
		Backlog:  st.Backlog,
		Write:    st.Write,
		Close: func(ctx context.Context) error {
			stopSweeper()
			stopInbox()
			sweeping.Wait()
			consuming.Wait()
			if err := relay.Drain(ctx); err != nil {
				env.Log.WarnContext(ctx, "events wait for the next start", "error", err)
			}
			stopRelay()
			relaying.Wait()
			return st.Close()
		},
	}, nil
}
