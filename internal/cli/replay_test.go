package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/orderkeep/orderkeep/internal/cli/demo"
	"github.com/orderkeep/orderkeep/internal/cli/sales"
	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
)

// sample has one of each kind, for the shop that stocked makes: two books and a lamp are there.
const sample = `InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
1,BOOK-001,A BOOK,1,2011-03-21 08:00,12.99,17850,United Kingdom
2,BOOK-001,A BOOK,2,2011-03-21 08:01,12.99,,United Kingdom
1,POST,POSTAGE,1,2011-03-21 08:00,3,17850,United Kingdom
C3,BOOK-001,A BOOK,-1,2011-03-21 08:02,12.99,17850,United Kingdom
C3,POST,POSTAGE,-1,2011-03-21 08:02,3,17850,United Kingdom
2b,BOOK-001,A BOOK,2,2011-03-21 08:03,12.995,,United Kingdom
4,LAMP/é 2,,-1,2011-03-21 08:04,0,,United Kingdom
4,BOOK-001,,-1,2011-03-21 08:04,0,,United Kingdom
5,POST,POSTAGE,1,2011-03-21 08:05,0.001,,United Kingdom
A6,B,Adjust bad debt,1,2011-03-21 08:06,-11062.06,,United Kingdom
`

func (r result) summary(t *testing.T) summary {
	t.Helper()
	var m summary
	if err := json.Unmarshal([]byte(r.out), &m); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	return m
}

// figures leaves out what no two runs share.
var figures = cmp.Options{cmpopts.IgnoreUnexported(summary{}), cmpopts.IgnoreFields(summary{}, "Seconds", "OrdersPerSecond", "P50Ms", "P99Ms")}

func TestReplayFollowsTheRules(t *testing.T) {
	t.Parallel()
	s, url := stocked(t)
	s.requests = nil
	got := do(t, nil, sample, "replay", "-", "--concurrency", "1", "--json", "--url", url).summary(t)
	want := summary{
		Confirmed: 3, OutOfStock: 1, Lines: 4, Units: 5, ValueMinor: 1299 + 300 + 2*1300 + 0,
		Returns: 1, ReturnedUnits: 1, Corrections: 1, CorrectedUnits: -1, RefusedLines: 1, Skipped: 1,
	}
	if d := cmp.Diff(want, got, figures); d != "" {
		t.Error(d)
	}
	keys := []string{"replay:1", "replay:2", "replay:C3:1", "replay:C3:2", "replay:2b", "replay:4:1", "replay:4:2", "replay:5"}
	if d := cmp.Diff(keys, s.requests); d != "" {
		t.Error(d)
	}

	orders, items := len(s.orders), map[string]int64{}
	for sku, i := range s.items {
		items[sku] = i.OnHand
	}
	again := do(t, nil, sample, "replay", "-", "--concurrency", "1", "--json", "--url", url).summary(t)
	want.Replayed = int64(len(keys))
	if d := cmp.Diff(want, again, figures); d != "" {
		t.Errorf("the second replay differs: %s", d)
	}
	if len(s.orders) != orders {
		t.Errorf("the second replay placed %d orders", len(s.orders)-orders)
	}
	for sku, i := range s.items {
		if i.OnHand != items[sku] {
			t.Errorf("the second replay moved %s from %d to %d", sku, items[sku], i.OnHand)
		}
	}
}

func TestReplayOrderHasAllThatTheInvoiceHas(t *testing.T) {
	t.Parallel()
	s, url := stocked(t)
	do(t, nil, sample, "replay", "-", "--concurrency", "1", "--url", url)
	o := s.stored["replay:1"].order
	want := []ordersapi.OrderItem{{Sku: "BOOK-001", Qty: 1, UnitPrice: 1299}, {Sku: "POST", Qty: 1, UnitPrice: 300}}
	if d := cmp.Diff(want, o.Items); d != "" || o.Currency != "GBP" || o.Customer.Value != "17850" || !o.PaymentId.Set {
		t.Errorf("%+v\n%s", o, d)
	}
	free := s.stored["replay:5"].order
	if free.TotalMinor != 0 || free.PaymentId.Set || free.Customer.Set {
		t.Errorf("an order of a tenth of a penny: %+v, want total 0, no payment and no customer", free)
	}
}

