package natsd_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// cachestat(2) of Linux 6.5 tells what of a file is in memory only. The number is the same on all architectures.
const sysCachestat = 451

// unsynced is how many pages of a file are not on disk yet, or on their way there.
func unsynced(name string) (uint64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	all := struct{ off, len uint64 }{} // a length of 0 is to the end
	var stat struct{ cache, dirty, writeback, evicted, recentlyEvicted uint64 }
	_, _, errno := syscall.Syscall6(sysCachestat, f.Fd(), uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&stat)), 0, 0, 0)
	runtime.KeepAlive(&all)
	if errno != 0 {
		return 0, os.NewSyscallError("cachestat", errno)
	}
	return stat.dirty + stat.writeback, nil
}

// A server that answers before it has synced, which is its default, loses what it has acknowledged when the machine goes down.
func TestWhatIsAcknowledgedIsOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	loose := filepath.Join(dir, "loose")
	if err := os.WriteFile(loose, []byte("not synced"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := unsynced(loose); err != nil || n == 0 {
		t.Skipf("this machine does not tell what is on disk: it needs Linux 6.5, and TMPDIR on a file system that is on one (%d pages, %v)", n, err)
	}
	url, _ := start(t, filepath.Join(dir, "broker"), "127.0.0.1:0")
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		if _, err := js.Publish(t.Context(), "s", make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		blocks := 0
		err := filepath.WalkDir(filepath.Join(dir, "broker"), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".blk") {
				return err
			}
			blocks++
			pages, err := unsynced(path)
			if pages > 0 {
				t.Errorf("message %d is acknowledged, and %d pages of %s are not on disk", n, pages, filepath.Base(path))
			}
			return err
		})
		if err != nil || blocks == 0 {
			t.Fatalf("%d files of messages, %v", blocks, err)
		}
	}
}
