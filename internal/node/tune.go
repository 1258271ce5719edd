package node

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
)

// Settings of the Go runtime for a process that commits to disk all the time. bench/README.md has the measurements.
const (
	// procsPerCPU: the thread that comes back from a disk sync needs a P to go on, and everybody in the batch waits for
	// it. With one P a CPU, all of them busy, it queues behind every request; with some to spare the kernel runs it at
	// once, because it has slept.
	procsPerCPU = 4
	// gcPercent: the live heap is some megabytes. By the default of 100 it is collected 90 times a second under load, and with
	// this 6 times, for 33 MB more. An idle process collects every two minutes whatever it says here, and stays as small.
	gcPercent = 800
	// memoryLimit is where the collector stops waiting for that: thousands of orders that wait for a provider are live, and eight
	// times as much again would be gigabytes. Each is 57 KB that cannot be collected, 37 of them the stacks of four goroutines; 16,384,
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
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory(containerMemory))
	}
})

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
