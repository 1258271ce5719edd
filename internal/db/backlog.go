package db

import (
	"sync"
	"sync/atomic"
	"time"
)

// Backlog is how long a command that comes now would wait, besides for its own transaction. It is 0 unless many wait, and then
// the longer of two times:
//
//   - the transactions that begin before its own: those that are full already, at the time that one takes now. A queue that
//     fits into the next transaction makes that fuller, and nobody later;
//   - what the last commands waited at the least, before their transaction and to go on after it, and longer than one
//     transaction takes. Where the CPUs are what is short, the queue is not here, and this is where it shows.
//
// It goes by the commands of this process alone, and so by what it is short of itself: the disk, the database server, the CPUs. While
// a peer or a payment provider takes its time, nobody waits here.
func (b *Batcher[C]) Backlog() time.Duration {
	now := time.Since(b.base)
	transaction := b.pace.now(now)
	return max(0, time.Duration(len(b.queue)/b.size)*transaction, b.delay.now(now)-transaction)
}

// pace is the time of a transaction: the moving average of the last few, or the age of the one under way if that is longer, so
// that a database which hangs is noticed while it does.
type pace struct {
	average atomic.Int64 // nanoseconds
	since   atomic.Int64 // when the one under way began; idle between two
}

const idle = -1

// paceShare is the weight of the last transaction: four of them, some tens of milliseconds under load, are most of the average.
const paceShare = 4

func (p *pace) begin(at time.Duration) { p.since.Store(int64(at)) }

func (p *pace) end(at time.Duration) {
	took, was := p.since.Swap(idle), p.average.Load()
	took = int64(at) - took
	p.average.Store(was + (took-was)/paceShare)
}

func (p *pace) now(at time.Duration) time.Duration {
	average := time.Duration(p.average.Load())
	if since := p.since.Load(); since != idle {
		return max(average, at-time.Duration(since))
	}
	return average
}

// delay is the least that the commands of the last window waited. The least, because a queue that nobody gets past is one
// that stands, and a longest or a mean would tell of every pause of the machine.
type delay struct {
	mu          sync.Mutex
	from        time.Duration // when this window began
	n           int           // commands in it
	least, last time.Duration // of this window, and of the one before
}

const (
	// delayWindow is long enough for several transactions, and short enough for a crowd to be noticed before it is a second long.
	delayWindow = 100 * time.Millisecond
	// delayFew is fewer commands than a crowd: 640 a second are no load for the CPUs, and what delays them is a pause.
	delayFew = 64
)

// note counts one command.
func (d *delay) note(at, waited time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.roll(at)
	if d.n++; d.n == 1 || waited < d.least {
		d.least = waited
	}
}

func (d *delay) now(at time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.roll(at)
	return d.last
}

// roll begins a window if the last one is over. After a window without commands nothing is known of any delay.
func (d *delay) roll(at time.Duration) {
	if at-d.from < delayWindow {
		return
	}
	if d.last = 0; d.n >= delayFew && at-d.from < 2*delayWindow {
		d.last = d.least
	}
	d.from, d.n = at, 0
}
