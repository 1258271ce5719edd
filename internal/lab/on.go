//go:build faults

package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Settings of a program that is built for the lab, by environment.
const (
	// CrashEnv names a point, and how often it is passed before the process dies at it: "orders.begun:3" dies at the third time.
	CrashEnv = "ORDERKEEP_LAB_CRASH"
	// ClockEnv names a file with a duration, such as "-90s", by which the clock is wrong from the next look at it. No file is a right clock.
	ClockEnv = "ORDERKEEP_LAB_CLOCK"
)

var (
	point, times = crash(os.Getenv(CrashEnv))
	passed       atomic.Int64
	clock        = os.Getenv(ClockEnv)
	wrong        atomic.Int64 // by which the clock is wrong
	looked       atomic.Int64 // when the file was read last
)

func crash(setting string) (string, int64) {
	name, count, ok := strings.Cut(setting, ":")
	if !ok {
		return name, 1
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 {
		fmt.Fprintf(os.Stderr, "%s is %q, want a point, or a point:number\n", CrashEnv, setting)
		os.Exit(2)
	}
	return name, n
}

// Point kills the process, as kill -9 does, if it is the one that CrashEnv names.
func Point(name string) {
	if name != point || passed.Add(1) != times {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // nothing more happens in this goroutine, however long the signal takes
}

// Now is the time, as far as the clock is right. The file is read every 10 ms at most.
func Now() time.Time {
	now := time.Now()
	if clock == "" {
		return now
	}
	if last := looked.Load(); now.UnixNano()-last > int64(10*time.Millisecond) && looked.CompareAndSwap(last, now.UnixNano()) {
		text, err := os.ReadFile(clock)
		d, parseErr := time.ParseDuration(strings.TrimSpace(string(text)))
		if err == nil && parseErr == nil {
			wrong.Store(int64(d))
		} else if os.IsNotExist(err) {
			wrong.Store(0)
		}
	}
	return now.Add(time.Duration(wrong.Load())).Round(0) // without the monotonic clock, which does not jump
}
