package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
	"github.com/orderkeep/orderkeep/inventory/internal/store"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/inventory/v1/rest"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"
)

// bundle serves a store with BOOK (5 units), PEN (none) and GIFT (not tracked) over both wires.
type bundle struct {
	t     *testing.T
	store *store.Store
	url   string
	grpc  inventoryv1.InventoryServiceClient
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := empty(t)
	b.call("POST", "/v1/stock.csv", "sku,title,on_hand,tracked\nBOOK,A book,5,true\nPEN,A pen,0,true\nGIFT,A gift,0,false\n").is(200)
	return b
}

func empty(t *testing.T) *bundle {
	t.Helper()
	return emptyAt(t, time.Now)
}

func emptyAt(t *testing.T, now func() time.Time) *bundle {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(context.Background(), "sqlite:"+dir+"/inventory.db", dir, now)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := NewREST(s)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(func() { srv.Close(); s.Close() })
	ch := &inprocgrpc.Channel{}
	inventoryv1.RegisterInventoryServiceServer(ch, NewGRPC(s))
	return &bundle{t, s, srv.URL, inventoryv1.NewInventoryServiceClient(ch)}
}

// answer is what came over REST.
type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// call sends a body, with headers as pairs.
func (b *bundle) call(method, path, body string, header ...string) answer {
	b.t.Helper()
	req, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if strings.HasSuffix(path, ".csv") {
		req.Header.Set("Content-Type", "text/csv")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header[header[i]] = []string{header[i+1]}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	a := answer{b.t, method + " " + path, res.StatusCode, res.Header, string(raw), nil}
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			b.t.Fatalf("%s: %v in %s", a.what, err, raw)
		}
	}
	return a
}

// is checks the status, and the error code of a problem.
func (a answer) is(status int, code ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("%s: status %d, want %d: %s", a.what, a.status, status, a.raw)
	}
	if len(code) > 0 && a.body["error"] != code[0] {
		a.t.Errorf("%s: error %v, want %s", a.what, a.body["error"], code[0])
	}
	return a
}

// has checks fields of the body, as JSON.
func (a answer) has(fields string) answer {
	a.t.Helper()
	var want map[string]any
	if err := json.Unmarshal([]byte(fields), &want); err != nil {
		a.t.Fatal(err)
	}
	for name, w := range want {
		if diff := cmp.Diff(w, a.body[name]); diff != "" {
			a.t.Errorf("%s: %s (-want +got):\n%s", a.what, name, diff)
		}
	}
	return a
}

func TestStockOverREST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call("GET", "/v1/stock/BOOK", "").is(200).
		has(`{"sku":"BOOK","title":"A book","tracked":true,"onHand":5,"reserved":0,"available":5,"locations":[{"location":"default","onHand":5,"reserved":0,"available":5}]}`)
	b.call("GET", "/v1/stock/book", "").is(404, "not_found")
	page := b.call("GET", "/v1/stock?limit=2", "").is(200)
	if n := len(page.body["items"].([]any)); n != 2 {
		t.Errorf("%d items", n)
	}
	page = b.call("GET", "/v1/stock?limit=2&cursor="+page.body["nextCursor"].(string), "").is(200)
	if n := len(page.body["items"].([]any)); n != 1 || page.body["nextCursor"] != nil {
		t.Errorf("last page: %s", page.raw)
	}
	b.call("GET", "/v1/stock?cursor=%21%21", "").is(400, "invalid_cursor")
	b.call("GET", "/v1/stock?limit=0", "").is(400)
	b.call("GET", "/v1/stock/BOOK/movements", "").is(200)
	b.call("GET", "/v1/stock/NONE/movements", "").is(404, "not_found")
	b.call("GET", "/v1/stock/BOOK/movements?cursor=eHl6", "").is(400, "invalid_cursor")
	b.call("DELETE", "/v1/stock/BOOK", "").is(405)
}

func TestASKUWithASlash(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call("POST", "/v1/stock.csv", "sku,title,on_hand,tracked\nA/B ü,x,1,true\n").is(200)
	b.call("GET", "/v1/stock/A%2FB%20%C3%BC", "").is(200).has(`{"sku":"A/B ü"}`)
}

