package db_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// bump adds one to a row and notes by whom, so that a transaction that took effect twice, or by half, is seen.
func bump(tx *db.Tx, k, by string) error {
	if _, err := tx.Exec(`INSERT INTO wide (k, n, s) VALUES ($1, 1, '') ON CONFLICT (k) DO UPDATE SET n = wide.n + 1`, k); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO single (k, n, s) VALUES ($1, 1, '') ON CONFLICT (k) DO UPDATE SET n = single.n + 1`, by)
	return err
}

// Two processes write as fast as they can while the server ends their sessions at random instants, and those of their repeats.
// Whatever was reported as done has happened exactly once, and whatever was not reported has not happened.
func TestWritesHappenOnceThoughSessionsAreKilled(t *testing.T) {
	t.Parallel()
	d, raw := setup(t, dbtest.Postgres)
	replicas := []*db.DB{d, open(t, raw)}
	killer := dbtest.Raw(t, raw)
	ctx, stop := context.WithCancel(t.Context())
	var killing sync.WaitGroup
	var writing [2]sync.WaitGroup
	var killed atomic.Int64
	ended := [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)} // a write of the replica
	killing.Go(func() {
		for round := 1; ctx.Err() == nil; round++ {
			if round%3 == 0 {
				// On a slow machine a session would never live long enough to write anything.
				for _, e := range ended {
					<-e
				}
			}
			// Of the instants between two rounds the most are within a transaction: it takes some milliseconds, and the pause in between none.
			r, err := killer.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity, pg_sleep(random() * 0.02)
				WHERE application_name LIKE 'orderkeep %' AND usename = current_user`)
			if err != nil {
				t.Error(err)
				return
			}
			n, _ := r.RowsAffected()
			killed.Add(n)
		}
	})
	const writers, each = 4, 120
	var mu sync.Mutex
	done := map[string]bool{}
	for w := range writers {
		writing[w%2].Go(func() {
			for i := range each {
				by := fmt.Sprintf("%d-%d", w, i)
				err := replicas[w%2].Write(context.Background(), func(tx *db.Tx) error { return bump(tx, "hot", by) })
				select {
				case ended[w%2] <- struct{}{}:
				default:
				}
				if err != nil {
					t.Errorf("%s: %v", by, err)
					continue
				}
				mu.Lock()
				done[by] = true
				mu.Unlock()
			}
		})
	}
	for r, e := range ended {
		writing[r].Wait()
		close(e)
	}
	stop()
	killing.Wait()
	t.Logf("%d sessions killed", killed.Load())
	if killed.Load() < 10 {
		t.Errorf("%d sessions were killed: too few to show anything", killed.Load())
	}
	if n := count(t, d, `SELECT n FROM wide WHERE k = 'hot'`); n != int64(len(done)) {
		t.Errorf("the row was written %d times, and %d writes were reported", n, len(done))
	}
	for _, e := range entries(t, d, "single") {
		if e.N != 1 || !done[e.K] {
			t.Errorf("%s took effect %d times, reported %v", e.K, e.N, done[e.K])
		}
	}
}

// network stands between a process and its server, and can lose what it carries.
type network struct {
	listener net.Listener
	server   string
	mu       sync.Mutex
	lose     func(fromClient bool, data []byte) bool // true: this is lost, and the connection breaks
	down     bool
}

// between returns the URL of a database over a network.
func between(t *testing.T, raw string) (*network, string) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{server: filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432")}
	if n.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.listener.Close() })
	go func() {
		for {
			c, err := n.listener.Accept()
			if err != nil {
				return
			}
			go n.carry(c)
		}
	}()
	u.Host, u.RawQuery = n.listener.Addr().String(), "sslmode=disable"
	return n, u.String()
}

