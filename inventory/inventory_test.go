package inventory

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
	"github.com/orderkeep/orderkeep/inventory/internal/store"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"google.golang.org/protobuf/proto"
)

// TestACancelledOrderIsAnswered opens the whole context: Orders' event goes in over the bus, Inventory's comes out.
func TestACancelledOrderIsAnswered(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	bus := outbox.NewLocal()
	c := Context()
	svc, err := c.Open(ctx, node.Env{DB: "sqlite:" + dir + "/inventory.db", Data: dir, Bus: bus, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	released := make(chan outbox.Event, 10)
	err = bus.Subscribe(outbox.Subscription{Name: "probe", Types: []string{"orderkeep.inventory.v1.StockReleased"}, Receive: func(_ context.Context, events []outbox.Event) error {
		for _, e := range events {
			released <- e
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	bus.Start()
	if err := svc.Ready(ctx); err != nil {
		t.Error(err)
	}
	post := httptest.NewRequest(http.MethodPost, "/v1/stock.csv", strings.NewReader("sku,title,on_hand,tracked\nBOOK,A book,5,true\n"))
	post.Header.Set("Content-Type", "text/csv")
	w := httptest.NewRecorder()
	svc.Routes["/v1/stock.csv"].ServeHTTP(w, post)
	if w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	ch := &inprocgrpc.Channel{}
	svc.Register(ch)
	id := uuid.NewString()
	if _, err := inventoryv1.NewInventoryServiceClient(ch).Reserve(ctx, &inventoryv1.ReserveRequest{ReservationId: id, Lines: []*inventoryv1.Line{{Sku: "BOOK", Qty: 2}}}); err != nil {
		t.Fatal(err)
	}
	cancelled := outbox.New(ctx, &ordersv1.OrderCancelled{OrderId: id}, id, time.Now())
	for range 2 { // a bus delivers at least once
		if err := bus.Publish(ctx, []outbox.Event{cancelled}); err != nil {
			t.Fatal(err)
		}
	}
	e := <-released
	var m inventoryv1.StockReleased
	if err := proto.Unmarshal(e.Data, &m); err != nil {
		t.Fatal(err)
	}
	if m.OrderId != id || len(m.Lines) != 1 || m.Lines[0].Qty != 2 || e.CausationID != cancelled.ID || e.Source != "/inventory" {
		t.Errorf("%v, caused by %q, from %q", &m, e.CausationID, e.Source)
	}
	if err := svc.Close(ctx); err != nil {
		t.Error(err)
	}
	if len(released) != 0 {
		t.Errorf("%d more events: the repeat had an effect", len(released))
	}
	source, err := c.Inspect(ctx, "sqlite:"+dir+"/inventory.db", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	counts, broken, err := source.Check(ctx)
	if err != nil || len(broken) != 0 || counts["liveReservations"] != 0 || counts["outboxWaiting"] != 0 {
		t.Errorf("audit: %v, %v, %v", counts, broken, err)
	}
}

// TestEventsThatNobodyTakesWaitForTheNextStart ends Inventory while the consumer of its events is gone, as it is in one process,
// where Orders ends first, and in a cluster at any time.
func TestEventsThatNobodyTakesWaitForTheNextStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(gone error) (told []outbox.Event) {
		bus := outbox.NewLocal()
		svc, err := Context().Open(t.Context(), node.Env{DB: "sqlite:" + dir + "/inventory.db", Data: dir, Bus: bus, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		err = bus.Subscribe(outbox.Subscription{Name: "orders", Types: []string{"orderkeep.inventory.v1.StockAdjusted"}, Receive: func(_ context.Context, events []outbox.Event) error {
			if gone == nil {
				told = append(told, events...)
			}
			return gone
		}})
		if err != nil {
			t.Fatal(err)
		}
		bus.Start()
		if gone != nil {
			post := httptest.NewRequest(http.MethodPost, "/v1/stock.csv", strings.NewReader("sku,title,on_hand,tracked\nBOOK,A book,5,true\n"))
			post.Header.Set("Content-Type", "text/csv")
			svc.Routes["/v1/stock.csv"].ServeHTTP(httptest.NewRecorder(), post)
		}
		if err := svc.Close(t.Context()); err != nil {
			t.Errorf("it does not end well: %v", err)
		}
		return told
	}
	run(fault.New(fault.Unavailable, "shutting_down", "Orders is gone."))
	if told := run(nil); len(told) != 1 {
		t.Errorf("after the next start %d events are told, want the one that waited", len(told))
	}
}

// TestExpiredHoldsAreTidiedUp opens the whole context on a database with a hold that expired long ago.
func TestExpiredHoldsAreTidiedUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := "sqlite:" + dir + "/inventory.db"
	then, err := store.Open(t.Context(), at, dir, func() time.Time { return time.Unix(1_700_000_000, 0) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := then.Import(t.Context(), strings.NewReader("sku,title,on_hand,tracked\nBOOK,A book,5,true\n")); err != nil {
		t.Fatal(err)
	}
	ask := stock.Ask{ID: uuid.NewString(), Owner: stock.Direct, Lines: []stock.Line{{SKU: "BOOK", Qty: 5}}, ExpiresIn: time.Second}
	if a, err := then.Reserve(t.Context(), store.Wait, ask); err != nil || a.State != stock.Reserved {
		t.Fatal(a, err)
	}
	if err := then.Close(); err != nil {
		t.Fatal(err)
	}
	svc, err := Context().Open(t.Context(), node.Env{DB: at, Data: dir, Bus: outbox.NewLocal(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	raw := dbtest.Raw(t, at)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for live := 1; live > 0; {
		if err := raw.QueryRowContext(ctx, `SELECT count(*) FROM reservations WHERE state = 'reserved'`).Scan(&live); err != nil {
			t.Fatal(err)
		}
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
