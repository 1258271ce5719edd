package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// lookedAt bounds the reservations that one look for the holders of a SKU goes through. They are not found by SKU: an index for
// people who look now and then would cost every reservation that is made.
const lookedAt = 10_000

// HeldUnits are units of a SKU that a live reservation has.
type HeldUnits struct {
	ID      string // of the reservation, which is the order's if an order owns it
	Owner   stock.Owner
	Qty     int64
	Since   time.Time
	Expires time.Time // zero if it does not
}

// Holders are who holds a SKU, as far back as was looked.
type Holders struct {
	Units  []HeldUnits // newest first
	Oldest time.Time   // that was looked at; zero if there was none
	More   string      // the id to look before next, or "" at the end
}

// Bounds of a page of live reservations: its message stays far below what gRPC takes.
const (
	pageReservations = 1000
	pageLines        = 2000
)

const queryLiveOfOrders = `SELECT r.id, r.correlation_id, l.sku, l.qty FROM (
		SELECT id, correlation_id FROM reservations WHERE id > $1 AND id < $2 AND state = 'reserved' AND owner = 'order' ORDER BY id LIMIT $3) r
	JOIN reservation_lines l ON l.reservation_id = r.id ORDER BY r.id, l.sku`

// LiveOfOrders returns a page of live reservations that orders own with ids between two, by id, with their lines and correlation ids,
// and after which to ask on; "" at the end.
func (s *Store) LiveOfOrders(ctx context.Context, after, before string) (page []stock.Reservation, next string, err error) {
	err = s.db.Read(ctx, func(tx *sql.Tx) error {
		page, next = nil, ""
		rows, err := tx.QueryContext(ctx, queryLiveOfOrders, after, before, pageReservations+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for lines := 0; rows.Next(); lines++ {
			v := stock.Reservation{Owner: stock.ByOrder, State: stock.Reserved}
			var l stock.Line
			if err := rows.Scan(&v.ID, &v.CorrelationID, &l.SKU, &l.Qty); err != nil {
				return err
			}
			last := len(page) - 1
			if last < 0 || page[last].ID != v.ID {
				if len(page) == pageReservations || lines >= pageLines {
					next = page[last].ID
					return nil
				}
				page = append(page, v)
				last++
			}
			page[last].Lines = append(page[last].Lines, l)
		}
		return rows.Err()
	})
	return page, next, wrap("list live reservations", err)
}

const queryHeld = `SELECT r.id, r.owner, r.created_at, r.expires_at,
		coalesce((SELECT CAST(sum(l.qty) AS BIGINT) FROM reservation_lines l WHERE l.reservation_id = r.id AND l.sku = $1), 0)
	FROM reservations r WHERE r.id < $2 AND r.state = 'reserved' AND (r.expires_at IS NULL OR r.expires_at > $3) ORDER BY r.id DESC LIMIT $4`

// Held says who holds units of a SKU: up to limit live reservations before an id ("" for the newest), of lookedAt at most.
func (s *Store) Held(ctx context.Context, sku, before string, limit int) (Holders, error) {
	if before == "" {
		before = "g" // after every hexadecimal digit
	}
	var h Holders
	err := s.db.Read(ctx, func(tx *sql.Tx) error {
		h = Holders{}
		rows, err := tx.QueryContext(ctx, queryHeld, sku, before, s.now().UnixMicro(), lookedAt)
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for last := ""; rows.Next(); n++ {
			if len(h.Units) == limit {
				h.More = last
				return nil
			}
			var u HeldUnits
			var since int64
			var expires sql.NullInt64
			if err := rows.Scan(&u.ID, &u.Owner, &since, &expires, &u.Qty); err != nil {
				return err
			}
			u.Since, u.Expires = time.UnixMicro(since).UTC(), decodeExpiry(expires)
			last, h.Oldest = u.ID, u.Since
			if n == lookedAt-1 {
				h.More = last
			}
			if u.Qty > 0 {
				h.Units = append(h.Units, u)
			}
		}
		return rows.Err()
	})
	return h, wrap("list who holds "+sku, err)
}
