package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// load brings the rows of a batch into its room: reservations first, because their lines name more SKUs. Then the room is ready to decide.
func load(tx *db.Tx, n needs, room *stock.Room) error {
	if err := addExpired(tx, &n, room.Now()); err != nil {
		return wrap("find expired holds", err)
	}
	if err := loadReservations(tx, &n, room); err != nil {
		return wrap("load reservations", err)
	}
	err := tx.QueryWide(`SELECT sku, location, on_hand, reserved, unlimited FROM stock WHERE sku IN (list) ORDER BY sku, location FOR UPDATE`, list(n.skus), func(rows *sql.Rows) error {
		var sku string
		var l stock.Level
		var unlimited bool
		if err := rows.Scan(&sku, &l.Location, &l.OnHand, &l.Reserved, &unlimited); err != nil {
			return err
		}
		room.AddLevel(sku, !unlimited, l)
		return nil
	})
	if err != nil {
		return wrap("load stock", err)
	}
	err = tx.QueryWide(`SELECT sku, title FROM items WHERE sku IN (list)`, list(n.titles), func(rows *sql.Rows) error {
		var sku, title string
		if err := rows.Scan(&sku, &title); err != nil {
			return err
		}
		room.SetTitle(sku, title)
		return nil
	})
	if err != nil {
		return wrap("load titles", err)
	}
	err = tx.QueryWide(`SELECT key, fingerprint, outcome FROM adjustments WHERE key IN (list)`, list(n.keys), func(rows *sql.Rows) error {
		var key, print, kept string
		if err := rows.Scan(&key, &print, &kept); err != nil {
			return err
		}
		o, err := decodeOutcome(kept)
		o.Fingerprint = print
		room.AddOutcome(key, o)
		return err
	})
	if err != nil {
		return wrap("load adjustments", err)
	}
	return room.Expire()
}

func loadReservations(tx *db.Tx, n *needs, room *stock.Room) error {
	var known []*stock.Reservation
	byID := map[string]*stock.Reservation{}
	err := tx.QueryWide(`SELECT id, owner, state, refusal, expires_at, changed_at FROM reservations WHERE id IN (list) ORDER BY id FOR UPDATE`, list(n.reservations), func(rows *sql.Rows) error {
		v := &stock.Reservation{}
		var refusal string
		var expires sql.NullInt64
		var changed int64
		if err := rows.Scan(&v.ID, &v.Owner, &v.State, &refusal, &expires, &changed); err != nil {
			return err
		}
		v.Expires, v.Changed = decodeExpiry(expires), time.UnixMicro(changed).UTC()
		known = append(known, v)
		byID[v.ID] = v
		return decodeShortages(refusal, v)
	})
	if err != nil || len(known) == 0 {
		return err
	}
	ids := make([]string, len(known))
	for i, v := range known {
		ids[i] = v.ID
	}
	err = tx.QueryWide(`SELECT reservation_id, sku, qty FROM reservation_lines WHERE reservation_id IN (list) ORDER BY reservation_id, sku`, list(ids), func(rows *sql.Rows) error {
		var id string
		var l stock.Line
		if err := rows.Scan(&id, &l.SKU, &l.Qty); err != nil {
			return err
		}
		byID[id].Lines = append(byID[id].Lines, l)
		n.skus = append(n.skus, l.SKU)
		return nil
	})
	for _, v := range known {
		room.AddReservation(*v)
	}
	return err
}

// write puts the changes into the tables, each table in one statement where it fits.
func (s *Store) write(tx *db.Tx, c stock.Changes) error {
	at := c.At.UnixMicro()
	if err := writeItems(tx, c.Items, at); err != nil {
		return err
	}
	if err := writeStock(tx, c.Stock); err != nil {
		return err
	}
	if err := writeReservations(tx, c.Reservations, c.At); err != nil {
		return err
	}
	if err := writeMovements(tx, c.Movements); err != nil {
		return err
	}
	var args []any
	for _, o := range c.Outcomes {
		kept, err := encodeOutcome(o.Outcome)
		if err != nil {
			return err
		}
		args = append(args, o.Key, o.Fingerprint, kept, at)
	}
	if err := tx.ExecWide(`INSERT INTO adjustments (key, fingerprint, outcome, at) VALUES (rows)`, 4, args); err != nil {
		return err
	}
	return s.writeLive(tx, c.Live)
}

func writeItems(tx *db.Tx, items []stock.Item, at int64) error {
	var args []any
	for _, i := range items {
		args = append(args, i.SKU, i.Title, i.Tracked, at, at)
	}
	return tx.ExecWide(`INSERT INTO items (sku, title, tracked, created_at, changed_at) VALUES (rows)
		ON CONFLICT (sku) DO UPDATE SET title = excluded.title, tracked = excluded.tracked, changed_at = excluded.changed_at`, 5, args)
}

func writeStock(tx *db.Tx, items []stock.Item) error {
	args := make([]any, 0, 5*len(items))
	for _, i := range items {
		for _, l := range i.Levels {
			args = append(args, i.SKU, l.Location, l.OnHand, l.Reserved, !i.Tracked)
		}
	}
	return tx.ExecWide(`INSERT INTO stock (sku, location, on_hand, reserved, unlimited) VALUES (rows)
		ON CONFLICT (sku, location) DO UPDATE SET on_hand = excluded.on_hand, reserved = excluded.reserved, unlimited = excluded.unlimited`, 5, args)
}

