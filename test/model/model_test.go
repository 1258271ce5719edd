package model

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"pgregory.net/rapid"
)

// step is one thing that happens in a history. Its fields are drawn, and mean something to some kinds only.
type step struct {
	Kind    string
	Order   int // which of the orders so far, from the latest back: most commands are about what has just happened
	SKU     string
	Qty     int64
	Price   int64
	Token   string
	Port    string
	Trouble trouble
	Pass    time.Duration
	Delta   int64
}

var kinds = []string{"place", "place", "place", "crowd", "repeat", "cancel", "cancel", "fulfil", "fulfil", "return", "adjust", "hold", "trouble", "trouble", "trouble", "pass", "restart"}

// steps draws a history, whole before it is played: rapid ends a run that failed by a panic, which must not leave a bubble.
func steps() *rapid.Generator[[]step] {
	one := rapid.Custom(func(t *rapid.T) step {
		return step{
			Kind:  rapid.SampledFrom(kinds).Draw(t, "kind"),
			Order: rapid.SampledFrom([]int{0, 0, 0, 1, 2, 5}).Draw(t, "order"),
			SKU:   rapid.SampledFrom([]string{"BOOK", "PEN"}).Draw(t, "sku"),
			Qty:   int64(rapid.IntRange(1, 2).Draw(t, "qty")),
			Price: int64(rapid.SampledFrom([]int{500, 0}).Draw(t, "price")),
			Token: rapid.SampledFrom([]string{"pm_card_visa", "pm_card_visa", "pm_card_chargeDeclined", "pm_simulated_timeout_charged",
				"pm_simulated_timeout_not_charged", "pm_simulated_down_30s", "pm_simulated_slow_2s", "pm_simulated_down"}).Draw(t, "token"),
			Port: rapid.SampledFrom([]string{"inventory", "payments", "bus"}).Draw(t, "port"),
			Trouble: trouble{rapid.SampledFrom([]string{"away", "lost", "late", "twice", "slow"}).Draw(t, "trouble"),
				rapid.IntRange(1, 12).Draw(t, "calls")},
			Pass:  rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Second, 3 * time.Minute}).Draw(t, "pass"),
			Delta: int64(rapid.SampledFrom([]int{-2, -1, 1, 2}).Draw(t, "delta")),
		}
	})
	return rapid.SliceOfN(one, 1, 25)
}

// placed is one order as its buyer knows it.
type placed struct {
	request *ordersv1.PlaceOrderRequest
	id      string                 // once it was told
	told    []ordersv1.OrderStatus // in answer to the placement and its repeats
	reached ordersv1.OrderStatus   // what a later command was told: it can only go on from there
}

// history is one that is played, with the model of the shop: who was told what, and what was counted.
type history struct {
	*shop
	mu     sync.Mutex
	orders []*placed
	onHand map[string]int64
	holds  int
	broken []string
	ends   []ordersv1.OrderStatus // of the orders that were taken
}

const opening = 3

func (h *history) wrong(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = append(h.broken, fmt.Sprintf(format, args...))
}

func (h *history) play(s step) {
	ctx := context.Background()
	switch s.Kind {
	case "place":
		h.send(h.order(s, 0))
	case "crowd": // at once
		var wg sync.WaitGroup
		for i := range 3 {
			p := h.order(s, i)
			wg.Go(func() { h.send(p) })
		}
		wg.Wait()
	case "adjust":
		if _, _, err := h.stock("POST", "/"+s.SKU+"/adjustments", fmt.Sprintf(`{"delta":%d,"reason":"counted"}`, s.Delta)); err == nil {
			h.onHand[s.SKU] += s.Delta
		} else if s.Delta > 0 {
			h.wrong("adjust by %d: %v", s.Delta, err)
		}
	case "hold": // of nobody's order; it lets go by itself before the history is judged
		h.holds++
		_, err := h.rest("PUT", fmt.Sprintf("/v1/reservations/00000000-0000-4000-8000-%012d", h.holds), fmt.Sprintf(`{"lines":[{"sku":%q,"qty":%d}],"expiresIn":30}`, s.SKU, s.Qty))
		if err != nil && !strings.Contains(err.Error(), "out_of_stock") {
			h.wrong("hold: %v", err)
		}
	case "trouble":
		if s.Port == "bus" {
			h.bus.set(s.Trouble)
		} else {
			h.ports[s.Port].set(s.Trouble)
		}
	case "pass":
		time.Sleep(s.Pass)
	case "restart":
		name := map[string]string{"bus": "orders"}[s.Port]
		if name == "" {
			name = s.Port
		}
		if err := h.stop(name); err != nil {
			h.wrong("stop %s: %v", name, err)
		}
		time.Sleep(s.Pass)
		if err := h.start(name); err != nil {
			h.wrong("start: %v", err)
		}
	default:
		if len(h.orders) > 0 {
			h.command(ctx, s.Kind, h.orders[len(h.orders)-1-s.Order%len(h.orders)])
		}
	}
}

