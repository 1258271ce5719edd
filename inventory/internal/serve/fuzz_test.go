package serve

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
	"github.com/orderkeep/orderkeep/inventory/internal/store"
	"github.com/orderkeep/orderkeep/inventory/v1/rest"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"google.golang.org/protobuf/proto"
)

// shelf is a store with 1,000 BOOK, for as long as a target is fuzzed.
func shelf(f *testing.F) *store.Store {
	f.Helper()
	dir := f.TempDir()
	s, err := store.Open(f.Context(), "sqlite:"+dir+"/inventory.db", dir, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	if _, err := s.Import(f.Context(), strings.NewReader("sku,title,on_hand,tracked\nBOOK,A book,1000,true\n")); err != nil {
		f.Fatal(err)
	}
	return s
}

// FuzzCursor reads the cursors of the lists: what is taken is what a list gave, and text that both engines compare with.
func FuzzCursor(f *testing.F) {
	for _, s := range []string{"", encodeCursor("BOOK"), encodePlace(7), encodeCursor("007"), encodeCursor("-1"), encodeCursor("\x00"), encodeCursor("\xff"), "A", "====", "AB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if sku, err := skuCursor(rest.NewOptString(s)); err == nil && s != "" {
			if encodeCursor(sku) != s || sku == "" || !utf8.ValidString(sku) || strings.Contains(sku, "\x00") {
				t.Errorf("took %q as the SKU %q", s, sku)
			}
		}
		if n, err := placeCursor(rest.NewOptString(s)); err == nil && s != "" && (n < 1 || encodePlace(n) != s) {
			t.Errorf("took %q as the place %d", s, n)
		}
	})
}

// FuzzRequest sends anything as the parts of a call that are read by Inventory: path, query, key and body. No answer is an
// internal error, and none makes more units reserved than there are.
func FuzzRequest(f *testing.F) {
	s := shelf(f)
	h, err := NewREST(s)
	if err != nil {
		f.Fatal(err)
	}
	edge := httpd.New(httpd.Options{Routes: map[string]http.Handler{"/v1/stock": h, "/v1/reservations": h, "/reserve": h}, Log: slog.New(slog.DiscardHandler)})
	const id = "0197b7b0-0000-7000-8000-00000000000a"
	methods := []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}
	f.Add(uint8(1), "/reserve", "", "k", `{"sku":"BOOK","qty":1}`)
	f.Add(uint8(2), "/v1/reservations/"+id, "", "", `{"lines":[{"sku":"BOOK","qty":2147483647},{"sku":"","qty":0}]}`)
	f.Add(uint8(1), "/v1/reservations", "", "k", `{"lines":[{"sku":"BOOK","qty":2}]}`)
	f.Add(uint8(3), "/v1/reservations/"+strings.ToUpper(id), "", "", "")
	f.Add(uint8(1), "/v1/stock/BOOK/adjustments", "", "k\x7f", `{"delta":-9223372036854775808,"reason":"x"}`)
	f.Add(uint8(1), "/v1/stock/BOOK/adjust", "", "", `{"onHand":5,"expectedOnHand":1000,"reason":"counted"}`)
	f.Add(uint8(0), "/v1/stock", "limit=1&cursor=____", "", "")
	f.Add(uint8(0), "/v1/stock/BOOK/movements", "limit=0&cursor=MQ", "", "")
	f.Add(uint8(0), "/v1/stock/\xff", "", "", "")
	f.Fuzz(func(t *testing.T, method uint8, path, query, key, body string) {
		r := httptest.NewRequestWithContext(t.Context(), methods[int(method)%len(methods)], "/", strings.NewReader(body))
		r.URL.Path, r.URL.RawQuery = path, query
		r.Header.Set("Content-Type", "application/json")
		if key != "" {
			r.Header["Idempotency-Key"] = []string{key}
		}
		w := httptest.NewRecorder()
		edge.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %q?%q with %q: %d %s", r.Method, path, query, body, w.Code, w.Body)
		}
		sound(t, s)
	})
}

// FuzzEvents hears anything as an event of Orders. It is acted on once, or refused for good with a fault, and stock stays sound.
func FuzzEvents(f *testing.F) {
	s := shelf(f)
	handlers := Consume(s)
	types := []string{"orderkeep.orders.v1.OrderCancelled", "orderkeep.orders.v1.OrderFulfilled", "orderkeep.orders.v1.OrderReturned"}
	for i, id := range []string{"0197b7b0-0000-7000-8000-00000000000a", "{0197B7B0-0000-7000-8000-00000000000A}", "urn:uuid:0197b7b0-0000-7000-8000-00000000000a", "", "x"} {
		data, err := proto.Marshal(&ordersv1.OrderCancelled{OrderId: id})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), data)
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		e := outbox.Event{ID: uuid.NewString(), Type: types[int(kind)%len(types)], Data: data}
		var m ordersv1.OrderCancelled // the id is field 1 of all three
		if proto.Unmarshal(data, &m) == nil {
			if id, err := reservationID(m.OrderId); err == nil {
				lines := []stock.Line{{SKU: "BOOK", Qty: 1}}
				if _, err := s.Reserve(t.Context(), store.Wait, stock.Ask{ID: id, Owner: stock.ByOrder, Lines: lines}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 2 {
			if err := handlers[e.Type](t.Context(), e, nil); err != nil && proto.Unmarshal(data, &m) == nil && fault.KindOf(err) == fault.Internal {
				t.Errorf("%s of %q: %v", e.Type, data, err)
			}
		}
		sound(t, s)
	})
}

// sound fails if the numbers of BOOK cannot be true.
func sound(t *testing.T, s *store.Store) {
	t.Helper()
	item, err := s.Item(t.Context(), "BOOK")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range item.Levels {
		if l.Reserved < 0 || l.Available() < 0 {
			t.Fatalf("stock is %+v", l)
		}
	}
}