func writeReservations(tx *db.Tx, all []stock.Reservation, at time.Time) error {
	var changed []any
	added := make([]any, 0, 7*len(all))
	var holds []stock.Reservation
	lines := make([]any, 0, 4*len(all))
	for _, v := range all {
		refusal, err := encodeShortages(v.Shortages)
		if err != nil {
			return err
		}
		row := []any{v.ID, string(v.Owner), string(v.State), refusal, v.CorrelationID, v.Created.UnixMicro(), v.Changed.UnixMicro()}
		switch {
		case !v.Created.Equal(at): // one that was loaded has no Created
			changed = append(changed, row...)
			continue
		case v.Expires.IsZero():
			added = append(added, row...)
		default:
			holds = append(holds, v)
		}
		for _, l := range v.Lines {
			lines = append(lines, v.ID, l.SKU, stock.Default, l.Qty)
		}
	}
	// No upsert: another replica may have added the same one since this batch looked for it in vain.
	err := tx.ExecWide(`INSERT INTO reservations (id, owner, state, refusal, correlation_id, created_at, changed_at) VALUES (rows)`, 7, added)
	if err != nil {
		return err
	}
	if err := writeHolds(tx, holds); err != nil {
		return err
	}
	err = tx.ExecWide(`INSERT INTO reservations (id, owner, state, refusal, correlation_id, created_at, changed_at) VALUES (rows)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, refusal = excluded.refusal, changed_at = excluded.changed_at`, 7, changed)
	if err != nil {
		return err
	}
	return tx.ExecWide(`INSERT INTO reservation_lines (reservation_id, sku, location, qty) VALUES (rows)`, 4, lines)
}

func writeMovements(tx *db.Tx, movements []stock.Movement) error {
	args := make([]any, 0, 10*len(movements))
	for _, m := range movements {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("name a movement: %w", err)
		}
		args = append(args, id.String(), m.SKU, m.Location, m.Delta, m.OnHand, m.Reason, m.Actor, m.OrderID, m.CorrelationID, m.At.UnixMicro())
	}
	return tx.ExecWide(`INSERT INTO movements (id, sku, location, delta, on_hand, reason, actor, order_id, correlation_id, at) VALUES (rows)`, 10, args)
}

// The stored forms of answers. Their field names stay: older rows are read back.
type (
	storedShortage struct {
		SKU       string `json:"sku"`
		Requested int64  `json:"requested"`
		Available int64  `json:"available"`
		Unknown   bool   `json:"unknown,omitempty"`
	}
	storedLevel struct {
		Location string `json:"location"`
		OnHand   int64  `json:"onHand"`
		Reserved int64  `json:"reserved"`
	}
	storedItem struct {
		SKU     string        `json:"sku"`
		Title   string        `json:"title"`
		Tracked bool          `json:"tracked"`
		Levels  []storedLevel `json:"levels"`
	}
	storedRefusal struct {
		Kind   string          `json:"kind"`
		Code   string          `json:"code"`
		Detail string          `json:"detail"`
		Items  []storedProblem `json:"items,omitempty"`
	}
	storedProblem struct {
		SKU       string `json:"sku,omitempty"`
		Requested int64  `json:"requested,omitempty"`
		Available int64  `json:"available,omitempty"`
		Row       int64  `json:"row,omitempty"`
		Field     string `json:"field,omitempty"`
		Detail    string `json:"detail,omitempty"`
	}
	storedOutcome struct {
		Item    *storedItem    `json:"item,omitempty"`
		Refusal *storedRefusal `json:"refusal,omitempty"`
	}
)

func encodeShortages(short []stock.Shortage) (string, error) {
	if len(short) == 0 {
		return "", nil
	}
	out := make([]storedShortage, len(short))
	for i, s := range short {
		out[i] = storedShortage(s)
	}
	b, err := json.Marshal(out)
	return string(b), err
}

func decodeShortages(kept string, into *stock.Reservation) error {
	if kept == "" {
		return nil
	}
	var in []storedShortage
	if err := json.Unmarshal([]byte(kept), &in); err != nil {
		return fmt.Errorf("refusal of %s: %w", into.ID, err)
	}
	for _, s := range in {
		into.Shortages = append(into.Shortages, stock.Shortage(s))
	}
	return nil
}

func encodeOutcome(o stock.Outcome) (string, error) {
	var out storedOutcome
	if o.Refusal != nil {
		out.Refusal = &storedRefusal{Kind: o.Refusal.Kind.String(), Code: o.Refusal.Code, Detail: o.Refusal.Detail}
		for _, i := range o.Refusal.Items {
			out.Refusal.Items = append(out.Refusal.Items, storedProblem(i))
		}
	} else {
		out.Item = &storedItem{SKU: o.Item.SKU, Title: o.Item.Title, Tracked: o.Item.Tracked}
		for _, l := range o.Item.Levels {
			out.Item.Levels = append(out.Item.Levels, storedLevel(l))
		}
	}
	b, err := json.Marshal(out)
	return string(b), err
}

func decodeOutcome(kept string) (stock.Outcome, error) {
	var in storedOutcome
	if err := json.Unmarshal([]byte(kept), &in); err != nil {
		return stock.Outcome{}, fmt.Errorf("stored outcome of an adjustment: %w", err)
	}
	var o stock.Outcome
	if in.Refusal != nil {
		o.Refusal = &fault.Error{Code: in.Refusal.Code, Detail: in.Refusal.Detail}
		for _, k := range fault.Kinds() {
			if k.String() == in.Refusal.Kind {
				o.Refusal.Kind = k
			}
		}
		for _, i := range in.Refusal.Items {
			o.Refusal.Items = append(o.Refusal.Items, fault.Item(i))
		}
	}
	if in.Item != nil {
		o.Item = stock.Item{SKU: in.Item.SKU, Title: in.Item.Title, Tracked: in.Item.Tracked}
		for _, l := range in.Item.Levels {
			o.Item.Levels = append(o.Item.Levels, stock.Level(l))
		}
	}
	return o, nil
}
