package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/orderkeep/orderkeep/internal/load"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
)

// benchLoadCmd fills a server through its contracts: what is stored then has gone through the same decisions and checks as everything else,
// also where the databases are out of reach, and verify has to find it in order.
type benchLoadCmd struct {
	Orders      int64 `default:"1000000" placeholder:"N" help:"Orders that are to be there at the end."`
	SKUs        int64 `name:"skus" default:"10000" placeholder:"M" help:"SKUs that they go through in turn."`
	Lines       int   `default:"1" placeholder:"N" help:"Lines of an order."`
	Connections int   `default:"64" placeholder:"N" help:"Orders under way at once."`
	leave
}

// Validate is kong's.
func (c *benchLoadCmd) Validate() error {
	switch {
	case c.Orders < 1 || c.Orders > maxLoad:
		return fmt.Errorf("--orders: must be between 1 and %d", int64(maxLoad))
	case c.SKUs < 1 || c.SKUs > maxLoadSKUs:
		return fmt.Errorf("--skus: must be between 1 and %d", maxLoadSKUs)
	case c.Lines < 1 || c.Lines > maxLines:
		return fmt.Errorf("--lines: must be between 1 and %d", maxLines)
	case c.Connections < 1 || c.Connections > maxConnections:
		return fmt.Errorf("--connections: must be between 1 and %d", maxConnections)
	}
	return nil
}

const (
	maxLoad     = 1_000_000_000 // the numbers in the keys have nine digits
	maxLoadSKUs = 10_000_000
	// sheet is the rows of one import: one transaction, which other writes wait for.
	sheet = 50_000
	// block is the orders that share a customer. The next is begun when all of one are there, so that a load goes on where the last block
	// with an order in it begins.
	block = 2500
	// mostTries bounds how often what was not answered is tried again.
	mostTries = 20
)

// loadResult is what --json prints.
type loadResult struct {
	Orders    int64   `json:"orders"` // that are there
	SKUs      int64   `json:"skus"`
	From      int64   `json:"from"` // where it went on: so many were there
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"` // orders sent, also those of the repeated block
}

// Run is kong's.
func (c *benchLoadCmd) Run(s *session) error {
	b, err := s.bench(&c.leave)
	if err != nil {
		return err
	}
	if err := b.shelve(c.SKUs); err != nil {
		return err
	}
	r := loadResult{Orders: c.Orders, SKUs: c.SKUs}
	if r.From, err = b.begun(c.Orders); err != nil {
		return err
	}
	begin := time.Now()
	if err := b.fill(c, r.From); err != nil {
		if s.ctx.Err() != nil {
			return fmt.Errorf("%w: run it again, and it goes on", s.ctx.Err())
		}
		return err
	}
	took := max(time.Since(begin), time.Microsecond)
	r.Seconds, r.PerSecond = round(took.Seconds()), round(float64(r.Orders-r.From)/took.Seconds())
	if s.json {
		return s.document(r)
	}
	_, err = fmt.Fprintf(s.out, "%s and %s are there; %s were sent now, in %.1f s: %s a second\n",
		plural(r.Orders, "order"), plural(r.SKUs, "SKU"), commas(r.Orders-r.From), r.Seconds, commas(int64(r.PerSecond)))
	return err
}

func loadSKU(n int64) string      { return fmt.Sprintf("LOAD-%07d", n) }
func loadCustomer(n int64) string { return "load-" + strconv.FormatInt(n/block, 10) }

// shelve imports the SKUs, sheet by sheet.
func (b *bencher) shelve(skus int64) error {
	bar := b.bar(int(skus), "stocking", "SKUs")
	defer bar.Finish() //nolint:errcheck // for eyes only
	for from := int64(0); from < skus; from += sheet {
		csv := []byte("sku,title,on_hand,tracked\n")
		to := min(from+sheet, skus)
		for n := from; n < to; n++ {
			csv = fmt.Appendf(csv, "%s,Bench,%d,true\n", loadSKU(n), plenty)
		}
		if _, err := importStock(b.session, b.stock, bytes.NewReader(csv)); err != nil {
			return err
		}
		_ = bar.Add64(to - from)
	}
	return nil
}

