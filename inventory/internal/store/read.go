package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// expired is what each shelf has in holds whose time is up at $1 and that nobody has released yet: on the shelf they are still reserved, and
// to a reader they are available.
const expired = `(SELECT sku, location, CAST(sum(qty) AS BIGINT) AS qty FROM holds WHERE expires_at <= $1 GROUP BY sku, location)`

// Item returns an item with its stock, or stock.ErrNotFound.
func (s *Store) Item(ctx context.Context, sku string) (stock.Item, error) {
	rows, err := s.db.Prepared(ctx, `SELECT i.sku, i.title, i.tracked, s.location, s.on_hand, s.reserved - coalesce(e.qty, 0)
		FROM items i JOIN stock s ON s.sku = i.sku LEFT JOIN `+expired+` e ON e.sku = s.sku AND e.location = s.location
		WHERE i.sku = $2 ORDER BY s.location`, s.now().UnixMicro(), sku)
	if err != nil {
		return stock.Item{}, wrap("look up "+sku, err)
	}
	items, err := scanItems(rows)
	if err != nil {
		return stock.Item{}, wrap("look up "+sku, err)
	}
	if len(items) == 0 {
		return stock.Item{}, stock.ErrNotFound.Detailf("There is no item with the SKU %q.", sku)
	}
	return items[0], nil
}

const (
	itemsAfter = `SELECT i.sku, i.title, i.tracked, s.location, s.on_hand, s.reserved - coalesce(e.qty, 0)
		FROM (SELECT sku, title, tracked FROM items WHERE sku > $2 ORDER BY sku LIMIT $3) i
		JOIN stock s ON s.sku = i.sku LEFT JOIN ` + expired + ` e ON e.sku = s.sku AND e.location = s.location
		ORDER BY i.sku, s.location`
	// itemsShort goes through all of the stock.
	itemsShort = `SELECT i.sku, i.title, i.tracked, s.location, s.on_hand, s.reserved - coalesce(e.qty, 0)
		FROM items i JOIN stock s ON s.sku = i.sku LEFT JOIN ` + expired + ` e ON e.sku = s.sku AND e.location = s.location
		WHERE i.sku IN (
			SELECT a.sku FROM stock a LEFT JOIN ` + expired + ` x ON x.sku = a.sku AND x.location = a.location
			WHERE a.sku > $2 AND NOT a.unlimited GROUP BY a.sku HAVING sum(a.on_hand - a.reserved + coalesce(x.qty, 0)) <= $4 ORDER BY a.sku LIMIT $3)
		ORDER BY i.sku, s.location`
)

// Items returns up to limit items after a SKU, by SKU, and whether there are more.
func (s *Store) Items(ctx context.Context, after string, limit int) (items []stock.Item, more bool, err error) {
	return s.items(ctx, limit, itemsAfter, s.now().UnixMicro(), after, limit+1)
}

// Short is Items of those that are tracked and of which no more than atMost are available.
func (s *Store) Short(ctx context.Context, after string, limit int, atMost int64) (items []stock.Item, more bool, err error) {
	return s.items(ctx, limit, itemsShort, s.now().UnixMicro(), after, limit+1, atMost)
}

func (s *Store) items(ctx context.Context, limit int, query string, args ...any) (items []stock.Item, more bool, err error) {
	rows, err := s.db.Prepared(ctx, query, args...)
	if err != nil {
		return nil, false, wrap("list stock", err)
	}
	items, err = scanItems(rows)
	if err != nil {
		return nil, false, wrap("list stock", err)
	}
	if len(items) > limit {
		return items[:limit], true, nil
	}
	return items, false, nil
}

func scanItems(rows *sql.Rows) (items []stock.Item, err error) {
	err = eachItem(rows, func(i stock.Item) error {
		items = append(items, i)
		return nil
	})
	return items, err
}

