package orders

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
)

// ids are the orders of a page, in its order.
func (a answer) ids() []string {
	a.t.Helper()
	out := []string{}
	for _, o := range a.body["orders"].([]any) {
		out = append(out, o.(map[string]any)["orderId"].(string))
	}
	return out
}

func TestListsAreNewestFirstAndPagesJoinWithoutGapsOrRepeats(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var all, anns, rejected []string
	for i := range 7 {
		body := fmt.Sprintf(`{"items":[{"sku":"GIFT","qty":1}],"customer":"%s"}`, []string{"ann", "bob ü&="}[i%2])
		all = append(all, b.place(body).is(201).str("orderId"))
		if i%2 == 0 {
			anns = append(anns, all[i])
		}
	}
	rejected = append(rejected, b.place(`{"items":[{"sku":"PEN","qty":1}],"customer":"ann"}`).is(409).str("orderId"))
	cancelled := all[2]
	b.call("POST", "/v1/orders/"+cancelled+"/cancel", `{"reason":"twice"}`).is(200)
	all, anns = append(all, rejected...), append(anns, rejected...)
	slices.Reverse(all)
	slices.Reverse(anns)

	for _, limit := range []int{1, 3, 8, 1000} {
		var got []string
		for cursor := ""; ; {
			page := b.call("GET", fmt.Sprintf("/v1/orders?limit=%d%s", limit, cursor), "").is(200)
			got = append(got, page.ids()...)
			if page.body["nextCursor"] == nil {
				break
			}
			if len(page.ids()) != limit {
				t.Errorf("a page of %d has %d, and is not the last", limit, len(page.ids()))
			}
			cursor = "&cursor=" + page.str("nextCursor")
		}
		if d := cmp.Diff(all, got); d != "" {
			t.Errorf("pages of %d: %s", limit, d)
		}
	}
	b.place(free).is(201) // an order that comes between two pages is not on the later one
	for query, want := range map[string][]string{
		"customer=ann":                              anns,
		"customer=ann&status=rejected":              rejected,
		"customer=an":                               {},
		"customer=ANN":                              {},
		"status=rejected":                           rejected,
		"status=cancelled":                          {cancelled},
		"status=pending":                            {},
		"status=fulfilled":                          {},
		"cursor=" + all[5]:                          all[6:],
		"cursor=" + all[len(all)-1]:                 {},
		"status=confirmed&limit=1&cursor=" + all[1]: {all[2]},
		"customer=" + url.QueryEscape("bob ü&=") + "&limit=2": {all[2], all[4]},
	} {
		if d := cmp.Diff(want, b.call("GET", "/v1/orders?"+query, "").is(200).ids()); d != "" {
			t.Errorf("%s: %s", query, d)
		}
	}
	at := func(t time.Time) string { return url.QueryEscape(t.Format(time.RFC3339)) }
	now, hour := time.Now(), time.Hour
	for query, want := range map[string]int{
		"placedFrom=" + at(now.Add(-hour)):                                        9,
		"placedFrom=" + at(now.Add(hour)):                                         0,
		"placedBefore=" + at(now.Add(hour)):                                       9,
		"placedBefore=" + at(now.Add(-hour)):                                      0,
		"placedFrom=" + at(now.Add(-hour)) + "&placedBefore=" + at(now.Add(hour)): 9,
		"placedFrom=" + at(now.Add(hour)) + "&placedBefore=" + at(now.Add(-hour)): 0,
		// The same hour in another zone.
		"placedFrom=" + at(now.Add(-hour).In(time.FixedZone("", 5*3600))): 9,
	} {
		if got := len(b.call("GET", "/v1/orders?"+query, "").is(200).ids()); got != want {
			t.Errorf("%s: %d orders, want %d", query, got, want)
		}
	}
}

func TestCancellation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := b.place(paid).is(201).header.Get("Location")
	for range 2 { // a repeat does nothing more
		b.call("POST", at+"/cancel", `{"reason":"ordered twice"}`).is(200).has(`{"status":"cancelled","reason":"ordered twice","undo":"done"}`)
	}
	timeline := b.call("GET", at+"/timeline", "").is(200)
	var what []string
	for _, e := range timeline.body["entries"].([]any) {
		entry := e.(map[string]any)
		what = append(what, strings.TrimSpace(fmt.Sprint(entry["what"], " ", entry["detail"])))
	}
	id := strings.TrimPrefix(at, "/v1/orders/")
	want := []string{
		"placed <nil>", "reserved <nil>", "authorized <nil>", "confirmed <nil>", "cancelled ordered twice", "payment_voided pay-" + id, "stock_released 3 units",
	}
	slices.Sort(what[5:]) // the two may answer in any order
	if d := cmp.Diff(want, what); d != "" {
		t.Errorf("%s\n%s", d, timeline.raw)
	}
	for _, body := range []string{"", "{}"} {
		b.call("POST", b.place(`{"items":[{"sku":"GIFT","qty":1}]}`).is(201).header.Get("Location")+"/cancel", body).is(200).has(`{"status":"cancelled"}`)
	}
	refused := b.place(declined).is(402).str("orderId")
	b.call("POST", "/v1/orders/"+refused+"/cancel", "").is(409, "not_cancellable")
	b.call("POST", at+"/fulfil", "").is(409, "not_fulfillable")
	b.call("POST", at+"/return", "").is(409, "not_returnable")
}

func TestAPendingOrderIsCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := []string{"Idempotency-Key", "k"}
	at := b.place(unknown, key...).is(202).header.Get("Location")
	b.call("POST", at+"/cancel", "").is(200).has(`{"status":"rejected","reason":"cancelled"}`)
	if again := b.place(unknown, key...).is(409, "cancelled"); again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v", again.header)
	}
	b.place(`{"items":[{"sku":"BOOK","qty":5}]}`).is(201) // its units are back
}

func TestOrdersOverGRPC(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ch := &inprocgrpc.Channel{}
	b.svc.Register(ch)
	c := ordersv1.NewOrdersServiceClient(ch)
	ctx := telemetry.WithCorrelation(t.Context(), "till-4")
	req := &ordersv1.PlaceOrderRequest{
		IdempotencyKey: "k", Lines: []*ordersv1.OrderLine{{Sku: "BOOK", Qty: 2, UnitPriceMinor: 1250}}, Currency: "GBP", Customer: "ann",
		PaymentProvider: "simulated", PaymentToken: "pm_card_visa",
	}
	placed, err := c.PlaceOrder(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.PlaceOrder(ctx, req)
	if err != nil || again.Order.OrderId != placed.Order.OrderId || placed.Order.Status != ordersv1.OrderStatus_ORDER_STATUS_CONFIRMED || placed.Order.TotalMinor != 2500 {
		t.Errorf("%v, then %v, %v", placed, again, err)
	}
	b.call("GET", "/v1/orders/"+placed.Order.OrderId, "").is(200).has(`{"status":"confirmed","customer":"ann"}`)
	short, err := c.PlaceOrder(ctx, &ordersv1.PlaceOrderRequest{Lines: []*ordersv1.OrderLine{{Sku: "BOOK", Qty: 9}}})
	if err != nil || short.Order.Status != ordersv1.OrderStatus_ORDER_STATUS_REJECTED || short.Order.Reason != "out_of_stock" || short.Order.Shortages[0].Available != 3 {
		t.Errorf("%v, %v", short, err)
	}
	cancelled, err := c.CancelOrder(ctx, &ordersv1.CancelOrderRequest{OrderId: strings.ToUpper(placed.Order.OrderId), Reason: "x"})
	if err != nil || cancelled.Order.Status != ordersv1.OrderStatus_ORDER_STATUS_CANCELLED {
		t.Errorf("%v, %v", cancelled, err)
	}
	got, err := c.GetOrder(ctx, &ordersv1.GetOrderRequest{OrderId: placed.Order.OrderId})
	if err != nil || got.Order.Reason != "x" {
		t.Errorf("%v, %v", got, err)
	}
	for name, call := range map[string]func() error{
		"empty_order": func() error { _, err := c.PlaceOrder(ctx, &ordersv1.PlaceOrderRequest{}); return err },
		"invalid_item": func() error {
			_, err := c.PlaceOrder(ctx, &ordersv1.PlaceOrderRequest{Lines: []*ordersv1.OrderLine{{}}})
			return err
		},
		"card_number_refused": func() error {
			_, err := c.CancelOrder(ctx, &ordersv1.CancelOrderRequest{OrderId: placed.Order.OrderId, Reason: "4242424242424242"})
			return err
		},
		"invalid_reason": func() error {
			_, err := c.CancelOrder(ctx, &ordersv1.CancelOrderRequest{OrderId: placed.Order.OrderId, Reason: strings.Repeat("x", 257)})
			return err
		},
		"invalid_request": func() error { _, err := c.GetOrder(ctx, &ordersv1.GetOrderRequest{OrderId: "mine"}); return err },
		"not_found": func() error {
			_, err := c.GetOrder(ctx, &ordersv1.GetOrderRequest{OrderId: "0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55"})
			return err
		},
	} {
		if err := fault.FromGRPC(call()); err == nil || fault.Of(err).Code != name {
			t.Errorf("%v, want %s", err, name)
		}
	}
}
