package store

import (
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// Keeper is what an archive sees of Inventory: the reservations of orders. Movements stay, because on hand is their sum and nobody may
// remove one; and so do holds, which belong to no order.
func (s *Store) Keeper(rules archive.Rules) *archive.Keeper {
	return &archive.Keeper{
		Context: "inventory", Source: "/inventory", DB: s.db, Write: s.Write, Rules: rules, Now: s.now,
		Lock: `SELECT id FROM reservations WHERE id IN (list) ORDER BY id FOR UPDATE`,
		Tables: []archive.Table{
			{
				Name: "reservations", Of: "id",
				Select: `SELECT * FROM reservations WHERE id IN (list) ORDER BY id`,
				Delete: `DELETE FROM reservations WHERE id IN (list) RETURNING id`,
			},
			{
				Name: "reservation_lines", Of: "reservation_id",
				Select: `SELECT * FROM reservation_lines WHERE reservation_id IN (list) ORDER BY reservation_id, sku, location`,
				Delete: `DELETE FROM reservation_lines WHERE reservation_id IN (list) RETURNING sku`,
			},
		},
		May: func(row archive.Row, before time.Time) string {
			switch {
			case row.Text("owner") != string(stock.ByOrder):
				return "its reservation is no order's"
			case row.Text("state") == string(stock.Reserved):
				return "units are reserved for it"
			case row.Number("changed_at") >= before.UnixMicro():
				return "its reservation changed since"
			}
			return ""
		},
	}
}
