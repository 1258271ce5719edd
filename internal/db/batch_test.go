package db_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// pair is a command that writes one row into each of two tables.
type pair struct {
	id, text string
	fails    error
	panics   bool
	answer   string
}

// pairs is a batcher of pairs that notes how they were batched. A pair with the id "gate" keeps its transaction open until
// the gate is opened.
type pairs struct {
	*db.Batcher[*pair]
	gate    chan struct{}
	mu      sync.Mutex
	batches [][]string
}

func newPairs(d *db.DB) *pairs {
	p := &pairs{gate: make(chan struct{})}
	p.Batcher = db.NewBatcher(d, p.apply)
	return p
}

func (p *pairs) apply(tx *db.Tx, all []*pair) error {
	var ids []string
	for _, c := range all {
		c.answer = ""
		ids = append(ids, c.id)
	}
	p.mu.Lock()
	p.batches = append(p.batches, ids)
	p.mu.Unlock()
	for _, c := range all {
		if c.id == "gate" {
			<-p.gate
			continue
		}
		for _, insert := range []string{`INSERT INTO pair_a (id, text) VALUES ($1, $2)`, `INSERT INTO pair_b (id, text) VALUES ($1, $2)`} {
			if _, err := tx.Exec(insert, c.id, c.text); err != nil {
				return err
			}
		}
		if c.panics {
			panic("a bug")
		}
		if c.fails != nil {
			return c.fails
		}
		c.answer = "stored " + c.id
	}
	return nil
}

// held is what became of commands that queued up behind a transaction.
type held struct {
	wait sync.WaitGroup
	errs []error
}

// hold keeps a transaction open and queues the commands behind it, in order, in the test's bubble.
func (p *pairs) hold(t testing.TB, commands ...*pair) *held {
	t.Helper()
	h := &held{errs: make([]error, len(commands)+1)}
	for i, c := range append([]*pair{{id: "gate"}}, commands...) {
		h.wait.Go(func() { h.errs[i] = p.Do(context.Background(), c) })
		synctest.Wait()
	}
	return h
}

// release lets the transaction end and returns the errors of the commands.
func (p *pairs) release(t testing.TB, h *held) []error {
	t.Helper()
	close(p.gate)
	h.wait.Wait()
	if h.errs[0] != nil {
		t.Fatal(h.errs[0])
	}
	return h.errs[1:]
}

func TestBatcherSharesATransactionAndAnswersEachCaller(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			d, _ := setup(t, e)
			p := newPairs(d)
			defer p.Close()
			commands := []*pair{{id: "a"}, {id: "b"}, {id: "c"}}
			errs := p.release(t, p.hold(t, commands...))
			for i, c := range commands {
				if errs[i] != nil || c.answer != "stored "+c.id {
					t.Errorf("%s: %v, answer %q", c.id, errs[i], c.answer)
				}
			}
			if diff := cmp.Diff([][]string{{"gate"}, {"a", "b", "c"}}, p.batches); diff != "" {
				t.Errorf("transactions (-want +got):\n%s", diff)
			}
		})
	})
}

func TestBatcherLetsOneCommandFailAlone(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		sold := fault.New(fault.Conflict, "out_of_stock", "x")
		away := fault.New(fault.Unavailable, "peer_unavailable", "x")
		for name, c := range map[string]struct {
			bad  *pair
			says string
		}{
			"by its own refusal":                       {&pair{fails: sold}, "out_of_stock"},
			"by a refusal of the kind that disks have": {&pair{fails: away}, "peer_unavailable"},
			"by a check of the database":               {&pair{text: "refused"}, "check constraint"},
			"by a panic":                               {&pair{panics: true}, "panic in a transaction: a bug"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					d, _ := setup(t, e)
					p := newPairs(d)
					defer p.Close()
					c.bad.id = "bad"
					good, better := &pair{id: "good"}, &pair{id: "better"}
					errs := p.release(t, p.hold(t, good, c.bad, better))
					if errs[0] != nil || errs[2] != nil || good.answer != "stored good" || better.answer != "stored better" {
						t.Errorf("the neighbours: %v and %v, answers %q and %q", errs[0], errs[2], good.answer, better.answer)
					}
					if errs[1] == nil || !strings.Contains(strings.ToLower(errs[1].Error()), c.says) || c.bad.answer != "" {
						t.Errorf("the bad one: %v, answer %q; want an error with %q", errs[1], c.bad.answer, c.says)
					}
					for _, table := range []string{"pair_a", "pair_b"} {
						if n := count(t, d, `SELECT sum(CASE id WHEN 'bad' THEN 100 ELSE 1 END) FROM `+table); n != 2 {
							t.Errorf("%s sums to %d, want the 2 good ones", table, n)
						}
					}
				})
			})
		}
	})
}

