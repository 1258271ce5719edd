package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/test/stage"
	"github.com/rs/zerolog"
)

// Settings of the lab, by environment. CONTRIBUTING.md says what they do.
const (
	seedEnv   = "SEED"
	reportEnv = "REPORT"
	longEnv   = "LONG"
	wholeEnv  = "FAULTS"
)

// program is the path of the real thing, built for the lab. It runs any of its contexts, as the programs of one context do.
var program string

// report is of all runs of this process.
var report = goings{Report: Report{Began: time.Now(), Faults: map[string]int{}, Points: map[string]int{}, Orders: map[string]int{}}}

type goings struct {
	sync.Mutex
	Report
}

// expect names the crash points of the code, so that the report shows those to which no process came.
func (g *goings) expect(points []string) {
	g.Lock()
	defer g.Unlock()
	for _, name := range points {
		g.Points[name] += 0
	}
}

func TestMain(m *testing.M) {
	os.Exit(lab(m))
}

func lab(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	zerolog.SetGlobalLevel(zerolog.Disabled)          // the proxies tell of every packet
	report.Seed = uint64(time.Now().UnixNano()) % 1e9 // short enough to be typed again
	if text := os.Getenv(seedEnv); text != "" {
		var err error
		if report.Seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return fail(fmt.Errorf("%s: %w", seedEnv, err))
		}
	}
	dir, err := os.MkdirTemp("", "orderkeep")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "orderkeep")
	root, err := stage.Root()
	if err != nil {
		return fail(err)
	}
	flags := []string{"-tags", "faults", "-ldflags=-w"} // nobody debugs it, and so it links faster
	if err := stage.Compile(root, dir, "./cmd/orderkeep", flags...); err != nil {
		return fail(err)
	}
	code := m.Run()
	report.Seconds = time.Since(report.Began).Seconds()
	if out := os.Getenv(reportEnv); out != "" && len(report.Runs) > 0 {
		if err := report.Write(out); err != nil {
			return fail(err)
		}
	}
	return code
}

// whole reports whether all of the lab is to run, and not just the short form.
func whole() bool { return os.Getenv(wholeEnv) != "" || long() > 0 }

// restful bounds how long a system may take to come to rest. On PostgreSQL what was given up for a while waits for leases and pauses of
// up to a minute, one after the other; one process on SQLite takes it up at its start.
func restful() time.Duration {
	if whole() {
		return 3 * time.Minute
	}
	return time.Minute
}

// long is how long the long form goes on with new seeds: an hour, or the duration that is set. 0 is the form of minutes.
func long() time.Duration {
	text := os.Getenv(longEnv)
	if text == "" {
		return 0
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d
	}
	return time.Hour
}

// begin begins a run, whose seed comes of the lab's and its number.
func begin(t *testing.T, name, topology string, number uint64) *Run {
	t.Helper()
	seed := report.Seed + number
	t.Logf("%s=%d repeats the schedule, though not the instants", seedEnv, report.Seed)
	r := newRun(name, topology, seed)
	t.Cleanup(func() {
		report.Lock()
		defer report.Unlock()
		report.add(r)
		t.Logf("%d orders, %d holds, %d requests, %d of them without an answer, faults %v, violations %d", sum(r.Orders), r.Holds, r.Requests, r.Unanswered, r.Faults, len(r.Violations))
	})
	return r
}

func sum(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// rounds runs a test once, or in the long form until its time is over, with a number that is another each time.
func rounds(t *testing.T, first uint64, f func(t *testing.T, number uint64)) {
	for n := uint64(0); n == 0 || time.Since(report.Began) < long() && !t.Failed(); n++ {
		t.Run(fmt.Sprint("round_", n), func(t *testing.T) { f(t, first+n*100) })
	}
}

// TestOneProcess is what "orderkeep serve" starts, on SQLite.
func TestOneProcess(t *testing.T) {
	t.Parallel()
	length := 6 * time.Second
	if whole() {
		length = 20 * time.Second
	}
	rounds(t, 1, func(t *testing.T, number uint64) {
		w := oneProcess(t, begin(t, "One process", "One process with all contexts on SQLite", number))
		w.run(func(ctx context.Context, chance *rand.Rand) {
			w.happen(ctx, plan(chance, length, append(w.fullDisks(4*time.Second), w.kills(time.Second), w.weather(time.Second), w.clocks(3*time.Second, time.Hour))))
		})
	})
}

// apart is what split is called in the report.
const apart = "Orders twice, Inventory and Payments as processes of their own, on PostgreSQL, NATS and Redis"

// TestSplit is each context as processes of its own, and every way between them bad.
func TestSplit(t *testing.T) {
	t.Parallel()
	if !whole() {
		t.Skip("make faults runs it: it needs PostgreSQL and Redis, and takes a minute or two")
	}
	const length = 45 * time.Second
	rounds(t, 2, func(t *testing.T, number uint64) {
		w := split(t, begin(t, "Split", apart, number))
		w.run(func(ctx context.Context, chance *rand.Rand) {
			w.happen(ctx, plan(chance, length, []fault{
				w.kills(3 * time.Second), w.weather(time.Second), w.restarts(8 * time.Second),
				w.clocks(6*time.Second, 20*time.Second), // a lease of a wrong clock is waited for
			}))
		})
	})
}