// eachItem joins the rows of one item, which follow each other, and closes them.
func eachItem(rows *sql.Rows, yield func(stock.Item) error) error {
	defer rows.Close()
	var now stock.Item
	for rows.Next() {
		var i stock.Item
		var l stock.Level
		if err := rows.Scan(&i.SKU, &i.Title, &i.Tracked, &l.Location, &l.OnHand, &l.Reserved); err != nil {
			return err
		}
		if i.SKU != now.SKU && now.SKU != "" {
			if err := yield(now); err != nil {
				return err
			}
		}
		if i.SKU != now.SKU {
			now = i
		}
		now.Levels = append(now.Levels, l)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if now.SKU != "" {
		return yield(now)
	}
	return nil
}

// Export calls yield for every item, by SKU, of one snapshot. A slow yield holds the snapshot open, and no lock.
func (s *Store) Export(ctx context.Context, yield func(stock.Item) error) error {
	err := s.db.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT i.sku, i.title, i.tracked, s.location, s.on_hand, s.reserved - coalesce(e.qty, 0)
			FROM items i JOIN stock s ON s.sku = i.sku LEFT JOIN `+expired+` e ON e.sku = s.sku AND e.location = s.location
			ORDER BY i.sku, s.location`, s.now().UnixMicro())
		if err != nil {
			return err
		}
		return eachItem(rows, yield)
	})
	return wrap("export stock", err)
}

// Movements returns up to limit movements of an item before a place in their order, newest first, and whether there are
// more. Before 0 begins with the newest. An unknown SKU is stock.ErrNotFound.
func (s *Store) Movements(ctx context.Context, sku string, before int64, limit int) (all []stock.Movement, more bool, err error) {
	err = s.db.Read(ctx, func(tx *sql.Tx) error {
		var known string
		err := tx.QueryRowContext(ctx, `SELECT sku FROM items WHERE sku = $1`, sku).Scan(&known)
		if errors.Is(err, sql.ErrNoRows) {
			return stock.ErrNotFound.Detailf("There is no item with the SKU %q.", sku)
		}
		if err != nil {
			return err
		}
		if before == 0 {
			before = 1<<63 - 1
		}
		rows, err := tx.QueryContext(ctx, `SELECT seq, id, sku, location, delta, on_hand, reason, actor, order_id, correlation_id, at
			FROM movements WHERE sku = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3`, sku, before, limit+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var m stock.Movement
			var at int64
			if err := rows.Scan(&m.Seq, &m.ID, &m.SKU, &m.Location, &m.Delta, &m.OnHand, &m.Reason, &m.Actor, &m.OrderID, &m.CorrelationID, &at); err != nil {
				return err
			}
			m.At = time.UnixMicro(at).UTC()
			all = append(all, m)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, false, wrap("list movements of "+sku, err)
	}
	if len(all) > limit {
		return all[:limit], true, nil
	}
	return all, false, nil
}

// Reservation returns a reservation as it is at this instant, or stock.ErrNoReservation.
func (s *Store) Reservation(ctx context.Context, id string) (stock.Reservation, error) {
	v := stock.Reservation{ID: id}
	err := s.db.Read(ctx, func(tx *sql.Tx) error {
		var refusal string
		var created, changed int64
		var expires sql.NullInt64
		err := tx.QueryRowContext(ctx, `SELECT owner, state, refusal, expires_at, correlation_id, created_at, changed_at FROM reservations WHERE id = $1`, id).
			Scan(&v.Owner, &v.State, &refusal, &expires, &v.CorrelationID, &created, &changed)
		if errors.Is(err, sql.ErrNoRows) {
			return stock.ErrNoReservation.Detailf("There is no reservation %s.", id)
		}
		if err != nil {
			return err
		}
		v.Expires = decodeExpiry(expires)
		v.Created, v.Changed = time.UnixMicro(created).UTC(), time.UnixMicro(changed).UTC()
		if err := decodeShortages(refusal, &v); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `SELECT sku, qty FROM reservation_lines WHERE reservation_id = $1 ORDER BY sku`, id)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var l stock.Line
			if err := rows.Scan(&l.SKU, &l.Qty); err != nil {
				return err
			}
			v.Lines = append(v.Lines, l)
		}
		return rows.Err()
	})
	if err != nil {
		return stock.Reservation{}, wrap("look up reservation "+id, err)
	}
	return v.At(s.now()), nil
}