func TestReplayExitsWith1WhenAnInvoiceFails(t *testing.T) {
	t.Parallel()
	_, url := stocked(t)
	r := do(t, nil, strings.ReplaceAll(sample, "LAMP/é 2", "NONE"), "replay", "-", "--json", "--url", url, "--concurrency", "1")
	if m := r.summary(t); r.code != exitFailed || m.Failed != 1 || m.Corrections != 1 || !strings.Contains(r.errout, "invoice 4 failed: row 8, NONE: not_found") {
		t.Errorf("%+v", r)
	}
}

func TestReplayTellsTenFailuresAndCountsAll(t *testing.T) {
	t.Parallel()
	file := strings.SplitAfter(sample, "\n")[0]
	for i := range 25 {
		file += fmt.Sprintf("%d,NONE,x,1,d,1,,c\n", i)
	}
	_, url := stocked(t)
	r := do(t, nil, file, "replay", "-", "--json", "--url", url)
	if n := strings.Count(r.errout, "failed: unknown_sku"); n != maxTold || r.summary(t).Failed != 25 {
		t.Errorf("%d told: %+v", n, r)
	}
}

func TestReplayWithManyWorkersKeepsEachInvoiceWhole(t *testing.T) {
	t.Parallel()
	s := newShop()
	file := strings.SplitAfter(sample, "\n")[0]
	s.add("A", "", 150, true)
	for i := range 200 {
		file += fmt.Sprintf("%d,A,x,1,d,1,,c\n", i)
	}
	url := s.serve(t)
	m := do(t, nil, file, "replay", "-", "--concurrency", "16", "--json", "--url", url).summary(t)
	if m.Confirmed != 150 || m.OutOfStock != 50 || m.Failed != 0 || s.items["A"].Available != 0 {
		t.Errorf("%+v, %+v; want exactly what was there sold", m, s.items["A"])
	}
}

// desk is a till and a shelf whose answers a test writes.
type desk struct {
	place  func() (ordersapi.PlaceOrderRes, error)
	get    func() (ordersapi.GetOrderRes, error)
	adjust func() (stockapi.AdjustStockRes, error)
	keys   map[string]int
}

func (d *desk) PlaceOrder(_ context.Context, _ *ordersapi.NewOrder, p ordersapi.PlaceOrderParams) (ordersapi.PlaceOrderRes, error) {
	d.keys[p.IdempotencyKey.Value]++
	return d.place()
}
func (d *desk) GetOrder(context.Context, ordersapi.GetOrderParams) (ordersapi.GetOrderRes, error) {
	return d.get()
}
func (d *desk) AdjustStock(_ context.Context, _ *stockapi.Adjustment, p stockapi.AdjustStockParams) (stockapi.AdjustStockRes, error) {
	d.keys[p.IdempotencyKey.Value]++
	return d.adjust()
}

// replayed runs one invoice of one line past a desk.
func replayed(t *testing.T, d *desk, number string, qty int64) (summary, []string) {
	t.Helper()
	var told []string
	d.keys = map[string]int{}
	r := &replayer{till: d, shelf: d, explain: func(err error) error { return err }, tell: func(s string) { told = append(told, s) }, done: func() {}}
	kind := sales.Order
	if qty < 0 {
		kind = sales.Correction
	}
	m, err := r.run(t.Context(), []sales.Invoice{{Number: number, Kind: kind, Lines: []sales.Line{{SKU: "A", Qty: qty, Price: 100, Row: 2}}}}, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	return *m, told
}

func refusal(status int, code string, retryAfter int) *ordersapi.ProblemStatusCodeWithHeaders {
	p := &ordersapi.ProblemStatusCodeWithHeaders{StatusCode: status, Response: ordersapi.Problem{Error: code, Status: status, Type: "about:blank"}}
	if retryAfter > 0 {
		p.RetryAfter = ordersapi.NewOptInt(retryAfter)
	}
	return p
}

func TestReplayComesAgainWhenTheServerSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin, tries := time.Now(), 0
		d := &desk{place: func() (ordersapi.PlaceOrderRes, error) {
			if tries++; tries <= 3 {
				return refusal(503, "busy", 2), nil
			}
			return &ordersapi.PlaceOrderCreated{Response: ordersapi.Order{Status: ordersapi.OrderStatusConfirmed, TotalMinor: 100}}, nil
		}}
		m, _ := replayed(t, d, "1", 1)
		if m.Confirmed != 1 || m.ValueMinor != 100 || d.keys["replay:1"] != 4 || time.Since(begin) != 6*time.Second {
			t.Errorf("%+v after %v and %v, want confirmed after three pauses of two seconds under one key", m, time.Since(begin), d.keys)
		}
	})
}

