package load_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/load"
)

// run is a run of numbered GETs against a handler that gets the number.
func run(t *testing.T, handle func(n int, w http.ResponseWriter)) *load.Run {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			t.Errorf("asked for %q", r.URL.Path)
		}
		handle(n, w)
	}))
	t.Cleanup(s.Close)
	return &load.Run{
		URL: s.URL, Connections: 1,
		Next: func(n uint64, buf []byte) []byte {
			return load.AppendRequest(buf, "GET", "test", "/"+strconv.FormatUint(n, 10), "", nil)
		},
		Judge: func(_ uint64, status int, _ []byte) (string, bool) {
			return strconv.Itoa(status), status == http.StatusOK
		},
	}
}

func do(t *testing.T, r *load.Run) *load.Result {
	t.Helper()
	got, err := r.Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A server that stalls holds back its clients. What was due meanwhile has waited all the same, and a generator that counts from
// when it came to send would show one slow request and hundreds of fast ones.
func TestAStallCountsForAllThatWasDueInIt(t *testing.T) {
	t.Parallel()
	const during, stall, rate = 200 * time.Millisecond, 400 * time.Millisecond, 1000
	over := make(chan struct{})
	var first sync.Once
	r := run(t, func(n int, _ http.ResponseWriter) {
		first.Do(func() { time.AfterFunc(stall, func() { close(over) }) })
		<-over
	})
	r.Rate, r.Duration = rate, during
	got := do(t, r)
	if got.Served != 200 || got.Unserved != 0 {
		t.Fatalf("%d served and %d not, want the 200 that were due", got.Served, got.Unserved)
	}
	// Each was due within during, and answered after the stall.
	if fastest := time.Duration(got.Latency.Min()) * time.Microsecond; fastest < (stall-during)*99/100 {
		t.Errorf("the fastest of those that were due in a stall took %v, want %v at least", fastest, stall-during)
	}
	if p99 := got.Quantile(0.99); p99 < stall/2 {
		t.Errorf("p99 %v", p99)
	}
}

func TestWhatWasDueAndNeverSentIsCounted(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	var first sync.Once
	r := run(t, func(int, http.ResponseWriter) {
		first.Do(func() { time.AfterFunc(1300*time.Millisecond, func() { close(over) }) })
		<-over
	})
	r.Rate, r.Duration = 1000, 100*time.Millisecond
	got := do(t, r)
	if got.Served != 1 || got.Outcomes[load.Unsent] != 99 || got.Latency.TotalCount() != 100 {
		t.Errorf("%d served, %v, %d latencies; want 1, 99 unsent, 100", got.Served, got.Outcomes, got.Latency.TotalCount())
	}
	if fastest := time.Duration(got.Latency.Min()) * time.Microsecond; fastest < time.Second {
		t.Errorf("what was not sent counts as %v; it had waited for longer than a second", fastest)
	}
}

func TestAClosedLoopSendsEachNumberOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []int
	r := run(t, func(n int, w http.ResponseWriter) {
		mu.Lock()
		got = append(got, n)
		mu.Unlock()
		if n%10 == 0 {
			w.Header().Set("Connection", "close") // a server may end a connection after any answer
		}
		if n%4 == 0 {
			w.WriteHeader(http.StatusConflict)
		}
	})
	r.Connections, r.First, r.Duration = 8, 100, 200*time.Millisecond
	res := do(t, r)
	slices.Sort(got)
	if all := len(got); all == 0 || got[0] < 100 || len(slices.Compact(got)) != all {
		t.Fatalf("%d came: none, or one twice, or one before number 100", all)
	}
	refused := int64(0)
	for _, n := range got {
		if n%4 == 0 {
			refused++
		}
	}
	served := int64(len(got)) - refused
	if res.Served != served || res.Unserved != refused || res.Outcomes["200"] != served || res.Outcomes["409"] != refused || res.Latency.TotalCount() != served {
		t.Errorf("%d came, %d of them refused; %d served, %d not, %v, %d latencies", len(got), refused, res.Served, res.Unserved, res.Outcomes, res.Latency.TotalCount())
	}
	var sum int64
	for _, n := range res.Seconds {
		sum += n
	}
	if sum != res.Served {
		t.Errorf("the seconds have %d answers, want %d", sum, res.Served)
	}
}