// begun finds how many of the first orders are there for certain: all before the last block that has one.
func (b *bencher) begun(orders int64) (int64, error) {
	blocks := int((orders + block - 1) / block)
	lo, hi := 0, blocks // the blocks before lo are begun, those from hi on are not
	for lo < hi {
		mid := (lo + hi) / 2
		res, err := b.orders.orders.ListOrders(b.ctx, ordersapi.ListOrdersParams{
			Customer: ordersapi.NewOptString(loadCustomer(int64(mid) * block)), Limit: ordersapi.NewOptInt32(1),
		})
		if err := b.orders.explain(answer(res, err)); err != nil {
			return 0, err
		}
		if len(res.(*ordersapi.OrderPage).Orders) > 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return max(0, int64(lo-1)*block), nil
}

// fill places the orders from a number on, each under a key of its own.
func (b *bencher) fill(c *benchLoadCmd, from int64) error {
	u, err := url.Parse(b.orders.url)
	if err != nil {
		return err
	}
	place := func(n uint64, buf []byte) []byte {
		body := []byte(`{"items":[`)
		for i := range c.Lines {
			if i > 0 {
				body = append(body, ',')
			}
			body = fmt.Appendf(body, `{"sku":%q,"qty":1}`, loadSKU((int64(n)*int64(c.Lines)+int64(i))%c.SKUs))
		}
		body = fmt.Appendf(body, `],"customer":%q}`, loadCustomer(int64(n)))
		return load.AppendRequest(buf, http.MethodPost, u.Host, u.Path+"/v1/orders", fmt.Sprintf("Idempotency-Key: load-%09d\r\n", n), body)
	}
	bar := b.bar(int(c.Orders), "placing", "orders")
	defer bar.Finish() //nolint:errcheck // for eyes only
	_ = bar.Set64(from)
	for first := from; first < c.Orders; {
		numbers := make([]uint64, min(block-first%block, c.Orders-first))
		for i := range numbers {
			numbers[i] = uint64(first) + uint64(i)
		}
		first += int64(len(numbers))
		for tries := 0; len(numbers) > 0; tries++ {
			if tries == mostTries {
				return fmt.Errorf("%s were not taken in %d tries; run it again, and it goes on", plural(int64(len(numbers)), "order"), tries)
			}
			if tries > 0 {
				if err := sleep(b.ctx, time.Second); err != nil { // as long as Retry-After asks for
					return err
				}
			}
			if numbers, err = b.place(c.Connections, numbers, place); err != nil {
				return err
			}
		}
		_ = bar.Set64(first)
	}
	return nil
}

// place sends the orders of these numbers, and returns those that were not taken.
func (b *bencher) place(connections int, numbers []uint64, request func(n uint64, buf []byte) []byte) (left []uint64, err error) {
	done := make([]bool, len(numbers))
	run := load.Run{
		URL: b.orders.url, Connections: min(connections, len(numbers)), Requests: uint64(len(numbers)),
		Next: func(i uint64, buf []byte) []byte { return request(numbers[i], buf) },
		Judge: func(i uint64, status int, body []byte) (string, bool) {
			// One that is accepted and not decided yet is there too.
			done[i] = status == http.StatusCreated || status == http.StatusAccepted
			if done[i] || status == http.StatusServiceUnavailable {
				return "", done[i]
			}
			return fmt.Sprintf("%d %s", status, body[:min(len(body), 300)]), false
		},
	}
	got, err := run.Do(b.ctx)
	if err = errors.Join(err, b.ctx.Err()); err != nil {
		return nil, err
	}
	for outcome := range got.Outcomes {
		if outcome != "" && outcome != load.NoAnswer {
			return nil, fmt.Errorf("an order was refused: %s", outcome)
		}
	}
	for i, ok := range done {
		if !ok {
			left = append(left, numbers[i])
		}
	}
	return left, nil
}