func TestAdjustmentsOverREST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const path = "/v1/stock/BOOK/adjustments"
	b.call("POST", path, `{"delta":3,"reason":"found"}`).is(200).has(`{"onHand":8}`)
	b.call("POST", path, `{"onHand":4,"expectedOnHand":8,"reason":"count","actor":"ann"}`).is(200).has(`{"onHand":4}`)
	stale := b.call("POST", path, `{"onHand":4,"expectedOnHand":8,"reason":"count"}`).is(409, "stale_stock")
	if !strings.Contains(stale.body["detail"].(string), "4 by now") {
		t.Errorf("the present value is not in %q", stale.body["detail"])
	}
	b.call("POST", path, `{"delta":-5,"reason":"broken"}`).is(409, "insufficient_stock").has(`{"items":[{"sku":"BOOK","requested":5,"available":4}]}`)
	b.call("POST", "/v1/stock/NONE/adjustments", `{"delta":1,"reason":"found"}`).is(404, "not_found")
	b.call("POST", path, `{"delta":1,"reason":"found","location":"moon"}`).is(404, "not_found")
	for _, bad := range []string{
		`{"delta":0,"reason":"x"}`, `{"reason":"x"}`, `{"delta":1}`, `{"delta":1,"onHand":2,"expectedOnHand":3,"reason":"x"}`, `{"onHand":2,"reason":"x"}`,
		`{"delta":1,"expectedOnHand":2,"reason":"x","onHand":2}`, `{"onHand":-2,"expectedOnHand":4,"reason":"x"}`, `{"delta":1,"reason":""}`, `{"delta":1,"reason":"x","more":1}`,
		`{"delta":9223372036854775807,"reason":"x"}`, `{"delta":1.5,"reason":"x"}`, `{`, ``,
	} {
		b.call("POST", path, bad).is(400)
	}
	key := []string{"Idempotency-Key", "attempt 1"}
	b.call("POST", path, `{"delta":1,"reason":"found"}`, key...).is(200).has(`{"onHand":5}`)
	again := b.call("POST", path, `{"delta":1,"reason":"found"}`, key...).is(200).has(`{"onHand":5}`)
	if again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("header %v", again.header)
	}
	b.call("POST", path, `{"delta":2,"reason":"found"}`, key...).is(422, "idempotency_key_reused")
	key[1] = "attempt 2"
	first := b.call("POST", path, `{"delta":-9,"reason":"x"}`, key...).is(409, "insufficient_stock")
	b.call("POST", path, `{"delta":50,"reason":"found"}`).is(200)
	refused := b.call("POST", path, `{"delta":-9,"reason":"x"}`, key...).is(409, "insufficient_stock")
	if first.header.Get("Idempotent-Replayed") != "" || refused.header.Get("Idempotent-Replayed") != "true" || first.raw != refused.raw && first.body["detail"] != refused.body["detail"] {
		t.Errorf("the replay differs:\n%s\n%s", first.raw, refused.raw)
	}
	for _, bad := range []string{"", strings.Repeat("k", 256), "ü"} {
		b.call("POST", path, `{"delta":1,"reason":"found"}`, "Idempotency-Key", bad).is(400, "invalid_idempotency_key")
	}
	moved := b.call("GET", "/v1/stock/BOOK/movements?limit=2", "").is(200)
	if !strings.Contains(moved.raw, `"delta":50`) || moved.body["nextCursor"] == nil {
		t.Errorf("movements %s", moved.raw)
	}
}