// order makes the request of a buyer.
func (h *history) order(s step, n int) *placed {
	r := &ordersv1.PlaceOrderRequest{
		IdempotencyKey: fmt.Sprintf("key-%d", len(h.orders)), Customer: fmt.Sprintf("buyer-%d", n),
		Lines: []*ordersv1.OrderLine{{Sku: s.SKU, Qty: s.Qty, UnitPriceMinor: s.Price}},
	}
	if s.Price > 0 {
		r.Currency, r.PaymentProvider, r.PaymentToken = "GBP", "simulated", s.Token
	}
	p := &placed{request: r}
	h.orders = append(h.orders, p)
	return p
}

// send places the order, and holds the answer against those before it.
func (h *history) send(p *placed) {
	res, err := h.shop.orders().PlaceOrder(context.Background(), p.request)
	if err != nil {
		switch code := fault.Of(fault.FromGRPC(err)).Code; {
		case code == "inventory_unavailable" && p.id == "", code == "idempotency_key_in_flight":
		default:
			h.wrong("%s: %v", p.request.IdempotencyKey, err)
		}
		return
	}
	o := res.Order
	if p.id != "" && o.OrderId != p.id {
		h.wrong("%s was order %s, and is %s", p.request.IdempotencyKey, p.id, o.OrderId)
	}
	if o.OrderId == "" {
		h.wrong("%s is an order without an id", p.request.IdempotencyKey)
	}
	p.id, p.told = o.OrderId, append(p.told, o.Status)
}

// command is what somebody does with an order later.
func (h *history) command(ctx context.Context, kind string, p *placed) {
	var o *ordersv1.Order
	var err error
	switch {
	case kind == "repeat":
		h.send(p)
		return
	case p.id == "":
		return
	case kind == "cancel":
		var res *ordersv1.CancelOrderResponse
		if res, err = h.shop.orders().CancelOrder(ctx, &ordersv1.CancelOrderRequest{OrderId: p.id}); err == nil {
			o = res.Order
		}
	case kind == "fulfil":
		var res *ordersv1.FulfilOrderResponse
		if res, err = h.shop.orders().FulfilOrder(ctx, &ordersv1.FulfilOrderRequest{OrderId: p.id}); err == nil {
			o = res.Order
		}
	case kind == "return":
		var res *ordersv1.ReturnOrderResponse
		if res, err = h.shop.orders().ReturnOrder(ctx, &ordersv1.ReturnOrderRequest{OrderId: p.id}); err == nil {
			o = res.Order
		}
	}
	switch {
	case err == nil && o.Status != ordersv1.OrderStatus_ORDER_STATUS_PENDING:
		p.reached = o.Status
	case err != nil && fault.KindOf(fault.FromGRPC(err)) != fault.Conflict:
		h.wrong("%s of %s: %v", kind, p.request.IdempotencyKey, err)
	}
}

