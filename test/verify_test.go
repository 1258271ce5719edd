package test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// looks is how often verify looks at a shop in which orders flow.
const looks = 3

// TestVerifyRaisesNoFalseAlarm runs verify again and again while buyers place, cancel, fulfil and return. On PostgreSQL it has a user
// who may only read, made with the statements of docs/operations.md.
func TestVerifyRaisesNoFalseAlarm(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) *shop{
		"one process":                              func(t *testing.T) *shop { return oneProcess(t, 1) },
		"three processes over gRPC":                func(t *testing.T) *shop { return threeProcesses("grpc", ownBroker)(t, 1) },
		"three processes over gRPC, on PostgreSQL": threeForAReader,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.layIn(t)
			moving := 0
			l := &ledger{of: map[string]string{}}
			asked := s.besiege(t, "buyer", 1, func(_ context.Context, r *request) { s.deal(t.Context(), r) }, func() {
				for range looks {
					a, code := s.repair(t, false)
					if !a.OK || code != 0 || len(a.Repairs) > 0 {
						t.Errorf("verify beside buyers finds %v, and proposes %v", a.Violations, a.Repairs)
					}
					for _, w := range a.OnItsWay {
						moving += w.Count
					}
				}
			})
			if moving == 0 {
				t.Error("nothing was on its way whenever verify looked: the test does not test what it says")
			}
			l.settle(t, s, asked)
			s.settles(t)
			t.Logf("%d requests while verify looked %d times, at %d things on their way", len(asked), looks, moving)
			s.close(t)
		})
	}
}

// threeForAReader is three processes, each on a PostgreSQL database of its own, of which verify may only read.
func threeForAReader(t *testing.T) *shop {
	s := split(t, "grpc", ownBroker(t))
	statements := grants(t)
	var reading []string
	read := func(of ...string) {
		for _, setting := range s.env {
			name, at, _ := strings.Cut(setting, "=")
			if slices.Contains(of, name) {
				reading = append(reading, name+"="+dbtest.Reader(t, at, statements))
			}
		}
	}
	for _, setting := range []string{"ORDERS_DB", "INVENTORY_DB", "PAYMENTS_DB", "SIMULATED_PROVIDER_DB"} {
		s.env = append(s.env, setting+"="+dbtest.Database(t))
	}
	for _, sv := range s.services {
		sv.launch.Env = s.env
	}
	read("ORDERS_DB", "PAYMENTS_DB") // for some before there are tables, as when verify comes with a later version
	s.start(t)
	read("INVENTORY_DB", "SIMULATED_PROVIDER_DB")
	s.env = reading
	return s
}

// grants are the statements with which docs/operations.md gives the user auditor the right to read the database of Orders.
func grants(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sql\n(CREATE ROLE auditor.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/operations.md does not say how to make a user for verify")
	}
	return string(block[1])
}

// TestWatchOutlivesTheDatabases looks at what verify --watch says while they are away, and at how it ends.
func TestWatchOutlivesTheDatabases(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 1)
	s.close(t) // nobody holds the files
	p := stage.Spawn(t, stage.Launch{Path: program, Args: []string{"verify", "--data", s.data, "--watch", "--interval", "10ms"}})
	says := func(n int, what string) {
		t.Helper()
		stage.Eventually(t, what, func() bool { return strings.Count(p.Log.String(), what) == n })
	}
	says(1, " ok: no promise is broken\n")
	if err := os.Rename(s.data, s.data+"-away"); err != nil {
		t.Fatal(err)
	}
	says(1, " unknown: there is no database of orders at ")
	if err := os.Rename(s.data+"-away", s.data); err != nil {
		t.Fatal(err)
	}
	says(2, " ok: no promise is broken\n")
	if err := p.Stop(); err != nil {
		t.Errorf("after SIGTERM, with every promise kept: %v", err)
	}
}