func (n *network) carry(client net.Conn) {
	defer client.Close()
	n.mu.Lock()
	down := n.down
	n.mu.Unlock()
	if down {
		return
	}
	server, err := net.Dial("unix", n.server)
	if err != nil {
		return
	}
	defer server.Close()
	go n.pipe(client, server, false)
	n.pipe(server, client, true)
}

func (n *network) pipe(to, from net.Conn, fromClient bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 1<<16)
	for {
		k, err := from.Read(buf)
		if err != nil {
			return
		}
		n.mu.Lock()
		lost := n.lose != nil && n.lose(fromClient, buf[:k])
		n.mu.Unlock()
		if lost {
			return
		}
		if _, err := to.Write(buf[:k]); err != nil {
			return
		}
	}
}

func (n *network) set(down bool, lose func(bool, []byte) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down, n.lose = down, lose
}

var commit = []byte("COMMIT;\x00")

func TestCommitOverABrokenConnection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose     func(breaks func()) func(fromClient bool, data []byte) bool
		stays    bool // the server stays away afterwards
		runs     int  // of the transaction
		happened int64
		want     error
	}{
		"whose COMMIT was lost on its way there runs it again": {
			lose: func(breaks func()) func(bool, []byte) bool {
				return func(fromClient bool, data []byte) bool {
					lost := fromClient && bytes.Contains(data, commit)
					if lost {
						breaks()
					}
					return lost
				}
			}, runs: 2, happened: 1,
		},
		"whose answer was lost on its way back does not run it again": {
			lose: func(breaks func()) func(bool, []byte) bool {
				sent := false
				return func(fromClient bool, data []byte) bool {
					if fromClient && bytes.Contains(data, commit) {
						sent = true
					} else if !fromClient && sent {
						breaks()
						return true
					}
					return false
				}
			}, runs: 1, happened: 1,
		},
		"to a server that stays away is neither done nor not done": {
			lose: func(breaks func()) func(bool, []byte) bool {
				sent := false
				return func(fromClient bool, data []byte) bool {
					if fromClient && bytes.Contains(data, commit) {
						sent = true
					} else if !fromClient && sent {
						breaks()
						return true
					}
					return false
				}
			}, stays: true, runs: 1, happened: 1, want: db.ErrUnknownOutcome,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct, raw := setup(t, dbtest.Postgres)
			n, over := between(t, raw)
			d := open(t, over)
			runs := 0
			write := func() error {
				return d.Write(t.Context(), func(tx *db.Tx) error {
					runs++
					return bump(tx, "a", "b")
				})
			}
			n.set(false, c.lose(func() { n.down, n.lose = c.stays, nil }))
			if err := write(); !errors.Is(err, c.want) || c.want != nil && fault.KindOf(err) != fault.Unavailable {
				t.Errorf("%v, want %v", err, c.want)
			}
			if got := count(t, direct, `SELECT n FROM wide WHERE k = 'a'`); runs != c.runs || got != c.happened {
				t.Errorf("ran %d times and happened %d times, want %d and %d", runs, got, c.runs, c.happened)
			}
			n.set(false, nil)
			if err := write(); err != nil {
				t.Errorf("with the network up again: %v", err)
			}
			if got := count(t, direct, `SELECT n FROM wide WHERE k = 'a'`); got != c.happened+1 {
				t.Errorf("happened %d times with another one after it, want %d", got, c.happened+1)
			}
		})
	}
}

func TestWriteOverABrokenConnectionRunsAgain(t *testing.T) {
	t.Parallel()
	direct, raw := setup(t, dbtest.Postgres)
	n, over := between(t, raw)
	d := open(t, over)
	runs := 0
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		if runs++; runs == 1 {
			if err := bump(tx, "a", "b"); err != nil { // on the server, which holds its locks from now on
				return err
			}
			n.set(false, func(bool, []byte) bool { n.lose = nil; return true })
		}
		return bump(tx, "a", "b")
	})
	if got := count(t, direct, `SELECT n FROM wide WHERE k = 'a'`); err != nil || runs != 2 || got != 1 {
		t.Errorf("%v; ran %d times and happened %d times, want 2 and 1", err, runs, got)
	}
}

