package node_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type shelf struct {
	inventoryv1.UnimplementedInventoryServiceServer
	check func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error)
}

func (c shelf) Check(ctx context.Context, req *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
	return c.check(ctx, req)
}

func localTo(check func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error)) inventoryv1.InventoryServiceClient {
	return inventoryv1.NewInventoryServiceClient(node.Local(func(r grpc.ServiceRegistrar) {
		inventoryv1.RegisterInventoryServiceServer(r, shelf{check: check})
	}))
}

// Within a process no more crosses than over a network: both sides may do what they like with their messages.
func TestTheLocalWireSharesNothing(t *testing.T) {
	t.Parallel()
	type key struct{}
	kept := &inventoryv1.CheckResponse{Shortages: []*inventoryv1.Shortage{{Sku: "a", Requested: 2}}}
	var id string
	var value any
	client := localTo(func(ctx context.Context, req *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		id, value = telemetry.Correlation(ctx), ctx.Value(key{})
		req.Lines[0].Qty = 99
		return kept, nil
	})
	ctx := context.WithValue(t.Context(), key{}, "the caller's")
	ctx = metadata.AppendToOutgoingContext(ctx, "x-correlation-id", "c-1")
	asked := &inventoryv1.CheckRequest{Lines: []*inventoryv1.Line{{Sku: "a", Qty: 2}}}
	got, err := client.Check(ctx, asked)
	if err != nil {
		t.Fatal(err)
	}
	got.Shortages[0].Requested = 77
	if d := cmp.Diff([]any{"c-1", nil, int64(2), int64(2)}, []any{id, value, asked.Lines[0].Qty, kept.Shortages[0].Requested}); d != "" {
		t.Error(d)
	}
}

func TestTheLocalWireEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	client := localTo(func(ctx context.Context, _ *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		cancel()
		<-ctx.Done()
		return nil, errors.New("as good as nobody")
	})
	if _, err := client.Check(ctx, &inventoryv1.CheckRequest{}); status.Code(err) != codes.Canceled {
		t.Errorf("err = %v", err)
	}
}

func TestTheLocalWireCarriesErrors(t *testing.T) {
	t.Parallel()
	client := localTo(func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		return nil, errShelf
	})
	if _, err := client.Check(t.Context(), &inventoryv1.CheckRequest{}); !errors.Is(fault.FromGRPC(err), errShelf) {
		t.Errorf("err = %v", err)
	}
	other := node.Local(func(grpc.ServiceRegistrar) {})
	if _, err := inventoryv1.NewInventoryServiceClient(other).Check(t.Context(), &inventoryv1.CheckRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a service that is not there: %v", err)
	}
}
