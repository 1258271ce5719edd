package node_test

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/node"
)

func TestMemoryIsLimitedByTheContainer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"max\n": node.MemoryLimit, "536870912\n": 429496729, "68719476736\n": node.MemoryLimit} {
		file := filepath.Join(t.TempDir(), "memory.max")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := node.Memory(file); got != want {
			t.Errorf("%q limits to %d, want %d", text, got, want)
		}
	}
	if got := node.Memory(filepath.Join(t.TempDir(), "none")); got != node.MemoryLimit {
		t.Errorf("without a container: %d", got)
	}
}

func TestGarbageIsBounded(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for live, want := range map[uint64]int{0: 800, 4 * mb: 800, 8 * mb: 800, 8*mb + mb/4: 400, 16 * mb: 400, 21 * mb: 200, 32 * mb: 200, 33 * mb: 100, 2048 * mb: 100} {
		if got := node.Growth(live); got != want {
			t.Errorf("a live heap of %.2f MB may grow by %d %%, want %d", float64(live)/mb, got, want)
		}
	}
	for live := range uint64(64) {
		if garbage := live * uint64(node.Growth(live*mb)) / 100 * mb; garbage > node.Headroom {
			t.Errorf("a live heap of %d MB gets %d MB of garbage", live, garbage/mb)
		}
	}
}

func TestTheHeapIsFollowed(t *testing.T) {
	t.Parallel()
	node.FollowHeap()
	comes := func(want func(percent uint64) bool) {
		t.Helper()
		share := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		for begin := time.Now(); time.Since(begin) < 30*time.Second; {
			runtime.GC()
			if metrics.Read(share); want(share[0].Value.Uint64()) {
				return
			}
		}
		t.Fatalf("it stays at %d %%", share[0].Value.Uint64())
	}
	live := make([]byte, 70<<20) // more than all other tests here
	comes(func(percent uint64) bool { return percent == 100 })
	runtime.KeepAlive(live)
	comes(func(percent uint64) bool { return percent > 100 })
}

// A call past the streams of a connection would wait for one, and nobody would count it.
func TestAConnectionHasAStreamForEachCallInFlight(t *testing.T) {
	t.Parallel()
	inFlight := map[string]int{}
	for _, p := range call.Policies() {
		if strings.HasPrefix(p.Method, "/") {
			inFlight[p.Target] += p.InFlight
		}
	}
	for target, n := range inFlight {
		if n >= node.MaxStreams {
			t.Errorf("%d calls to %s may be in flight, and a connection has %d streams", n, target, node.MaxStreams)
		}
	}
	if len(inFlight) == 0 {
		t.Error("no policy of a gRPC method: this proves nothing")
	}
}
