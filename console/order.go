package console

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/google/uuid"
	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
	paymentsapi "github.com/orderkeep/orderkeep/payments/v1/rest"
)

// mostLevels bounds the lines of an order whose stock is looked up.
const mostLevels = 20

type orderPage struct {
	ID          string
	Order       *ordersapi.Order
	State       string
	Picture     picture
	Lines       []orderLine
	Payment     *paymentsapi.PaymentRecord
	Reservation *stockapi.Reservation
	Scenes      []scene
	Windows     []window
	TraceURL    string
	Who         string
	Actions     []action

	// What could not be had.
	Trouble, PaymentTrouble, StockTrouble *trouble
}

type orderLine struct {
	ordersapi.OrderItem
	Total int64
	Stock *stockapi.Stock // nil if it was not looked up or is not there
}

// action is something that can be done to the order in its present state.
type action struct {
	What, Name, Means string
	Danger            bool
}

// order answers with everything about one order: one question to each service at once, and what the answers lead to.
func (c *console) order(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		c.refuse(w, r, http.StatusNotFound, "There is no such order", "An order's id looks like 0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	p := orderPage{ID: id.String(), Who: c.guard.who(r)}
	story := &story{}
	var asking sync.WaitGroup
	asking.Go(func() {
		res, err := c.peers.orders.GetOrder(ctx, ordersapi.GetOrderParams{OrderId: id})
		if p.Order, p.Trouble = told[*ordersapi.Order]("orders", res, err); p.Trouble != nil {
			return
		}
		var more sync.WaitGroup
		more.Go(func() { p.Lines = c.lines(ctx, p.Order) })
		more.Go(func() { p.Windows, p.TraceURL = c.windows(ctx, p.Order, story) })
		more.Wait()
	})
	asking.Go(func() {
		res, err := c.peers.orders.GetOrderTimeline(ctx, ordersapi.GetOrderTimelineParams{OrderId: id})
		if t, bad := told[*ordersapi.Timeline]("orders", res, err); bad == nil {
			story.steps(t.Entries)
		}
	})
	asking.Go(func() {
		res, err := c.peers.payments.GetPaymentRecord(ctx, paymentsapi.GetPaymentRecordParams{OrderId: id})
		if p.Payment, p.PaymentTrouble = told[*paymentsapi.PaymentRecord]("payments", res, err); p.PaymentTrouble == nil {
			story.attempts(p.Payment)
		}
	})
	asking.Go(func() {
		res, err := c.peers.stock.GetReservation(ctx, stockapi.GetReservationParams{ReservationId: id})
		p.Reservation, p.StockTrouble = told[*stockapi.Reservation]("inventory", res, err)
	})
	for name, at := range actsPaths {
		asking.Go(func() {
			var page struct{ Acts []act }
			if c.peers.ask(ctx, name, http.MethodGet, at, url.Values{"subject": {p.ID}}, &page) == nil {
				story.acts(name, page.Acts)
			}
		})
	}
	asking.Wait()
	status := http.StatusOK
	switch {
	case p.Trouble.NotFound():
		c.refuse(w, r, http.StatusNotFound, "There is no such order", "Orders has no order "+p.ID+". Look for it by customer or correlation id in the list.")
		return
	case p.Trouble != nil:
		status = http.StatusBadGateway
	default:
		p.State = stateOf(p.Order)
		p.Picture = draw(p.State, p.Reservation != nil && p.Reservation.State == stockapi.ReservationStateReleased)
		p.Actions = actionsOf(p.State)
	}
	p.Scenes = story.scenes()
	c.show(w, r, status, "order", "Order "+short(p.ID), p)
}

// lines adds what the stock of each line is now.
func (c *console) lines(ctx context.Context, o *ordersapi.Order) []orderLine {
	all := make([]orderLine, len(o.Items))
	var asking sync.WaitGroup
	for i, l := range o.Items {
		all[i] = orderLine{OrderItem: l, Total: l.Qty * l.UnitPrice}
		if i < mostLevels {
			asking.Go(func() {
				res, err := c.peers.stock.GetStock(ctx, stockapi.GetStockParams{Sku: l.Sku})
				all[i].Stock, _ = told[*stockapi.Stock]("inventory", res, err)
			})
		}
	}
	asking.Wait()
	return all
}

func actionsOf(state string) []action {
	drive := action{What: "drive", Name: "Drive on", Means: "Recovery does this by itself, with growing pauses. This does it now. It does no harm."}
	release := action{What: "release", Name: "Release units", Means: "Inventory puts the units of this order back, and refuses a reservation of it that comes late.", Danger: true}
	void := action{What: "void", Name: "Void payment", Means: "Payments gives the authorization back, and refuses one that comes late.", Danger: true}
	cancel := action{What: "cancel", Name: "Cancel", Means: "The order is off for good. Its units are released, its money is voided or refunded.", Danger: true}
	switch state {
	case "pending":
		return []action{drive, cancel}
	case "undoing":
		return []action{drive}
	case "confirmed":
		return []action{{What: "fulfil", Name: "Fulfil", Means: "The whole order is handed over: its units leave on hand, its money is captured."}, cancel}
	case "fulfilled":
		return []action{{What: "return", Name: "Return", Means: "The whole order comes back: its units are on hand again, its money is refunded.", Danger: true}}
	case "rejected", "cancelled":
		return []action{release, void}
	}
	return nil
}

func (c *console) actOnOrder(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		c.nothing(w, r)
		return
	}
	who := c.actor(w, r)
	if who == "" {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patienceActs)
	defer cancel()
	what, reason := r.PostFormValue("what"), r.PostFormValue("reason")
	bad := c.act(ctx, id, what, who, reason)
	if bad != nil {
		c.troubled(w, r, bad)
		return
	}
	back(w, r, "/console/orders/"+id.String(), what)
}

