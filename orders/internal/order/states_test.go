package order

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPictureShowsTheStateMachine(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../../../docs/order-states.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var drawn []Step
	for lines := bufio.NewScanner(f); lines.Scan(); {
		from, rest, ok := strings.Cut(strings.TrimSpace(lines.Text()), " --> ")
		if !ok {
			continue
		}
		to, name, _ := strings.Cut(rest, ": ")
		if from == "[*]" {
			from = ""
		}
		drawn = append(drawn, Step{State(from), name, State(to)})
	}
	if d := cmp.Diff(Steps, drawn); d != "" {
		t.Errorf("docs/order-states.md draws another machine than Steps (-table +picture):\n%s", d)
	}
}

func TestEveryStateIsReachedAndOnlyEndsAreFinal(t *testing.T) {
	t.Parallel()
	reached, left := map[State]bool{}, map[State]bool{}
	for _, s := range Steps {
		reached[s.To], left[s.From] = true, true
	}
	for _, s := range []State{Pending, Undoing, Confirmed, Rejected, Cancelled, Fulfilled, Returned} {
		if !reached[s] {
			t.Errorf("nothing leads to %s", s)
		}
		if s.Live() && !left[s] {
			t.Errorf("%s is live and nothing leads out of it", s)
		}
	}
	for _, s := range []State{Rejected, Cancelled, Returned} {
		if left[s] {
			t.Errorf("%s is final and something leads out of it", s)
		}
	}
}
