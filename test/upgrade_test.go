package test

import (
	"context"
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

// TestRollingUpgradeUnderLoadBreaksNoPromise runs a shop of the version before this one, replaces its programs by today's one
// by one while buyers buy, and then goes back the same way. Between two replacements all that a shop does has to happen from
// its beginning to its end, so that each version has worked beside the other and not only after it.
func TestRollingUpgradeUnderLoadBreaksNoPromise(t *testing.T) {
	t.Parallel()
	dir, name := previous(t)
	t.Logf("the version before is %s", name)
	for name, c := range map[string]struct {
		open  func(t *testing.T) *shop
		turns []int // which of the shop's services is replaced first, second and so on
	}{
		// Both ways round, because the operator may choose: today's Orders is beside the others of before, and the reverse.
		"Inventory and Payments, then Orders": {func(t *testing.T) *shop { return split(t, "grpc", ownBroker(t)) }, []int{1, 2, 0}},
		"Orders, then Inventory and Payments": {func(t *testing.T) *shop { return split(t, "grpc", ownBroker(t)) }, []int{0, 1, 2}},
		"one of two replicas after the other": {func(t *testing.T) *shop { return replicated(t, 2) }, []int{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := c.open(t)
			for _, sv := range s.services {
				sv.of(dir)
			}
			s.start(t)
			s.layIn(t)
			before := s.schemas(t)
			l := &ledger{of: map[string]string{}}

			s.roll(t, l, "up", c.turns, func(sv *service) { sv.replace(t, filepath.Dir(program)) })
			slices.Reverse(c.turns)
			after := s.schemas(t)
			s.roll(t, l, "down", c.turns, func(sv *service) {
				if slices.ContainsFunc(sv.contexts, func(context string) bool { return after[context] > before[context] }) {
					sv.goesNoFurtherBack(t, dir)
					return
				}
				sv.replace(t, dir)
			})
			l.account(t, s)
			s.close(t)
		})
	}
}

// roll replaces the shop's services in turn while buyers buy, and looks what became of what they asked for.
func (s *shop) roll(t *testing.T, l *ledger, way string, turns []int, replace func(*service)) {
	t.Helper()
	p := &progress{}
	asked := s.besiege(t, way, uint64(len(turns)), func(over context.Context, r *request) { s.persist(over, r, p) }, func() {
		p.through(t, way+", before the first is replaced")
		for n, turn := range turns {
			sv := s.services[turn]
			p.pause()
			replace(sv)
			p.through(t, fmt.Sprintf("%s, after %d of %d are replaced, the last of them %s", way, n+1, len(turns), filepath.Base(sv.launch.Path)))
		}
	})
	l.settle(t, s, asked)
	s.settles(t)
	t.Logf("%s: %d requests, sent again %d times in all", way, len(asked), p.repeated)
}

// of makes a service one of the programs in dir, from its next start.
func (sv *service) of(dir string) {
	sv.launch.Path = filepath.Join(dir, filepath.Base(sv.launch.Path))
	sv.old = dir != filepath.Dir(program)
}

// replace ends a program as an operator does, and starts the one in dir in its place.
func (sv *service) replace(t testing.TB, dir string) {
	t.Helper()
	sv.stop(t)
	sv.of(dir)
	sv.run(t)
}

// goesNoFurtherBack looks that the program in dir refuses a database that today's one has migrated, and starts that again.
func (sv *service) goesNoFurtherBack(t *testing.T, dir string) {
	t.Helper()
	sv.stop(t)
	there := sv.launch
	there.Path = filepath.Join(dir, filepath.Base(there.Path))
	refused(t, there, "database_from_the_future", "restore a backup")
	t.Logf("%s does not go back: its database was migrated", filepath.Base(there.Path))
	sv.run(t)
}

// schemas returns the version of each context's tables.
func (s *shop) schemas(t testing.TB) map[string]int {
	t.Helper()
	versions := map[string]int{}
	for context := range s.of {
		at := "sqlite:" + filepath.Join(s.data, context+".db")
		for _, setting := range s.env {
			if url, ok := strings.CutPrefix(setting, strings.ToUpper(context)+"_DB="); ok {
				at = url
			}
		}
		var n int
		if err := dbtest.Raw(t, at).QueryRowContext(t.Context(), `SELECT max(version_id) FROM goose_db_version`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		versions[context] = n
	}
	return versions
}

// pause is how long a buyer waits before asking again.
const pause = 20 * time.Millisecond

// persist does what clients should: a request without an answer, or with one that says to come again, is sent again under
// its key. What is wanted of its order is repeated until that is so, and then the others' answers are waited for.
func (s *shop) persist(over context.Context, r *request, p *progress) {
	part := p.begin()
	again := func() bool { // whether the buyer comes again, after a pause
		select {
		case <-over.Done():
			return false
		case <-time.After(pause):
			return true
		}
	}
	defer again()
	for s.buy(r); r.key != "" && (r.err != nil || comesAgain(r.answer)) && again(); s.buy(r) {
		p.repeats()
	}
	if r.err != nil || r.answer.status != http.StatusCreated {
		p.end(part, fmt.Sprint(r.answer.status))
		return
	}
	path := "/v1/orders/" + r.answer.OrderID
	for _, verb := range verbs[r.then] {
		for a, err := s.try(http.MethodPost, path+"/"+verb, nil); err != nil || comesAgain(a); a, err = s.try(http.MethodPost, path+"/"+verb, nil) {
			if !again() {
				return
			}
		}
		for a, err := s.try(http.MethodGet, path, nil); err != nil || a.Undo != "done" && a.Settlement != "done"; a, err = s.try(http.MethodGet, path, nil) {
			if !again() {
				return
			}
		}
	}
	what := "free"
	if r.order.Payment != nil {
		what = "paid"
	}
	p.end(part, what+" "+r.then)
}

// comesAgain reports whether an answer says to repeat the request.
func comesAgain(a answer) bool {
	return a.status == http.StatusServiceUnavailable || a.Error == "idempotency_key_in_flight"
}

// everything is what buyers do, and what comes of it: all but what takes the provider more than a moment.
var everything = []string{"paid ", "paid cancel", "paid fulfil", "paid return", "free ", "free cancel", "402", "409"}

// progress counts what came to its end while the same programs ran as at its beginning.
type progress struct {
	mu       sync.Mutex
	part     int // odd while nothing is replaced
	whole    map[string]int
	repeated int
}

func (p *progress) begin() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.part
}

func (p *progress) end(begun int, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if begun == p.part && p.part%2 == 1 {
		p.whole[what]++
	}
}

func (p *progress) repeats() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.repeated++
}

// pause begins a replacement.
func (p *progress) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.part++
}

// through ends it, and waits until everything has happened from beginning to end since.
func (p *progress) through(t testing.TB, part string) {
	t.Helper()
	p.mu.Lock()
	p.part++
	p.whole = map[string]int{}
	p.mu.Unlock()
	for _, what := range everything {
		stage.Eventually(t, fmt.Sprintf("%s: somebody gets %q", part, what), func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.whole[what] > 0
		})
	}
}