func TestBatcherIsBusyWhenItsQueueIsFull(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			d, _ := setup(t, e)
			p := newPairs(d)
			defer p.Close()
			h := p.hold(t)
			const room = 4096
			var stored atomic.Int64
			for n := range room {
				h.wait.Go(func() {
					if p.Try(context.Background(), &pair{id: fmt.Sprint(n)}) == nil {
						stored.Add(1)
					}
				})
			}
			synctest.Wait()
			if err := p.Try(context.Background(), &pair{id: "one too many"}); !errors.Is(err, db.ErrBusy) || fault.KindOf(err) != fault.Unavailable {
				t.Errorf("Try on a full queue: %v, want %v", err, db.ErrBusy)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var impatient error
			h.wait.Go(func() { impatient = p.Do(ctx, &pair{id: "impatient"}) })
			h.wait.Go(func() {
				if p.Do(context.Background(), &pair{id: "patient"}) == nil {
					stored.Add(1)
				}
			})
			synctest.Wait()
			cancel()
			synctest.Wait()
			if !errors.Is(impatient, context.Canceled) {
				t.Errorf("Do that waited for room until its context ended: %v, want %v", impatient, context.Canceled)
			}
			p.release(t, h)
			if n := count(t, d, `SELECT count(*) FROM pair_a WHERE id NOT IN ('impatient', 'one too many')`); n != room+1 || stored.Load() != n {
				t.Errorf("%d stored and %d told so, want %d", n, stored.Load(), room+1)
			}
			if n := count(t, d, `SELECT count(*) FROM pair_a`); n != room+1 {
				t.Errorf("%d stored in all: one that was refused is among them", n)
			}
		})
	})
}

func TestBatcherLetsACallerGoWhileItsCommandWaits(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			d, _ := setup(t, e)
			p := newPairs(d)
			defer p.Close()
			h := p.hold(t)
			ctx, cancel := context.WithCancel(t.Context())
			var err error
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				err = p.Do(ctx, &pair{id: "a"})
			}()
			synctest.Wait()
			cancel()
			<-gone // while the transaction before it is still open
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want %v", err, context.Canceled)
			}
			p.release(t, h)
		})
	})
}

func TestBatcherFinishesItsQueueWhenItCloses(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			d, _ := setup(t, e)
			p := newPairs(d)
			var commands []*pair
			for n := range 300 { // more than one batch
				commands = append(commands, &pair{id: fmt.Sprint(n)})
			}
			h := p.hold(t, commands...)
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				p.Close()
			}()
			synctest.Wait()
			for name, send := range map[string]func(context.Context, *pair) error{"Do": p.Do, "Try": p.Try} {
				if err := send(context.Background(), &pair{id: "late"}); !errors.Is(err, db.ErrClosed) {
					t.Errorf("%s while closing: %v, want %v", name, err, db.ErrClosed)
				}
			}
			if err := errors.Join(p.release(t, h)...); err != nil {
				t.Error(err)
			}
			<-closed
			p.Close() // again does nothing
			if n := count(t, d, `SELECT count(*) FROM pair_b`); n != 300 {
				t.Errorf("%d stored, want 300", n)
			}
			var sizes []int
			for _, b := range p.batches {
				sizes = append(sizes, len(b))
			}
			if !slices.Equal(sizes, []int{1, 256, 44}) {
				t.Errorf("transactions of %v commands, want 1, 256 and 44", sizes)
			}
		})
	})
}

