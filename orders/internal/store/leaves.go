package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

// SetLeave implements order.Store.
func (s *Store) SetLeave(ctx context.Context, l order.Leave) error {
	return s.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO leaves (name, since, until) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET since = excluded.since, until = excluded.until`, l.Name, micro(l.Since), micro(l.Until))
		return err
	})
}

const queryLeaves = `SELECT name, since, until FROM leaves ORDER BY since`

// Leaves implements order.Store.
func (s *Store) Leaves(ctx context.Context) ([]order.Leave, error) {
	rows, err := s.db.Query(ctx, queryLeaves)
	if err != nil {
		return nil, fmt.Errorf("list leaves: %w", err)
	}
	return scanLeaves(rows)
}

func scanLeaves(rows *sql.Rows) ([]order.Leave, error) {
	defer rows.Close()
	var all []order.Leave
	for rows.Next() {
		var l order.Leave
		var since, until int64
		if err := rows.Scan(&l.Name, &since, &until); err != nil {
			return nil, fmt.Errorf("list leaves: %w", err)
		}
		l.Since, l.Until = fromMicro(since), fromMicro(until)
		all = append(all, l)
	}
	return all, rows.Err()
}

// EndLeave implements order.Store.
func (s *Store) EndLeave(ctx context.Context, l order.Leave) error {
	return s.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM leaves WHERE name = $1 AND until = $2`, l.Name, micro(l.Until))
		return err
	})
}

// Missing implements order.Store.
func (s *Store) Missing(ctx context.Context, ids []order.ID) ([]order.ID, error) {
	known := make(map[order.ID]bool, len(ids))
	list := make([]any, len(ids))
	for i, id := range ids {
		list[i] = string(id)
	}
	// In this order: one that is archived meanwhile is in the second.
	for _, query := range []string{`SELECT id FROM orders WHERE id IN (list)`, `SELECT order_id FROM archived WHERE order_id IN (list)`} {
		err := s.db.QueryWide(ctx, query, list, func(rows *sql.Rows) error {
			var id order.ID
			err := rows.Scan(&id)
			known[id] = true
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look for orders: %w", err)
		}
	}
	var missing []order.ID
	for _, id := range ids {
		if !known[id] {
			missing = append(missing, id)
		}
	}
	return missing, nil
}
