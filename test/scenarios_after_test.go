package test

import (
	"net/http"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
)

// fulfilsInACrowd fulfils, cancels and returns the same orders at once, without a wait between a fulfilment and its return: what
// Inventory and Payments do about it is what the order has come to.
func fulfilsInACrowd(t *testing.T, s *shop) {
	const orders = 20
	placed := atOnce(t, orders, func(int) (answer, error) { return s.try(http.MethodPost, "/v1/orders", paid(visa, one)) })
	atOnce(t, 6*orders, func(i int) (answer, error) {
		return s.try(http.MethodPost, "/v1/orders/"+placed[i%orders].OrderID+[]string{"/fulfil", "/cancel", "/return"}[i%3], nil)
	})
	gone := 0
	for _, a := range placed {
		var o answer
		stage.Eventually(t, "order "+a.OrderID+" is answered", func() bool {
			o = s.get(t, "/v1/orders/"+a.OrderID)
			return o.Undo == "done" || o.Settlement == "done"
		})
		p := s.get(t, "/v1/payments/"+a.OrderID)
		if want := map[state]state{"fulfilled": "captured", "cancelled": "voided", "returned": "refunded"}[o.Status]; want == "" || p.Status != want {
			t.Errorf("order %v, payment %v, want it %s", o, p, want)
		}
		if o.Status == "fulfilled" {
			gone++
		}
	}
	if i := s.get(t, "/v1/stock/"+book); i.OnHand != 50-gone || i.Reserved != 0 {
		t.Errorf("%v, want %d on hand and none reserved", i, 50-gone)
	}
}
