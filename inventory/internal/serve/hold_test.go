package serve

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// setupAt is five BOOK at noon, and a function that lets time pass.
func setupAt(t *testing.T) (b *bundle, pass func(time.Duration)) {
	t.Helper()
	var since atomic.Int64
	b = emptyAt(t, func() time.Time { return noon.Add(time.Duration(since.Load())) })
	b.call("POST", "/v1/stock.csv", "sku,title,on_hand,tracked\nBOOK,A book,5,true\n").is(200)
	return b, func(d time.Duration) { since.Add(int64(d)) }
}

func TestHoldsOverREST(t *testing.T) {
	t.Parallel()
	b, pass := setupAt(t)
	path := func() string { return "/v1/reservations/" + uuid.NewString() }
	held, order := path(), path()
	const expiresAt = `"expiresAt":"2026-01-31T12:01:30Z"`
	for range 2 {
		b.call("PUT", held, `{"lines":[{"sku":"BOOK","qty":4}],"expiresIn":90}`).is(200).has(`{"state":"reserved","expired":null,"lines":[{"sku":"BOOK","qty":4}],` + expiresAt + `}`)
	}
	pass(time.Minute)
	b.call("PUT", held, `{"lines":[{"sku":"BOOK","qty":4}],"expiresIn":90}`).is(200).has(`{` + expiresAt + `}`)
	b.call("GET", held, "").is(200).has(`{"state":"reserved","expired":null,` + expiresAt + `}`)
	b.call("PUT", held, `{"lines":[{"sku":"BOOK","qty":4}]}`).is(400, "reservation_of_other_kind")
	b.call("PUT", order, `{"lines":[{"sku":"BOOK","qty":2}]}`).is(409, "out_of_stock").has(`{"items":[{"sku":"BOOK","requested":2,"available":1}]}`)

	pass(30 * time.Second)
	b.call("GET", held, "").is(200).has(`{"state":"released","expired":true,"lines":[{"sku":"BOOK","qty":4}],` + expiresAt + `}`)
	b.call("GET", "/v1/stock/BOOK", "").is(200).has(`{"onHand":5,"reserved":0,"available":5}`)
	if got, want := b.call("GET", "/v1/stock.csv", "").is(200).raw, "sku,title,on_hand,reserved,available,tracked\nBOOK,A book,5,0,5,true\n"; got != want {
		t.Errorf("exported\n%s, want\n%s", got, want)
	}
	order = path() // a refusal is kept under its id
	b.call("PUT", order, `{"lines":[{"sku":"BOOK","qty":5}]}`).is(200).has(`{"state":"reserved","expiresAt":null,"expired":null}`)
	b.call("GET", order, "").is(200).has(`{"state":"reserved","expiresAt":null,"expired":null}`)
	b.call("PUT", order, `{"lines":[{"sku":"BOOK","qty":5}],"expiresIn":90}`).is(400, "reservation_of_other_kind")
	b.call("PUT", held, `{"lines":[{"sku":"BOOK","qty":4}],"expiresIn":90}`).is(409, "reservation_expired")
	b.call("DELETE", held, "").is(204)
	b.call("DELETE", order, "").is(204)

	early := path()
	b.call("PUT", early, `{"lines":[{"sku":"BOOK","qty":1}],"expiresIn":1}`).is(200)
	b.call("DELETE", early, "").is(204)
	pass(time.Minute)
	b.call("GET", early, "").is(200).has(`{"state":"released","expired":null}`)
	b.call("PUT", early, `{"lines":[{"sku":"BOOK","qty":1}],"expiresIn":1}`).is(409, "reservation_released")
	for _, bad := range []string{"0", "-1", "86401", "1.5", `"60"`} {
		b.call("PUT", path(), `{"lines":[{"sku":"BOOK","qty":1}],"expiresIn":`+bad+`}`).is(400, "invalid_request")
	}
	b.call("POST", "/reserve", `{"sku":"BOOK","qty":1,"expiresIn":60}`).is(400)
	plain := b.call("POST", "/reserve", `{"sku":"BOOK","qty":5}`).is(200).has(`{"expiresAt":null}`)
	pass(48 * time.Hour)
	b.call("GET", "/v1/reservations/"+plain.body["reservationId"].(string), "").has(`{"state":"reserved"}`)
}

func TestHoldsOverGRPC(t *testing.T) {
	t.Parallel()
	b, pass := setupAt(t)
	ctx := context.Background()
	id := uuid.NewString()
	hold := &inventoryv1.ReserveRequest{ReservationId: id, Lines: []*inventoryv1.Line{{Sku: "BOOK", Qty: 5}}, ExpiresInSeconds: 60}
	want := &inventoryv1.ReserveResponse{State: inventoryv1.ReservationState_RESERVATION_STATE_RESERVED, ExpiresAt: timestamppb.New(noon.Add(time.Minute))}
	for range 2 {
		got, err := b.grpc.Reserve(ctx, hold)
		if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		pass(time.Second)
	}
	if _, err := b.grpc.Reserve(ctx, &inventoryv1.ReserveRequest{ReservationId: id, Lines: hold.Lines}); !errors.Is(err, stock.ErrOtherKind) {
		t.Errorf("as an order's: %v", err)
	}
	for _, bad := range []int64{-1, 86_401} {
		_, err := b.grpc.Reserve(ctx, &inventoryv1.ReserveRequest{ReservationId: uuid.NewString(), Lines: hold.Lines, ExpiresInSeconds: bad})
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("for %d s: %v, want Invalid", bad, err)
		}
	}
	pass(58 * time.Second)
	checked, err := b.grpc.Check(ctx, &inventoryv1.CheckRequest{Lines: hold.Lines})
	if err != nil || len(checked.Shortages) != 0 {
		t.Errorf("check: %v, %v", checked, err)
	}
	if _, err := b.grpc.Commit(ctx, &inventoryv1.CommitRequest{ReservationId: id}); !errors.Is(err, stock.ErrExpired) {
		t.Errorf("commit: %v, want ErrExpired", err)
	}
	want.State = inventoryv1.ReservationState_RESERVATION_STATE_RELEASED
	got, err := b.grpc.Reserve(ctx, hold)
	if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("repeated: %v (-want +got):\n%s", err, diff)
	}
	if _, err := b.grpc.Release(ctx, &inventoryv1.ReleaseRequest{ReservationId: id}); err != nil {
		t.Errorf("release: %v", err)
	}
}