func TestWriteAfterAPanicFindsNoTransactionOpen(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, _ := setup(t, e)
		err := d.Write(t.Context(), func(tx *db.Tx) error {
			if _, err := tx.Exec(`INSERT INTO pair_a (id, text) VALUES ('a', '')`); err != nil {
				return err
			}
			panic("a bug")
		})
		if err == nil || !strings.Contains(err.Error(), "a bug") {
			t.Errorf("%v, want an error that tells of the panic", err)
		}
		write(t, d, `INSERT INTO pair_a (id, text) VALUES ('b', '')`)
		if n := count(t, d, `SELECT count(*) FROM pair_a WHERE id = 'a'`); n != 0 {
			t.Error("what the panic left half done is there")
		}
	})
}

// The disk is full while callers write: each learns it as disk_full, what was answered is there, nothing is there by half, and
// once there is space the service goes on without a restart.
func TestAFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	d, url := setup(t, dbtest.SQLite)
	p := newPairs(d)
	defer p.Close()
	limit := func(pages int64) {
		t.Helper()
		err := d.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	store := func(from, to int) (stored map[string]bool, full int) {
		stored = map[string]bool{}
		var mu sync.Mutex
		var wait sync.WaitGroup
		for w := range 8 {
			wait.Go(func() {
				for n := from + w; n < to; n += 8 {
					id := fmt.Sprint(n)
					err := p.Do(context.Background(), &pair{id: id, text: strings.Repeat("x", 700)})
					mu.Lock()
					switch f := fault.Of(err); {
					case err == nil:
						stored[id] = true
					case f.Code == "disk_full" && f.Kind == fault.Unavailable:
						full++
					default:
						t.Errorf("%s: %v", id, err)
					}
					mu.Unlock()
				}
			})
		}
		wait.Wait()
		return stored, full
	}
	limit(count(t, d, `PRAGMA page_count`) + 40)
	before, full := store(0, 400)
	if len(before) == 0 || full == 0 {
		t.Fatalf("%d stored, %d times full: want some of each", len(before), full)
	}
	limit(1 << 30)
	after, full := store(1000, 1100)
	if len(after) != 100 || full != 0 {
		t.Errorf("with space again, %d of 100 stored", len(after))
	}
	p.Close()
	d.Close()
	d = open(t, url)
	for _, table := range []string{"pair_a", "pair_b"} {
		rows, err := d.Query(t.Context(), `SELECT id FROM `+table)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		n := 0
		for ; rows.Next(); n++ {
			var id string
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			if !before[id] && !after[id] {
				t.Errorf("%s has %s, which was not answered as stored", table, id)
			}
		}
		if n != len(before)+len(after) {
			t.Errorf("%s has %d rows, want %d", table, n, len(before)+len(after))
		}
	}
	if got := d.QueryRow(t.Context(), `PRAGMA integrity_check`); got != nil {
		var s string
		if err := got.Scan(&s); err != nil || s != "ok" {
			t.Errorf("integrity: %s, %v", s, err)
		}
	}
}

func BenchmarkBatcher(b *testing.B) {
	for _, e := range []dbtest.Engine{dbtest.SQLite, dbtest.Postgres} {
		b.Run(e.Name, func(b *testing.B) { benchmarkBatcher(b, e) })
	}
}

func benchmarkBatcher(b *testing.B, e dbtest.Engine) {
	d, _ := setup(b, e)
	var next atomic.Int64
	batcher := db.NewBatcher(d, func(tx *db.Tx, ids []string) error {
		args := make([]any, 0, 2*len(ids))
		for _, id := range ids {
			args = append(args, id, "text")
		}
		return tx.ExecWide(`INSERT INTO pair_a (id, text) VALUES (rows)`, 2, args)
	})
	defer batcher.Close()
	const callers = 64
	var wait sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range callers {
		wait.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if err := batcher.Do(context.Background(), fmt.Sprintf("%020d", n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
