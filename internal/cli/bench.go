package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/load"
	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
)

type benchCmd struct {
	Run  benchRunCmd  `cmd:"" default:"withargs" help:"Measure how many orders a server takes, and how fast it answers them. This is what happens without a word."`
	Load benchLoadCmd `cmd:"" help:"Fill databases that no server has open with orders and SKUs, to measure how they are borne. What is there already is not done twice."`
}

// leave is what keeps a bench from a shop's data.
type leave struct {
	InventoryAt string `name:"inventory-at" placeholder:"URL" help:"The server that answers REST for Inventory, if not --url."`
	Yes         bool   `help:"Also against a server that does not say that it is for tests. It gets SKUs named BENCH-..., and orders that stay."`
}

// effort is how hard a bench orders, and for how long.
type effort struct {
	Connections int           `placeholder:"N" help:"Orders under way at once, at most. Default: 64; 256 with --rate or --sweep, where they are for bursts."`
	Rate        float64       `xor:"loop" placeholder:"R" help:"An open loop: so many orders a second are due, whether the server keeps up or not, and each counts from then. Default: a closed loop, each connection's next order after its answer."`
	Sweep       bool          `xor:"loop" help:"Look for the highest rate at which 99 of 100 orders are answered within --p99: a closed loop, then open ones."`
	P99         time.Duration `name:"p99" default:"10ms" help:"The bound of a sweep."`
	Duration    time.Duration `default:"10s" help:"Of one measurement; a sweep has up to thirteen."`
	Warmup      time.Duration `default:"2s" help:"Of a closed loop before all, which is not counted."`
}

const (
	maxConnections = 10_000
	minDuration    = 100 * time.Millisecond
)

// Validate refuses numbers that mean nothing.
func (e *effort) Validate() error {
	if e.Connections < 0 || e.Connections > maxConnections {
		return fmt.Errorf("--connections: must be between 1 and %d", maxConnections)
	}
	if e.Rate < 0 || e.Rate > 1e6 || math.IsNaN(e.Rate) {
		return errors.New("--rate: must be above 0, and a million at most")
	}
	if e.P99 <= 0 {
		return errors.New("--p99: must be above 0")
	}
	if e.Duration < minDuration || e.Warmup < 0 {
		return fmt.Errorf("--duration: must be %v at least, and --warmup not negative", minDuration)
	}
	return nil
}

func (e *effort) connections() int {
	switch {
	case e.Connections > 0:
		return e.Connections
	case e.Rate > 0 || e.Sweep:
		return 256
	}
	return 64
}

type benchRunCmd struct {
	mix
	effort
	leave
	HTML   string `name:"html" placeholder:"FILE" help:"Write a page with the curves."`
	Verify bool   `help:"Prove the promises on the databases afterwards, as verify does, found by the settings below."`
	records
}

// Validate is kong's.
func (c *benchRunCmd) Validate() error { return errors.Join(c.mix.Validate(), c.effort.Validate()) }

// Run is kong's.
func (c *benchRunCmd) Run(s *session) error {
	b, err := s.bench(&c.leave)
	if err != nil {
		return err
	}
	r, err := b.measure(c)
	if err != nil {
		return err
	}
	if c.Verify {
		report, err := s.audit(c.config())
		if err != nil {
			return err
		}
		r.Verify = &report
	}
	if c.HTML != "" {
		if err := s.create(c.HTML, r.page); err != nil {
			return err
		}
	}
	if s.json {
		err = s.document(r)
	} else {
		err = r.print(s.out)
	}
	if err == nil && !r.ok() {
		err = errShown
	}
	return err
}

// bencher benches a server.
type bencher struct {
	*session
	orders, stock *client
	key           string // begins the idempotency keys
	sent          uint64 // numbers that are used up
	units, maybe  int64  // that were confirmed, and that may be held without our knowing
}

// bench returns the bencher of the server that --url names, if that server is for tests or whoever runs this means it.
func (s *session) bench(l *leave) (*bencher, error) {
	b := &bencher{session: s, key: "bench-" + uuid.NewString() + "-"}
	var err error
	if b.orders, err = s.client(1, true); err != nil {
		return nil, err
	}
	b.stock = b.orders
	if l.InventoryAt != "" {
		at := *s
		at.url = l.InventoryAt
		if b.stock, err = at.client(1, true); err != nil {
			return nil, err
		}
	}
	for _, c := range slices.Compact([]*client{b.orders, b.stock}) {
		if err := c.forTests(s.ctx, l.Yes); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// forTests fails if a server does not say that it is for tests, unless anyway.
func (c *client) forTests(ctx context.Context, anyway bool) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := c.http.Transport.(wire).next.RoundTrip(r) // as it is: a server that is not ready says so in its own words
	if err != nil {
		return c.explain(&url.Error{Op: "Get", URL: r.URL.String(), Err: err})
	}
	defer res.Body.Close()
	var answer struct {
		Status   string `json:"status"`
		ForTests bool   `json:"forTests"`
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxProblem))
	if err != nil || json.Unmarshal(text, &answer) != nil || answer.Status == "" {
		return c.explain(&foreignAnswer{status: res.StatusCode, kind: res.Header.Get("Content-Type")})
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the server at %s is %s: orderkeep health says why", c.url, answer.Status)
	}
	if !answer.ForTests && !anyway {
		return usage("the server at %s does not say that it is for tests, and a bench leaves thousands of orders in it that nobody takes out again. "+
			"Start one with: orderkeep serve --for-tests --data DIR. Or say --yes if you mean this one", c.url)
	}
	return nil
}

