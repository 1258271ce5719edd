package console

import (
	"context"
	"net/http"

	paymentsapi "github.com/orderkeep/orderkeep/payments/v1/rest"
)

// paymentsSize is smaller than other pages: the provider is asked about each payment.
const paymentsSize = 25

type paymentsPage struct {
	Payments []paymentsapi.PaymentRecord
	Differ   int // of this page
	Silent   int // about which the provider did not answer
	Next     string
	Trouble  *trouble
}

// payments answers with our view of the orders' money beside the provider's.
func (c *console) payments(w http.ResponseWriter, r *http.Request) {
	// Payments itself waits for the provider as long as for a page.
	ctx, cancel := context.WithTimeout(r.Context(), 2*patience)
	defer cancel()
	params := paymentsapi.ListPaymentsParams{Limit: paymentsapi.NewOptInt32(paymentsSize), Provider: paymentsapi.NewOptBool(true)}
	if cursor := r.URL.Query().Get("cursor"); cursor != "" {
		params.Cursor = paymentsapi.NewOptString(cursor)
	}
	var p paymentsPage
	res, err := c.peers.payments.ListPayments(ctx, params)
	page, bad := told[*paymentsapi.PaymentPage]("payments", res, err)
	if p.Trouble = bad; bad == nil {
		p.Payments = page.Payments
		if page.NextCursor.Set {
			p.Next = "cursor=" + escape(page.NextCursor.Value)
		}
		for _, x := range p.Payments {
			v := x.Provider.Value
			if v.Agrees.Set && !v.Agrees.Value {
				p.Differ++
			}
			if v.State == paymentsapi.ProviderViewStateUnavailable {
				p.Silent++
			}
		}
	}
	c.show(w, r, http.StatusOK, "payments", "Payments", p)
}