// follows are the statuses that may come after one that a caller was told of.
var follows = map[ordersv1.OrderStatus][]ordersv1.OrderStatus{
	ordersv1.OrderStatus_ORDER_STATUS_CONFIRMED: {ordersv1.OrderStatus_ORDER_STATUS_CONFIRMED, ordersv1.OrderStatus_ORDER_STATUS_CANCELLED, ordersv1.OrderStatus_ORDER_STATUS_FULFILLED, ordersv1.OrderStatus_ORDER_STATUS_RETURNED},
	ordersv1.OrderStatus_ORDER_STATUS_FULFILLED: {ordersv1.OrderStatus_ORDER_STATUS_FULFILLED, ordersv1.OrderStatus_ORDER_STATUS_RETURNED},
	ordersv1.OrderStatus_ORDER_STATUS_REJECTED:  {ordersv1.OrderStatus_ORDER_STATUS_REJECTED},
	ordersv1.OrderStatus_ORDER_STATUS_CANCELLED: {ordersv1.OrderStatus_ORDER_STATUS_CANCELLED},
	ordersv1.OrderStatus_ORDER_STATUS_RETURNED:  {ordersv1.OrderStatus_ORDER_STATUS_RETURNED},
}

// judge waits until everything has come to its end, and holds that against what was told and counted.
func (h *history) judge() {
	h.heal()
	h.wait()
	reserved := map[string]int64{}
	for _, p := range h.orders {
		if p.id == "" {
			continue
		}
		got, err := h.shop.orders().GetOrder(context.Background(), &ordersv1.GetOrderRequest{OrderId: p.id})
		if err != nil {
			h.wrong("%s was taken as %s, and is lost: %v", p.request.IdempotencyKey, p.id, err)
			continue
		}
		end := got.Order.Status
		h.ends = append(h.ends, end)
		if end == ordersv1.OrderStatus_ORDER_STATUS_PENDING {
			h.wrong("%s is pending for ever", p.request.IdempotencyKey)
		}
		for _, told := range append(slices.Clone(p.told), p.reached) {
			if next, ok := follows[told]; ok && !slices.Contains(next, end) {
				h.wrong("%s was told to be %s, and is %s", p.request.IdempotencyKey, told, end)
			}
		}
		line := p.request.Lines[0]
		switch end {
		case ordersv1.OrderStatus_ORDER_STATUS_CONFIRMED:
			reserved[line.Sku] += line.Qty
		case ordersv1.OrderStatus_ORDER_STATUS_FULFILLED:
			h.onHand[line.Sku] -= line.Qty
		}
	}
	for sku, want := range h.onHand {
		onHand, held, err := h.stock("GET", "/"+sku, "")
		if err != nil || onHand != want || held != reserved[sku] || held > onHand {
			h.wrong("%s: on hand %d, reserved %d, and by the orders %d and %d (%v)", sku, onHand, held, want, reserved[sku], err)
		}
	}
}

// wait lets time pass until nothing is on its way between the contexts any more. Recovery gives up on a payment after 15 minutes,
// and an inbox waits for up to a minute before it looks again whether its provider is back.
func (h *history) wait() {
	for pause := time.Minute; pause < 20*time.Minute; pause *= 2 {
		time.Sleep(pause)
		report, err := h.audit()
		if err != nil {
			h.wrong("audit: %v", err)
			return
		}
		if len(report.OnItsWay) == 0 {
			for _, v := range report.Violations {
				h.wrong("audit: %s: %s", v.Rule, v.Detail)
			}
			return
		}
	}
	h.wrong("after half an hour something is still on its way")
}

// run plays a history on a copy of a fresh shop, in a bubble of its own, and returns what was wrong, and how the orders ended.
func run(t *testing.T, fresh, planted string, all []step) (broken []string, ends []ordersv1.OrderStatus) {
	dir, err := os.MkdirTemp(t.TempDir(), "shop")
	if err == nil {
		err = duplicate(fresh, dir)
	}
	if err != nil {
		return []string{err.Error()}, nil
	}
	defer os.RemoveAll(dir)
	synctest.Test(t, func(*testing.T) {
		s, err := newShop(dir, planted)
		if err != nil {
			broken = []string{err.Error()}
			return
		}
		h := &history{shop: s, onHand: map[string]int64{"BOOK": opening, "PEN": opening}}
		for _, step := range all {
			h.play(step)
		}
		h.judge()
		if err := s.close(); err != nil {
			h.wrong("close: %v", err)
		}
		time.Sleep(lateBy) // what is late finds nobody
		broken, ends = h.broken, h.ends
	})
	return broken, ends
}

