package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// ErrUnknownOutcome is returned by Write and a Batcher when the connection to the database server broke at the commit and
// nobody could be asked since whether it happened. The caller repeats its command, under the same key or id.
var ErrUnknownOutcome = fault.New(fault.Unavailable, "outcome_unknown", "The database server went away in the middle of it, and whether it was done cannot be told yet. Repeat it with the same key.")

const (
	// patience is how long a transaction is tried again before its callers are told: a server restarts in it, and
	// those who wait behind it should not wait much longer for an answer.
	patience = 5 * time.Second
	// statementTime bounds one statement. It is far longer than any takes; what takes longer is a network that has gone silent.
	statementTime = time.Minute
	// collisions is how often a unique key may refuse a transaction: another process's insert is met once or twice, and what is met
	// four times is a mistake in the program.
	collisions = 4
)

// server is the other end of a PostgreSQL connection, and where the transaction on it stands.
type server struct {
	conn   *pgconn.PgConn // nil on SQLite
	n      int64          // of the transaction, in the writer's row
	failed error          // the first error of a statement of the transaction
	sent   bool           // COMMIT
}

// hurry gives the next exchange its time. A deadline of the connection is cheaper than a context that can end, which costs a
// goroutine a statement.
func (s *server) hurry() {
	if s.conn != nil {
		_ = s.conn.Conn().SetDeadline(time.Now().Add(statementTime)) // it fails on a closed connection, and so will the statement
	}
}

func (s *server) noted(err error) error {
	if s.conn != nil && s.failed == nil {
		s.failed = err
	}
	return err
}

// lost reports that the connection is of no more use.
func (s *server) lost() bool {
	if s.conn.IsClosed() {
		return true
	}
	var timeout net.Error
	return errors.As(s.failed, &timeout)
}

// hangUp ends the connection.
func (s *server) hangUp() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}

func (e *pgEngine) connect(ctx context.Context, d *DB, t *Tx) error {
	if err := t.connect(ctx, d.write); err != nil {
		return err
	}
	t.server.failed, t.server.sent = nil, false
	return t.conn.Raw(func(conn any) error {
		t.server.conn = conn.(*stdlib.Conn).Conn().PgConn()
		return nil
	})
}

// close takes the writer's row out.
func (e *pgEngine) close(t *Tx) {
	if t.conn != nil && !t.server.lost() {
		_, _ = t.Exec(`DELETE FROM orderkeep_writer WHERE id = $1`, e.writer) // what stays goes after a day
	}
}

// write runs f in a transaction until it was committed, refused, or patience is over; the package's comment says why it
// takes effect once at most.
func (e *pgEngine) write(d *DB, t *Tx, f func(*Tx) error) error {
	until := time.Now().Add(patience)
	if t.conn == nil || t.server.lost() {
		// Lost at the end of the write before, or never found again since: others have waited for it already.
		if err := e.reconnect(d, t, time.Now()); err != nil {
			return err
		}
	}
	for met := 0; ; {
		err := e.once(t, f)
		switch code := pgCode(err); {
		case err == nil:
			return nil
		case t.server.lost():
			done, unsettled := e.settle(d, t, until)
			if unsettled != nil {
				return errors.Join(unsettled, err)
			}
			if done {
				return nil
			}
		case code == "40001", code == "40P01": // serialization failure, deadlock
		case code == "23505": // unique key
			if met++; met == collisions {
				return err
			}
		case code == "0A000", code == "25006": // "cached plan must not change result type"; the primary has become a standby
			t.server.hangUp()
		default:
			return err
		}
		if !d.pause(rand.N(20*time.Millisecond), until) {
			return err
		}
	}
}

// once runs f in one transaction.
func (e *pgEngine) once(t *Tx, f func(*Tx) error) error {
	s := &t.server
	s.n++
	s.failed, s.sent = nil, false
	err := s.exec("BEGIN ISOLATION LEVEL READ COMMITTED", fmt.Sprintf(`INSERT INTO orderkeep_writer (id, n, at) VALUES ('%s', %d, now())
		ON CONFLICT (id) DO UPDATE SET n = excluded.n, at = excluded.at`, e.writer, s.n))
	if err == nil {
		err = guarded(t, f)
	}
	if err == nil {
		err = s.failed // an error that f kept to itself: the server has given the transaction up all the same
	}
	if err == nil {
		s.sent = true
		return s.exec("COMMIT")
	}
	if !s.lost() {
		_ = s.exec("ROLLBACK") // failing, it leaves a connection that is lost
	}
	return err
}

// exec runs statements in one exchange, and makes sure that they did what they say: COMMIT of a transaction that had
// failed rolls back without an error.
func (s *server) exec(statements ...string) error {
	s.hurry()
	all := ""
	for _, one := range statements {
		all += one + ";"
	}
	results, err := s.conn.Exec(context.Background(), all).ReadAll()
	if err != nil {
		return s.noted(err)
	}
	if last := results[len(results)-1].CommandTag.String(); statements[0] == "COMMIT" && last != "COMMIT" {
		return fmt.Errorf("the server answered COMMIT with %s", last)
	}
	return nil
}

