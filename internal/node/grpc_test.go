package node_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// checker is what a fake Inventory does about a Check.
type checker = func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error)

// startInventory runs a node with an Inventory that others reach by gRPC.
func startInventory(t *testing.T, check checker, others ...node.Context) running {
	t.Helper()
	cfg := config(t)
	cfg.GRPCListen = "127.0.0.1:0"
	return start(t, cfg, append(others, (&fake{name: "inventory", journal: &journal{}, check: check}).context())...)
}

// connect is a plain connection, with none of our policies on it.
func connect(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// startOrders runs a node whose Orders calls the Inventory at the address, and returns its client and its log.
func startOrders(t *testing.T, address string) (inventoryv1.InventoryServiceClient, running) {
	t.Helper()
	orders, _ := shop(&journal{}, nil)
	cfg := config(t)
	cfg.InventoryURL, cfg.BrokerURL = address, nobody
	n := start(t, cfg, orders.context())
	return inventoryv1.NewInventoryServiceClient(orders.env.Peers["inventory"].Conn), n
}

func TestCallsBetweenProcesses(t *testing.T) {
	t.Parallel()
	far := startInventory(t, func(ctx context.Context, req *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		switch req.Lines[0].Sku {
		case "LOCKED":
			return nil, errShelf
		case "SECRET":
			return nil, errSecret
		case "PANIC":
			panic("shelf fell over")
		case "SLOW":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		end, _ := ctx.Deadline()
		return &inventoryv1.CheckResponse{Shortages: []*inventoryv1.Shortage{{Sku: telemetry.Correlation(ctx), Available: time.Until(end).Milliseconds()}}}, nil
	})
	client, _ := startOrders(t, "grpc://"+far.grpc)
	ask := func(ctx context.Context, sku string) (*inventoryv1.CheckResponse, error) {
		return client.Check(telemetry.WithCorrelation(ctx, "c-1"), &inventoryv1.CheckRequest{Lines: []*inventoryv1.Line{{Sku: sku, Qty: 1}}})
	}
	t.Run("carry the correlation id and the deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		res, err := ask(ctx, "A")
		if err != nil || res.Shortages[0].Sku != "c-1" || res.Shortages[0].Available <= 0 || res.Shortages[0].Available > 700 {
			t.Errorf("Check = %v, %v", res, err)
		}
	})
	t.Run("have an id of its own where the caller names none", func(t *testing.T) {
		plain := inventoryv1.NewInventoryServiceClient(connect(t, far.grpc))
		res, err := plain.Check(t.Context(), &inventoryv1.CheckRequest{Lines: []*inventoryv1.Line{{Sku: "A", Qty: 1}}})
		if err != nil || !telemetry.ValidCorrelation(res.Shortages[0].Sku) {
			t.Errorf("Check = %v, %v", res, err)
		}
	})
	t.Run("end with the caller's deadline, on both sides", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := ask(ctx, "SLOW"); fault.Of(err).Code != "deadline_exceeded" {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("carry faults", func(t *testing.T) {
		if _, err := ask(t.Context(), "LOCKED"); !errors.Is(err, errShelf) || fault.KindOf(err) != fault.Conflict {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("keep the detail of an internal error at home, and log it by the correlation id", func(t *testing.T) {
		_, err := ask(t.Context(), "SECRET")
		if fault.KindOf(err) != fault.Internal || strings.Contains(err.Error(), "secret") {
			t.Errorf("err = %v", err)
		}
		if l := far.log.String(); !strings.Contains(l, "secret detail") || !strings.Contains(l, "context=inventory") || !strings.Contains(l, "correlationId=c-1") {
			t.Errorf("log:\n%s", l)
		}
	})
	t.Run("survive a panic", func(t *testing.T) {
		if _, err := ask(t.Context(), "PANIC"); fault.KindOf(err) != fault.Internal {
			t.Errorf("err = %v", err)
		}
		if _, err := ask(t.Context(), "A"); err != nil {
			t.Errorf("the next call: %v", err)
		}
	})
}

func TestGRPCEdge(t *testing.T) {
	t.Parallel()
	far := startInventory(t, func(ctx context.Context, _ *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		end, ok := ctx.Deadline()
		if !ok || time.Until(end) > time.Minute {
			t.Errorf("a call without a deadline has %v, %v", end, ok)
		}
		return &inventoryv1.CheckResponse{}, nil
	})
	conn := connect(t, far.grpc)
	t.Run("bounds a call that came without a deadline", func(t *testing.T) {
		if _, err := inventoryv1.NewInventoryServiceClient(conn).Check(context.Background(), &inventoryv1.CheckRequest{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("refuses a message past the limit", func(t *testing.T) {
		big := &inventoryv1.CheckRequest{Lines: []*inventoryv1.Line{{Sku: strings.Repeat("x", 1<<20)}}}
		if _, err := inventoryv1.NewInventoryServiceClient(conn).Check(t.Context(), big); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("says what it speaks instead", func(t *testing.T) {
		for _, method := range []string{"/orderkeep.inventory.v9.InventoryService/Reserve", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"} {
			err := conn.Invoke(t.Context(), method, &inventoryv1.CheckRequest{}, &inventoryv1.CheckResponse{})
			if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "orderkeep.inventory.v1.InventoryService") {
				t.Errorf("%s = %v", method, err)
			}
		}
	})
}

func TestGRPCHealthFollowsReadiness(t *testing.T) {
	t.Parallel()
	var broken toggle
	payments := (&fake{name: "payments", journal: &journal{}, ready: broken.get}).context()
	far := startInventory(t, func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		return &inventoryv1.CheckResponse{}, nil
	}, payments)
	client := healthpb.NewHealthClient(connect(t, far.grpc))
	const service = "orderkeep.inventory.v1.InventoryService"
	expect := func(service string, want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		res, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || res.Status != want {
			t.Errorf("health of %q = %v, %v; want %v", service, res.GetStatus(), err, want)
		}
	}
	expect("", healthpb.HealthCheckResponse_SERVING)
	gone := fault.New(fault.Unavailable, "storage_unavailable", "The file is gone.")
	broken.set(gone)
	expect("", healthpb.HealthCheckResponse_NOT_SERVING)
	broken.set(nil)
	expect("", healthpb.HealthCheckResponse_SERVING)
	watch, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if res, err := watch.Recv(); err != nil || res.Status != want {
			t.Errorf("watched %v, %v; want %v", res.GetStatus(), err, want)
		}
	}
	next(healthpb.HealthCheckResponse_SERVING)
	broken.set(gone)
	next(healthpb.HealthCheckResponse_NOT_SERVING)
	expect("", healthpb.HealthCheckResponse_NOT_SERVING)
	expect(service, healthpb.HealthCheckResponse_SERVING)
	broken.set(nil)
	next(healthpb.HealthCheckResponse_SERVING)
	if err := far.stop(); err != nil { // with the watch still open
		t.Errorf("drain = %v", err)
	}
	for err == nil {
		_, err = watch.Recv()
	}
}

func TestDrainFinishesCallsUnderWay(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	far := startInventory(t, func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		close(entered)
		<-release
		return &inventoryv1.CheckResponse{}, nil
	})
	answer := make(chan error, 1)
	conn := connect(t, far.grpc)
	go func() {
		_, err := inventoryv1.NewInventoryServiceClient(conn).Check(context.Background(), &inventoryv1.CheckRequest{})
		answer <- err
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- far.stop() }()
	for { // until the drain has begun: no new call is taken
		probe := connect(t, far.grpc)
		if _, err := healthpb.NewHealthClient(probe).Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) == codes.Unavailable {
			break
		}
	}
	close(release)
	if err := <-answer; err != nil {
		t.Errorf("the call under way got %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("drain = %v", err)
	}
}