func TestReservationsOverREST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := func() string { return "/v1/reservations/" + uuid.NewString() }
	held := path()
	for range 2 {
		b.call("PUT", held, `{"lines":[{"sku":"BOOK","qty":1},{"sku":"GIFT","qty":9},{"sku":"BOOK","qty":2}]}`).is(200).
			has(`{"state":"reserved","lines":[{"sku":"BOOK","qty":3},{"sku":"GIFT","qty":9}]}`)
	}
	b.call("GET", held, "").is(200).has(`{"state":"reserved"}`)
	short := path()
	for range 2 {
		b.call("PUT", short, `{"lines":[{"sku":"BOOK","qty":2},{"sku":"BOOK","qty":1}]}`).is(409, "out_of_stock").
			has(`{"items":[{"sku":"BOOK","requested":3,"available":2}]}`)
	}
	b.call("GET", short, "").is(200).has(`{"state":"refused","lines":[]}`)
	b.call("PUT", path(), `{"lines":[{"sku":"BOOK","qty":9},{"sku":"NONE","qty":1}]}`).is(409, "unknown_sku").
		has(`{"items":[{"sku":"NONE","requested":1,"available":0,"detail":"no item has this SKU"}]}`)
	b.call("DELETE", held, "").is(204)
	b.call("DELETE", held, "").is(204)
	b.call("PUT", held, `{"lines":[{"sku":"BOOK","qty":1}]}`).is(409, "reservation_released")
	early := path()
	b.call("DELETE", early, "").is(204)
	b.call("PUT", early, `{"lines":[{"sku":"BOOK","qty":1}]}`).is(409, "reservation_released")
	b.call("GET", path(), "").is(404, "not_found")
	b.call("GET", "/v1/reservations/none", "").is(400)
	for _, bad := range []string{`{"lines":[]}`, `{"lines":[{"sku":"BOOK","qty":0}]}`, `{"lines":[{"sku":"BOOK","qty":-1}]}`, `{"lines":[{"sku":"BOOK","qty":2147483648}]}`, `{"lines":[{"sku":"","qty":1}]}`} {
		b.call("PUT", path(), bad).is(400)
	}
	b.call("GET", "/v1/stock/BOOK", "").has(`{"reserved":0,"available":5}`)
}

func TestTheFirstContract(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.call("POST", "/reserve", `{"sku":"BOOK","qty":2}`).is(200).has(`{"state":"reserved","lines":[{"sku":"BOOK","qty":2}]}`)
	b.call("DELETE", "/v1/reservations/"+got.body["reservationId"].(string), "").is(204)
	b.call("POST", "/reserve", `{"sku":"BOOK","qty":6}`).is(409, "out_of_stock")
	b.call("POST", "/reserve", `{"sku":"NONE","qty":1}`).is(409, "out_of_stock")
	b.call("POST", "/reserve", `{"sku":"BOOK"}`).is(400)
	b.call("GET", "/reserve", "").is(405)

	key := []string{"Idempotency-Key", "order 1"}
	first := b.call("POST", "/reserve", `{"sku":"BOOK","qty":4}`, key...).is(200)
	again := b.call("POST", "/reserve", `{"sku":"BOOK","qty":4}`, key...).is(200)
	if first.body["reservationId"] != again.body["reservationId"] || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the replay differs: %s %s", first.raw, again.raw)
	}
	b.call("POST", "/reserve", `{"sku":"BOOK","qty":1}`, key...).is(422, "idempotency_key_reused")
	key[1] = "order 2"
	b.call("POST", "/reserve", `{"sku":"BOOK","qty":2}`, key...).is(409, "out_of_stock")
	b.call("DELETE", "/v1/reservations/"+first.body["reservationId"].(string), "").is(204)
	refused := b.call("POST", "/reserve", `{"sku":"BOOK","qty":2}`, key...).is(409, "out_of_stock")
	if refused.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the refusal was not replayed: %v", refused.header)
	}
	b.call("POST", "/reserve", `{"sku":"BOOK","qty":1}`, key...).is(422, "idempotency_key_reused")
	b.call("POST", "/reserve", `{"sku":"BOOK","qty":1}`, "Idempotency-Key", "").is(400, "invalid_idempotency_key")
	b.call("GET", "/v1/stock/BOOK", "").has(`{"reserved":0}`)
}

func TestARefusalWithoutAKeyWritesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	count := func() (n int) {
		if err := b.store.DB().QueryRow(context.Background(), `SELECT count(*) FROM reservations`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	b.call("POST", "/reserve", `{"sku":"PEN","qty":1}`).is(409)
	if n := count(); n != 0 {
		t.Errorf("%d reservations", n)
	}
	b.call("POST", "/reserve", `{"sku":"PEN","qty":1}`, "Idempotency-Key", "k").is(409)
	if n := count(); n != 1 {
		t.Errorf("%d reservations, want the one refused under a key", n)
	}
}

func TestImportOverREST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call("POST", "/v1/stock.csv", "sku,title,on_hand,tracked\nBOOK,x,5,true\nCUP,A cup,1,true\nPEN,A pen,0,true\n").is(200).
		has(`{"rows":3,"created":1,"changed":1,"unchanged":1}`)
	b.call("POST", "/v1/stock.csv", "sku,title,on_hand,tracked\nBOOK,x,5,true\nBOOK,x,six,true\n").is(422, "invalid_csv").
		has(`{"items":[{"sku":"BOOK","row":3,"field":"on_hand","detail":"on_hand is not a whole number"}]}`)
	b.call("POST", "/v1/stock.csv", "", "Content-Type", "text/csv").is(422, "invalid_csv")
	b.call("POST", "/v1/stock.csv", "sku", "Content-Type", "application/json").is(415)
}