func (c *console) act(ctx context.Context, id uuid.UUID, what, who, reason string) *trouble {
	actor, why := ordersapi.NewOptString(who), ordersapi.NewOptString(reason)
	var bad *trouble
	switch what {
	case "cancel":
		res, err := c.peers.orders.CancelOrder(ctx, ordersapi.NewOptCancellation(ordersapi.Cancellation{Reason: why}), ordersapi.CancelOrderParams{OrderId: id, Actor: actor, Reason: why})
		_, bad = told[*ordersapi.Order]("orders", res, err)
	case "fulfil":
		res, err := c.peers.orders.FulfilOrder(ctx, ordersapi.FulfilOrderParams{OrderId: id, Actor: actor, Reason: why})
		_, bad = told[*ordersapi.Order]("orders", res, err)
	case "return":
		res, err := c.peers.orders.ReturnOrder(ctx, ordersapi.NewOptOrderReturn(ordersapi.OrderReturn{Reason: why}), ordersapi.ReturnOrderParams{OrderId: id, Actor: actor, Reason: why})
		_, bad = told[*ordersapi.Order]("orders", res, err)
	case "drive":
		res, err := c.peers.orders.DriveOrder(ctx, ordersapi.DriveOrderParams{OrderId: id, Actor: actor, Reason: why})
		_, bad = told[*ordersapi.Order]("orders", res, err)
	case "release":
		res, err := c.peers.stock.Release(ctx, stockapi.ReleaseParams{ReservationId: id, Actor: stockapi.NewOptString(who), Reason: stockapi.NewOptString(reason)})
		_, bad = told[*stockapi.ReleaseNoContent]("inventory", res, err)
	case "void":
		res, err := c.peers.payments.VoidPayment(ctx, paymentsapi.VoidPaymentParams{OrderId: id, Actor: paymentsapi.NewOptString(who), Reason: paymentsapi.NewOptString(reason)})
		_, bad = told[*paymentsapi.Payment]("payments", res, err)
	default:
		bad = &trouble{Service: "The console", Code: "unknown_action", Status: http.StatusUnprocessableEntity, Detail: "There is no such action. Go back to the order and choose one."}
	}
	return bad
}

// actsPaths are where each context tells what was done to it by hand.
var actsPaths = map[string]string{"orders": "/v1/acts", "inventory": "/v1/acts/inventory", "payments": "/v1/acts/payments"}

type act struct {
	At            time.Time
	Actor         string
	What          string
	Subject       string
	Reason        string
	CorrelationID string `json:"correlationId"`
}