// newFresh makes the shop that histories begin with.
func newFresh(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := newShop(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.stock("POST", ".csv", fmt.Sprintf("sku,title,on_hand,tracked\nBOOK,A book,%d,true\nPEN,A pen,%d,true\n", opening, opening)); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestNoHistoryBreaksAPromise(t *testing.T) {
	t.Parallel()
	fresh := newFresh(t)
	rapid.Check(t, func(r *rapid.T) {
		if broken, _ := run(t, fresh, "", steps().Draw(r, "history")); len(broken) > 0 {
			for _, b := range broken {
				r.Log(b)
			}
			r.FailNow()
		}
	})
}

// Histories by hand come to the ends that are drawn for here, and show the mistakes that are planted in the wires.
func TestHistoriesByHand(t *testing.T) {
	t.Parallel()
	fresh := newFresh(t)
	paid := step{Kind: "place", SKU: "BOOK", Qty: 2, Price: 500, Token: "pm_card_visa"}
	declined := paid
	declined.Token = "pm_card_chargeDeclined"
	on := func(kind string) step { return step{Kind: kind} }
	bad := func(port, kind string, calls int) step {
		return step{Kind: "trouble", Port: port, Trouble: trouble{kind, calls}}
	}
	const (
		confirmed, rejected = ordersv1.OrderStatus_ORDER_STATUS_CONFIRMED, ordersv1.OrderStatus_ORDER_STATUS_REJECTED
		cancelled, returned = ordersv1.OrderStatus_ORDER_STATUS_CANCELLED, ordersv1.OrderStatus_ORDER_STATUS_RETURNED
	)
	for name, c := range map[string]struct {
		history []step
		ends    []ordersv1.OrderStatus
		planted string // shown by the same history
	}{
		"the second finds too little":      {[]step{paid, paid}, []ordersv1.OrderStatus{confirmed, rejected}, "Reserve"},
		"a declined card":                  {[]step{declined}, []ordersv1.OrderStatus{rejected}, "Release"},
		"cancelled while payment is away":  {[]step{bad("payments", "lost", 3), paid, on("cancel")}, []ordersv1.OrderStatus{rejected}, "Void"},
		"cancelled when it was confirmed":  {[]step{paid, bad("bus", "twice", 9), on("cancel")}, []ordersv1.OrderStatus{cancelled}, "events"},
		"there and back":                   {[]step{paid, on("fulfil"), bad("bus", "lost", 3), on("return")}, []ordersv1.OrderStatus{returned}, "events"},
		"inventory comes late, and then":   {[]step{bad("inventory", "late", 9), paid, {Kind: "pass", Pass: time.Minute}, on("repeat")}, []ordersv1.OrderStatus{confirmed}, "Authorize"},
		"a hold lets go in time":           {[]step{{Kind: "hold", SKU: "BOOK", Qty: 3}, paid, {Kind: "pass", Pass: 29 * time.Second}, paid, {Kind: "pass", Pass: time.Second}, paid}, []ordersv1.OrderStatus{rejected, rejected, confirmed}, "Reserve"},
		"driven on after a restart":        {[]step{bad("payments", "away", 9), paid, {Kind: "restart", Port: "bus", Pass: time.Minute}}, []ordersv1.OrderStatus{confirmed}, "Reserve"},
		"nobody knows, and it is given up": {[]step{{Kind: "place", SKU: "PEN", Qty: 1, Price: 500, Token: "pm_simulated_down"}}, []ordersv1.OrderStatus{rejected}, "Release"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken, ends := run(t, fresh, "", c.history)
			if len(broken) > 0 || !slices.Equal(ends, c.ends) {
				t.Errorf("orders came to %v, want %v; wrong: %q", ends, c.ends, broken)
			}
			if broken, _ := run(t, fresh, c.planted, c.history); len(broken) == 0 {
				t.Errorf("that %s is swallowed was not found", c.planted)
			}
		})
	}
}

// A history takes a quarter of a second. For more of them than CI plays: go test ./test/model -rapid.checks=1000.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		_ = f.Value.Set("20")
	}
	os.Exit(m.Run())
}
