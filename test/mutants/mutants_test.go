package mutants_test

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/test/mutants"
	"github.com/orderkeep/orderkeep/test/stage"
)

// allEnv makes the mutants run.
const allEnv = "ORDERKEEP_MUTANTS"

const root = "../.."

// Every mutant changes what is there, into something that compiles.
func TestMutantsFitTheSource(t *testing.T) {
	t.Parallel()
	for _, m := range mutants.All {
		overlay, err := m.Overlay(root, t.TempDir())
		if err != nil {
			t.Error(err)
			continue
		}
		args := []string{"build", "-tags", "faults", "-overlay", overlay}
		for _, e := range m.Edits {
			args = append(args, "./"+path.Dir(e.File))
		}
		build := exec.Command("go", args...)
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Errorf("mutant %q: %v\n%s", m.Name, err, out)
		}
		if m.By.Run == "" || m.By.Says == "" {
			t.Errorf("mutant %q: nobody is to catch it", m.Name)
		}
	}
}

// The tests that are there for it pass on the source as it is, and fail on each mutant, for the reason that they name. A mutant does not
// count as caught because it is no program.
func TestMutantsAreCaught(t *testing.T) {
	t.Parallel()
	if os.Getenv(allEnv) == "" {
		t.Skip("minutes of work, which make mutants does")
	}
	sound := map[string]bool{}
	for _, m := range mutants.All {
		t.Run(m.Name, func(t *testing.T) {
			test := m.By.Package + " " + m.By.Run
			if !sound[test] {
				if out, err := run(m.By, "", 1); err != nil {
					t.Fatalf("%s fails without the mutant: %v\n%s", test, err, tail(out))
				}
				sound[test] = true
			}
			overlay, err := m.Overlay(root, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for seed := 1; ; seed++ {
				out, err := run(m.By, overlay, seed)
				switch {
				case err != nil && strings.Contains(out, "--- FAIL") && strings.Contains(out, m.By.Says):
					t.Logf("caught by %s: %s", test, line(out, m.By.Says))
					return
				case err != nil:
					t.Fatalf("%s fails, and does not say %q: %v\n%s", test, m.By.Says, err, tail(out))
				case seed >= m.By.Seeds:
					t.Fatalf("NOT CAUGHT: %s. %s passes", m.Wrong, test)
				}
				t.Logf("seed %d does not show it", seed)
			}
		})
	}
}

// run runs a catcher, with the mutant that the overlay makes in what it tests and in the programs that it starts.
func run(c mutants.Catcher, overlay string, seed int) (string, error) {
	args := []string{"test", "-count=1", "-timeout=10m", "-run", "^" + c.Run + "$"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.Command("go", append(args, c.Package)...)
	cmd.Dir = root
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, allEnv+"=") }),
		stage.OverlayEnv+"="+overlay, fmt.Sprintf("SEED=%d", seed))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func line(out, says string) string {
	for l := range strings.Lines(out) {
		if strings.Contains(l, says) {
			return strings.TrimSpace(l)
		}
	}
	return ""
}

func tail(out string) string {
	const enough = 4 << 10
	return out[max(0, len(out)-enough):]
}
