// Command table measures Orderkeep on this machine, beside floors that it builds itself, and writes the table of what was reached: ratios that mean
// the same on other machines, and the targets beside them. It starts and ends all that it measures, and proves with verify that no speed was
// bought with a promise. It needs Go; without Node.js or PostgreSQL the rows that need them say so.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/orderkeep/orderkeep/bench/programs"
)

type options struct {
	rounds      int
	time        time.Duration // of one measurement
	connections int
	orders      int // that are stored in a grown database
	skus        int
	sales       string // directory of a shop's sales
	dir         string
	grown       string // data directory of a grown database that stays
	out         string
	only        string
	quick       bool
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "rounds; all that is compared is measured in each, in turn")
	flag.DurationVar(&o.time, "d", 5*time.Second, "how long each measurement takes")
	flag.IntVar(&o.connections, "c", 64, "connections")
	flag.IntVar(&o.orders, "orders", 1_000_000, "orders in the database that has grown; 10,000,000 take a quarter of an hour more")
	flag.IntVar(&o.skus, "skus", 100_000, "SKUs in it")
	flag.StringVar(&o.sales, "sales", os.Getenv("ORDERKEEP_SALES"), "directory of a shop's sales, NAME.csv.gz and NAME_stock.csv; without it the week of the demo is replayed")
	flag.StringVar(&o.dir, "dir", "", "where the databases are made; its disk is what is measured (default: the system's directory for temporary files)")
	flag.StringVar(&o.grown, "grown", "", "data directory of the database that has grown: it is filled up to -orders and kept, so that the next run finds it (default: one that is made for this run)")
	flag.StringVar(&o.out, "o", "", "write the table as Markdown into this file")
	flag.StringVar(&o.only, "only", "", "measure only these parts, separated by commas: "+strings.Join(partNames(), ", "))
	flag.BoolVar(&o.quick, "quick", false, "a few minutes: 1 s each, 50,000 orders. To see that all runs, and not for figures")
	flag.Parse()
	if o.quick {
		o.time, o.orders, o.skus = time.Second, 50_000, 10_000
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench/table:", err)
		os.Exit(1)
	}
}

// bench is a run of the table.
type bench struct {
	options
	ctx     context.Context
	dir     string
	samples map[string]*series
	order   []string          // of the series, as they were measured
	missing map[string]string // why parts were not measured, by name
	verdict []string          // of verify
	ended   []func()
}

// part is what is measured together. What is compared is in one part, so that a noisy neighbour shows in all of it.
type part struct {
	name string
	run  func(*bench) error
}

var parts = []part{
	{"process", (*bench).process},
	{"topologies", (*bench).topologies},
	{"postgres", (*bench).postgres},
	{"growth", (*bench).growth},
	{"latency", (*bench).latency},
	{"replay", (*bench).replay},
	{"footprint", (*bench).footprint},
}

func partNames() []string {
	var all []string
	for _, p := range parts {
		all = append(all, p.name)
	}
	return all
}

func run(ctx context.Context, o options) error {
	// One thread of requests: on a machine with two CPUs the other half is the server's. A quarter of a gigabyte of garbage costs no request its time.
	runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	debug.SetGCPercent(800)
	dir, err := os.MkdirTemp(o.dir, "okbench.") // short: the path of a socket is bounded
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, ctx: ctx, dir: dir, samples: map[string]*series{}, missing: map[string]string{}}
	began := time.Now()
	say("building")
	if err := programs.Build(dir, "cmd/orderkeep", "cmd/orders", "cmd/inventory", "cmd/payments", "bench/floor"); err != nil {
		return err
	}
	for _, p := range parts {
		if o.only != "" && !strings.Contains(","+o.only+",", ","+p.name+",") {
			b.missing[p.name] = "left out"
			continue
		}
		say("%s", p.name)
		err := p.run(b)
		b.end()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			say("%s: %v", p.name, err)
			b.missing[p.name] = err.Error()
		}
	}
	text := b.report(began)
	fmt.Print(text)
	if o.out != "" {
		if err := os.WriteFile(o.out, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

func (b *bench) bin(name string) string { return filepath.Join(b.dir, name) }

// at is a directory for the data of one program.
func (b *bench) at(name string) string {
	if name == "grown" && b.grown != "" {
		return b.grown
	}
	return filepath.Join(b.dir, "data", name)
}

// later is done when the part ends, also if it fails.
func (b *bench) later(f func()) { b.ended = append(b.ended, f) }

func (b *bench) end() {
	for i := len(b.ended) - 1; i >= 0; i-- {
		b.ended[i]()
	}
	b.ended = nil
}

// serve starts the one process with all contexts. It is stopped at the end of the part.
func (b *bench) serve(data string, settings ...string) (*programs.Program, error) {
	return b.start(settings, "orderkeep", "serve", "--for-tests", "--data", b.at(data), "--listen", "127.0.0.1:0")
}

func (b *bench) start(settings []string, name string, args ...string) (*programs.Program, error) {
	p, err := programs.Start(settings, b.bin(name), args...)
	if err == nil {
		b.later(func() { _ = p.Stop() }) // what it has to say, it has said where it was stopped on purpose
	}
	return p, err
}

// proven stops programs and lets verify look at what they have left.
func (b *bench) proven(what, data string, settings []string, all ...*programs.Program) error {
	for _, p := range all {
		if err := p.Stop(); err != nil {
			return fmt.Errorf("%s does not end well: %w", what, err)
		}
	}
	last, err := programs.Verify(settings, b.bin("orderkeep"), b.at(data))
	b.verdict = append(b.verdict, what+": "+last)
	return err
}
