package test

import (
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"net/http"
	"testing"
)

// The smallest Orders of another hand stands in front of our Inventory.
func TestForeignOrdersSellsOurStock(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 50)
	orders := &service{process: &stage.Process{URL: "http://" + foreign(t, "orders.js", s.process("inventory").URL)}}
	theirs := &shop{client: s.client, of: map[string][]*service{"orders": {orders}}}
	for round := range sales {
		got := map[string]int{}
		for _, a := range atOnce(t, crowd, func(int) (answer, error) {
			return theirs.try(http.MethodPost, "/orders", order{Items: []line{{SKU: hot(round), Qty: 1}}})
		}) {
			got[fmt.Sprintf("%d %s", a.status, a.Error)]++
			if a.status == http.StatusCreated && a.OrderID == "" {
				t.Errorf("confirmed without an id: %v", a)
			}
		}
		if len(got) != 2 || got["201 "] != 50 || got["409 out_of_stock"] != crowd-50 {
			t.Errorf("sale %d of 50 units to %d buyers: %v", round, crowd, got)
		}
		s.hasAvailable(t, hot(round), 0)
	}
	// What they do not know is out of stock too: their contract has no other refusal.
	want(t, theirs.do(t, http.MethodPost, "/orders", order{Items: []line{{SKU: "book-001", Qty: 1}}}), http.StatusConflict, "out_of_stock")
	s.verify(t)
	s.close(t)
}
