package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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
	brokerEnv = "BROKER"
)

// program is the path of the real thing, built for the lab. Beside it are the programs of one context each.
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
	if err := stage.Compile(root, dir, "./cmd/...", flags...); err != nil {
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

// each is how far the seeds of two rounds of a test are from each other.
const each = 100

// rounds runs a test that many times, or in the long form until its time is over, with a number that is another each time.
func rounds(t *testing.T, first uint64, least int, f func(t *testing.T, number uint64)) {
	for n := 0; n < least || time.Since(report.Began) < long() && !t.Failed(); n++ {
		t.Run(fmt.Sprint("round_", n), func(t *testing.T) { f(t, first+uint64(n)*each) })
	}
}

// TestOneProcess is what "orderkeep serve" starts, on SQLite.
func TestOneProcess(t *testing.T) {
	t.Parallel()
	length := 6 * time.Second
	if whole() {
		length = 20 * time.Second
	}
	rounds(t, 1, 1, func(t *testing.T, number uint64) {
		w := oneProcess(t, begin(t, "One process", "One process with all contexts on SQLite", number))
		w.run(func(ctx context.Context, chance *rand.Rand) {
			w.happen(ctx, plan(chance, length, append(w.fullDisks(4*time.Second), w.kills(time.Second), w.weather(time.Second), w.clocks(3*time.Second, time.Hour))))
		})
	})
}

// apart is what split is called in the report.
func apart(with string) string {
	return "The programs orders, twice, inventory and payments, on PostgreSQL, " + map[string]string{"nats": "NATS", "rabbitmq": "RabbitMQ"}[with] + " and Redis"
}

type turn struct {
	broker string
	length time.Duration
}

// splits are the rounds of the split lab: with which broker, and for how long. RabbitMQ has what is its own, and less time.
var splits = []turn{{"nats", 30 * time.Second}, {"rabbitmq", 15 * time.Second}}

// TestSplit is each context as the program of its own, and every way between them bad; once with each broker, or all the time with the one that is set.
func TestSplit(t *testing.T) {
	t.Parallel()
	if !whole() {
		t.Skip("make faults runs it: it needs PostgreSQL, Redis and RabbitMQ, and takes minutes")
	}
	turns := splits
	if only := os.Getenv(brokerEnv); only != "" {
		turns = slices.DeleteFunc(slices.Clone(splits), func(s turn) bool { return s.broker != only })
		if len(turns) == 0 {
			t.Fatalf("%s is %q, and the lab knows nats and rabbitmq", brokerEnv, only)
		}
	}
	rounds(t, 2, len(turns), func(t *testing.T, number uint64) {
		now := turns[number/each%uint64(len(turns))]
		w := split(t, begin(t, "Split", apart(now.broker), number), now.broker)
		w.run(func(ctx context.Context, chance *rand.Rand) {
			w.happen(ctx, plan(chance, now.length, []fault{
				w.kills(3 * time.Second), w.weather(time.Second), w.restarts(6 * time.Second),
				w.clocks(6*time.Second, 20*time.Second), // a lease of a wrong clock is waited for
				w.overdue(8 * time.Second),
			}))
		})
	})
}
