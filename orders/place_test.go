package orders

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
)

const (
	free     = `{"items":[{"sku":"BOOK","qty":1}]}`
	paid     = `{"items":[{"sku":"BOOK","qty":2,"unitPrice":1250}],"currency":"GBP","customer":"ann","payment":{"provider":"simulated","token":"pm_card_visa"}}`
	declined = `{"items":[{"sku":"BOOK","qty":2,"unitPrice":1250}],"currency":"GBP","payment":{"provider":"simulated","token":"pm_card_chargeDeclinedInsufficientFunds"}}`
	unknown  = `{"items":[{"sku":"BOOK","qty":2,"unitPrice":1250}],"currency":"GBP","payment":{"provider":"simulated","token":"pm_unknown"}}`
)

func TestAConfirmedOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	placed := b.place(paid).is(201).has(`{"status":"confirmed","currency":"GBP","totalMinor":2500,"customer":"ann","items":[{"sku":"BOOK","qty":2,"unitPrice":1250}]}`)
	id := placed.str("orderId")
	if u, err := uuid.Parse(id); err != nil || u.Version() != 7 {
		t.Errorf("the order's id %q is no UUIDv7", id)
	}
	if l := placed.header.Get("Location"); l != "/v1/orders/"+id {
		t.Errorf("Location %q", l)
	}
	if placed.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("a first answer says that it is a repeat")
	}
	got := b.call("GET", placed.header.Get("Location"), "").is(200)
	if got.raw != placed.raw {
		t.Errorf("placed\n%s\nlooked up\n%s", placed.raw, got.raw)
	}
	if got.str("paymentId") != "pay-"+id {
		t.Errorf("paymentId of %s", got.raw)
	}
	b.call("GET", "/v1/orders/"+strings.ToUpper(id), "").is(200)
	b.call("GET", "/v1/orders/"+uuid.NewString(), "").is(404, "not_found")
	b.call("GET", "/v1/orders/"+uuid.NewString()+"/timeline", "").is(404, "not_found")
	b.call("POST", "/v1/orders/"+uuid.NewString()+"/cancel", "").is(404, "not_found")
}

func TestRefusedOrders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	short := b.place(`{"items":[{"sku":"BOOK","qty":3},{"sku":"GIFT","qty":1},{"sku":"BOOK","qty":3}]}`).is(409, "out_of_stock").
		has(`{"items":[{"sku":"BOOK","requested":6,"available":5}]}`)
	b.call("GET", "/v1/orders/"+short.str("orderId"), "").is(200).has(`{"status":"rejected","reason":"out_of_stock"}`)
	// BOOK is known to be short by now: the answer is the same, and nothing is recorded.
	if again := b.place(`{"items":[{"sku":"BOOK","qty":6}]}`).is(409, "out_of_stock").has(`{"items":[{"sku":"BOOK","requested":6,"available":5}]}`); again.body["orderId"] != nil {
		t.Errorf("an order that was refused at sight has an id: %s", again.raw)
	}
	b.place(`{"items":[{"sku":"PEN","qty":1}]}`).is(409, "out_of_stock").has(`{"items":[{"sku":"PEN","requested":1,"available":0}]}`)
	none := b.place(`{"items":[{"sku":"BOOK","qty":9},{"sku":"none","qty":2}]}`).is(409, "unknown_sku").has(`{"items":[{"sku":"none","requested":2,"available":0}]}`)
	if !strings.Contains(none.str("detail"), "none") {
		t.Errorf("the unknown SKU is not in %q", none.str("detail"))
	}
	refused := b.place(declined).is(402, "payment_declined")
	if !strings.Contains(refused.str("detail"), "insufficient_funds") {
		t.Errorf("the provider's reason is not in %q", refused.str("detail"))
	}
	b.call("GET", "/v1/orders/"+refused.str("orderId"), "").is(200).has(`{"status":"rejected","reason":"payment_declined"}`)
	b.place(strings.Replace(paid, "simulated", "paypal", 1)).is(400, "unknown_provider")
	b.place(`{"items":[{"sku":"BOOK","qty":5}]}`).is(201) // everything was given back
}