// together lets two transactions meet: the first run of each waits for the other's.
func together() func() {
	var wait sync.WaitGroup
	wait.Add(2)
	return func() {
		wait.Done()
		wait.Wait()
	}
}

// both runs a write on two processes at once; f gets the number of the process and of the run.
func both(t *testing.T, f func(tx *db.Tx, process, run int) error) (runs [2]int, errs [2]error, d *db.DB) {
	t.Helper()
	d, raw := setup(t, dbtest.Postgres)
	write(t, d, `INSERT INTO wide (k, n, s) VALUES ('a', 0, ''), ('b', 0, '')`)
	var wait sync.WaitGroup
	for i, p := range []*db.DB{d, open(t, raw)} {
		wait.Go(func() {
			errs[i] = p.Write(context.Background(), func(tx *db.Tx) error {
				runs[i]++
				return f(tx, i, runs[i])
			})
		})
	}
	wait.Wait()
	return runs, errs, d
}

func TestADeadlockRunsOneOfTheTwoAgain(t *testing.T) {
	t.Parallel()
	meet := together()
	runs, errs, d := both(t, func(tx *db.Tx, process, run int) error {
		for n, k := range []string{"ab", "ba"}[process] {
			if n == 1 && run == 1 {
				meet()
			}
			if _, err := tx.Exec(`UPDATE wide SET n = n + 1 WHERE k = $1`, string(k)); err != nil {
				return err
			}
		}
		return nil
	})
	// The one that runs again may be back at its first row before the other, which waits for that row, has woken up: then they meet again.
	if errs[0] != nil || errs[1] != nil || runs[0]+runs[1] < 3 {
		t.Errorf("%v, ran %v times; want one of them again", errs, runs)
	}
	if n := count(t, d, `SELECT min(n) + max(n) FROM wide`); n != 4 {
		t.Errorf("both rows together were written %d times, want 4", n)
	}
}

func TestARowThatAnotherProcessMadeMeanwhileIsFound(t *testing.T) {
	t.Parallel()
	meet := together()
	var found [2]bool
	runs, errs, d := both(t, func(tx *db.Tx, process, run int) error {
		found[process] = false
		err := tx.QueryWide(`SELECT k, n, s FROM wide WHERE k IN (list) ORDER BY k FOR UPDATE`, []any{"new"}, func(*sql.Rows) error {
			found[process] = true
			return nil
		})
		if err != nil || found[process] {
			return err
		}
		if run == 1 {
			meet()
		}
		return tx.ExecWide(`INSERT INTO wide (k, n, s) VALUES (rows)`, 3, []any{"new", 7, ""})
	})
	if errs[0] != nil || errs[1] != nil || runs[0]+runs[1] != 3 || found[0] == found[1] {
		t.Errorf("%v, ran %v times, found %v; want one of them twice, and to find it", errs, runs, found)
	}
	if n := count(t, d, `SELECT count(*) FROM wide WHERE k = 'new'`); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

func TestAKeyThatIsTakenForGoodIsAnError(t *testing.T) {
	t.Parallel()
	d, _ := setup(t, dbtest.Postgres)
	write(t, d, `INSERT INTO wide (k, n, s) VALUES ('a', 0, '')`)
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO wide (k, n, s) VALUES ('a', 0, '')`)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "duplicate key") {
		t.Errorf("%v, want the duplicate key", err)
	}
}

func TestLockedRowsKeepOtherProcessesOut(t *testing.T) {
	t.Parallel()
	meet := together()
	_, errs, d := both(t, func(tx *db.Tx, _, run int) error {
		if run == 1 {
			meet()
		}
		// Read, compute, write: without the lock, one of the two gets lost.
		var n int64
		err := tx.QueryWide(`SELECT n FROM wide WHERE k IN (list) ORDER BY k FOR UPDATE`, []any{"a"}, func(rows *sql.Rows) error {
			return rows.Scan(&n)
		})
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE wide SET n = $1 WHERE k = 'a'`, n+1)
		return err
	})
	if n := count(t, d, `SELECT n FROM wide WHERE k = 'a'`); errs[0] != nil || errs[1] != nil || n != 2 {
		t.Errorf("%v, and the row was written %d times, want 2", errs, n)
	}
}