func TestAnUploadThatDoesNotArrive(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tests := []struct {
		name string
		err  error
		code string
	}{
		{"past the server's limit", &http.MaxBytesError{Limit: 9}, "body_too_large"},
		{"too slowly", fmt.Errorf("read: %w", os.ErrDeadlineExceeded), "request_timeout"},
		{"whole", io.ErrUnexpectedEOF, "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			half := io.MultiReader(strings.NewReader("sku,title,on_hand,tracked\nCUP,x,1,true\n"), iotest.ErrReader(tt.err))
			_, err := (&REST{b.store}).ImportStock(context.Background(), rest.ImportStockReq{Data: half}, rest.ImportStockParams{})
			if fault.Of(err).Code != tt.code {
				t.Errorf("err = %v, want %s", err, tt.code)
			}
			b.call("GET", "/v1/stock/CUP", "").is(404)
		})
	}
}

func TestExportThenImportKeepsEverything(t *testing.T) {
	t.Parallel()
	from, to := empty(t), empty(t)
	rapid.Check(t, func(rt *rapid.T) {
		var file bytes.Buffer
		file.WriteString("sku,title,on_hand,tracked\n")
		for n := range rapid.IntRange(1, 4).Draw(rt, "items") {
			title := rapid.StringMatching(`[ -~äß本\x{2028}]{0,30}`).Draw(rt, "title")
			fmt.Fprintf(&file, "\"S%d\",\"%s\",%d,%t\n", n, strings.ReplaceAll(title, `"`, `""`), rapid.Int64Range(0, 1<<40).Draw(rt, "on hand"), rapid.Bool().Draw(rt, "tracked"))
		}
		from.call("POST", "/v1/stock.csv", file.String()).is(200)
		exported := from.call("GET", "/v1/stock.csv", "").is(200)
		to.call("POST", "/v1/stock.csv", exported.raw).is(200)
		if again := to.call("GET", "/v1/stock.csv", ""); again.raw != exported.raw {
			rt.Fatalf("exported\n%s\nand after import\n%s", exported.raw, again.raw)
		}
		if a, c := from.call("GET", "/v1/stock", ""), to.call("GET", "/v1/stock", ""); a.raw != c.raw {
			rt.Fatalf("stock\n%s\nand after import\n%s", a.raw, c.raw)
		}
	})
}

func TestExport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call("POST", "/reserve", `{"sku":"BOOK","qty":2}`).is(200)
	b.call("POST", "/v1/stock.csv", "sku,title,on_hand,tracked\nCUP,\"a \"\"big\"\" cup, blue\",1,true\n").is(200)
	got := b.call("GET", "/v1/stock.csv", "").is(200)
	want := "sku,title,on_hand,reserved,available,tracked\nBOOK,A book,5,2,3,true\nCUP,\"a \"\"big\"\" cup, blue\",1,0,1,true\nGIFT,A gift,0,0,0,false\nPEN,A pen,0,0,0,true\n"
	if got.raw != want || got.header.Get("Content-Type") != "text/csv" {
		t.Errorf("%s: %s", got.header.Get("Content-Type"), got.raw)
	}
}

func TestAnExportThatFailsIsNotTakenForWhole(t *testing.T) {
	t.Parallel()
	from, to := io.Pipe()
	to.CloseWithError(errors.New("the disk is gone"))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, io.MultiReader(strings.NewReader("sku,title\n"), file{from}))
	}))
	defer srv.Close()
	res, err := http.Get(srv.URL)
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("the client saw a whole file")
	}
}

