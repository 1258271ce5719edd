package store

import (
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
)

// Keeper is what an archive sees of Payments: what was attempted for an order's money. The provider's record is the provider's, and stays.
func (s *Store) Keeper(rules archive.Rules) *archive.Keeper {
	return &archive.Keeper{
		Context: "payments", Source: "/payments", DB: s.db, Write: s.Write, Rules: rules, Now: lab.Now,
		Lock: `SELECT order_id FROM payments WHERE order_id IN (list) ORDER BY order_id FOR UPDATE`,
		Tables: []archive.Table{
			{
				Name: "payments", Of: "order_id",
				Select: `SELECT * FROM payments WHERE order_id IN (list) ORDER BY order_id`,
				Delete: `DELETE FROM payments WHERE order_id IN (list) RETURNING order_id`,
			},
			{
				Name: "attempts", Of: "order_id",
				Select: `SELECT * FROM attempts WHERE order_id IN (list) ORDER BY order_id, step`,
				Delete: `DELETE FROM attempts WHERE order_id IN (list) RETURNING step`,
			},
		},
		May: func(row archive.Row, before time.Time) string {
			switch payment.Status(row.Text("status")) {
			case payment.Captured, payment.Declined, payment.Voided, payment.Refunded:
			default:
				return "its payment has not ended: " + row.Text("status")
			}
			if row.Number("updated_at") >= before.UnixMicro() {
				return "its payment changed since"
			}
			return ""
		},
	}
}