// PostgreSQL gives a transaction up at its first error, and answers COMMIT with a rollback and no error.
func TestAnErrorThatATransactionKeepsToItselfFailsIt(t *testing.T) {
	t.Parallel()
	d, _ := setup(t, dbtest.Postgres)
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO pair_a (id, text) VALUES ('a', '')`); err != nil {
			return err
		}
		_, _ = tx.Exec(`INSERT INTO pair_b (id, text) VALUES ('a', 'refused')`)
		return nil
	})
	if n := count(t, d, `SELECT count(*) FROM pair_a`); err == nil || !strings.Contains(err.Error(), "check constraint") || n != 0 {
		t.Errorf("%v, and %d rows; want the refusal and none", err, n)
	}
}

func TestATextThatCannotBeStoredIsInvalid(t *testing.T) {
	t.Parallel()
	d, _ := setup(t, dbtest.Postgres)
	for _, text := range []string{"a\x00b", "a\xffb"} {
		err := d.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(`INSERT INTO pair_a (id, text) VALUES ('a', $1)`, text)
			return err
		})
		if fault.Of(err).Code != "invalid_text" || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v, want invalid_text", text, err)
		}
	}
}

func TestReadersComeBackAfterTheirSessionsWereKilled(t *testing.T) {
	t.Parallel()
	d, raw := setup(t, dbtest.Postgres)
	killer := dbtest.Raw(t, raw)
	for name, read := range map[string]func() error{
		"QueryRow": func() error {
			var n int
			return d.QueryRow(t.Context(), `SELECT 1`).Scan(&n)
		},
		"Query": func() error {
			rows, err := d.Query(t.Context(), `SELECT 1`)
			if err == nil {
				rows.Close()
			}
			return err
		},
		"Read": func() error {
			return d.Read(t.Context(), func(tx *sql.Tx) error {
				var n int
				return tx.QueryRow(`SELECT 1`).Scan(&n)
			})
		},
	} {
		for range 5 {
			if err := read(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := killer.Exec(`SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()`); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestALeaseBelongsToOneProcess(t *testing.T) {
	t.Parallel()
	d, raw := setup(t, dbtest.Postgres)
	other := open(t, raw)
	take := func(d *db.DB, name string) *db.Lease {
		t.Helper()
		l, err := d.Lease(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := take(d, "relay")
	if first == nil || !first.Held(t.Context()) {
		t.Fatal("a free lease was not given")
	}
	if take(other, "relay") != nil {
		t.Error("given to two")
	}
	if take(other, "inbox") == nil {
		t.Error("a lease of another name was not given")
	}
	first.Release()
	first.Release()
	if first.Held(t.Context()) {
		t.Error("held after its release")
	}
	second := take(other, "relay")
	if second == nil {
		t.Fatal("not given after its release")
	}
	// The process dies, or is cut off: the server ends its sessions.
	admin := dbtest.Raw(t, raw)
	if _, err := admin.Exec(`SELECT pg_terminate_backend(pid, 10000) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND usename = current_user`); err != nil {
		t.Fatal(err)
	}
	third := take(d, "relay")
	if third == nil || second.Held(t.Context()) || !third.Held(t.Context()) {
		t.Error("not passed on when its holder was cut off")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if take(other, "relay") == nil {
		t.Error("not given after its holder closed the database")
	}
	if _, err := d.Lease(t.Context(), "relay"); err == nil {
		t.Error("a closed database gave a lease")
	}
}
