package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
	"github.com/schollz/progressbar/v3"
)

// benchLoadCmd fills databases through the contexts' contracts, in this process: each order goes through the same decisions, checks and
// transactions as one that comes over a network, and verify has to find it in order. What is left out is what a load has no use for: HTTP, JSON
// and a client beside it on the same CPUs took four fifths of the time.
type benchLoadCmd struct {
	databases
	Orders int64 `default:"1000000" placeholder:"N" help:"Orders that are to be there at the end."`
	SKUs   int64 `name:"skus" default:"10000" placeholder:"M" help:"SKUs that they go through in turn."`
	Lines  int   `default:"1" placeholder:"N" help:"Lines of an order."`
	Yes    bool  `help:"Also where there are orders or stock that no load has put there. They get SKUs named LOAD-..., and orders that stay, beside them."`
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
	}
	return nil
}

const (
	maxLoad     = 1_000_000_000 // the numbers in the keys have nine digits
	maxLoadSKUs = 10_000_000
	// sheet is the rows of one import: one transaction.
	sheet = 50_000
	// underWay is how many orders are at once. Each waits for three transactions, one after the other, so that about a third of them is in each.
	underWay = 512
	// perCustomer is how many orders in a row have a customer. It is far more than underWay: of a block that has an order, the first
	// customer has one.
	perCustomer = 2500
	// block is the orders that are all there before the next one is begun, so that a load goes on where the last block with an order in it begins.
	// At its end the transactions are less full; that is a hundredth of the time.
	block = 20 * perCustomer
	// An order that is turned away, or is not decided yet, is asked for again after a pause, so often. Recovery looks for orders without a driver twice a second.
	loadPause = 100 * time.Millisecond
	loadTries = 600
)

// loadResult is what --json prints.
type loadResult struct {
	Orders    int64   `json:"orders"` // that are there
	SKUs      int64   `json:"skus"`
	From      int64   `json:"from"` // where it went on: so many were there
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"` // orders placed, also those of the repeated block
}

// Run is kong's.
func (c *benchLoadCmd) Run(s *session) error {
	r := loadResult{Orders: c.Orders, SKUs: c.SKUs}
	log := telemetry.NewLogger(s.err, false, slog.LevelWarn)
	err := node.Within(s.ctx, own(c.config()), s.contexts, log, func(ctx context.Context, in node.Inner) error {
		shop, err := clientOver("http://localhost", in.HTTP.Transport)
		if err != nil {
			return err
		}
		l := &loader{session: s, cmd: c, shop: shop, orders: ordersv1.NewOrdersServiceClient(in.Conn("orders"))}
		if err := l.shelve(); err != nil {
			return err
		}
		if r.From, err = l.begun(); err != nil {
			return err
		}
		began := time.Now()
		err = l.fill(ctx, r.From)
		took := max(time.Since(began), time.Microsecond)
		r.Seconds, r.PerSecond = round(took.Seconds()), round(float64(r.Orders-r.From)/took.Seconds())
		return err
	})
	switch {
	case err != nil && s.ctx.Err() != nil:
		return errors.New("interrupted: run it again, and it goes on")
	case err != nil:
		return err
	case s.json:
		return s.document(r)
	}
	_, err = fmt.Fprintf(s.out, "%s and %s are there; %s were placed now, in %.1f s: %s a second\n",
		plural(r.Orders, "order"), plural(r.SKUs, "SKU"), commas(r.Orders-r.From), r.Seconds, commas(int64(r.PerSecond)))
	return err
}

// loader is a load under way.
type loader struct {
	*session
	cmd    *benchLoadCmd
	shop   *client // over REST: for what is asked seldom
	orders ordersv1.OrdersServiceClient
}

func loadSKU(n int64) string      { return fmt.Sprintf("LOAD-%07d", n) }
func loadCustomer(n int64) string { return "load-" + strconv.FormatInt(n/perCustomer, 10) }

// shelve imports the SKUs, sheet by sheet, if the last of them is not there.
func (l *loader) shelve() error {
	mine, err := l.stocked(0)
	if err == nil && !mine && !l.cmd.Yes {
		err = l.empty()
	}
	if err != nil {
		return err
	}
	if all, err := l.stocked(l.cmd.SKUs - 1); all || err != nil {
		return err
	}
	bar := l.bar(int(l.cmd.SKUs), "stocking", "SKUs")
	defer bar.Finish() //nolint:errcheck // for eyes only
	for from := int64(0); from < l.cmd.SKUs; from += sheet {
		csv := []byte("sku,title,on_hand,tracked\n")
		to := min(from+sheet, l.cmd.SKUs)
		for n := from; n < to; n++ {
			csv = fmt.Appendf(csv, "%s,Bench,%d,true\n", loadSKU(n), plenty)
		}
		if _, err := importStock(l.session, l.shop, bytes.NewReader(csv)); err != nil {
			return err
		}
		_ = bar.Add64(to - from)
	}
	return nil
}