// measure stocks the shelf, warms up, measures, and holds what was answered against what is reserved.
func (b *bencher) measure(c *benchRunCmd) (*benchResult, error) {
	if _, err := importStock(b.session, b.stock, c.stockFile()); err != nil {
		return nil, err
	}
	before, err := b.reserved(c.SKUs)
	if err != nil {
		return nil, err
	}
	r := &benchResult{URL: b.orders.url, Mix: c.mix, Connections: c.connections(), Seconds: c.Duration.Seconds(), Runs: []benchRun{}}
	run := b.run(&c.mix, c.connections())
	if c.Warmup > 0 {
		warm := run
		warm.Duration = c.Warmup
		if _, err := b.do(&warm, &c.mix, "warming up"); err != nil {
			return nil, err
		}
	}
	run.Duration = c.Duration
	if c.Sweep {
		err = b.sweep(r, run, c)
	} else {
		run.Rate = c.Rate
		var got *load.Result
		got, err = b.do(&run, &c.mix, "measuring")
		if err == nil {
			r.Runs = append(r.Runs, summed(got))
		}
	}
	if err != nil {
		return nil, err
	}
	r.Stock, err = b.books(c.SKUs, before)
	return r, err
}

// run is what all measurements of a bench have in common.
func (b *bencher) run(m *mix, connections int) load.Run {
	host, path := b.orders.url, ""
	if u, err := url.Parse(b.orders.url); err == nil {
		host, path = u.Host, u.Path
	}
	return load.Run{URL: b.orders.url, Connections: connections, Next: m.request(host, path+"/v1/orders", b.key), Judge: m.judge}
}

// do measures once, with progress if there is somebody to see it.
func (b *bencher) do(run *load.Run, m *mix, what string) (*load.Result, error) {
	run.First = b.sent
	if run.Rate > 0 {
		what += fmt.Sprintf(" at %s/s", commas(int64(run.Rate)))
	}
	bar := b.bar(int(run.Duration/time.Millisecond), what, "")
	run.Progress = func(elapsed time.Duration, answered int64) {
		bar.Describe(fmt.Sprintf("%s: %s orders, %s/s", what, commas(answered), commas(int64(float64(answered)/elapsed.Seconds()))))
		_ = bar.Set(int(min(elapsed, run.Duration) / time.Millisecond))
	}
	got, err := run.Do(b.ctx)
	_ = bar.Finish()
	if err != nil {
		return nil, err
	}
	b.sent += uint64(got.Served+got.Unserved) + uint64(run.Connections) // numbers that were taken and not sent
	b.units += got.Outcomes[confirmed] * int64(m.Lines)
	b.maybe += (got.Outcomes[pending] + got.Outcomes[load.NoAnswer]) * int64(m.Lines)
	return got, b.ctx.Err()
}

func (b *bencher) sweep(r *benchResult, run load.Run, c *benchRunCmd) error {
	s := load.Sweep{Share: 0.99, Bound: c.P99, Measure: func(rate float64) (*load.Result, error) {
		run.Rate = rate
		return b.do(&run, &c.mix, "measuring")
	}}
	closed, open, top, err := s.Do()
	if err != nil {
		return err
	}
	for _, got := range append([]*load.Result{closed}, open...) {
		one := summed(got)
		one.Holds = got.Offered > 0 && s.Holds(got)
		r.Runs = append(r.Runs, one)
	}
	r.Top = &topRate{PerSecond: round(top), BoundMs: ms(c.P99)}
	return nil
}

// reserved is how many units of the bench's SKUs are.
func (b *bencher) reserved(skus int) (int64, error) {
	var sum int64
	for i := range skus {
		res, err := b.stock.stock.GetStock(b.ctx, stockapi.GetStockParams{Sku: string(appendSKU(nil, uint64(i)))})
		if err := b.stock.explain(answer(res, err)); err != nil {
			return 0, err
		}
		sum += res.(*stockapi.Stock).Reserved
	}
	return sum, nil
}

// patience is how long orders that were turned away may take to give their units back, and how often that is looked at.
const (
	patience = 10 * time.Second
	look     = 250 * time.Millisecond
)

// books holds the units of confirmed orders against those that the shelf says are reserved. It needs nothing but the contracts, so it is also
// for servers whose databases are out of reach.
func (b *bencher) books(skus int, before int64) (books, error) {
	k := books{ConfirmedUnits: b.units, MayBeMore: b.maybe}
	for begin := time.Now(); ; {
		after, err := b.reserved(skus)
		if err != nil {
			return k, err
		}
		k.ReservedUnits = after - before
		k.OK = k.ReservedUnits >= b.units && k.ReservedUnits <= b.units+b.maybe
		if k.OK || time.Since(begin) > patience {
			return k, nil
		}
		if err := sleep(b.ctx, look); err != nil {
			return k, err
		}
	}
}

// answers are outcomes and errors in words, the most frequent kinds of errors first by name.
func (r benchRun) answers() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(r.Outcomes)) {
		all = append(all, commas(r.Outcomes[name])+" "+name)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Errors)) {
		all = append(all, fmt.Sprintf("%s x %q", commas(r.Errors[name]), name))
	}
	return strings.Join(all, ", ")
}