func TestOverGRPC(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := context.Background()
	id := uuid.NewString()
	lines := []*inventoryv1.Line{{Sku: "BOOK", Qty: 2}, {Sku: "BOOK", Qty: 2}}
	for range 2 {
		got, err := b.grpc.Reserve(ctx, &inventoryv1.ReserveRequest{ReservationId: id, Lines: lines})
		if diff := cmp.Diff(&inventoryv1.ReserveResponse{State: inventoryv1.ReservationState_RESERVATION_STATE_RESERVED}, got, protocmp.Transform()); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	}
	short := []*inventoryv1.Shortage{{Sku: "BOOK", Requested: 4, Available: 1}, {Sku: "NONE", Requested: 1, Unknown: true}}
	asked := append(lines, &inventoryv1.Line{Sku: "NONE", Qty: 1})
	checked, err := b.grpc.Check(ctx, &inventoryv1.CheckRequest{Lines: asked})
	if diff := cmp.Diff(&inventoryv1.CheckResponse{Shortages: short}, checked, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("check: %v (-want +got):\n%s", err, diff)
	}
	refused, err := b.grpc.Reserve(ctx, &inventoryv1.ReserveRequest{ReservationId: uuid.NewString(), Lines: asked})
	if diff := cmp.Diff(&inventoryv1.ReserveResponse{State: inventoryv1.ReservationState_RESERVATION_STATE_REFUSED, Shortages: short}, refused, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("refusal: %v (-want +got):\n%s", err, diff)
	}
	if _, err := b.grpc.Commit(ctx, &inventoryv1.CommitRequest{ReservationId: id}); err != nil {
		t.Error(err)
	}
	if _, err := b.grpc.Release(ctx, &inventoryv1.ReleaseRequest{ReservationId: id}); !errors.Is(err, stock.ErrCommitted) {
		t.Errorf("release of a committed one: %v", err)
	}
	off := uuid.NewString()
	if _, err := b.grpc.Release(ctx, &inventoryv1.ReleaseRequest{ReservationId: off}); err != nil {
		t.Error(err)
	}
	late, err := b.grpc.Reserve(ctx, &inventoryv1.ReserveRequest{ReservationId: strings.ToUpper(off), Lines: lines})
	if err != nil || late.State != inventoryv1.ReservationState_RESERVATION_STATE_RELEASED {
		t.Errorf("a late reserve: %v, %v", late, err)
	}
	for _, bad := range []*inventoryv1.ReserveRequest{{ReservationId: "none", Lines: lines}, {ReservationId: id}, {ReservationId: id, Lines: []*inventoryv1.Line{{Sku: "BOOK", Qty: -1}}}} {
		if _, err := b.grpc.Reserve(ctx, bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%v: %v, want Invalid", bad, err)
		}
	}
}

