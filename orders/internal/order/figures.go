package order

import (
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// Figures are what the service counts. The zero Figures forgets.
type Figures struct {
	overloaded                    *telemetry.Counter
	confirmed, notTaken, deferred *telemetry.Counter
	rejected                      map[string]*telemetry.Counter // by reason
	begin, reserve, pay, decide   *telemetry.Histogram
}

// reasons are the codes of rejections that have a series of their own; others are "other", so that there are few.
var reasons = []string{"out_of_stock", "unknown_sku", codeDeclined, codeCancelled, "payment_timeout", "inventory_timeout"}

// NewFigures adds the figures of a service to those of the process.
func NewFigures(m *telemetry.Metrics) Figures {
	outcome := func(outcome, reason string) *telemetry.Counter {
		return m.Counter("orderkeep_orders_total", "Orders by what became of them.", "outcome", outcome, "reason", reason)
	}
	step := func(name string) *telemetry.Histogram {
		return m.Histogram("orderkeep_order_step_seconds", "How long a step of an order took, whatever came of it.", telemetry.Seconds(), "step", name)
	}
	f := Figures{
		overloaded: m.Counter("orderkeep_orders_overloaded_total", "Orders that were turned away because too many came."),
		confirmed:  outcome("confirmed", ""), notTaken: outcome("not_taken", ErrNoStock.Code),
		deferred: m.Counter("orderkeep_orders_deferred_total", "Times that an order was left to recovery, to be driven on later."),
		rejected: map[string]*telemetry.Counter{"other": outcome("rejected", "other")},
		begin:    step("begin"), reserve: step("reserve"), pay: step("authorize"), decide: step("decide"),
	}
	for _, r := range reasons {
		f.rejected[r] = outcome("rejected", r)
	}
	return f
}

// withDefaults has figures that nobody reads where there are none.
func (f Figures) withDefaults() Figures {
	if f.overloaded == nil {
		return NewFigures(nil)
	}
	return f
}

// ended counts an order that has come to its end. One that was not taken was counted when its caller was told.
func (f *Figures) ended(o *Order) {
	switch {
	case o.State == Confirmed:
		f.confirmed.Inc()
	case o.State == Rejected && o.Rejection.Code != ErrNoStock.Code:
		c := f.rejected[o.Rejection.Code]
		if c == nil {
			c = f.rejected["other"]
		}
		c.Inc()
	}
}

// took counts a step that began at a time of the clock that nobody sets.
func took(h *telemetry.Histogram, began time.Time) { h.Observe(time.Since(began).Seconds()) }
