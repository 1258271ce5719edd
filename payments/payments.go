// Package payments is the door of the Payments context.
//
// Payments owns the orders' money as far as providers tell: every attempt to move it, stored before the provider is asked,
// and every outcome. It promises that an order is never charged twice, that a command repeated gives the first outcome, and
// that what was to be given back is not taken afterwards. It never sees a card number, knows nothing of stock, and asks no
// other context.
package payments

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	"github.com/orderkeep/orderkeep/payments/internal/provider"
	"github.com/orderkeep/orderkeep/payments/internal/provider/simulated"
	"github.com/orderkeep/orderkeep/payments/internal/serve"
	"github.com/orderkeep/orderkeep/payments/internal/store"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc"
)

// Context is Payments as a process sees it.
func Context() node.Context {
	return node.Context{
		Name: "payments", Contract: paymentsv1.OpenAPI, Open: open, Schema: store.Schema(),
		Inspect: store.Inspect,
	}
}

func open(ctx context.Context, env node.Env) (*node.Service, error) {
	st, err := store.Open(ctx, env.DB)
	if err != nil {
		return nil, err
	}
	record, err := simulated.Open(ctx, env.ProviderDB, nil)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	closeAll := func() error { return errors.Join(st.Close(), record.Close()) }
	relay := outbox.NewRelay("/payments", st.DB(), st.Write, env.Bus, env.Log)
	st.Appended = relay.Wake
	st.Measure(env.Metrics)
	svc := payment.NewService(st, map[string]payment.Provider{simulated.Name: provider.Guard(record, env.Calls.Target(simulated.Name))})
	inbox := outbox.NewInbox("payments", st.DB(), st.Write, serve.Consumers(svc, st.DecideWith), env.Log)
	if err := env.Bus.Subscribe(inbox.Subscription()); err != nil {
		return nil, errors.Join(err, closeAll())
	}
	rest, err := serve.NewREST(svc, st)
	if err != nil {
		return nil, errors.Join(err, closeAll())
	}
	// The relay ends last: stopped in the middle of a batch it would not know whether that is marked.
	ctx = context.WithoutCancel(ctx)
	relayCtx, stopRelay := context.WithCancel(ctx)
	work, stop := context.WithCancel(ctx)
	var relaying, working sync.WaitGroup
	relaying.Go(func() { relay.Run(relayCtx) })
	working.Go(func() { inbox.Run(work) })
	working.Go(func() { svc.Recover(work, env.Log) })
	return &node.Service{
		Routes: map[string]http.Handler{
			"/v1/payments":               rest,
			"/v1/events/payments":        httpd.Exact("/v1/events/payments", relay.Feed()),
			"/v1/events/payments/parked": inbox.Parked("/v1/events/payments/parked"),
			"/v1/acts/payments":          trail.Handler("/v1/acts/payments", st.DB()),
			archive.Path("payments"):     st.Keeper(env.Archive).Handler(),
		},
		Register: func(r grpc.ServiceRegistrar) { paymentsv1.RegisterPaymentsServiceServer(r, serve.NewGRPC(svc)) },
		Ready:    func(ctx context.Context) error { return st.DB().Ping(ctx) },
		Lag:      outbox.NewMeter("payments", st.DB(), env.Metrics).Lag,
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
			return closeAll()
		},
	}, nil
}