func TestManyUnknownSKUsAreNamedInItemsAndNotInTheSentence(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var lines []string
	for i := range 2000 {
		lines = append(lines, fmt.Sprintf(`{"sku":"%s-%d","qty":1}`, strings.Repeat("x", 100), i))
	}
	a := b.place(`{"items":[`+strings.Join(lines, ",")+`]}`).is(409, "unknown_sku")
	if n := len(a.str("detail")); n > 1000 {
		t.Errorf("the sentence has %d bytes", n)
	}
	if n := len(a.body["items"].([]any)); n != 2000 {
		t.Errorf("%d items", n)
	}
}

func TestAnOrderWhoseOutcomeIsNotKnown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := []string{"Idempotency-Key", "k"}
	placed := b.place(unknown, key...).is(202).has(`{"status":"pending","totalMinor":2500}`)
	at := placed.header.Get("Location")
	b.call("GET", at, "").is(200).has(`{"status":"pending"}`)
	plain := b.call("POST", "/orders", unknown).is(202).has(`{"status":"pending"}`)
	b.till.mu.Lock()
	b.till.known = true
	b.till.mu.Unlock()
	for _, path := range []string{at, "/v1/orders/" + plain.str("orderId")} {
		until(t, func() bool { return b.call("GET", path, "").str("status") == "confirmed" })
	}
	// A repeat is a way to look: it tells the end by now.
	again := b.place(unknown, key...).is(201).has(`{"status":"confirmed"}`)
	if again.str("orderId") != placed.str("orderId") || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the repeat is %s %v", again.raw, again.header)
	}
}

func TestInventoryIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	away := fault.New(fault.Unavailable, "disk_full", "Secret detail.")
	b.shelf.set(func() { b.shelf.fail = away })
	key := []string{"Idempotency-Key", "k"}
	a := b.place(free, key...).is(503, "inventory_unavailable")
	if a.header.Get("Retry-After") == "" || strings.Contains(a.raw, "Secret") {
		t.Errorf("%v %s", a.header, a.raw)
	}
	b.call("POST", "/orders", free).is(503, "inventory_unavailable")
	b.shelf.set(func() { b.shelf.fail = nil })
	if again := b.place(free, key...).is(201); again.header.Get("Idempotent-Replayed") != "" {
		t.Error("a 503 was kept under its key")
	}
	until(t, func() bool { return b.counts()["pending"] == 0 })
}

func TestPaymentsIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.till.mu.Lock()
	b.till.fail = fault.New(fault.Unavailable, "busy", "Busy.")
	b.till.mu.Unlock()
	at := b.place(paid).is(202).has(`{"status":"pending"}`).header.Get("Location")
	b.till.mu.Lock()
	b.till.fail = nil
	b.till.mu.Unlock()
	until(t, func() bool { return b.call("GET", at, "").str("status") == "confirmed" })
}

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, body := range map[string]string{
		"confirmed": paid, "declined": declined, "out of stock": `{"items":[{"sku":"PEN","qty":1}]}`, "unknown SKU": `{"items":[{"sku":"none","qty":1}]}`,
	} {
		for _, path := range []string{"/v1/orders", "/orders"} {
			key := []string{"Idempotency-Key", name + path}
			first := b.call("POST", path, body, key...)
			again := b.call("POST", path, body, key...)
			if first.header.Get("Idempotent-Replayed") != "" || again.header.Get("Idempotent-Replayed") != "true" || again.status != first.status {
				t.Errorf("%s %s: %d %v, then %d %v", name, path, first.status, first.header, again.status, again.header)
			}
			if a, c := told(first), told(again); a != c {
				t.Errorf("%s %s:\n%s\n%s", name, path, a, c)
			}
			b.call("POST", path, `{"items":[{"sku":"GIFT","qty":7}]}`, key...).is(422, "idempotency_key_reused")
		}
	}
	// White space and the order of fields are not part of the payload; the wire's path is not either.
	b.place(`{"items":[{"sku":"GIFT","qty":1}]}`, "Idempotency-Key", "x").is(201)
	b.call("POST", "/orders", ` {"items" : [{"qty":1,"sku":"GIFT"}]}`, "Idempotency-Key", "x").is(201)
	confirmed := b.place(paid, "Idempotency-Key", "confirmed/v1/orders")
	b.call("POST", confirmed.header.Get("Location")+"/cancel", "").is(200)
	if later := b.place(paid, "Idempotency-Key", "confirmed/v1/orders").is(201).has(`{"status":"confirmed"}`); later.raw != confirmed.raw {
		t.Errorf("a cancellation changed the stored answer:\n%s\n%s", confirmed.raw, later.raw)
	}
}

