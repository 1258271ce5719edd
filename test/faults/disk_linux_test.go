package faults

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// diskSize holds what a run writes, some times over, and is soon filled.
const diskSize = 256 << 20

// smallDisk lays a file system of its own over a directory, until the test ends. It is false where that is not permitted.
func smallDisk(t testing.TB, dir string) bool {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("mode=700,size=", diskSize)); err != nil {
		t.Logf("no disk of its own: %v; files that may not grow are a fault everywhere", err)
		return false
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return true
}

// fullDisks let writes fail: the disk has no room any more, where the data has a disk of its own, or the files of the one process may not
// grow, which to SQLite is a disk that fails.
func (w *world) fullDisks(every time.Duration) []fault {
	return []fault{{every, func(chance *rand.Rand) (string, string, func(context.Context)) {
		lasts := between(chance, 200*time.Millisecond, 1500*time.Millisecond)
		if w.disk != "" && chance.IntN(2) == 0 {
			return "full disk", lasts.Round(time.Millisecond).String(), func(ctx context.Context) { w.fill(ctx, lasts) }
		}
		return "files may not grow", lasts.Round(time.Millisecond).String(), func(ctx context.Context) { w.limit(ctx, lasts) }
	}}}
}

// fill leaves no room on the disk for a while.
func (w *world) fill(ctx context.Context, lasts time.Duration) {
	w.filling.Lock()
	defer w.filling.Unlock()
	ballast := filepath.Join(w.disk, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		w.t.Error(err)
		return
	}
	for size := 1 << 20; size > 0; size /= 2 { // down to the last byte
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	pause(ctx, lasts)
	f.Close()
	if err := os.Remove(ballast); err != nil {
		w.t.Error(err)
	}
}

// limit forbids the files of the first process to grow, for a while, or until it is killed.
func (w *world) limit(ctx context.Context, lasts time.Duration) {
	n := w.nodes[0]
	n.mu.Lock()
	p := n.process
	n.mu.Unlock()
	set := func(bytes uint64) {
		if p.Gone() {
			return
		}
		size := syscall.Rlimit{Cur: bytes, Max: math.MaxUint64}
		_, _, errno := syscall.Syscall6(syscall.SYS_PRLIMIT64, uintptr(p.Cmd.Process.Pid), syscall.RLIMIT_FSIZE, uintptr(unsafe.Pointer(&size)), 0, 0, 0)
		if errno != 0 && errno != syscall.ESRCH {
			w.t.Error(errno)
		}
	}
	set(1) // all of a file but its first byte is past it
	pause(ctx, lasts)
	set(math.MaxUint64)
}
