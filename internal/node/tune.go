package node

import (
	"os"
	"runtime"
	"runtime/debug"
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
)

// Tune sets the Go runtime for serving, once. What the environment says (GOMAXPROCS, GOGC) is left as it is. It is the program's to
// call, since it is about the whole process.
var Tune = sync.OnceFunc(func() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(procsPerCPU * runtime.GOMAXPROCS(0))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
})