// told is an answer without what differs between two of the same: a problem document carries the id of its own request.
func told(a answer) string {
	if a.status < 400 {
		return a.raw
	}
	return strings.ReplaceAll(a.raw, a.header.Get("X-Correlation-ID"), "")
}

func TestAnAttemptInFlight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	b.shelf.set(func() { b.shelf.block, b.shelf.begun = release, make(chan struct{}, 10) })
	first := make(chan answer, 1)
	go func() { first <- b.place(free, "Idempotency-Key", "k") }()
	<-b.shelf.begun
	b.place(free, "Idempotency-Key", "k").is(409, "idempotency_key_in_flight")
	b.place(paid, "Idempotency-Key", "k").is(422, "idempotency_key_reused")
	close(release)
	placed := (<-first).is(201)
	if again := b.place(free, "Idempotency-Key", "k").is(201); again.str("orderId") != placed.str("orderId") {
		t.Errorf("two orders: %s %s", placed.raw, again.raw)
	}
}

func TestTheFirstContract(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if a := b.call("GET", "/health", "").is(200); a.raw != `{"status":"ok"}` {
		t.Errorf("GET /health is %q", a.raw)
	}
	placed := b.call("POST", "/orders", `{"items":[{"sku":"BOOK","qty":1}]}`).is(201)
	if want := `{"orderId":"` + placed.str("orderId") + `","status":"confirmed"}`; placed.raw != want {
		t.Errorf("%s, want %s", placed.raw, want)
	}
	b.call("POST", "/orders", `{"items":[{"sku":"PEN","qty":1}]}`).is(409, "out_of_stock")
	for _, path := range []string{"/", "/nothing", "/orders/", "/orders/x", "/v1", "/v1/events/x", "/v1/orders/x/y", "/reserve"} {
		b.call("GET", path, "").is(404, "not_found")
		b.call("POST", path, "{}").is(404, "not_found")
	}
}

func TestCorrelation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	given := b.place(paid, "X-Correlation-Id", "shop-17").is(201).has(`{"correlationId":"shop-17"}`)
	if h := given.header.Get("X-Correlation-ID"); h != "shop-17" {
		t.Errorf("header %q", h)
	}
	// Another request's id does not change the order's.
	if later := b.call("GET", given.header.Get("Location"), "", "X-Correlation-Id", "desk-3").is(200).has(`{"correlationId":"shop-17"}`); later.header.Get("X-Correlation-ID") != "desk-3" {
		t.Errorf("header %q", later.header.Get("X-Correlation-ID"))
	}
	made := b.place(free).is(201)
	if h := made.header.Get("X-Correlation-ID"); h == "" || made.str("correlationId") != h {
		t.Errorf("header %q, order %s", h, made.raw)
	}
	b.till.mu.Lock()
	b.till.fail = fault.New(fault.Unavailable, "busy", "Busy.")
	b.till.mu.Unlock()
	pending := b.place(paid, "X-Correlation-Id", "shop-18").is(202)
	if log := b.log.String(); !strings.Contains(log, `orderId=`+pending.str("orderId")) || !strings.Contains(log, "correlationId=shop-18") {
		t.Errorf("log:\n%s", log)
	}
	b.till.mu.Lock()
	b.till.fail = nil
	b.till.mu.Unlock()
	// Recovery drives the order under the id that it was placed with, into the event too.
	until(t, func() bool { return strings.Contains(b.log.String(), "order recovered") })
	for _, line := range strings.Split(b.log.String(), "\n") {
		if strings.Contains(line, "order recovered") && !strings.Contains(line, "correlationId=shop-18") {
			t.Errorf("log: %s", line)
		}
	}
	until(t, func() bool {
		feed := b.call("GET", "/v1/events", "").raw
		return strings.Contains(feed, `"correlationid":"shop-17"`) && strings.Contains(feed, `"correlationid":"shop-18"`)
	})
	b.shelf.mu.Lock()
	defer b.shelf.mu.Unlock()
	if seen := strings.Join(b.shelf.seen, " "); !strings.Contains(seen, "shop-17") || !strings.Contains(seen, "shop-18") || !strings.Contains(seen, made.str("correlationId")) {
		t.Errorf("Inventory saw %s", seen)
	}
}
