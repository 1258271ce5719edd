package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

// foreign is an Inventory that knows POST /reserve and nothing else; unlike says how it answers any other path.
func foreign(units map[string]int64, unlike http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/reserve" {
			unlike(w, r)
			return
		}
		var line struct {
			SKU string
			Qty int64
		}
		if err := json.NewDecoder(r.Body).Decode(&line); err != nil || r.Header.Get("Content-Type") != jsonType {
			says(400, jsonType, `{"error":"invalid"}`)(w, r)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if units[line.SKU] < line.Qty {
			says(409, jsonType, `{"error":"out_of_stock"}`)(w, r)
			return
		}
		units[line.SKU] -= line.Qty
		says(200, "", "")(w, r)
	}
}

var notFound = says(404, jsonType, `{"error":"not_found"}`)

func TestAnInventoryOfTheFirstContract(t *testing.T) {
	t.Parallel()
	for name, unlike := range map[string]http.HandlerFunc{
		"its own 404": notFound, "a page with 404": says(404, "text/html", "<h1>Cannot PUT</h1>"), "405": says(405, "text/plain", "POST only"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			units := map[string]int64{"A": 10, "B": 10, "C": 0}
			w := serve(t, foreign(units, unlike))
			s := w.stock(t)
			lines := []order.Line{{SKU: "A", Qty: 1}, {SKU: "B", Qty: 2}, {SKU: "A", Qty: 3}}
			for range 2 {
				o := asked(lines...)
				if held, short, err := s.Reserve(t.Context(), o); !held || short != nil || err != nil {
					t.Fatalf("%v %v %v", held, short, err)
				}
				if o.Kept != "4 A, 2 B" {
					t.Errorf("it kept %q", o.Kept)
				}
			}
			want := []string{
				"PUT /v1/reservations/" + string(id) + ` {"lines":[{"sku":"A","qty":1},{"sku":"B","qty":2},{"sku":"A","qty":3}]}`,
				`POST /reserve {"sku":"A","qty":4}`, `POST /reserve {"sku":"B","qty":2}`, // and is remembered:
				`POST /reserve {"sku":"A","qty":4}`, `POST /reserve {"sku":"B","qty":2}`,
			}
			if d := cmp.Diff(want, w.requests()); d != "" {
				t.Error(d)
			}
			if key := w.header[1].Get("Idempotency-Key"); key != string(id)+":A" {
				t.Errorf("key %q", key)
			}
			if n := strings.Count(w.log.String(), "knows only the first contract"); n != 1 {
				t.Errorf("it is logged %d times", n)
			}
			o := asked([]order.Line{{SKU: "A", Qty: 2}, {SKU: "C", Qty: 1}, {SKU: "B", Qty: 1}}...)
			held, short, err := s.Reserve(t.Context(), o)
			if held || err != nil {
				t.Errorf("%v %v", held, err)
			}
			if d := cmp.Diff([]order.Shortage{{SKU: "C", Requested: 1}}, short); d != "" {
				t.Error(d)
			}
			if units["B"] != 6 {
				t.Errorf("what comes after a refused line was reserved: %v", units)
			}
			if o.Kept != "2 A" {
				t.Errorf("of a refused order it kept %q", o.Kept)
			}
			if err := s.Release(t.Context(), id, "payment_declined"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUnitsThatAreHeldAreNotAskedForAgainInTheFirstContract(t *testing.T) {
	t.Parallel()
	units := map[string]int64{"BOOK": 2}
	s := serve(t, foreign(units, notFound)).stock(t)
	o := asked(twoBooks...)
	for range 2 {
		if held, short, err := s.Reserve(t.Context(), o); !held || err != nil {
			t.Errorf("%v %v %v", held, short, err)
		}
		o.ReservedAt = time.Now()
	}
	if units["BOOK"] != 0 {
		t.Errorf("%d left", units["BOOK"])
	}
}

func TestAnswersToPlainReserve(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		held   bool
		short  []order.Shortage
		away   bool
		kept   string
	}{
		"200 with a body":         {answer: says(200, jsonType, `{"sku":"BOOK","qty":2}`), held: true, kept: "2 BOOK"},
		"201 with a page":         {answer: says(201, "text/html", "<h1>Yes</h1>"), held: true, kept: "2 BOOK"},
		"204":                     {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, held: true, kept: "2 BOOK"},
		"409":                     {answer: says(409, jsonType, `{"error":"out_of_stock"}`), short: []order.Shortage{{SKU: "BOOK", Requested: 2}}},
		"409 with a page":         {answer: says(409, "text/html", "<h1>No</h1>"), short: []order.Shortage{{SKU: "BOOK", Requested: 2}}},
		"409 of an unknown SKU":   {answer: says(409, jsonType, `{"error":"unknown_sku"}`), short: []order.Shortage{{SKU: "BOOK", Requested: 2, Unknown: true}}},
		"409 of something else":   {answer: says(409, jsonType, `{"error":"idempotency_key_in_flight"}`), away: true, kept: "perhaps 2 BOOK"},
		"400":                     {answer: says(400, jsonType, `{"error":"invalid"}`), away: true},
		"404":                     {answer: notFound, away: true},
		"500":                     {answer: says(500, "text/html", "<h1>Oops</h1>"), away: true, kept: "perhaps 2 BOOK"},
		"503":                     {answer: says(503, jsonType, `{"error":"unavailable"}`), away: true, kept: "perhaps 2 BOOK"},
		"a redirect":              {answer: redirect, away: true, kept: "perhaps 2 BOOK"},
		"half an answer":          {answer: half, away: true, kept: "perhaps 2 BOOK"},
		"a huge answer":           {answer: huge, away: true, kept: "perhaps 2 BOOK"},
		"a broken connection":     {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, away: true, kept: "perhaps 2 BOOK"},
		"409 with more than that": {answer: says(409, jsonType, `{"a":[[[[{}]]]],"error":"out_of_stock"}`), short: []order.Shortage{{SKU: "BOOK", Requested: 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := serve(t, func(out http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/reserve" || r.URL.Path == "/elsewhere" {
					c.answer(out, r)
					return
				}
				notFound(out, r)
			})
			o := asked(twoBooks...)
			held, short, err := w.stock(t).Reserve(t.Context(), o)
			if o.Kept != c.kept {
				t.Errorf("kept %q, want %q", o.Kept, c.kept)
			}
			if held != c.held || c.away != (kindOf(err) == fault.Unavailable) || !c.away && err != nil {
				t.Errorf("held %v, err %v", held, err)
			}
			if d := cmp.Diff(c.short, short); d != "" {
				t.Error(d)
			}
			// It may reserve twice what it is sent twice.
			if n := strings.Count(strings.Join(w.requests(), "\n"), "POST /reserve"); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

func TestALineThatFailsIsKeptPerhaps(t *testing.T) {
	t.Parallel()
	broken := serve(t, func(out http.ResponseWriter, r *http.Request) {
		var line struct{ SKU string }
		if r.URL.Path == "/reserve" && json.NewDecoder(r.Body).Decode(&line) == nil && line.SKU == "A" {
			says(200, jsonType, "{}")(out, r)
			return
		}
		if r.URL.Path == "/reserve" {
			says(500, jsonType, "{}")(out, r)
			return
		}
		notFound(out, r)
	})
	o := asked([]order.Line{{SKU: "A", Qty: 3}, {SKU: "B", Qty: 1}}...)
	held, short, err := broken.stock(t).Reserve(t.Context(), o)
	if held || short != nil || kindOf(err) != fault.Unavailable {
		t.Errorf("%v %v %v", held, short, err)
	}
	if o.Kept != "3 A, perhaps 1 B" || !strings.Contains(fmt.Sprint(errors.Unwrap(err)), "POST /reserve: 500") {
		t.Errorf("kept %q, %v", o.Kept, err)
	}
}

// A line that cannot have been heard is not kept; one that was sent may be, and repeats of it are said once.
func TestWhatIsPerhapsKeptIsWhatWasSent(t *testing.T) {
	t.Parallel()
	var silent atomic.Bool
	w := serve(t, func(out http.ResponseWriter, r *http.Request) {
		if silent.Load() {
			panic(http.ErrAbortHandler)
		}
		foreign(map[string]int64{"BOOK": 2}, notFound)(out, r)
	})
	s := w.stock(t)
	if held, _, err := s.Reserve(t.Context(), asked(twoBooks...)); !held || err != nil {
		t.Fatal(held, err)
	}
	silent.Store(true)
	o := asked(twoBooks...)
	for range 2 {
		if held, _, err := s.Reserve(t.Context(), o); held || err == nil {
			t.Fatal(held, err)
		}
	}
	if o.Kept != "perhaps 2 BOOK" {
		t.Errorf("sent twice without an answer, it kept %q", o.Kept)
	}
	w.close()
	s = w.stock(t)
	s.speaks.heard(first)
	o = asked(twoBooks...)
	if held, _, err := s.Reserve(t.Context(), o); held || err == nil || o.Kept != "" {
		t.Errorf("nobody was there to hear it: %v, %v, kept %q", held, err, o.Kept)
	}
}

// While a proxy in front of our own Inventory answers 404, no unit is reserved without its name and no release is lost.
func TestAProxysNotFoundDoesNotMakeOurInventoryForeign(t *testing.T) {
	t.Parallel()
	var lost atomic.Bool
	w := serve(t, func(out http.ResponseWriter, r *http.Request) {
		switch {
		case lost.Load() && r.URL.Path == "/reserve":
			says(200, jsonType, "{}")(out, r) // were it asked, it would answer
		case lost.Load():
			says(404, "text/html", "<h1>default backend</h1>")(out, r)
		case r.Method == http.MethodDelete:
			out.WriteHeader(http.StatusNoContent)
		default:
			says(200, jsonType, reservation("reserved"))(out, r)
		}
	})
	s := w.stock(t)
	if held, _, err := s.Reserve(t.Context(), asked(twoBooks...)); !held || err != nil {
		t.Fatal(held, err)
	}
	lost.Store(true)
	if held, _, err := s.Reserve(t.Context(), asked(twoBooks...)); held || kindOf(err) != fault.Unavailable {
		t.Errorf("reserve: %v %v", held, err)
	}
	if err := s.Release(t.Context(), id, "x"); kindOf(err) != fault.Unavailable {
		t.Errorf("release: %v", err)
	}
	if slices.ContainsFunc(w.requests(), func(r string) bool { return strings.HasPrefix(r, "POST /reserve") }) {
		t.Error("it was spoken to in the first contract")
	}
	lost.Store(false)
	if err := s.Release(t.Context(), id, "x"); err != nil {
		t.Errorf("release: %v", err)
	}
}

// A process that starts with orders to undo has not heard its peer speak yet.
func TestReleaseBeforeAnythingWasHeard(t *testing.T) {
	t.Parallel()
	w := serve(t, notFound)
	if err := w.stock(t).Release(t.Context(), id, "x"); err != nil {
		t.Errorf("the first contract's own 404: %v", err)
	}
	w = serve(t, says(404, "text/html", "<h1>default backend</h1>"))
	if err := w.stock(t).Release(t.Context(), id, "x"); kindOf(err) != fault.Unavailable {
		t.Errorf("a page with 404, which may be anybody's: %v", err)
	}
}

func TestARepeatOverRESTSendsTheSameAgain(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*web) error{
		"reserve":   func(w *web) error { _, _, err := w.stock(t).Reserve(t.Context(), asked(twoBooks...)); return err },
		"release":   func(w *web) error { return w.stock(t).Release(t.Context(), id, "x") },
		"authorize": func(w *web) error { _, err := w.cashier(t).Authorize(t.Context(), paidFor); return err },
		"void":      func(w *web) error { return w.cashier(t).Void(t.Context(), id, "x") },
		"refund":    func(w *web) error { return w.cashier(t).Refund(t.Context(), id, "x") },
	} {
		var n atomic.Int32
		w := serve(t, func(out http.ResponseWriter, r *http.Request) {
			switch {
			case n.Add(1) == 1:
				panic(http.ErrAbortHandler)
			case r.Method == http.MethodDelete:
				out.WriteHeader(http.StatusNoContent)
			case strings.Contains(r.URL.Path, "payments"):
				says(200, jsonType, payment("authorized"))(out, r)
			default:
				says(200, jsonType, reservation("reserved"))(out, r)
			}
		})
		if err := call(w); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r := w.requests(); len(r) != 2 || r[0] != r[1] {
			t.Errorf("%s sent %q", name, r)
		}
	}
}

func TestSKUsAreSummedInOrderOfAppearance(t *testing.T) {
	t.Parallel()
	in := []order.Line{{SKU: "B", Qty: 1, UnitPriceMinor: 5}, {SKU: "A", Qty: 2}, {SKU: "B", Qty: 3}, {SKU: "b", Qty: 1}}
	if d := cmp.Diff([]order.Line{{SKU: "B", Qty: 4}, {SKU: "A", Qty: 2}, {SKU: "b", Qty: 1}}, perSKU(in)); d != "" {
		t.Error(d)
	}
}
