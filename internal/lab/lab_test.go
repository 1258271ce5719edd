package lab_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Both builds of a program, with the same environment: the lab's dies at the point and has the wrong time, the other does neither.
func TestOnlyTheLabsBuildDies(t *testing.T) {
	t.Parallel()
	clock := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(clock, []byte("-240h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for tags, want := range map[string]string{"": "right 1 2 3 end", "faults": "wrong 1 2 "} {
		t.Run(tags, func(t *testing.T) {
			t.Parallel()
			program := filepath.Join(t.TempDir(), "p")
			if out, err := exec.Command("go", "build", "-tags", tags, "-o", program, "./testdata/passes").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			cmd := exec.Command(program)
			cmd.Env = append(os.Environ(), "ORDERKEEP_LAB_CRASH=here:2", "ORDERKEEP_LAB_CLOCK="+clock)
			out, err := cmd.Output()
			if string(out) != want {
				t.Errorf("%q, want %q", out, want)
			}
			var exit *exec.ExitError
			died := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
			if died != strings.HasPrefix(want, "wrong") {
				t.Errorf("ended with %v", err)
			}
		})
	}
}
