package test

import (
	"math"
	"syscall"
	"testing"
	"unsafe"

	"github.com/orderkeep/orderkeep/test/stage"
)

// TestFilesThatMayNotGrowLoseNothing is the full disk that every machine has: the limit of a process on the size of files, as a
// quota is one. To SQLite it is a disk that fails.
func TestFilesThatMayNotGrowLoseNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.add(stage.Launch{Path: program, Args: s.serve()}, "orders", "inventory", "payments")
	s.start(t)
	pid := s.process("orders").Cmd.Process.Pid
	limit := func(bytes uint64) error {
		size := syscall.Rlimit{Cur: bytes, Max: math.MaxUint64}
		_, _, errno := syscall.Syscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_FSIZE, uintptr(unsafe.Pointer(&size)), 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	}
	losesNothing(t, s, "storage_unavailable", func() {
		if err := limit(1); err != nil { // all of a file but its first byte is past it
			t.Fatal(err)
		}
	}, func() error { return limit(math.MaxUint64) }, stage.Launch{Path: program, Args: []string{"verify", "--data", s.data}})
}
