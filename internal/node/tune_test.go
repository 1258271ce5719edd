package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
