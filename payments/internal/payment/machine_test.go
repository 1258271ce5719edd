package payment

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPictureShowsTheStateMachine(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../../../docs/payment-states.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var drawn []Move
	for lines := bufio.NewScanner(f); lines.Scan(); {
		from, rest, ok := strings.Cut(strings.TrimSpace(lines.Text()), " --> ")
		if !ok {
			continue
		}
		to, cause, _ := strings.Cut(rest, ": ")
		if from == "[*]" {
			from = ""
		}
		drawn = append(drawn, Move{Status(from), Cause(cause), Status(to)})
	}
	if d := cmp.Diff(Moves(), drawn); d != "" {
		t.Errorf("docs/payment-states.md draws another machine than Moves (-table +picture):\n%s", d)
	}
}

func TestMachineHasOneWayForEachCause(t *testing.T) {
	t.Parallel()
	type edge struct {
		from Status
		on   Cause
	}
	seen := map[edge]bool{}
	for _, m := range Moves() {
		if seen[edge{m.From, m.On}] {
			t.Errorf("%q goes two ways on %s", m.From, m.On)
		}
		seen[edge{m.From, m.On}] = true
		if !slices.Contains(Statuses(), m.From) || !slices.Contains(Statuses(), m.To) || !slices.Contains(Causes(), m.On) {
			t.Errorf("%v is not of the listed statuses and causes", m)
		}
	}
}

// What has ended stays: otherwise money could be held again for an order that was told of its end.
func TestFinalStatusesAreLeftByNothing(t *testing.T) {
	t.Parallel()
	for _, s := range []Status{Declined, Voided, Refunded} {
		for _, c := range Causes() {
			if to, ok := next(s, c); ok {
				t.Errorf("%s leads from %s to %s", c, s, to)
			}
		}
	}
}

// A payment under way must be led on by whatever the provider may answer to the operation under way, except that it still
// holds what was to be moved: else a repeat would be asked for ever.
func TestAnyAnswerOfTheProviderLeadsOutOfWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	for status, answers := range map[Status][]Cause{
		Pending:   {SaysAuthorized, SaysDeclined, SaysCaptured, SaysVoided, SaysRefunded},
		Voiding:   {SaysDeclined, SaysCaptured, SaysVoided, SaysRefunded},
		Capturing: {SaysCaptured, SaysVoided, SaysRefunded}, // it was authorized: no decline comes any more
		Refunding: {SaysRefunded},                           // captured money ends in no other way
	} {
		for _, a := range answers {
			if to, ok := next(status, a); !ok || to == status {
				t.Errorf("%s stays where it is although the %s", status, a)
			}
		}
	}
}

func TestMoneyIsAskedForOnlyOnce(t *testing.T) {
	t.Parallel()
	for _, m := range Moves() {
		if m.To == Pending && (m.From != None || m.On != AskAuthorize) {
			t.Errorf("%s leads from %q to another authorization", m.On, m.From)
		}
		if m.To == Authorized && m.From != Pending {
			t.Errorf("an authorization wins from %s, which may be on its way back", m.From)
		}
	}
}
