package faults

import (
	"database/sql"
	"strings"
	"testing"
	"time"
)

// table reads rows of a database that nobody else has open.
type table struct {
	t  testing.TB
	db *sql.DB
}

// rows calls f for each row of a query.
func (d *table) rows(query string, f func(scan func(...any))) {
	d.t.Helper()
	rows, err := d.db.QueryContext(d.t.Context(), query)
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		f(func(into ...any) {
			if err := rows.Scan(into...); err != nil {
				d.t.Fatal(err)
			}
		})
	}
	if err := rows.Err(); err != nil {
		d.t.Fatal(err)
	}
}

// read fills the records from the databases.
func (w *world) read(r *Records) {
	r.Orders, r.Items, r.Reservations, r.Payments = map[string]Order{}, map[string]Item{}, map[string]Reservation{}, map[string]Payment{}
	r.Outbox, r.Inbox = map[string][]Fact{}, map[string][]Received{}
	w.readOrders(r)
	w.readStock(r)
	w.readMoney(r)
	for _, context := range []string{"orders", "inventory", "payments"} {
		d := w.raw(context)
		r.Inbox[context] = []Received{}
		d.rows(`SELECT id, type, subject, coalesce(position, 0) FROM outbox ORDER BY seq`, func(scan func(...any)) {
			f := Fact{Source: "/" + context}
			scan(&f.ID, &f.Type, &f.Subject, &f.Position)
			r.Outbox[context] = append(r.Outbox[context], f)
		})
		d.rows(`SELECT source, event_id, type, subject, state FROM inbox WHERE consumer = '`+context+`' ORDER BY seq`, func(scan func(...any)) {
			var f Received
			scan(&f.Source, &f.ID, &f.Type, &f.Subject, &f.State)
			r.Inbox[context] = append(r.Inbox[context], f)
		})
	}
}

func (w *world) readOrders(r *Records) {
	d := w.raw("orders")
	lines := map[string][]Line{}
	d.rows(`SELECT order_id, sku, qty, unit_price_minor FROM order_lines ORDER BY order_id, n`, func(scan func(...any)) {
		var id string
		var l Line
		scan(&id, &l.SKU, &l.Qty, &l.Price)
		lines[id] = append(lines[id], l)
	})
	d.rows(`SELECT id, state, customer, key, total_minor, reject_code FROM orders`, func(scan func(...any)) {
		var id string
		var o Order
		scan(&id, &o.State, &o.Customer, &o.Key, &o.Total, &o.Reason)
		o.Lines = lines[id]
		r.Orders[id] = o
	})
}

func (w *world) readStock(r *Records) {
	d := w.raw("inventory")
	moved := map[string]int{}
	d.rows(`SELECT sku, sum(delta) FROM movements GROUP BY sku`, func(scan func(...any)) {
		var sku string
		var sum int
		scan(&sku, &sum)
		moved[sku] = sum
	})
	d.rows(`SELECT i.sku, sum(s.on_hand), sum(s.reserved) FROM items i JOIN stock s ON s.sku = i.sku WHERE i.tracked GROUP BY i.sku`, func(scan func(...any)) {
		var sku string
		var i Item
		scan(&sku, &i.OnHand, &i.Reserved)
		i.Moved = moved[sku]
		r.Items[sku] = i
	})
	const swept = 30 * time.Second // and more: the sweeper comes every second
	d.rows(`SELECT id, state, coalesce(expires_at, 0) FROM reservations`, func(scan func(...any)) {
		var id string
		var expires int64
		s := Reservation{Lines: map[string]int{}}
		scan(&id, &s.State, &expires)
		s.Hold, s.Late = expires > 0, expires > 0 && time.Since(time.UnixMicro(expires)) > swept
		r.Reservations[id] = s
	})
	d.rows(`SELECT reservation_id, sku, sum(qty) FROM reservation_lines GROUP BY reservation_id, sku`, func(scan func(...any)) {
		var id, sku string
		var qty int
		scan(&id, &sku, &qty)
		r.Reservations[id].Lines[sku] = qty
	})
}

func (w *world) readMoney(r *Records) {
	w.raw("payments").rows(`SELECT order_id, status, authorized_minor, captured_minor, voided_minor, refunded_minor FROM payments`, func(scan func(...any)) {
		var id string
		var p Payment
		scan(&id, &p.Status, &p.Authorized, &p.Captured, &p.Voided, &p.Repaid)
		r.Payments[id] = p
	})
	w.raw("simulated-provider").rows(`SELECT key, state, authorized_minor, captured_minor, voided_minor, refunded_minor FROM charges`, func(scan func(...any)) {
		var ch Charge
		scan(&ch.Order, &ch.State, &ch.Authorized, &ch.Captured, &ch.Voided, &ch.Repaid)
		ch.Order, _, _ = strings.Cut(ch.Order, ":") // the key starts with the order's id
		if len(ch.Order) > 36 {
			ch.Order = ch.Order[:36]
		}
		r.Charges = append(r.Charges, ch)
	})
}
