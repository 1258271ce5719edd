package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// step is a fault to come. What it says is what the report shows.
type step struct {
	at   time.Duration
	kind string
	says string
	do   func(context.Context)
}

// fault is a sort of faults: how often one comes, and how it is drawn.
type fault struct {
	every time.Duration // on average
	draw  func(chance *rand.Rand) (kind, says string, do func(context.Context))
}

// plan draws the faults of a time from the seed alone.
func plan(chance *rand.Rand, length time.Duration, faults []fault) (steps []step) {
	for _, f := range faults {
		n := max(1, int(length/f.every)) // each sort at least once
		for range n {
			kind, says, do := f.draw(chance)
			steps = append(steps, step{time.Duration(chance.Int64N(int64(length))), kind, says, do})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.at - b.at) })
	return steps
}

// happen lets the steps happen, each at its time, and returns when the last one has ended.
func (w *world) happen(ctx context.Context, steps []step) {
	var under sync.WaitGroup
	begun := time.Now()
	for _, s := range steps {
		w.report.Schedule = append(w.report.Schedule, fmt.Sprintf("%.2fs %s: %s", s.at.Seconds(), s.kind, s.says))
	}
	for _, s := range steps {
		pause(ctx, s.at-time.Since(begun))
		if ctx.Err() != nil {
			break
		}
		w.report.count(s.kind)
		under.Go(func() { s.do(ctx) })
	}
	under.Wait()
}

func between(chance *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(chance.Int64N(int64(most-least)))
}

// kills ends processes between any two instructions.
func (w *world) kills(every time.Duration) fault {
	return fault{every, func(chance *rand.Rand) (string, string, func(context.Context)) {
		n, down := w.nodes[chance.IntN(len(w.nodes))], between(chance, 0, 500*time.Millisecond)
		return "kill -9", fmt.Sprintf("%s, down for %v", n.name, down.Round(time.Millisecond)), func(context.Context) { w.kill(n, down) }
	}}
}

// Toxics come from here: slow, with jitter; nothing gets through, one way; cut; cut in the middle of something; a trickle; in small pieces.
func drawToxic(chance *rand.Rand) (kind string, x toxic) {
	x.Stream = []string{"upstream", "downstream"}[chance.IntN(2)]
	switch kind = []string{"delay", "drop", "cut", "cut halfway", "throttle", "slice"}[chance.IntN(6)]; kind {
	case "delay":
		ms := 20 + chance.IntN(400)
		x.Type, x.Attributes = "latency", map[string]any{"latency": ms, "jitter": ms / 2}
	case "drop":
		x.Type, x.Attributes = "timeout", map[string]any{"timeout": 0}
	case "cut":
		x.Type, x.Attributes = "reset_peer", map[string]any{"timeout": 0}
	case "cut halfway":
		x.Type, x.Attributes = "limit_data", map[string]any{"bytes": 100 + chance.IntN(20_000)}
	case "throttle":
		x.Type, x.Attributes = "bandwidth", map[string]any{"rate": 1 + chance.IntN(20)} // KB/s
	case "slice":
		x.Type, x.Attributes = "slicer", map[string]any{"average_size": 50, "size_variation": 20, "delay": 200} // µs
	}
	return kind, x
}

// weather hurts wires.
func (w *world) weather(every time.Duration) fault {
	return fault{every, func(chance *rand.Rand) (string, string, func(context.Context)) {
		e, lasts := w.edges[chance.IntN(len(w.edges))], between(chance, 100*time.Millisecond, 2*time.Second)
		kind, x := drawToxic(chance)
		return "wire: " + kind, fmt.Sprintf("%s for %v (%s)", e.name, lasts.Round(time.Millisecond), x), func(ctx context.Context) {
			e.once.Lock() // one at a time
			defer e.once.Unlock()
			e.hurt(w.t, x)
			pause(ctx, lasts)
			e.heal(w.t)
		}
	}}
}

// clocks lets clocks jump, forth and back, by as much as most. Bounded where a lease that was taken by a wrong clock has to be waited for.
func (w *world) clocks(every, most time.Duration) fault {
	return fault{every, func(chance *rand.Rand) (string, string, func(context.Context)) {
		n, lasts, by := w.nodes[chance.IntN(len(w.nodes))], between(chance, 500*time.Millisecond, 3*time.Second), between(chance, -most, most).Round(time.Second)
		return "clock jump", fmt.Sprintf("%s by %v for %v", n.name, by, lasts.Round(time.Millisecond)), func(ctx context.Context) {
			n.setClock(w.t, by)
			pause(ctx, lasts)
			n.setClock(w.t, 0)
		}
	}}
}

// overdue lets the clock of an Orders jump so far ahead that all orders under way have had their time, and are given up, whoever
// drives them. A lease that was taken then is from a time that nobody can have come to, and is not waited for.
func (w *world) overdue(every time.Duration) fault {
	return fault{every, func(chance *rand.Rand) (string, string, func(context.Context)) {
		n, lasts, by := w.nodes[chance.IntN(replicas)], between(chance, 500*time.Millisecond, 2*time.Second), between(chance, 16*time.Minute, time.Hour).Round(time.Second)
		return "clock jump past the deadline", fmt.Sprintf("%s by %v for %v", n.name, by, lasts.Round(time.Millisecond)), func(ctx context.Context) {
			n.setClock(w.t, by)
			pause(ctx, lasts)
			n.setClock(w.t, 0)
		}
	}}
}

// setClock makes a node's clock wrong by that much.
func (n *node) setClock(t testing.TB, by time.Duration) {
	n.setting.Lock()
	defer n.setting.Unlock()
	next := n.clock + ".next" // never half a file
	err := os.WriteFile(next, []byte(by.String()), 0o600)
	if err == nil {
		err = os.Rename(next, n.clock)
	}
	if err != nil {
		t.Error(err)
	}
}

// restarts ends what the processes stand on, one after the other, so that none is left out.
func (w *world) restarts(every time.Duration) fault {
	turn := 0
	return fault{every, func(chance *rand.Rand) (string, string, func(context.Context)) {
		turn++
		s, down := w.servers[turn%len(w.servers)], between(chance, 0, 2*time.Second)
		return "restart of " + s.name, fmt.Sprintf("down for %v", down.Round(time.Millisecond)), func(context.Context) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.restart(down)
		}
	}}
}
