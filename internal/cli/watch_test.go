package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/node"
)

// orphan is a violation: units are held for an order that is off.
func orphan(order string) []node.Context {
	return inspected(
		source{name: "orders", claims: []audit.Claim{{Order: order, What: audit.OrderOff}}},
		source{name: "payments", claims: []audit.Claim{{Order: order, What: audit.MoneyHeld, Amount: 500, Currency: "GBP", Ref: "p"}}})
}

// in asks for the contexts of the moment at each opening.
func in(now func() []node.Context) []node.Context {
	var contexts []node.Context
	for i, name := range []string{"orders", "payments"} {
		contexts = append(contexts, node.Context{Name: name, Inspect: func(ctx context.Context, a, b string) (audit.Source, error) {
			if c := now(); c != nil {
				return c[i].Inspect(ctx, a, b)
			}
			return nil, errors.New("the database is away:\nfor maintenance")
		}})
	}
	return contexts
}

func sound() []node.Context { return inspected(source{name: "orders"}, source{name: "payments"}) }

// What each hour brings, and what verify --watch has to say when it ends after it.
func TestWatchTellsWhatChanges(t *testing.T) {
	t.Parallel()
	const o1, o2 = "money_has_live_order order o1: rejected or cancelled, and 500 GBP held in our books (p); give it back with POST /v1/payments/o1/void",
		"money_has_live_order order o2: rejected or cancelled, and 500 GBP held in our books (p); give it back with POST /v1/payments/o2/void"
	const away = "unknown: the database is away:; for maintenance"
	for _, tt := range []struct {
		name  string
		hours [][]node.Context
		want  []string
		code  int
	}{
		{"nothing changes", [][]node.Context{sound(), sound()}, []string{"0 ok: no promise is broken"}, 0},
		{"a promise is broken", [][]node.Context{sound(), orphan("o1"), orphan("o1")}, []string{"0 ok: no promise is broken", "1 broken: " + o1, "1 1 violation"}, 1},
		{"one is mended, and another broken", [][]node.Context{orphan("o1"), orphan("o2"), sound()}, []string{
			"0 broken: " + o1, "0 1 violation", "1 broken: " + o2, "1 mended: " + o1, "1 1 violation", "2 mended: " + o2, "2 ok: no promise is broken",
		}, 0},
		{"the database goes away and comes back", [][]node.Context{sound(), nil, nil, sound()}, []string{"0 ok: no promise is broken", "1 " + away, "3 ok: no promise is broken"}, 0},
		{"it comes back with what was broken", [][]node.Context{orphan("o1"), nil, orphan("o1")}, []string{"0 broken: " + o1, "0 1 violation", "1 " + away, "2 1 violation"}, 1},
		{"it is away at the end", [][]node.Context{sound(), nil}, []string{"0 ok: no promise is broken", "1 " + away}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(len(tt.hours))*time.Hour)
				defer cancel()
				var out, errout bytes.Buffer
				code := run(ctx, []string{"verify", "--watch", "--interval", "10m"}, nil, &out, &errout, in(func() []node.Context {
					return tt.hours[min(int(time.Since(begin)/time.Hour), len(tt.hours)-1)]
				}))
				var got []string
				for line := range strings.Lines(out.String()) {
					at, says, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
					when, err := time.Parse(time.RFC3339, at)
					if err != nil {
						t.Fatalf("%q: %v", line, err)
					}
					got = append(got, string(rune('0'+int(when.Sub(begin)/time.Hour)))+" "+says)
				}
				if d := cmp.Diff(tt.want, got); d != "" || code != tt.code || errout.Len() > 0 {
					t.Errorf("exit %d, want %d, errors %q\n%s", code, tt.code, &errout, d)
				}
			})
		})
	}
}

func TestWatchThatIsInterruptedBeforeItsFirstVerdictFails(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errout bytes.Buffer
	code := run(ctx, []string{"verify", "--watch"}, nil, &out, &errout, in(func() []node.Context { cancel(); return sound() }))
	if code != exitFailed || out.Len() > 0 || errout.String() != "orderkeep: interrupted\n" {
		t.Errorf("exit %d, %q, %q", code, &out, &errout)
	}
}

func TestWatchRefusesSettingsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"--metrics-listen 127.0.0.1:0", "--metrics-from 10.0.0.0/8", "--watch --json", "--watch --interval 0s"} {
		if r := do(t, sound(), "", append([]string{"verify"}, strings.Fields(args)...)...); r.code != exitUsage || r.out != "" {
			t.Errorf("%s: %+v", args, r)
		}
	}
	if r := do(t, sound(), "", "verify", "--watch", "--metrics-listen", "nowhere.invalid:0"); r.code != exitFailed || !strings.Contains(r.errout, "--metrics-listen: ") {
		t.Errorf("an address that is none: %+v", r)
	}
}

func TestWatchHasMetrics(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	now := sound()
	become := func(c []node.Context) { mu.Lock(); defer mu.Unlock(); now = c }
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"verify", "--watch", "--interval", "1ms", "--metrics-listen", "127.0.0.1:0"}, nil, io.Discard, w, in(func() []node.Context {
			mu.Lock()
			defer mu.Unlock()
			return now
		}))
		w.Close()
	}()
	line := make([]byte, 100)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(strings.TrimPrefix(string(line[:n]), "orderkeep: metrics at "))
	has := func(want ...string) {
		t.Helper()
		deadline, text := time.Now().Add(time.Minute), ""
		for time.Now().Before(deadline) {
			res, err := http.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("%s: %d, %v", url, res.StatusCode, err)
			}
			missing := false
			for _, w := range want {
				missing = missing || !strings.Contains(string(body), "\n"+w)
			}
			if text = string(body); !missing {
				return
			}
		}
		t.Fatalf("no %q in\n%s", want, text)
	}
	has(`orderkeep_verify_violations{rule="money_has_live_order"} 0`, `orderkeep_verify_waiting{rule="order_is_answered"} 0`,
		"orderkeep_verify_failures_total 0", "orderkeep_verify_last_duration_seconds ", "orderkeep_verify_last_timestamp_seconds 1") // of this century
	become(nil)
	has("orderkeep_verify_failures_total 1")
	late := time.Now().Add(-time.Hour + time.Minute)
	become(inspected(source{name: "orders", claims: []audit.Claim{{Order: "o1", What: audit.OrderPending, Since: late}, {Order: "o2", What: audit.OrderOff}}}, source{
		name: "payments", claims: []audit.Claim{{Order: "o2", What: audit.MoneyHeld, Currency: "GBP", Amount: 1}},
		broken: []audit.Violation{{Rule: "nothing_parked", Detail: "event e"}, {Rule: "nothing_parked", Detail: "and 7 more", Times: 7}},
	}))
	has(`orderkeep_verify_violations{rule="money_has_live_order"} 1`, `orderkeep_verify_violations{rule="nothing_parked"} 8`,
		`orderkeep_verify_waiting{rule="pending_order_is_driven"} 1`, `orderkeep_verify_oldest_seconds{rule="pending_order_is_driven"} 35`)
	cancel()
	if code := <-ended; code != exitFailed {
		t.Errorf("exit %d with a promise broken", code)
	}
}
