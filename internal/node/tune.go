package node

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
)

// Settings of the Go runtime for a process that commits to disk all the time. bench/README.md has the measurements.
const (
	// procsPerCPU: the thread that comes back from a disk sync needs a P to go on, and everybody in the batch waits for
	// it. With one P a CPU, all of them busy, it queues behind every request; with one to spare the kernel runs it at
	// once, because it has slept. With more, those that have nothing to do cost more in looking for work.
	procsPerCPU = 2
	// gcPercent: under load the live heap is some megabytes. By the default of 100 it is collected 90 times a second, and with
	// this 6 times, for 33 MB more. An idle process collects every two minutes whatever it says here, and stays as small.
	gcPercent = 800
	// headroom is how many bytes of garbage that may come to. It holds for a live heap of up to 8 MB; beyond it the share is halved until it is kept
	// again, but not below the default, which collects a large heap often enough. Without it a start that was measured while it read its contracts, with
	// 21 MB alive, was next collected at 200 MB, and pages of orders to 64 callers at 170.
	headroom       = 64 << 20
	defaultPercent = 100
	// memoryLimit is where the collector stops waiting for that: thousands of orders that wait for a provider are live, and once
	// as much again would be two gigabytes. Each is 57 KB that cannot be collected, 37 of them the stacks of four goroutines; 16,384,
	// as many as may wait, are 940 MB with what is there without them. The limit is a third more, so that there is a rest to collect: at a limit
	// near what is live the collector would run all the time.
	memoryLimit = 5 << 28
	// containerShare is the part of a container's memory that is the limit where it has less: SQLite's cache and the program's
	// file are not the collector's.
	containerShare = 0.8
	// containerMemory is where Linux says what a container may have (cgroup v2).
	containerMemory = "/sys/fs/cgroup/memory.max"
)

// Tune sets the Go runtime for serving, once. What the environment says (GOMAXPROCS, GOGC, GOMEMLIMIT) is left as it is. It is the program's to
// call, since it is about the whole process.
var Tune = sync.OnceFunc(func() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(procsPerCPU * runtime.GOMAXPROCS(0))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
		afterCollection(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory(containerMemory))
	}
})

// afterCollection looks, once the next collection is over, how large the live heap is, and sets what may be added to it: what becomes garbage with
// that collection is the sign.
func afterCollection(percent int) {
	runtime.AddCleanup(&sign{}, func(was int) {
		now := growth(liveHeap())
		if now != was { // setting it stops all that runs for some microseconds
			debug.SetGCPercent(now)
		}
		afterCollection(now)
	}, percent)
}

type sign struct{ _ [64]byte } // of a size that shares its block with no other object

// growth is the share of a live heap, in percent, that may be added to it until it is collected.
func growth(live uint64) int {
	percent := gcPercent
	for percent > defaultPercent && live*uint64(percent)/100 > headroom {
		percent /= 2
	}
	return percent
}

func liveHeap() uint64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

// memory is the limit in bytes, by the file that says what the container may have, if there is one.
func memory(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return memoryLimit
	}
	most, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil { // "max": as much as there is
		return memoryLimit
	}
	return min(memoryLimit, int64(containerShare*float64(most)))
}