// What orders hold is listed by id, page after page, and nothing else.
func TestWhatOrdersHoldOverGRPC(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := telemetry.WithCorrelation(context.Background(), "corr-1")
	id := func(n int) string { return fmt.Sprintf("01970000-0000-7000-8000-%012x", n) }
	const last = 2600
	var want []*inventoryv1.Reservation
	var asks []stock.Ask
	for n := 1; n <= last; n++ {
		a := stock.Ask{ID: id(n), Owner: stock.ByOrder, Lines: []stock.Line{{SKU: "FREE", Qty: int64(n)}}, CorrelationID: "corr-1"}
		if n == 2 { // a page ends when it has lines enough
			for k := range stock.MaxLines {
				a.Lines = append(a.Lines, stock.Line{SKU: fmt.Sprintf("FREE-%04d", k), Qty: 1})
			}
			a.Lines = a.Lines[1:]
		}
		if n == 7 {
			a.Owner, a.ExpiresIn = stock.Direct, time.Hour
		}
		asks = append(asks, a)
	}
	sheet := "sku,title,on_hand,tracked\nFREE,,0,false\n"
	for k := range stock.MaxLines {
		sheet += fmt.Sprintf("FREE-%04d,,0,false\n", k)
	}
	if _, err := b.store.Import(ctx, strings.NewReader(sheet)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, a := range asks {
		wg.Go(func() {
			if got, err := b.store.Reserve(ctx, store.Wait, a); err != nil || got.State != stock.Reserved {
				t.Errorf("%s: %v, %v", a.ID, got, err)
			}
		})
	}
	wg.Wait()
	for n, do := range map[int]func(string) error{
		3: func(id string) error { return b.store.Release(ctx, store.Wait, id) },
		5: func(id string) error { return b.store.Commit(ctx, store.Wait, id) },
		last + 1: func(id string) error { // refused: nobody knows the SKU
			_, err := b.store.Reserve(ctx, store.Wait, stock.Ask{ID: id, Owner: stock.ByOrder, Lines: []stock.Line{{SKU: "NONE", Qty: 1}}})
			return err
		},
	} {
		if err := do(id(n)); err != nil {
			t.Fatal(n, err)
		}
	}
	for i, a := range asks {
		n := i + 1
		if n == 3 || n == 5 || n == 7 || n == 1 || n == last { // 1 and the last are the bounds, which are exclusive
			continue
		}
		r := &inventoryv1.Reservation{ReservationId: a.ID, CorrelationId: "corr-1"}
		for _, l := range a.Lines {
			r.Lines = append(r.Lines, &inventoryv1.Line{Sku: l.SKU, Qty: l.Qty})
		}
		want = append(want, r)
	}
	var got []*inventoryv1.Reservation
	var pages []int
	for after := id(1); after != ""; {
		page, err := b.grpc.ListReservations(ctx, &inventoryv1.ListReservationsRequest{After: after, Before: strings.ToUpper(id(last))})
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, len(page.Reservations))
		got, after = append(got, page.Reservations...), page.NextAfter
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if want := []int{1, 1000, 1000, len(want) - 2001}; !slices.Equal(pages, want) {
		t.Errorf("pages of %v, want %v", pages, want)
	}
	if none, err := b.grpc.ListReservations(ctx, &inventoryv1.ListReservationsRequest{After: id(1), Before: id(1)}); err != nil || len(none.Reservations) > 0 || none.NextAfter != "" {
		t.Errorf("of none: %v, %v", none, err)
	}
	for _, bad := range []*inventoryv1.ListReservationsRequest{{}, {After: id(1)}, {After: "x", Before: id(1)}} {
		if _, err := b.grpc.ListReservations(ctx, bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%v: %v, want Invalid", bad, err)
		}
	}
}

func TestEventsOfAnOrderMoveItsUnits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := context.Background()
	handlers := Consume(b.store)
	handle := func(m proto.Message, data []byte) (marked int, err error) {
		name := string(m.ProtoReflect().Descriptor().FullName())
		if handlers[name] == nil {
			t.Fatalf("nobody listens to %s", name)
		}
		err = handlers[name](ctx, outbox.Event{ID: "e", Type: name, Data: data}, func(*db.Tx) error { marked++; return nil })
		return marked, err
	}
	sold, off := uuid.NewString(), uuid.NewString()
	for _, id := range []string{sold, off} {
		if _, err := b.grpc.Reserve(ctx, &inventoryv1.ReserveRequest{ReservationId: id, Lines: []*inventoryv1.Line{{Sku: "BOOK", Qty: 2}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		m                proto.Message
		onHand, reserved int64
		id, state        string
	}{
		{&ordersv1.OrderCancelled{OrderId: off}, 5, 2, off, "released"},
		{&ordersv1.OrderFulfilled{OrderId: sold}, 3, 0, sold, "committed"},
		{&ordersv1.OrderReturned{OrderId: sold}, 5, 0, sold, "returned"},
	} {
		data, err := proto.Marshal(tt.m)
		if err != nil {
			t.Fatal(err)
		}
		if marked, err := handle(tt.m, data); err != nil || marked != 1 {
			t.Errorf("%T: handled with %v, marked %d times", tt.m, err, marked)
		}
		b.call("GET", "/v1/stock/BOOK", "").has(fmt.Sprintf(`{"onHand":%d,"reserved":%d}`, tt.onHand, tt.reserved))
		b.call("GET", "/v1/reservations/"+tt.id, "").has(`{"state":"` + tt.state + `"}`)
		for _, bad := range [][]byte{[]byte("\xff"), nil} {
			if marked, err := handle(tt.m, bad); err == nil || marked != 0 {
				t.Errorf("it took %q for a %T: %v, marked %d times", bad, tt.m, err, marked)
			}
		}
	}
	b.call("DELETE", "/v1/reservations/"+sold, "").is(409, "reservation_returned")
}
