package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/load"
)

// benchResult is what --json prints.
type benchResult struct {
	URL         string        `json:"url"`
	Mix         mix           `json:"mix"`
	Connections int           `json:"connections"`
	Seconds     float64       `json:"seconds"` // of each measurement
	Runs        []benchRun    `json:"runs"`
	Top         *topRate      `json:"top,omitempty"` // of a sweep
	Stock       books         `json:"stock"`
	Verify      *audit.Report `json:"verify,omitempty"`
}

// benchRun is one measurement. Latencies are of the orders that were answered as they should be; in an open loop they count from when an order
// was due.
type benchRun struct {
	Loop      string           `json:"loop"`              // open or closed
	Offered   float64          `json:"offered,omitempty"` // orders a second that were due
	PerSecond float64          `json:"perSecond"`         // answered as they should be
	Served    int64            `json:"served"`
	Unserved  int64            `json:"unserved"`
	Outcomes  map[string]int64 `json:"outcomes"`
	Errors    map[string]int64 `json:"errors,omitempty"`
	P50Ms     float64          `json:"p50Ms"`
	P90Ms     float64          `json:"p90Ms"`
	P99Ms     float64          `json:"p99Ms"`
	P999Ms    float64          `json:"p999Ms"`
	MaxMs     float64          `json:"maxMs"`
	// LateP99Ms is this program's own part: by how much it sent orders too late although a connection was free.
	LateP99Ms float64 `json:"lateP99Ms"`
	EachSec   []int64 `json:"eachSecond"`
	Holds     bool    `json:"holds"` // within the bound of a sweep

	latency *load.Result
}

// topRate is what a sweep found.
type topRate struct {
	PerSecond float64 `json:"perSecond"` // 0 if no rate held
	BoundMs   float64 `json:"boundMs"`
}

// books are the units of confirmed orders beside those that the shelf says are reserved.
type books struct {
	ConfirmedUnits int64 `json:"confirmedUnits"`
	ReservedUnits  int64 `json:"reservedUnits"`
	MayBeMore      int64 `json:"mayBeMore"` // units of orders whose end this program was not told
	OK             bool  `json:"ok"`
}

func ms(d time.Duration) float64 { return round(float64(d) / float64(time.Millisecond)) }

func summed(r *load.Result) benchRun {
	one := benchRun{
		Loop: "closed", Offered: round(r.Offered), PerSecond: round(r.PerSecond()), Served: r.Served, Unserved: r.Unserved, Outcomes: r.Outcomes, Errors: r.Errors,
		P50Ms: ms(r.Quantile(0.5)), P90Ms: ms(r.Quantile(0.9)), P99Ms: ms(r.Quantile(0.99)), P999Ms: ms(r.Quantile(0.999)), MaxMs: ms(r.Quantile(1)),
		LateP99Ms: ms(time.Duration(r.Late.ValueAtQuantile(99)) * time.Microsecond), EachSec: r.Seconds, latency: r,
	}
	if r.Offered > 0 {
		one.Loop = "open"
	}
	if one.EachSec == nil {
		one.EachSec = []int64{}
	}
	return one
}

// ok reports whether what was sold is what is held, and no promise is broken. That orders were turned away is a figure and no failure.
func (r *benchResult) ok() bool { return r.Stock.OK && (r.Verify == nil || r.Verify.OK) }

func (r *benchResult) print(w io.Writer) error {
	rows := make([][]string, len(r.Runs))
	for i, x := range r.Runs {
		offered := "closed loop"
		if x.Offered > 0 {
			offered = commas(int64(x.Offered))
		}
		rows[i] = []string{
			offered, commas(int64(x.PerSecond)), fmt.Sprintf("%.2f", x.P50Ms), fmt.Sprintf("%.2f", x.P90Ms), fmt.Sprintf("%.2f", x.P99Ms),
			fmt.Sprintf("%.2f", x.P999Ms), fmt.Sprintf("%.2f", x.MaxMs), commas(x.Unserved),
		}
	}
	if err := table(w, []string{">DUE/S", ">ORDERS/S", ">P50 MS", ">P90", ">P99", ">P99.9", ">MAX", ">NOT SERVED"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for i, x := range r.Runs {
		if x.Unserved > 0 || len(r.Runs) == 1 {
			fmt.Fprintf(w, "%s: %s\n", rows[i][0], x.answers())
		}
	}
	if last := r.Runs[len(r.Runs)-1]; last.LateP99Ms > 0 && last.LateP99Ms > last.P99Ms/4 {
		fmt.Fprintf(w, "this program itself was late by up to %.2f ms (p99), which is part of the latencies: it has too little CPU, or its clock is coarse\n", last.LateP99Ms)
	}
	if r.Top != nil {
		if r.Top.PerSecond == 0 {
			fmt.Fprintf(w, "no rate holds a p99 of %g ms\n", r.Top.BoundMs)
		} else {
			fmt.Fprintf(w, "the highest rate that holds a p99 of %g ms: %s orders a second\n", r.Top.BoundMs, commas(int64(r.Top.PerSecond)))
		}
	}
	fmt.Fprintln(w, r.Stock)
	if r.Verify == nil {
		fmt.Fprintln(w, "the databases were not read: orderkeep bench --verify --data DIR does, or orderkeep verify where they are")
		return nil
	}
	fmt.Fprintln(w)
	return printReport(w, *r.Verify)
}

func (k books) String() string {
	said := fmt.Sprintf("units of confirmed orders: %s; reserved since the beginning: %s", commas(k.ConfirmedUnits), commas(k.ReservedUnits))
	switch {
	case !k.OK:
		return said + ": these differ. Is somebody else ordering the same SKUs? If not, let orderkeep verify look at the databases"
	case k.MayBeMore > 0:
		return said + fmt.Sprintf(", with up to %s of orders whose end was not told", commas(k.MayBeMore))
	}
	return said + ": the same"
}
