package node_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
)

func TestWithinAsksContextsThatNobodyElseReaches(t *testing.T) {
	t.Parallel()
	j := &journal{}
	shelf := &fake{name: "inventory", journal: j, routes: map[string]http.Handler{"/v1/stock": text("stock")},
		check: func(_ context.Context, req *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
			j.note("check %s", req.Lines[0].Sku)
			return nil, errShelf
		}}
	caller := &fake{name: "orders", peers: []string{"inventory"}, journal: j}
	enough := errors.New("enough")
	err := node.Within(t.Context(), config(t), []node.Context{caller.context(), shelf.context()}, slog.New(slog.DiscardHandler), func(ctx context.Context, in node.Inner) error {
		res, err := in.HTTP.Get("http://localhost/v1/stock/A")
		if err != nil {
			return err
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		j.note("%d %s", res.StatusCode, body)
		_, err = inventoryv1.NewInventoryServiceClient(in.Conn("inventory")).Check(ctx, &inventoryv1.CheckRequest{Lines: []*inventoryv1.Line{{Sku: "A", Qty: 1}}})
		if !errors.Is(fault.FromGRPC(err), errShelf) {
			t.Errorf("the refusal arrives as %v", err)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Errorf("%v, want what the caller says", err)
	}
	lines := j.all()
	if d := cmp.Diff([]string{"200 stock", "check A", "close orders", "close inventory"}, lines[2:]); d != "" || len(lines) != 6 {
		t.Errorf("%v: %s", lines, d)
	}
}

func TestWithinFailsAsAStartDoes(t *testing.T) {
	t.Parallel()
	broken := &fake{name: "inventory", journal: &journal{}, opened: func(context.Context, node.Env) error { return errSecret }}
	err := node.Within(t.Context(), config(t), []node.Context{broken.context()}, slog.New(slog.DiscardHandler), func(context.Context, node.Inner) error {
		t.Error("it is called all the same")
		return nil
	})
	if !errors.Is(err, errSecret) {
		t.Error(err)
	}
	if err := node.Within(t.Context(), node.Config{}, nil, slog.New(slog.DiscardHandler), nil); err == nil {
		t.Error("settings that are wrong are taken")
	}
}
