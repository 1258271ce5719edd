package db_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

func TestBacklogIsTheTimeOfTheTransactionsBefore(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		synctest.Test(t, func(t *testing.T) {
			d, _ := setup(t, e)
			p := newPairs(d)
			defer p.Close()
			h := p.hold(t)
			const size = 256
			queue := func(from, n int) {
				for i := range n {
					h.wait.Go(func() { _ = p.Do(t.Context(), &pair{id: fmt.Sprint(from + i)}) })
				}
				synctest.Wait()
			}
			queue(0, size-1)
			time.Sleep(time.Hour)
			if b := p.Backlog(); b != 0 {
				t.Errorf("with what fits into the next transaction: %v, want 0", b)
			}
			queue(size, 1)
			if b := p.Backlog(); b != time.Hour {
				t.Errorf("behind one that has been under way for an hour: %v", b)
			}
			queue(2*size, 2*size)
			if b := p.Backlog(); b != 3*time.Hour {
				t.Errorf("behind two more: %v", b)
			}
			p.release(t, h)
			// The hour has a part in the average, and there is no queue for it to matter in.
			if b := p.Backlog(); b != 0 {
				t.Errorf("with nothing in the queue: %v", b)
			}
		})
	})
}

func TestBacklogForgetsATransactionThatTookLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, _ := setup(t, dbtest.SQLite)
		p := newPairs(d)
		defer p.Close()
		h := p.hold(t)
		time.Sleep(time.Hour)
		p.release(t, h)
		for n := range 100 {
			if err := p.Do(t.Context(), &pair{id: fmt.Sprint("quick-", n)}); err != nil {
				t.Fatal(err)
			}
		}
		p.gate = make(chan struct{})
		h = p.hold(t)
		for n := range 256 {
			h.wait.Go(func() { _ = p.Do(t.Context(), &pair{id: fmt.Sprint(n)}) })
		}
		synctest.Wait()
		if b := p.Backlog(); b > time.Second {
			t.Errorf("after a hundred quick ones: %v", b)
		}
		p.release(t, h)
	})
}

func TestDelayIsTheLeastOfTheLastWindow(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		commands int
		least    time.Duration
		at, want time.Duration
	}{
		"a crowd in which all wait":        {64, 200 * ms, 110 * ms, 200 * ms},
		"one of whom waits for nothing":    {64, 0, 110 * ms, 0},
		"few, whom a pause of the machine": {63, 200 * ms, 110 * ms, 0},
		"a crowd that is not over yet":     {64, 200 * ms, 90 * ms, 0},
		"a crowd that has been gone":       {64, 200 * ms, 210 * ms, 0},
	} {
		var d db.Delay
		for n := range c.commands {
			waited := time.Second
			if n == c.commands/2 {
				waited = c.least
			}
			d.Note(time.Duration(n)*ms, waited)
		}
		if got := d.Now(c.at); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// What a Batcher notes is the wait for the transaction, and not the transaction's own time.
func TestBacklogLeavesOutTheTransactionItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, _ := setup(t, dbtest.SQLite)
		p := newPairs(d)
		defer p.Close()
		var commands []*pair
		for n := range 100 {
			commands = append(commands, &pair{id: fmt.Sprint(n)})
		}
		h := p.hold(t, commands...)
		time.Sleep(time.Second)
		p.release(t, h)
		time.Sleep(100 * time.Millisecond)
		// All but the first waited for a second, which the first one's transaction took; that one waited for nothing.
		if b := p.Backlog(); b != 0 {
			t.Errorf("%v, want 0", b)
		}
	})
}
