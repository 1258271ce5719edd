package browser

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/orderkeep/orderkeep/test/stage"
)

// row is a line of an order's timeline, as the page has it.
type row struct {
	At, Service, Kind, What string
	Trouble                 bool
}

const rows = `[...document.querySelectorAll(".story tbody tr")].map(r => ({at: r.querySelector("time").dateTime, service: r.cells[1].textContent.trim(),
	kind: r.cells[2].textContent.trim(), what: r.cells[3].textContent.trim(), trouble: r.classList.contains("trouble")}))`

// At three in the morning: an order whose provider was away, through three processes and a broker. Its page tells it all.
func TestThePageOfAnOrderTellsWhatHappenedWhileItsProviderFailed(t *testing.T) {
	t.Parallel()
	s := split(t)
	s.send("inventory", "POST", "/v1/stock.csv", "sku,title,on_hand,tracked\nBOOK-001,A book,3,true\n", 200)
	id := s.send("orders", "POST", "/v1/orders", `{"items":[{"sku":"BOOK-001","qty":1,"unitPrice":1250}],"currency":"GBP","payment":{"provider":"simulated","token":"pm_simulated_down_2s"}}`, 202)["orderId"].(string)
	stage.Eventually(t, "the order is confirmed", func() bool { return s.send("orders", "GET", "/v1/orders/"+id, "", 200)["status"] == "confirmed" })

	b := open(t, desk)
	var all []row
	stage.Eventually(t, "the last span is there", func() bool {
		b.run(t, chromedp.Navigate(s.console+"/console/orders/"+id), chromedp.WaitReady("main"))
		b.script(t, rows, &all)
		return strings.Contains(fmt.Sprint(all), "order recovered")
	})
	b.look(t, s.console+"/console/orders/"+id, "failing")

	// What has to be there, in this order.
	want := []row{
		{Service: "orders", Kind: "step", What: "placed"},
		{Service: "payments", Kind: "call", What: "simulated/Authorize", Trouble: true},
		{Service: "orders", Kind: "log", What: "order waits for recovery"},
		{Service: "inventory", Kind: "span", What: "InventoryService/Reserve"},
		{Service: "payments", Kind: "call", What: "simulated/Lookup", Trouble: true},
		{Service: "orders", Kind: "log", What: "order waits for recovery"},
		{Service: "payments", Kind: "retry", What: "simulated/Authorize"},
		{Service: "payments", Kind: "step", What: "authorized"},
		{Service: "orders", Kind: "step", What: "confirmed"},
		{Service: "orders", Kind: "log", What: "order recovered"},
	}
	next, failed := 0, 0
	var before time.Time
	var waited time.Duration
	for _, r := range all {
		at, err := time.Parse(time.RFC3339Nano, r.At)
		if err != nil || at.Before(before) {
			t.Errorf("%+v comes after %v: %v", r, before, err)
		}
		if next > 0 && next < len(want) {
			waited = max(waited, at.Sub(before))
		}
		before = at
		if r.Trouble && strings.HasPrefix(r.What, "simulated/") {
			failed++
		}
		if next < len(want) && r.Service == want[next].Service && r.Kind == want[next].Kind && strings.HasPrefix(r.What, want[next].What) && (r.Trouble || !want[next].Trouble) {
			next++
		}
	}
	if next < len(want) {
		t.Errorf("the page does not come to %+v:\n%+v", want[next], all)
	}
	if failed < 2 {
		t.Errorf("the provider failed %d times by the page", failed)
	}
	if waited < 100*time.Millisecond {
		t.Errorf("by the page the longest wait was %v", waited)
	}
}
