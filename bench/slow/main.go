// Command slow shows that slow is not down: what becomes of the orders that need no payment, and of reads, while thousands of
// others wait for a payment provider that takes its time. It starts the program on an empty directory, measures the one and
// the other in turn in the same run, prints the ratios and how far what should be equal differs, and lets verify look at what is left.
// It is part of the benchmark and of nothing else.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/bench/programs"
)

func main() {
	var o options
	flag.IntVar(&o.orders, "n", 10_000, "paid orders in flight at once")
	flag.DurationVar(&o.slow, "slow", 8*time.Second, "how long the provider takes; an order waits 10s for its end, with what it needs before the provider has it")
	flag.IntVar(&o.pace, "pace", 2500, "paid orders that are placed in a second until so many are in flight")
	flag.IntVar(&o.rate, "rate", 200, "free orders, and as many reads, in a second, which are measured")
	flag.DurationVar(&o.time, "d", 4*time.Second, "how long is measured without the others, before them and after them")
	flag.IntVar(&o.rounds, "rounds", 6, "how often the one and the other is measured")
	flag.StringVar(&o.program, "program", "", "an orderkeep that is built already")
	flag.StringVar(&o.policies, "call-policy", "simulated/Authorize timeout=9s", "as serve has it; what is past its bounds is answered 202 at once, and does not wait")
	flag.Parse()
	debug.SetGCPercent(-1) // this process holds the other ends of all that wait, and its own collector is not to be measured; a run takes a few hundred MB
	debug.SetMemoryLimit(2 << 30)
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench/slow:", err)
		os.Exit(1)
	}
}

type options struct {
	orders, pace, rate, rounds int
	slow, time                 time.Duration
	program, policies          string
}

func run(o options) error {
	dir, err := os.MkdirTemp("", "orderkeep-slow.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.program == "" {
		if err := programs.Build(dir, "cmd/orderkeep"); err != nil {
			return err
		}
		o.program = filepath.Join(dir, "orderkeep")
	}
	args := []string{"serve", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0"}
	if o.policies != "" {
		args = append(args, "--call-policy", o.policies)
	}
	s, err := programs.Start(nil, o.program, args...)
	if err != nil {
		return err
	}
	defer s.Stop()
	c := newClient(s.URL, o.orders)
	if err := c.stock(); err != nil {
		return err
	}
	fmt.Printf("%d CPUs; %d free orders and %d reads a second; %d paid orders on a provider that takes %v\n", runtime.NumCPU(), o.rate, o.rate, o.orders, o.slow)
	c.measure(o.rate, time.Now().Add(2*time.Second)) // warms up
	rss := s.Resident()
	without := []result{c.measure(o.rate, time.Now().Add(o.time))}
	var ramps, during []result
	var most, peak, first int64
	var answers []string
	for n := range o.rounds {
		began := time.Now()
		f := fill(c, o)
		ramps = append(ramps, c.measureUntil(o.rate, f.placed))
		waiting, err := c.settled(f)
		if err != nil {
			return err
		}
		if most = max(most, waiting); n == 0 {
			first = (s.Resident() - rss) / waiting
		}
		// The first of them come back when the provider's time is over for the first; what is asked by then has its answer before.
		during = append(during, c.measure(o.rate, began.Add(o.slow-lastAsked)))
		peak = max(peak, s.Resident())
		f.wait.Wait()
		answers = append(answers, f.answers())
		if err := c.idle(); err != nil {
			return err
		}
		without = append(without, c.measure(o.rate, time.Now().Add(o.time)))
	}

	base, wait := together(without), together(during)
	table([]row{{"without them", base}, {"while they come in", together(ramps)}, {"while they wait", wait}})
	fmt.Printf("p99 while they wait to without them, medians of the times: free orders %.2f, reads %.2f\n", ratio(during, without, orders), ratio(during, without, reads))
	fmt.Printf("p99 of each time without them, ms: free orders%s; reads%s\n", each(without, orders), each(without, reads))
	fmt.Printf("p99 of each time while they wait, ms: free orders%s; reads%s\n", each(during, orders), each(during, reads))
	fmt.Printf("at the provider at once: at most %d; answered: %s\n", most, strings.Join(answers, "; "))
	fmt.Printf("resident: %d MB before, %d MB at most, with the garbage of all rounds; %d KB for each when they first wait\n", rss>>20, peak>>20, first>>10)
	if err := s.Stop(); err != nil {
		return err
	}
	verdict, err := programs.Verify(nil, o.program, filepath.Join(dir, "data"))
	fmt.Println("verify:", verdict)
	return err
}

// lastAsked is how long before the first answer nothing is asked any more.
const lastAsked = 300 * time.Millisecond