func TestReplayGivesUpAfterItsTries(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func() (ordersapi.PlaceOrderRes, error){
		"a server that is always full": func() (ordersapi.PlaceOrderRes, error) { return refusal(503, "busy", 1), nil },
		"a key for ever in flight":     func() (ordersapi.PlaceOrderRes, error) { return refusal(409, "idempotency_key_in_flight", 0), nil },
		"a connection that breaks":     func() (ordersapi.PlaceOrderRes, error) { return nil, breaks() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, told := replayed(t, &desk{place: answer}, "1", 1)
				if m.Failed != 1 || len(told) != 1 {
					t.Errorf("%+v, told %q", m, told)
				}
			})
		})
	}
}

// breaks is what http.Client reports of a connection that broke.
func breaks() error {
	_, err := (&http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("reset") })}).Get("http://x")
	return err
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestReplayDoesNotRepeatWhatWasRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		code   string
	}{{402, "payment_declined"}, {400, "invalid_request"}, {422, "idempotency_key_reused"}, {500, "internal"}, {409, "unknown_sku"}} {
		d := &desk{place: func() (ordersapi.PlaceOrderRes, error) { return refusal(c.status, c.code, 0), nil }}
		if m, told := replayed(t, d, "1", 1); m.Failed != 1 || d.keys["replay:1"] != 1 || len(told) != 1 || !strings.Contains(told[0], c.code) {
			t.Errorf("%s: %+v, %v, told %q", c.code, m, d.keys, told)
		}
	}
}

func TestReplayFollowsAPendingOrderToItsEnd(t *testing.T) {
	t.Parallel()
	rejected := func(reason string) ordersapi.Order {
		return ordersapi.Order{Status: ordersapi.OrderStatusRejected, Reason: ordersapi.NewOptString(reason)}
	}
	for name, c := range map[string]struct {
		end  ordersapi.Order
		want summary
	}{
		"confirmed": {ordersapi.Order{Status: ordersapi.OrderStatusConfirmed, TotalMinor: 100}, summary{Confirmed: 1, Lines: 1, Units: 1, ValueMinor: 100}},
		// Somebody was fast: what was pending is confirmed, and more than that.
		"cancelled":     {ordersapi.Order{Status: ordersapi.OrderStatusCancelled, TotalMinor: 100}, summary{Confirmed: 1, Lines: 1, Units: 1, ValueMinor: 100}},
		"fulfilled":     {ordersapi.Order{Status: ordersapi.OrderStatusFulfilled, TotalMinor: 100}, summary{Confirmed: 1, Lines: 1, Units: 1, ValueMinor: 100}},
		"returned":      {ordersapi.Order{Status: ordersapi.OrderStatusReturned, TotalMinor: 100}, summary{Confirmed: 1, Lines: 1, Units: 1, ValueMinor: 100}},
		"out of stock":  {rejected("out_of_stock"), summary{OutOfStock: 1}},
		"declined":      {rejected("payment_declined"), summary{Failed: 1}},
		"never decided": {ordersapi.Order{Status: ordersapi.OrderStatusPending}, summary{Failed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				looks := 0
				d := &desk{
					place: func() (ordersapi.PlaceOrderRes, error) {
						return &ordersapi.PlaceOrderAccepted{Response: ordersapi.Order{Status: ordersapi.OrderStatusPending}}, nil
					},
					get: func() (ordersapi.GetOrderRes, error) {
						if looks++; looks < 3 {
							return &ordersapi.Order{Status: ordersapi.OrderStatusPending}, nil
						}
						return &c.end, nil
					},
				}
				if m, _ := replayed(t, d, "1", 1); !cmp.Equal(m, c.want, figures) {
					t.Error(cmp.Diff(c.want, m, figures))
				}
			})
		})
	}
}

func TestReplayKeepsToItsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		d := &desk{keys: map[string]int{}, place: func() (ordersapi.PlaceOrderRes, error) {
			at = append(at, time.Since(begin))
			return &ordersapi.PlaceOrderCreated{Response: ordersapi.Order{Status: ordersapi.OrderStatusConfirmed}}, nil
		}}
		r := &replayer{till: d, shelf: d, done: func() {}}
		if _, err := r.run(t.Context(), make([]sales.Invoice, 4), 1, 2); err != nil {
			t.Fatal(err)
		}
		want := []time.Duration{0, 500 * time.Millisecond, time.Second, 1500 * time.Millisecond}
		if d := cmp.Diff(want, at); d != "" {
			t.Error(d)
		}
	})
}

func TestReplayStopsWhenInterrupted(t *testing.T) {
	t.Parallel()
	s, _ := stocked(t)
	ctx, interrupt := context.WithCancel(t.Context())
	s.fail = func(key string) error {
		if key == "replay:2b" {
			interrupt()
		}
		return nil
	}
	var out, errout bytes.Buffer
	code := run(ctx, []string{"replay", "-", "--concurrency", "1", "--json", "--url", s.serve(t)}, strings.NewReader(sample), &out, &errout, nil)
	if code != exitFailed || out.Len() != 0 || !strings.Contains(errout.String(), "interrupted") {
		t.Errorf("%d, %q, %q", code, out.String(), errout.String())
	}
	s.mu.Lock() // the request that was interrupted may still be under way at the shop
	defer s.mu.Unlock()
	if slices.Contains(s.requests, "replay:5") {
		t.Error("it went on after the interrupt")
	}
}

func TestReplayThroughABrokenConnection(t *testing.T) {
	t.Parallel()
	s, _ := stocked(t)
	var n atomic.Int64
	inner := s.serve(t)
	// Each request is done by the shop, and every other answer is lost on the way.
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), r.Method, inner+r.URL.EscapedPath(), r.Body)
		req.Header = r.Header
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		if r.Method == http.MethodPost && n.Add(1)%2 == 1 {
			panic(http.ErrAbortHandler)
		}
		for k, v := range res.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(res.StatusCode)
		var b bytes.Buffer
		_, _ = b.ReadFrom(res.Body)
		_, _ = w.Write(b.Bytes())
	}))
	t.Cleanup(proxy.Close)
	m := do(t, nil, sample, "replay", "-", "--concurrency", "1", "--json", "--url", proxy.URL).summary(t)
	if m.Confirmed != 3 || m.OutOfStock != 1 || m.CorrectedUnits != -1 || m.ReturnedUnits != 1 || m.RefusedLines != 1 || m.Failed != 0 || m.Replayed != 8 {
		t.Errorf("%+v; want the same figures, each from the answer stored under its key", m)
	}
}

func TestDemoWeekIsWhatItSays(t *testing.T) {
	t.Parallel()
	week, err := sales.Read(bytes.NewReader(demo.Week))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[sales.Kind]int{}
	for _, v := range week {
		counts[v.Kind]++
	}
	if len(week) != 448 || counts[sales.Return] != 58 || counts[sales.Correction] == 0 {
		t.Errorf("%d invoices, %v", len(week), counts)
	}
	if len(demo.Week) > 300_000 {
		t.Errorf("the week is %d bytes: too much to carry in every program", len(demo.Week))
	}
}
