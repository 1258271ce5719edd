package db

import (
	"context"
	"database/sql"
	"sync"
)

// Lease is the right of one process among several to do something on a database, such as to publish its events. It
// ends with Release, with the database's Close, and with the process, however that ends.
//
// A process that is cut off from the server may not have noticed yet that its lease has gone to another. What it does is
// therefore such that two may do it at once for a moment; the lease keeps that from being the rule.
type Lease struct {
	db   *DB // nil on SQLite
	mu   sync.Mutex
	conn *sql.Conn // whose session has the lock; nil once released
}

// Lease takes the lease of a name, or returns nil if another process has it. On SQLite, which has one process, it is always
// free.
func (d *DB) Lease(ctx context.Context, name string) (*Lease, error) {
	l, err := d.engine.lease(ctx, d, name)
	return l, d.explain(err)
}

// Held looks whether the lease still holds. If it does not, it never will again, and the caller takes another.
func (l *Lease) Held(ctx context.Context) bool {
	if l.db == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	if err := l.conn.PingContext(ctx); err != nil {
		l.end()
		return false
	}
	return true
}

// Release gives the lease back. Doing so again does nothing.
func (l *Lease) Release() {
	if l.db == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
}

func (l *Lease) end() {
	if l.conn == nil {
		return
	}
	l.db.leases.forget(l)
	ctx, cancel := context.WithTimeout(context.Background(), connectTime)
	defer cancel()
	// If this fails the session has ended, and its lock with it: the driver closes a connection that does not answer.
	_, _ = l.conn.ExecContext(ctx, `SELECT pg_advisory_unlock_all()`)
	_ = l.conn.Close()
	l.conn = nil
}

func (e *pgEngine) lease(ctx context.Context, d *DB, name string) (*Lease, error) {
	conn, err := d.read.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var free bool
	err = conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock(hashtextextended('orderkeep ' || current_schema() || ' ' || $1, 0))`, name).Scan(&free)
	if err != nil || !free {
		conn.Close()
		return nil, err
	}
	l := &Lease{db: d, conn: conn}
	if !d.leases.remember(l) {
		l.Release()
		return nil, ErrClosed
	}
	return l, nil
}

// leases are those that are held, so that Close can give them back.
type leases struct {
	mu     sync.Mutex
	held   map[*Lease]bool
	closed bool
}

func (s *leases) remember(l *Lease) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.held == nil {
		s.held = map[*Lease]bool{}
	}
	s.held[l] = true
	return true
}

func (s *leases) forget(l *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, l)
}

func (s *leases) close() {
	s.mu.Lock()
	s.closed = true
	var all []*Lease
	for l := range s.held {
		all = append(all, l)
	}
	s.mu.Unlock()
	for _, l := range all {
		l.Release()
	}
}
