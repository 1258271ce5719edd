package cli

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
	"google.golang.org/grpc"
)

// The shares of a mix are those asked for, also within the few orders of a short run, and do not depend on each other.
func TestMixKeepsItsShares(t *testing.T) {
	t.Parallel()
	m := mix{SKUs: 10, Lines: 2, Hot: 0.3, Paid: 0.5, Refused: 0.25, Keyed: 0.1}
	const orders = 2000
	var hot, paid, out, keyed, both float64
	for n := range uint64(orders) {
		var o struct {
			Items []struct {
				SKU       string
				Qty       int64
				UnitPrice *int64
			}
			Currency string
		}
		if err := json.Unmarshal(m.body(n, nil), &o); err != nil || len(o.Items) != 2 {
			t.Fatalf("order %d: %v: %s", n, err, m.body(n, nil))
		}
		isOut, isPaid := o.Items[0].SKU == soldOut, o.Currency != ""
		if isPaid != (o.Items[0].UnitPrice != nil) || isOut && isPaid {
			t.Fatalf("order %d: %s", n, m.body(n, nil))
		}
		count := func(sum *float64, yes bool) {
			if yes {
				*sum++
			}
		}
		count(&out, isOut)
		count(&paid, isPaid)
		count(&hot, o.Items[0].SKU == "BENCH-0000")
		count(&keyed, strings.Contains(string(m.request("h", "/", "k")(n, nil)), "Idempotency-Key: k"))
		count(&both, isPaid && m.keyed(n))
	}
	for name, c := range map[string]struct{ got, want float64 }{
		"sold out": {out, 0.25}, "paid": {paid, 0.75 * 0.5}, "with a key": {keyed, 0.1}, "paid with a key": {both, 0.75 * 0.5 * 0.1},
		"hot": {hot, 0.75 * (0.3 + 0.7*0.2)}, // every fifth of the others comes to it in turn
	} {
		if math.Abs(c.got/orders-c.want) > 0.02 {
			t.Errorf("%s: %.3f of the orders, want %.3f", name, c.got/orders, c.want)
		}
	}
}

// contexts are the shop in the process of a command.
func (s *shop) contexts(t *testing.T) []node.Context {
	return []node.Context{{Name: "orders", Contract: ordersv1.OpenAPI, Open: func(context.Context, node.Env) (*node.Service, error) {
		return &node.Service{
			Routes:   s.routes(t),
			Register: func(r grpc.ServiceRegistrar) { ordersv1.RegisterOrdersServiceServer(r, ordersLine{shop: s}) },
			Close:    func(context.Context) error { return nil },
		}, nil
	}}}
}

// ordersLine is the shop as Orders over gRPC.
type ordersLine struct {
	ordersv1.UnimplementedOrdersServiceServer
	shop *shop
}

func (l ordersLine) PlaceOrder(ctx context.Context, req *ordersv1.PlaceOrderRequest) (*ordersv1.PlaceOrderResponse, error) {
	asked := &ordersapi.NewOrder{Customer: ordersapi.NewOptString(req.Customer)}
	for _, x := range req.Lines {
		asked.Items = append(asked.Items, ordersapi.NewOrderItem{Sku: x.Sku, Qty: x.Qty})
	}
	res, err := (&ordersDesk{shop: l.shop}).PlaceOrder(ctx, asked, ordersapi.PlaceOrderParams{IdempotencyKey: ordersapi.NewOptString(req.IdempotencyKey)})
	if err != nil {
		return nil, err
	}
	o := &ordersv1.Order{Status: ordersv1.OrderStatus_ORDER_STATUS_CONFIRMED}
	if accepted, ok := res.(*ordersapi.PlaceOrderAccepted); ok {
		o.Status = ordersv1.OrderStatus_ORDER_STATUS_PENDING
		if _, err := (&ordersDesk{shop: l.shop}).GetOrder(ctx, ordersapi.GetOrderParams{OrderId: accepted.Response.OrderId}); err != nil { // a look, by which the shop counts
			return nil, err
		}
	}
	return &ordersv1.PlaceOrderResponse{Order: o}, nil
}

