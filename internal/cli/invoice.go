package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/orderkeep/orderkeep/internal/cli/sales"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
)

// till takes orders.
type till interface {
	PlaceOrder(context.Context, *ordersapi.NewOrder, ordersapi.PlaceOrderParams) (ordersapi.PlaceOrderRes, error)
	GetOrder(context.Context, ordersapi.GetOrderParams) (ordersapi.GetOrderRes, error)
}

// shelf changes stock.
type shelf interface {
	AdjustStock(context.Context, *stockapi.Adjustment, stockapi.AdjustStockParams) (stockapi.AdjustStockRes, error)
}

// How long a replay keeps trying. A server that restarts is back within seconds; one that is full says when to come
// again, a second later at least, so that 60 tries are a minute of patience.
const (
	maxTries  = 60
	firstWait = 50 * time.Millisecond // after a broken connection, doubled up to maxWait
	maxWait   = 2 * time.Second
	// maxPolls bounds the wait for a pending order: recovery takes one up within its lease.
	maxPolls = 120
	pollWait = time.Second
)

// invoice runs one invoice through the server.
func (r *replayer) invoice(ctx context.Context, v *sales.Invoice) outcome {
	ctx = telemetry.WithCorrelation(ctx, telemetry.NewCorrelation())
	switch v.Kind {
	case sales.Order:
		return r.order(ctx, v)
	case sales.Return:
		return r.adjust(ctx, v, "return")
	case sales.Correction:
		return r.adjust(ctx, v, "correction")
	}
	return outcome{}
}

// orderKey and lineKey name an attempt by the invoice, so that a replay run again repeats the first one's requests. Lines
// count from 1.
func orderKey(number string) string          { return "replay:" + number }
func lineKey(number string, line int) string { return orderKey(number) + ":" + strconv.Itoa(line) }

// newOrder is an invoice as an order.
func newOrder(v *sales.Invoice) *ordersapi.NewOrder {
	req := &ordersapi.NewOrder{Currency: ordersapi.NewOptString("GBP"), Items: make([]ordersapi.NewOrderItem, len(v.Lines))}
	for i, l := range v.Lines {
		req.Items[i] = ordersapi.NewOrderItem{Sku: l.SKU, Qty: l.Qty, UnitPrice: ordersapi.NewOptInt64(l.Price)}
	}
	if v.Customer != "" {
		req.Customer = ordersapi.NewOptString(v.Customer)
	}
	// A total past 63 bits is the server's to refuse.
	if total, ok := v.Total(); total > 0 || !ok {
		req.Payment = ordersapi.NewOptNewPayment(ordersapi.NewPayment{Provider: "simulated", Token: "pm_card_visa"})
	}
	return req
}

func (r *replayer) order(ctx context.Context, v *sales.Invoice) (o outcome) {
	req, key := newOrder(v), ordersapi.PlaceOrderParams{IdempotencyKey: ordersapi.NewOptString(orderKey(v.Number))}
	var res ordersapi.PlaceOrderRes
	o.err = persist(ctx, func() (err error) {
		begin := time.Now()
		res, err = r.till.PlaceOrder(ctx, req, key)
		o.latency = time.Since(begin)
		return answer(res, err)
	})
	var p *problem
	switch a := res.(type) {
	case *ordersapi.PlaceOrderCreated:
		o.count(a.IdempotentReplayed.Value)
		o.end(&a.Response)
	case *ordersapi.PlaceOrderAccepted:
		o.count(a.IdempotentReplayed.Value)
		r.follow(ctx, &a.Response, &o)
	default:
		if errors.As(o.err, &p) {
			o.count(p.replayed)
			if p.Code == outOfStock {
				o.outOfStock, o.err = true, nil
			}
		}
	}
	return o
}

// The codes of refusals that a replay expects.
const (
	outOfStock        = "out_of_stock"
	insufficientStock = "insufficient_stock"
	keyInFlight       = "idempotency_key_in_flight"
)

