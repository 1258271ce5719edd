package main

import (
	"bufio"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// row is a line of the table: a series, or its ratio to another, and what it should be.
type row struct {
	what, part string
	of, to     string  // series; to "" is a figure of its own
	least, aim float64 // 0: none is set
	atMost     bool    // less is better
	more       string  // what a reader has to know
}

var table = []row{
	{what: "one process, SQLite, 1 SKU / floor", part: "process", of: one1, to: floor, least: 0.30, aim: 0.50},
	{what: "one process, SQLite, 1,000 SKUs / floor", part: "process", of: one1000, to: floor, least: 0.30, aim: 0.50},
	{what: "one process, SQLite, 1 SKU / Node.js pair in memory", part: "process", of: one1, to: nodePair, least: 7},
	{what: "one process, SQLite, 1,000 SKUs / Node.js pair in memory", part: "process", of: one1000, to: nodePair, least: 7},
	{what: "one process / SQLite alone, transactions of 64", part: "process", of: one1000, to: group64, more: "an order is three writes in two databases, and here one of three rows"},
	{what: "paid / free orders", part: "process", of: paid, to: one1000, least: 0.50, aim: 0.70},
	{what: "hot SKU / 1,000 SKUs", part: "process", of: one1, to: one1000, least: 0.90, aim: 1},
	{what: "refusals after sold out, without keys / floor", part: "process", of: refusals, to: floor, least: 0.60, aim: 0.80},
	{what: "order by id / floor", part: "process", of: byID, to: floor, least: 0.60},
	{what: "order list page (50) / floor", part: "process", of: listPage, to: floor, least: 0.25},
	{what: "13-line / 1-line orders", part: "process", of: lines13, to: one1000, least: 0.50},
	{what: "three processes, gRPC / one process", part: "topologies", of: threeGRPC, to: alone, least: 0.50, aim: 0.70},
	{what: "three processes, REST / one process", part: "topologies", of: threeREST, to: alone},
	{what: "two replicas of Inventory on PostgreSQL / one process on SQLite", part: "topologies", of: replicas, to: alone},
	{what: "PostgreSQL, two replicas of Inventory: hot SKU / 1,000 SKUs", part: "topologies", of: replicas1, to: replicas, least: 0.80, aim: 1},
	{what: "PostgreSQL, one process, 1 SKU / pgbench", part: "postgres", of: pg1, to: hotRow, least: 1, aim: 2},
	{what: "PostgreSQL, one process, 1,000 SKUs / pgbench", part: "postgres", of: pg1000, to: hotRow, least: 1, aim: 2},
	{what: "grown / nothing stored", part: "growth", of: grown, to: empty, least: 0.90, aim: 1},
	{what: "list page (50), grown / nothing stored", part: "growth", of: "list page (50), grown", to: "list page (50), nothing stored"},
	{what: "files, KB an order", part: "growth", of: perOrder, atMost: true},
	{what: "p99 at half of the top rate, ms", part: "latency", of: half, least: 10, aim: 5, atMost: true, more: "from when an order was due"},
	{what: "replay at concurrency 64 / one-line orders", part: "replay", of: replayed, to: onelined, least: 0.40},
	{what: "start to /health 200, ms", part: "footprint", of: started, least: 50, aim: 20, atMost: true},
	{what: "idle memory, one process, MB", part: "footprint", of: idleOne, least: 30, atMost: true},
	{what: "idle memory, one service, MB", part: "footprint", of: idleInv, least: 20, atMost: true},
	{what: "memory under full load, MB", part: "process", of: full, least: 150, atMost: true, more: "after all loads on one process"},
	{what: "events: from the change to a consumer, p99, ms", part: "latency", of: events, least: 50, aim: 10, atMost: true, more: "counted from before the change is durable"},
}

// value is the median of a row, with the least and the most of the rounds; of a ratio that of the medians, and of each round's own.
func (b *bench) value(r row) (v, low, high float64, ok bool) {
	of := b.samples[r.of]
	if of == nil || len(of.values) == 0 {
		return 0, 0, 0, false
	}
	if r.to == "" {
		return median(of.values), slices.Min(of.values), slices.Max(of.values), true
	}
	to := b.samples[r.to]
	if to == nil || len(to.values) == 0 {
		return 0, 0, 0, false
	}
	var each []float64
	for i := range min(len(of.values), len(to.values)) {
		each = append(each, of.values[i]/to.values[i])
	}
	return median(of.values) / median(to.values), slices.Min(each), slices.Max(each), true
}

// reached says how a value stands to its targets.
func (r row) reached(v float64) string {
	good := func(target float64) bool { return r.atMost && v <= target || !r.atMost && v >= target }
	switch {
	case r.least == 0:
		return ""
	case r.aim != 0 && good(r.aim):
		return "aim"
	case good(r.least):
		return "yes"
	}
	return "**no**"
}

// figure writes a number with three digits that count.
func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case math.Abs(v) >= 1000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.*f", max(0, 2-int(math.Floor(math.Log10(math.Abs(v))))), v)
}