func TestBrokenConnectionsAreToldInFewWords(t *testing.T) {
	t.Parallel()
	r := run(t, func(n int, w http.ResponseWriter) {
		if n%2 == 1 {
			panic(http.ErrAbortHandler)
		}
	})
	r.Rate, r.Duration = 100, 200*time.Millisecond // 20 are due
	got := do(t, r)
	if got.Served != 10 || got.Outcomes[load.NoAnswer] != 10 || got.Errors["the server closed the connection"] != 10 {
		t.Errorf("%d served, %v, %v", got.Served, got.Outcomes, got.Errors)
	}
}

func TestAnEndOfTheContextEndsARunAtOnce(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	release := make(chan struct{})
	r := run(t, func(n int, _ http.ResponseWriter) {
		if n == 3 {
			stop()
			<-release
		}
	})
	r.Duration = time.Hour
	got, err := r.Do(ctx)
	close(release)
	if err != nil || got.Served != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestARunThatCannotBeSaysWhy(t *testing.T) {
	t.Parallel()
	r := run(t, func(int, http.ResponseWriter) {})
	r.Duration = time.Second
	for name, spoil := range map[string]func(*load.Run){
		"no connections": func(r *load.Run) { r.Connections = 0 },
		"no end":         func(r *load.Run) { r.Duration = 0 },
		"a rate below 0": func(r *load.Run) { r.Rate = -1 },
		"no URL":         func(r *load.Run) { r.URL = "localhost" },
	} {
		bad := *r
		spoil(&bad)
		if _, err := bad.Do(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r.URL = "http://" + l.Addr().String()
	if _, err := r.Do(t.Context()); !errors.Is(err, load.ErrNobody) {
		t.Errorf("nobody there: %v", err)
	}
}

// The server bears a third of what it gave in the closed loop, and refuses all when it is asked for more, so that what is found can only be
// the search's work.
func TestASweepFindsTheHighestRateThatHolds(t *testing.T) {
	t.Parallel()
	most, refusing := 0.0, atomic.Bool{}
	r := run(t, func(_ int, w http.ResponseWriter) {
		if refusing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	r.Connections, r.Duration = 4, 300*time.Millisecond
	s := load.Sweep{Share: 0.99, Bound: 10 * time.Second, Measure: func(rate float64) (*load.Result, error) {
		refusing.Store(rate > most)
		if rate == 0 {
			refusing.Store(false)
		}
		r.Rate = rate
		got, err := r.Do(t.Context())
		if rate == 0 && err == nil {
			most = got.PerSecond() / 3
		}
		return got, err
	}}
	closed, open, top, err := s.Do()
	if err != nil {
		t.Fatal(err)
	}
	if closed.Offered != 0 || len(open) < 3 || !slices.IsSortedFunc(open, func(a, b *load.Result) int { return int(a.Offered - b.Offered) }) {
		t.Errorf("%d rates after a closed loop of %.0f/s", len(open), closed.PerSecond())
	}
	held := 0.0
	for _, o := range open {
		if s.Holds(o) {
			held = max(held, o.Offered)
			if o.Offered > most {
				t.Errorf("%.0f requests a second count as borne, and all were refused", o.Offered)
			}
		}
	}
	if top != held {
		t.Errorf("top %.0f, and the highest rate that held is %.0f", top, held)
	}
}

func TestWhatARateIsHeldAgainst(t *testing.T) {
	t.Parallel()
	s := load.Sweep{Share: 0.99, Bound: 10 * time.Millisecond}
	result := func(served, unserved int64, took time.Duration, latency time.Duration, slow int64) *load.Result {
		r := run(t, func(int, http.ResponseWriter) {})
		r.Duration = time.Millisecond
		got := do(t, r)
		got.Offered, got.Served, got.Unserved, got.Took = 1000, served, unserved, took
		got.Latency.Reset()
		_ = got.Latency.RecordValues(1000, served-slow)
		_ = got.Latency.RecordValues(latency.Microseconds(), slow)
		return got
	}
	for name, c := range map[string]struct {
		r    *load.Result
		want bool
	}{
		"all well":               {result(10_000, 0, 10*time.Second, time.Second, 99), true},
		"slow for one in eighty": {result(10_000, 0, 10*time.Second, time.Second, 125), false},
		"ten of 10,000 refused":  {result(9_990, 10, 10*time.Second, 0, 0), true},
		"eleven refused":         {result(9_989, 11, 10*time.Second, 0, 0), false},
		"falling behind":         {result(10_000, 0, 11*time.Second, 0, 0), false},
	} {
		if got := s.Holds(c.r); got != c.want {
			t.Errorf("%s: holds %v", name, got)
		}
	}
}
