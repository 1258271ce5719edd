package call_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
)

func policy(t call.Table, edge string) call.Policy {
	for _, p := range t {
		if p.Edge() == edge {
			return p
		}
	}
	return call.Policy{}
}

func TestSettingChangesOneEdge(t *testing.T) {
	t.Parallel()
	for setting, change := range map[string]func(*call.Policy){
		"inventory/Reserve timeout=3s attempts=2 in-flight=256 open-after=5 open-for=2s": func(p *call.Policy) {
			p.Timeout, p.Attempts, p.InFlight, p.OpenAfter, p.OpenFor = 3*time.Second, 2, 256, 5, 2*time.Second
		},
		" inventory/Reserve   attempts=1 ":                          func(p *call.Policy) { p.Attempts = 1 },
		"inventory/POST /reserve timeout=750ms attempts=1":          func(p *call.Policy) { p.Timeout = 750 * time.Millisecond },
		"payments/PUT /v1/payments/{orderId} in-flight=100000":      func(p *call.Policy) { p.InFlight = 100_000 },
		"payments/Capture timeout=10m attempts=10 open-after=10000": func(p *call.Policy) { p.Timeout, p.Attempts, p.OpenAfter = 10*time.Minute, 10, 10_000 },
	} {
		got, want := call.Policies(), call.Policies()
		for i := range want {
			if strings.HasPrefix(strings.TrimSpace(setting), want[i].Edge()+" ") {
				change(&want[i])
			}
		}
		if err := got.Set(setting); err != nil || cmp.Equal(call.Policies(), got) {
			t.Errorf("%s: %v, or nothing changed", setting, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", setting, d)
		}
	}
}

func TestSettingThatIsWrongChangesNothing(t *testing.T) {
	t.Parallel()
	for setting, says := range map[string][]string{
		"":                            {"sets no number"},
		"inventory/Reserve":           {"sets no number"},
		"inventory/Reserv timeout=1s": {`no call "inventory/Reserv"`, "inventory/Reserve,", "inventory/POST /reserve"},
		"warehouse/Pick timeout=1s":   {`no call "warehouse/Pick"`, "inventory/Check", "payments/Capture"},
		"timeout=1s":                  {`no call ""`},
		"inventory/Reserve timeout=1s patience=2s":             {`"patience"`, "open-for"},
		"inventory/Reserve timeout=1s 3":                       {`"3" is no number`},
		"inventory/Reserve timeout=0":                          {"timeout=0 is not a time"},
		"inventory/Reserve timeout=-1s":                        {"timeout=-1s is not a time"},
		"inventory/Reserve timeout=3":                          {"timeout=3 is not a time"},
		"inventory/Reserve timeout=1h":                         {"timeout=1h is not a time from 1ms to 10m0s"},
		"inventory/Reserve attempts=0":                         {"attempts=0 is not a whole number from 1 to 10"},
		"inventory/Reserve attempts=11":                        {"attempts=11"},
		"inventory/Reserve attempts=two":                       {"attempts=two"},
		"inventory/Reserve in-flight=":                         {"in-flight= is not"},
		"inventory/Reserve in-flight=1e3":                      {"in-flight=1e3"},
		"inventory/Reserve open-after=0 open-for=1ms":          {"open-after=0", "open-for=1ms"}, // both at once
		"inventory/POST /reserve attempts=2":                   {"attempts=2", "sent once", "may ignore the key"},
		"inventory/POST /reserve attempts=2 timeout=x foo=bar": {"attempts=2", "timeout=x", `"foo"`},
	} {
		table := call.Policies()
		err := table.Set(setting)
		if err == nil {
			t.Errorf("%q is taken", setting)
			continue
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q does not say %q: %v", setting, s, err)
			}
		}
		if d := cmp.Diff(call.Policies(), table); d != "" {
			t.Errorf("%q: %s", setting, d)
		}
	}
}

func TestSettingHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := call.Policies()
		if err := table.Set("inventory/Reserve timeout=2s attempts=2 in-flight=3 open-after=4 open-for=1m"); err != nil {
			t.Fatal(err)
		}
		e := call.NewEdges(table, slog.New(slog.DiscardHandler), nil)
		var sent atomic.Int64
		conn := e.Target("inventory").Conn(peer(func(ctx context.Context, _ string) error { sent.Add(1); <-ctx.Done(); return ctx.Err() }))
		start := time.Now()
		if f := fault.Of(conn.Invoke(t.Context(), reserve, nil, nil)); f.Code != "deadline_exceeded" || sent.Load() != 2 || time.Since(start) < 4*time.Second || time.Since(start) > 5*time.Second {
			t.Errorf("%v after %d attempts and %v", f, sent.Load(), time.Since(start))
		}
		done := make(chan error, 3)
		for range 3 {
			go func() { done <- conn.Invoke(t.Context(), reserve, nil, nil) }()
		}
		synctest.Wait()
		if err := conn.Invoke(t.Context(), reserve, nil, nil); sent.Load() != 5 || fault.Of(err).Code != "inventory_unavailable" {
			t.Errorf("the fourth at once: %v after %d", err, sent.Load())
		}
		for range 3 {
			<-done
		}
		if s := state(t, e, "inventory/Reserve"); s.Breaker != "open" || s.Policy != policy(table, "inventory/Reserve") {
			t.Errorf("%+v", s)
		}
		time.Sleep(30 * time.Second)
		before := sent.Load()
		_ = conn.Invoke(t.Context(), reserve, nil, nil)
		if sent.Load() != before {
			t.Error("the breaker let a probe through within half a minute of one")
		}
		time.Sleep(50 * time.Second)
		_ = conn.Invoke(t.Context(), reserve, nil, nil)
		if sent.Load() != before+1 {
			t.Errorf("%d probes after a minute", sent.Load()-before)
		}
	})
}

func ExampleTable_Set() {
	table := call.Policies()
	if err := table.Set("inventory/Reserve timeout=3s attempts=2"); err != nil {
		panic(err)
	}
	_ = call.NewEdges(table, slog.Default(), nil)
}