func target(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%g", v)
}

// report is the table, and what it is made of, as Markdown.
func (b *bench) report(began time.Time) string {
	var w strings.Builder
	fmt.Fprintf(&w, "# Results\n\nWritten by `make bench` ([what it does](README.md)) on %s in %s.\n\n", began.UTC().Format("2006-01-02 15:04 UTC"), time.Since(began).Round(time.Second))
	fmt.Fprintf(&w, "%s; %d rounds, %v each measurement, %d connections, the client on the same CPUs. ", machine(), b.rounds, b.options.time, b.connections)
	sold := "those of the demo's week"
	if b.sales != "" {
		sold = "those in " + filepath.Base(b.sales)
	}
	fmt.Fprintf(&w, "The database that has grown has %d orders and %d SKUs; the sales that are replayed are %s.\n\n", b.orders, b.skus, sold)
	if b.quick {
		w.WriteString("**This was a quick run, to see that all works: its figures say little.**\n\n")
	}
	w.WriteString("| what | median | of the rounds | at least, or at most | aim | reached |\n|---|---|---|---|---|---|\n")
	for _, r := range table {
		what := r.what
		if r.more != "" {
			what += " (" + r.more + ")"
		}
		v, low, high, ok := b.value(r)
		if !ok {
			fmt.Fprintf(&w, "| %s | not measured: %s | | %s | %s | |\n", what, b.why(r), target(r.least), target(r.aim))
			continue
		}
		fmt.Fprintf(&w, "| %s | %s | %s to %s | %s | %s | %s |\n", what, figure(v), figure(low), figure(high), target(r.least), target(r.aim), r.reached(v))
	}
	w.WriteString("\n## What it is made of\n\n| | min | median | max | p50 ms | p99 ms | not served |\n|---|---|---|---|---|---|---|\n")
	for _, name := range b.order {
		s := b.samples[name]
		if len(s.values) == 0 {
			continue
		}
		p50, p99, bad := "", "", ""
		if len(s.p50) > 0 {
			p50, p99, bad = figure(median(s.p50)), figure(median(s.p99)), fmt.Sprint(s.unserved)
		}
		for _, outcome := range slices.Sorted(maps.Keys(s.outcomes)) {
			bad += fmt.Sprintf(", %d %s", s.outcomes[outcome], outcome)
		}
		fmt.Fprintf(&w, "| %s, %s | %s | %s | %s | %s | %s | %s |\n", name, s.unit, figure(slices.Min(s.values)), figure(median(s.values)), figure(slices.Max(s.values)), p50, p99, bad)
	}
	w.WriteString("\n## What verify says\n\n")
	for _, v := range b.verdict {
		fmt.Fprintf(&w, "- %s\n", v)
	}
	return w.String()
}

// why says why a row was not measured.
func (b *bench) why(r row) string {
	for _, name := range []string{r.of, r.to, r.part} {
		if why := b.missing[name]; why != "" {
			return strings.ReplaceAll(strings.SplitN(why, "\n", 2)[0], "|", "/")
		}
	}
	return "its part ended before"
}

// machine is where the table comes from: ratios may be compared between machines, and figures with care.
func machine() string {
	said := []string{fmt.Sprintf("%d CPUs", runtime.NumCPU())}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				said[0] += " (" + strings.TrimSpace(value) + ")"
				break
			}
		}
	}
	said = append(said, runtime.Version())
	for _, c := range [][]string{{"uname", "-sr"}, {"node", "--version"}, {"postgres", "--version"}} {
		if out, err := exec.Command(c[0], c[1:]...).Output(); err == nil {
			said = append(said, strings.TrimPrefix(c[0]+" "+strings.TrimPrefix(strings.TrimSpace(string(out)), "postgres "), "uname "))
		}
	}
	return strings.Join(said, ", ")
}

// quantile is by the nearest rank.
func quantile(values []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}
