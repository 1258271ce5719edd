package node_test

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/orderkeep/orderkeep/internal/node"
)

func TestPagesOfTheProgramAreGivenBackAndComeAgain(t *testing.T) {
	t.Parallel()
	var before, after int
	for range 20 { // other tests take theirs back at the same time
		before = residentFile(t)
		node.UnmapFile()
		if after = residentFile(t); after < before {
			return
		}
	}
	t.Errorf("%d kB of files are resident, before it were %d", after, before)
}

// residentFile is how many kB of mapped files are in memory.
func residentFile(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Skip("this kernel does not say how much of its files a process has in memory")
	}
	kb, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb
}
