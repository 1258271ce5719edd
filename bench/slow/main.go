// Command slow shows that slow is not down: what becomes of the orders that need no payment, and of reads, while thousands of
// others wait for a payment provider that takes its time. It starts the program on an empty directory, measures the one and then
// the other in the same run, prints the ratios, and lets verify look at what is left. It is part of the benchmark and of
// nothing else.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.orders, "n", 10_000, "paid orders in flight at once")
	flag.DurationVar(&o.slow, "slow", 2*time.Second, "how long the provider takes")
	flag.IntVar(&o.pace, "pace", 2500, "paid orders that are placed in a second until so many are in flight")
	flag.IntVar(&o.rate, "rate", 100, "free orders, and as many reads, in a second, which are measured")
	flag.DurationVar(&o.time, "d", 5*time.Second, "how long is measured without the others")
	flag.StringVar(&o.program, "program", "", "an orderkeep that is built already")
	flag.StringVar(&o.policies, "call-policy", "", "as serve has it; what is past its bounds is answered 202 at once, and does not wait")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench/slow:", err)
		os.Exit(1)
	}
}

type options struct {
	orders, pace, rate int
	slow, time         time.Duration
	program, policies  string
}

func run(o options) error {
	dir, err := os.MkdirTemp("", "orderkeep-slow.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.program == "" {
		if o.program, err = build(dir); err != nil {
			return err
		}
	}
	s, err := serve(o.program, filepath.Join(dir, "data"), o.policies)
	if err != nil {
		return err
	}
	defer s.stop()
	c := newClient(s.url, o.orders)
	if err := c.stock(); err != nil {
		return err
	}
	fmt.Printf("%d CPUs; %d free orders and %d reads a second; %d paid orders on a provider that takes %v\n", cpus(), o.rate, o.rate, o.orders, o.slow)
	c.measure(o.rate, 2*time.Second, nil) // warms up
	rss := s.resident()
	before := c.measure(o.rate, o.time, nil)

	f := fill(c, o)
	ramp := c.measure(o.rate, 0, f.full)
	top := s.resident()
	during := c.measure(o.rate, 0, f.thins)
	peak := s.resident()
	f.wait.Wait()

	table([]row{{"without them", before}, {"while they come in", ramp}, {"while they wait", during}})
	fmt.Printf("p99 while they wait to without them: free orders %.2f, reads %.2f\n", ratio(during.orders, before.orders), ratio(during.reads, before.reads))
	fmt.Printf("in flight: at most %d; answered: %s\n", f.most.Load(), f.answers())
	fmt.Printf("resident: %d MB before, %d MB when all were in flight, %d MB at the end of that: %.1f KB for each\n",
		rss>>20, top>>20, peak>>20, float64(max(top, peak)-rss)/1024/float64(max(1, f.most.Load())))
	if err := s.stop(); err != nil {
		return err
	}
	return verify(o.program, filepath.Join(dir, "data"))
}