// stocked reports whether SKU n is there.
func (l *loader) stocked(n int64) (bool, error) {
	res, err := l.shop.stock.GetStock(l.ctx, stockapi.GetStockParams{Sku: loadSKU(n)})
	err = l.shop.explain(answer(res, err))
	if p, ok := errors.AsType[*problem](err); ok && p.status == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// empty fails where a shop's orders or stock are.
func (l *loader) empty() error {
	orders, err := l.shop.orders.ListOrders(l.ctx, ordersapi.ListOrdersParams{Limit: ordersapi.NewOptInt32(1)})
	if err := l.shop.explain(answer(orders, err)); err != nil {
		return err
	}
	items, err := l.shop.stock.ListStock(l.ctx, stockapi.ListStockParams{Limit: stockapi.NewOptInt32(1)})
	if err := l.shop.explain(answer(items, err)); err != nil {
		return err
	}
	if len(orders.(*ordersapi.OrderPage).Orders) > 0 || len(items.(*stockapi.StockPage).Items) > 0 {
		return usage("these databases have orders or stock that no load has put there, and a load leaves orders that nobody takes out again. " +
			"Name another directory with --data. Or say --yes if you mean this one")
	}
	return nil
}

// begun finds how many of the first orders are there for certain: all before the last block that has one.
func (l *loader) begun() (int64, error) {
	lo, hi := int64(0), (l.cmd.Orders+block-1)/block // the blocks before lo are begun, those from hi on are not
	for lo < hi {
		mid := (lo + hi) / 2
		res, err := l.shop.orders.ListOrders(l.ctx, ordersapi.ListOrdersParams{
			Customer: ordersapi.NewOptString(loadCustomer(mid * block)), Limit: ordersapi.NewOptInt32(1),
		})
		if err := l.shop.explain(answer(res, err)); err != nil {
			return 0, err
		}
		if len(res.(*ordersapi.OrderPage).Orders) > 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return max(0, lo-1) * block, nil
}

// fill places the orders from a number on, block by block.
func (l *loader) fill(ctx context.Context, from int64) error {
	bar := l.bar(int(l.cmd.Orders), "placing", "orders")
	defer bar.Finish() //nolint:errcheck // for eyes only
	_ = bar.Set64(from)
	for from < l.cmd.Orders {
		to := min(from+block, l.cmd.Orders)
		if err := l.place(ctx, from, to, bar); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// place has the orders with the numbers from and up to to placed, each begun in its turn. The first that fails ends it.
func (l *loader) place(ctx context.Context, from, to int64, bar *progressbar.ProgressBar) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	next.Store(from)
	var wait sync.WaitGroup
	for range min(underWay, to-from) {
		wait.Go(func() {
			for n := next.Add(1) - 1; n < to && ctx.Err() == nil; n = next.Add(1) - 1 {
				if err := l.order(ctx, n); err != nil {
					stop(err)
					return
				}
				_ = bar.Add(1)
			}
		})
	}
	wait.Wait()
	return context.Cause(ctx)
}

// order has order n there and confirmed, under a key of its own.
func (l *loader) order(ctx context.Context, n int64) error {
	req := &ordersv1.PlaceOrderRequest{IdempotencyKey: fmt.Sprintf("load-%09d", n), Customer: loadCustomer(n)}
	for i := range int64(l.cmd.Lines) {
		req.Lines = append(req.Lines, &ordersv1.OrderLine{Sku: loadSKU((n*int64(l.cmd.Lines) + i) % l.cmd.SKUs), Qty: 1})
	}
	for range loadTries {
		res, err := l.orders.PlaceOrder(ctx, req)
		if err == nil {
			switch o := res.GetOrder(); o.GetStatus() {
			case ordersv1.OrderStatus_ORDER_STATUS_REJECTED:
				return fmt.Errorf("order %d was refused: %s", n, o.GetReason())
			case ordersv1.OrderStatus_ORDER_STATUS_PENDING: // a killed load has left it; it is being driven on
			default:
				return nil
			}
		} else if f := fault.Of(fault.FromGRPC(err)); f.Kind != fault.Unavailable && f.Code != "idempotency_key_in_flight" {
			return fmt.Errorf("order %d was refused: %w", n, f)
		}
		if err := sleep(ctx, loadPause); err != nil {
			return err
		}
	}
	return fmt.Errorf("order %d was not confirmed within %v; run it again, and it goes on", n, loadTries*loadPause)
}