// settle connects again after the connection broke, and says whether the transaction on it was committed. Without an
// error and not done, it was not, and never will be.
func (e *pgEngine) settle(d *DB, t *Tx, until time.Time) (done bool, err error) {
	sent := t.server.sent
	for {
		if err = e.reconnect(d, t, until); err != nil {
			break
		}
		if done, err = e.committed(t); err == nil {
			return done && sent, nil
		}
		t.server.hangUp()
		if !d.pause(20*time.Millisecond, until) {
			break
		}
	}
	if sent {
		err = ErrUnknownOutcome.Because(err)
	}
	return false, err
}

// committed ends what is left of the old session, which may hold locks or have the COMMIT still before it, and reads the
// number that it left. Writing the row waits for the end of every transaction that has written it.
func (e *pgEngine) committed(t *Tx) (bool, error) {
	_, err := t.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND usename = current_user AND pid <> pg_backend_pid()`, e.writer)
	if err != nil {
		return false, err
	}
	rows, err := t.Query(`INSERT INTO orderkeep_writer (id, n, at) VALUES ($1, 0, now()) ON CONFLICT (id) DO UPDATE SET at = excluded.at RETURNING n`, e.writer)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	var n int64
	for rows.Next() {
		if err := rows.Scan(&n); err != nil {
			return false, err
		}
	}
	return n == t.server.n, rows.Err()
}

// reconnect tries until the time is over, once at least.
func (e *pgEngine) reconnect(d *DB, t *Tx, until time.Time) error {
	if t.conn != nil {
		t.server.hangUp()
		t.close()
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		ctx, cancel := context.WithTimeout(context.Background(), connectTime)
		err := e.connect(ctx, d, t)
		cancel()
		if err == nil || !d.pause(wait, until) {
			return err
		}
	}
}

// pause waits. It is false if the time is over, or the database is closing.
func (d *DB) pause(wait time.Duration, until time.Time) bool {
	if time.Until(until) < wait {
		return false
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-d.closed:
		return false
	}
}

// pgCode returns the SQLSTATE in err's chain (https://www.postgresql.org/docs/current/errcodes-appendix.html), or "".
func pgCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func (e *pgEngine) explain(err error) error {
	switch code := pgCode(err); code {
	case "28P01", "28000":
		return fault.New(fault.Denied, "database_login_refused", "The server refuses the user or the password. Check both in the database URL, and pg_hba.conf on the server.").Because(err)
	case "3D000":
		return fault.New(fault.NotFound, "no_database", "There is no such database. Have an administrator run: CREATE DATABASE %s OWNER %s;", quoted(e.config.Database), quoted(e.config.User)).Because(err)
	case "42501":
		if e.reading {
			user := quoted(e.config.User)
			return fault.New(fault.Denied, "database_permission_denied", "The user may not read all tables of the context. As their owner run: GRANT USAGE ON SCHEMA public TO %s; GRANT SELECT ON ALL TABLES IN SCHEMA public TO %s;", user, user).Because(err)
		}
		return fault.New(fault.Denied, "database_permission_denied", "The user may not do this in the database. Make it the owner: ALTER DATABASE %s OWNER TO %s;", quoted(e.config.Database), quoted(e.config.User)).Because(err)
	case "53100", "58030":
		return fault.New(fault.Unavailable, "disk_full", "The database server's disk is full or broken. Free some space; nothing that was answered is lost.").Because(err)
	case "53300", "53200":
		return fault.New(fault.Unavailable, "busy", "The database server takes no more connections; try again.").Because(err)
	case "40001", "40P01":
		return fault.New(fault.Unavailable, "busy", "Others write the same rows; try again.").Because(err)
	case "22021", "22P05":
		return fault.New(fault.Invalid, "invalid_text", "A text has a character that cannot be stored, such as U+0000. Leave it out.").Because(err)
	}
	if e.outOfOrder(err) {
		return fault.New(fault.Unavailable, "storage_unavailable", "The database server does not answer, or takes no writes. Look whether it runs, and whether it can be reached from here.").Because(err)
	}
	return err
}

// outOfOrder also means the network between.
func (e *pgEngine) outOfOrder(err error) bool {
	switch code := pgCode(err); code {
	case "25006", "57P01", "57P02", "57P03", "57P05", "25P03", "53100", "53200", "53300", "58030":
		return true
	case "":
	default:
		return code[:2] == "08"
	}
	var network net.Error
	var connect *pgconn.ConnectError
	for _, lost := range []error{ErrUnknownOutcome, pgconn.ErrConnClosed, driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return errors.As(err, &network) || errors.As(err, &connect) || pgconn.SafeToRetry(err)
}
