package stage

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// Patience bounds what a test waits for. It is no expectation: it only keeps a broken program from hanging the tests.
const Patience = 3 * time.Minute

// Eventually asks until the answer is yes.
func Eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(Patience); !yes(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within %v: %s", Patience, what)
		}
	}
}

// Need returns the path of a program that is not ours. Without it the test is skipped, but not in CI.
func Need(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s, and CI has to run it: %v", name, err)
	}
	t.Skipf("this test needs %s: %v", name, err)
	return ""
}
