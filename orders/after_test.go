package orders

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/outbox"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	"github.com/orderkeep/orderkeep/orders/internal/serve"
	"github.com/orderkeep/orderkeep/orders/internal/store"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var fulfilledDay = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// desk is both wires over a database with orders in it, and nobody behind them who would answer events.
type desk struct {
	store *store.Store
	rest  http.Handler
	grpc  ordersv1.OrdersServiceClient
}

func openDesk(t *testing.T) *desk {
	t.Helper()
	st, err := store.Open(t.Context(), "sqlite:"+t.TempDir()+"/orders.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	// No command here needs a peer.
	svc := order.NewService(st, st, nil, nil, order.Config{AnswerWait: time.Nanosecond}, slog.New(slog.DiscardHandler))
	h, err := serve.NewREST(svc, st)
	if err != nil {
		t.Fatal(err)
	}
	ch := &inprocgrpc.Channel{}
	ordersv1.RegisterOrdersServiceServer(ch, serve.NewGRPC(svc, st))
	return &desk{st, h, ordersv1.NewOrdersServiceClient(ch)}
}

// confirmed puts a confirmed order of two books for 12.50 each into the database.
func (d *desk) confirmed(t *testing.T) order.ID {
	t.Helper()
	o, err := order.New(order.Placement{Lines: []order.Line{{SKU: "BOOK", Qty: 2, UnitPriceMinor: 1250}}, Currency: "GBP", Provider: "simulated", Token: "pm_card_visa", CorrelationID: "c"}, fulfilledDay)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.Begin(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	m := order.Move{To: order.Confirmed, At: fulfilledDay, ReservedAt: fulfilledDay, AuthorizedAt: fulfilledDay, PaymentID: "pay-1"}
	if ok, err := d.store.Move(t.Context(), o, m); err != nil || !ok {
		t.Fatal(ok, err)
	}
	return o.ID
}

func (d *desk) post(t *testing.T, path, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	d.rest.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// hear gives the desk an event of another context, as the inbox does.
func (d *desk) hear(t *testing.T, m proto.Message) {
	t.Helper()
	e := outbox.New(t.Context(), m, "s", fulfilledDay)
	if err := serve.Consumers(d.store)[e.Type](t.Context(), e, func(*db.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestFulfilAndReturnOverREST(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	id := string(d.confirmed(t))
	at := timestamppb.New(fulfilledDay.Add(time.Hour))
	is := func(path, body string, status int, has ...string) {
		t.Helper()
		code, text := d.post(t, "/v1/orders/"+id+path, body)
		if code != status {
			t.Fatalf("%s: %d %s, want %d", path, code, text, status)
		}
		for _, h := range has {
			if !strings.Contains(text, h) {
				t.Errorf("%s: %s lacks %s", path, text, h)
			}
		}
	}
	is("/return", "", 409, `"error":"not_returnable"`, "cancel it instead")
	is("/fulfil", "", 200, `"status":"fulfilled"`, `"settlement":"pending"`, `"fulfilledAt":"`)
	d.hear(t, &inventoryv1.StockCommitted{OrderId: id, CommittedAt: at})
	is("/fulfil", "", 200, `"settlement":"pending"`)
	d.hear(t, &paymentsv1.PaymentCaptured{OrderId: id, CapturedAt: at})
	is("/fulfil", "", 200, `"settlement":"done"`)
	is("/cancel", "", 409, `"error":"not_cancellable"`, "return it instead")
	is("/return", `{"reason":"`+strings.Repeat("r", 257)+`"}`, 400)
	is("/return", `{"why":"x"}`, 400)
	is("/return", `{"reason":"too small"}`, 200, `"status":"returned"`, `"undo":"pending"`, `"reason":"too small"`, `"returnedAt":"`)
	d.hear(t, &inventoryv1.StockReturned{OrderId: id, ReturnedAt: at})
	d.hear(t, &paymentsv1.PaymentRefunded{OrderId: id, RefundedAt: at})
	is("/return", `{"reason":"another"}`, 200, `"undo":"done"`, `"reason":"too small"`)
	is("/fulfil", "", 409, `"error":"not_fulfillable"`)
	id = string(order.NewID())
	is("/fulfil", "", 404, `"error":"not_found"`)
	is("/return", "", 404, `"error":"not_found"`)
	id = "none"
	is("/fulfil", "", 400)
}

func TestFulfilAndReturnOverGRPC(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	ctx, id := t.Context(), string(d.confirmed(t))
	code := func(err error) string { return fault.Of(err).Code }
	if _, err := d.grpc.ReturnOrder(ctx, &ordersv1.ReturnOrderRequest{OrderId: id}); code(err) != "not_returnable" {
		t.Errorf("return too early: %v", err)
	}
	for range 2 {
		f, err := d.grpc.FulfilOrder(ctx, &ordersv1.FulfilOrderRequest{OrderId: id})
		if err != nil || f.Order.Status != ordersv1.OrderStatus_ORDER_STATUS_FULFILLED || f.Order.OrderId != id {
			t.Errorf("fulfil: %v, %v", f, err)
		}
	}
	if _, err := d.grpc.CancelOrder(ctx, &ordersv1.CancelOrderRequest{OrderId: id}); code(err) != "not_cancellable" {
		t.Errorf("cancel: %v", err)
	}
	for range 2 {
		r, err := d.grpc.ReturnOrder(ctx, &ordersv1.ReturnOrderRequest{OrderId: id, Reason: "too small"})
		if err != nil || r.Order.Status != ordersv1.OrderStatus_ORDER_STATUS_RETURNED || r.Order.Reason != "too small" {
			t.Errorf("return: %v, %v", r, err)
		}
	}
	if _, err := d.grpc.FulfilOrder(ctx, &ordersv1.FulfilOrderRequest{OrderId: id}); code(err) != "not_fulfillable" {
		t.Errorf("fulfil of a returned one: %v", err)
	}
	for _, id := range []string{"none", ""} {
		_, f := d.grpc.FulfilOrder(ctx, &ordersv1.FulfilOrderRequest{OrderId: id})
		_, r := d.grpc.ReturnOrder(ctx, &ordersv1.ReturnOrderRequest{OrderId: id})
		if fault.KindOf(f) != fault.Invalid || fault.KindOf(r) != fault.Invalid {
			t.Errorf("of %q: %v, %v", id, f, r)
		}
	}
}
