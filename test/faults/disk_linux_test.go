package faults

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// diskSize holds what a run writes, some times over, and is soon filled.
const diskSize = 256 << 20

// diskName begins the name of a small disk, before the number of the process that laid it: so that one whose process was killed is known.
const diskName = "orderkeep-lab-"

// smallDisk lays a file system of its own over a directory, until the test ends, and takes away those that killed tests have left. It is
// false where that is not permitted.
func smallDisk(t testing.TB, dir string) bool {
	t.Helper()
	takeAway(t)
	if err := syscall.Mount(fmt.Sprint(diskName, os.Getpid()), dir, "tmpfs", 0, fmt.Sprint("mode=700,size=", diskSize)); err != nil {
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

// takeAway takes the small disks away whose process has gone. What anybody else has mounted has another name.
func takeAway(t testing.TB) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Log(err)
		return
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // what is mounted, and where; blanks within are written as octal numbers
		pid, ours := strings.CutPrefix(fields[0], diskName)
		n, err := strconv.Atoi(pid)
		if !ours || err != nil || syscall.Kill(n, 0) != syscall.ESRCH {
			continue
		}
		if err := syscall.Unmount(fields[1], syscall.MNT_DETACH); err != nil {
			t.Logf("a small disk of process %d is left at %s: %v", n, fields[1], err)
		}
	}
}

func TestSmallDisksOfTheDeadAreTakenAway(t *testing.T) {
	t.Parallel()
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	left, used := t.TempDir(), t.TempDir()
	mounted := func(dir string) bool {
		text, err := os.ReadFile("/proc/self/mounts")
		return err == nil && strings.Contains(string(text), " "+dir+" ")
	}
	for dir, pid := range map[string]int{left: dead.Process.Pid, used: os.Getpid()} {
		if err := syscall.Mount(fmt.Sprint(diskName, pid), dir, "tmpfs", 0, "size=4k"); err != nil {
			t.Skipf("this test needs to mount: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
	takeAway(t)
	if mounted(left) || !mounted(used) {
		t.Errorf("that of the dead is mounted: %v, that of this process: %v", mounted(left), mounted(used))
	}
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