func (o *outcome) count(replayed bool) {
	if replayed {
		o.replayed++
	}
}

// end counts an order by the state that it has reached.
func (o *outcome) end(order *ordersapi.Order) {
	switch order.Status {
	case ordersapi.OrderStatusConfirmed, ordersapi.OrderStatusCancelled, ordersapi.OrderStatusFulfilled, ordersapi.OrderStatusReturned:
		// Whatever came after it, it was confirmed.
		o.confirmed, o.valueMinor = true, order.TotalMinor
	case ordersapi.OrderStatusRejected:
		if order.Reason.Value == outOfStock {
			o.outOfStock = true
			return
		}
		o.err = fmt.Errorf("order %s was rejected: %s", order.OrderId, order.Reason.Value)
	default:
		o.err = fmt.Errorf("order %s is still %s", order.OrderId, order.Status)
	}
}

// follow waits until a pending order has reached its end, or for as long as it is reasonable.
func (r *replayer) follow(ctx context.Context, order *ordersapi.Order, o *outcome) {
	for poll := 0; order.Status == ordersapi.OrderStatusPending && poll < maxPolls; poll++ {
		if o.err = sleep(ctx, pollWait); o.err != nil {
			return
		}
		var res ordersapi.GetOrderRes
		o.err = persist(ctx, func() (err error) {
			res, err = r.till.GetOrder(ctx, ordersapi.GetOrderParams{OrderId: order.OrderId})
			return answer(res, err)
		})
		if o.err != nil {
			return
		}
		order = res.(*ordersapi.Order)
	}
	o.end(order)
}

// adjust changes stock line by line: back onto the shelf for a return, by the quantity as it stands for a correction. A
// line refused for want of stock is counted; any other failure ends the invoice.
func (r *replayer) adjust(ctx context.Context, v *sales.Invoice, reason string) (o outcome) {
	for i, l := range v.Lines {
		delta := l.Qty
		if v.Kind == sales.Return {
			delta = -delta
		}
		if delta == 0 {
			continue // a correction by nothing
		}
		req := &stockapi.Adjustment{Delta: stockapi.NewOptInt64(delta), Reason: reason, Actor: stockapi.NewOptString("replay")}
		params := stockapi.AdjustStockParams{Sku: l.SKU, IdempotencyKey: stockapi.NewOptString(lineKey(v.Number, i+1))}
		var res stockapi.AdjustStockRes
		err := persist(ctx, func() (err error) {
			res, err = r.shelf.AdjustStock(ctx, req, params)
			return answer(res, err)
		})
		var p *problem
		switch {
		case err == nil:
			a := res.(*stockapi.StockHeaders)
			o.count(a.IdempotentReplayed.Value)
			if a.Response.Tracked {
				o.units += delta
			}
		case errors.As(err, &p) && p.Code == insufficientStock:
			o.count(p.replayed)
			o.refused++
		default:
			o.err = fmt.Errorf("row %d, %s: %w", l.Row, l.SKU, err)
			return o
		}
	}
	return o
}

// persist calls do again and again, under the same key, until it has an answer: after a 503 when the server says so, after
// a broken connection a little later, and while an attempt under the key that broke off is still in flight.
func persist(ctx context.Context, do func() error) error {
	wait := firstWait
	for try := 1; ; try++ {
		err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause, again := retry(err, wait)
		if !again || try == maxTries {
			return err
		}
		if pause == wait {
			wait = min(2*wait, maxWait)
		}
		if serr := sleep(ctx, pause); serr != nil {
			return serr
		}
	}
}

// retry says whether an error may be gone on the next try, and how long to wait for that.
func retry(err error, wait time.Duration) (time.Duration, bool) {
	var p *problem
	var foreign *foreignAnswer
	switch {
	case errors.As(err, &p):
		return max(p.retryAfter, wait), p.status == http.StatusServiceUnavailable || p.Code == keyInFlight
	case errors.As(err, &foreign):
		return wait, foreign.status >= http.StatusInternalServerError
	}
	return wait, broken(err)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