// A load that is repeated finds what is there, block by block, and places no order twice.
func TestLoadRepeatsOneBlockAtMost(t *testing.T) {
	t.Parallel()
	shop := newShop()
	contexts, data := shop.contexts(t), t.TempDir()
	for _, c := range []struct{ orders, from, sent int64 }{
		{block + 40, 0, block + 40},
		{block + 90, block, 90},
		{500, 0, 500}, // fewer than there are: the last block of those is repeated, and it is the first
	} {
		before := len(shop.requests)
		r := do(t, contexts, "", "bench", "load", "--json", "--data", data, "--skus", "7", "--orders", commasOff(c.orders))
		var got loadResult
		if err := json.Unmarshal([]byte(r.out), &got); r.code != exitOK || err != nil {
			t.Fatalf("%+v, %v", r, err)
		}
		if got.From != c.from || int64(len(shop.requests)-before) != c.sent {
			t.Errorf("%d orders: went on at %d with %d requests, want %d and %d", c.orders, got.From, len(shop.requests)-before, c.from, c.sent)
		}
	}
	if len(shop.orders) != block+90 {
		t.Errorf("%d orders are there", len(shop.orders))
	}
}

// What is turned away is sent again, under its key, and what is pending is asked for, until it is there.
func TestLoadSendsAgainWhatWasTurnedAway(t *testing.T) {
	t.Parallel()
	shop := newShop()
	contexts, data := shop.contexts(t), t.TempDir()
	turned := map[string]bool{}
	shop.fail = func(key string) error {
		if n := strings.TrimPrefix(key, "load-"); strings.HasSuffix(n, "7") && !turned[key] {
			turned[key] = true
			return fault.New(fault.Unavailable, "overloaded", "Try again.")
		}
		return nil
	}
	shop.pending["load-000000005"] = 2
	r := do(t, contexts, "", "bench", "load", "--data", data, "--skus", "7", "--orders", "100")
	if r.code != exitOK || len(turned) != 10 || len(shop.orders) != 100 {
		t.Errorf("%+v: %d turned away, %d orders are there", r, len(turned), len(shop.orders))
	}
	if o := shop.stored["load-000000005"].order; o.Status != ordersapi.OrderStatusConfirmed {
		t.Errorf("the load ended while an order was %s", o.Status)
	}
	shop.fail = func(string) error {
		return fault.New(fault.Conflict, "idempotency_key_reused", "Another order has this key.") // a load with other lines than the one before
	}
	r = do(t, contexts, "", "bench", "load", "--data", data, "--skus", "7", "--orders", "101")
	if r.code != exitFailed || !strings.Contains(r.errout, "was refused") || !strings.Contains(r.errout, "idempotency_key_reused") {
		t.Errorf("%+v", r)
	}
}

// A shop's own databases would keep the orders of a load for ever.
func TestLoadLeavesAShopAlone(t *testing.T) {
	t.Parallel()
	for name, stock := range map[string]bool{"stock": true, "orders": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shop := newShop()
			if shop.add("BOOK", "A book", 10, true); !stock {
				r := do(t, nil, "", "order", "place", "--url", shop.serve(t), "--item", "BOOK=1")
				delete(shop.items, "BOOK")
				if r.code != exitOK {
					t.Fatalf("%+v", r)
				}
			}
			before := len(shop.orders)
			load := []string{"bench", "load", "--data", t.TempDir(), "--skus", "7", "--orders", "10"}
			r := do(t, shop.contexts(t), "", load...)
			if r.code != exitUsage || !strings.Contains(r.errout, "no load has put there") || !strings.Contains(r.errout, "--yes") || len(shop.orders) != before {
				t.Errorf("%+v, and %d orders, want %d", r, len(shop.orders), before)
			}
			if r := do(t, shop.contexts(t), "", append(load, "--yes")...); r.code != exitOK || len(shop.orders) != before+10 {
				t.Errorf("with --yes: %+v, and %d orders", r, len(shop.orders))
			}
		})
	}
}

func commasOff(n int64) string { return strings.ReplaceAll(commas(n), ",", "") }

func TestMarksAreRoundAndReachTheEnd(t *testing.T) {
	t.Parallel()
	for _, most := range []float64{0.004, 1, 7, 10, 4560, 61_000} {
		marks := even(most)
		if len(marks) < 3 || len(marks) > 12 || marks[0].at != 0 || marks[len(marks)-1].at < most*0.5 {
			t.Errorf("up to %g: %v", most, marks)
		}
	}
}
