package cli

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/cli/sales"
)

// summary is what a replay came to, and the object that --json prints. Lines, units and value are those of confirmed
// orders; units put back and corrected are those of tracked items, because the others have no shelf.
type summary struct {
	Confirmed       int64   `json:"confirmed"`
	OutOfStock      int64   `json:"outOfStock"`
	Failed          int64   `json:"failed"` // orders, returns and corrections
	Lines           int64   `json:"lines"`
	Units           int64   `json:"units"`
	ValueMinor      int64   `json:"valueMinor"`
	Returns         int64   `json:"returns"`
	ReturnedUnits   int64   `json:"returnedUnits"`
	Corrections     int64   `json:"corrections"`
	CorrectedUnits  int64   `json:"correctedUnits"`
	RefusedLines    int64   `json:"refusedLines"`
	Skipped         int64   `json:"skipped"`
	Seconds         float64 `json:"seconds"`
	OrdersPerSecond float64 `json:"ordersPerSecond"`
	P50Ms           float64 `json:"p50Ms"`
	P99Ms           float64 `json:"p99Ms"`
	// Replayed counts the requests answered from stored answers: all of them when a replay is repeated.
	Replayed int64 `json:"replayed"`

	latencies []time.Duration // of the orders' requests; sorted once all are in
}

// outcome is what became of one invoice.
type outcome struct {
	confirmed, outOfStock bool
	valueMinor            int64 // of a confirmed order, as the server has it
	units                 int64 // of tracked items, as far as the lines were accepted
	refused               int64 // lines
	replayed              int64 // requests
	latency               time.Duration
	err                   error // the invoice failed
}

func (m *summary) add(v *sales.Invoice, o outcome) {
	m.Replayed += o.replayed
	m.RefusedLines += o.refused
	if o.latency > 0 {
		m.latencies = append(m.latencies, o.latency)
	}
	if o.err != nil {
		m.Failed++
	}
	switch v.Kind {
	case sales.Skipped:
		m.Skipped++
	case sales.Return:
		m.Returns++
		m.ReturnedUnits += o.units
	case sales.Correction:
		m.Corrections++
		m.CorrectedUnits += o.units
	case sales.Order:
		if o.outOfStock {
			m.OutOfStock++
		}
		if o.confirmed {
			m.Confirmed++
			m.Lines += int64(len(v.Lines))
			m.Units += v.Units()
			m.ValueMinor += o.valueMinor
		}
	}
}

// finish works out the figures that need the whole run.
func (m *summary) finish(took time.Duration) {
	m.Seconds = round(took.Seconds())
	if took > 0 {
		m.OrdersPerSecond = round(float64(len(m.latencies)) / took.Seconds())
	}
	m.P50Ms, m.P99Ms = m.quantile(0.50), m.quantile(0.99)
}

// quantile returns the latency that a share q of the orders' requests did not exceed, in milliseconds.
func (m *summary) quantile(q float64) float64 {
	n := len(m.latencies)
	if n == 0 {
		return 0
	}
	i := max(0, int(math.Ceil(q*float64(n)))-1)
	return round(float64(m.latencies[i]) / float64(time.Millisecond))
}

// round keeps three digits after the point: more would be noise.
func round(x float64) float64 { return math.Round(x*1000) / 1000 }

func (m *summary) print(w io.Writer) {
	row := func(name string, n int64, more string) {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-22s %10s  %s", name, commas(n), more), " "))
	}
	row("orders confirmed", m.Confirmed, fmt.Sprintf("%s, %s, %s", plural(m.Lines, "line"), plural(m.Units, "unit"), pounds(m.ValueMinor)))
	row("orders out of stock", m.OutOfStock, "refused, and nothing held for them")
	row("returns", m.Returns, plural(m.ReturnedUnits, "unit")+" put back")
	row("corrections", m.Corrections, fmt.Sprintf("%s, %s refused", plural(m.CorrectedUnits, "unit"), plural(m.RefusedLines, "line")))
	row("skipped", m.Skipped, "adjustments of bad debt")
	row("failed", m.Failed, "")
	row("answered from before", m.Replayed, "requests that an earlier replay had made")
	fmt.Fprintf(w, "%.1f s, %.0f orders a second, p50 %.1f ms, p99 %.1f ms\n", m.Seconds, m.OrdersPerSecond, m.P50Ms, m.P99Ms)
}
