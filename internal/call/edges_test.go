package call_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

func state(t *testing.T, e *call.Edges, edge string) call.State {
	t.Helper()
	for _, s := range e.States() {
		if s.Edge == edge {
			return s
		}
	}
	t.Fatalf("there is no edge %s", edge)
	return call.State{}
}

func TestStatesAreOfTheWiresInUse(t *testing.T) {
	t.Parallel()
	e := call.NewEdges(call.Policies(), slog.New(slog.DiscardHandler), nil)
	conn := e.Target("inventory").Conn(peer(func(context.Context, string) error { return nil }))
	e.Target("payments").Client(nil)
	for range 3 {
		_ = conn.Invoke(t.Context(), reserve, nil, nil)
	}
	_ = conn.Invoke(t.Context(), unknown, nil, nil)
	var got []string
	for _, s := range e.States() {
		got = append(got, s.Edge)
	}
	want := []string{
		"inventory/Reserve", "inventory/Release", "inventory/Commit", "inventory/Check", "inventory/ListReservations", "inventory/Unknown",
		"payments/PUT /v1/payments/{orderId}", "payments/POST /v1/payments/{orderId}/capture", "payments/POST /v1/payments/{orderId}/void", "payments/POST /v1/payments/{orderId}/refund",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	text, err := json.Marshal(state(t, e, "inventory/Reserve"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"edge":"inventory/Reserve","target":"inventory","method":"/orderkeep.inventory.v1.InventoryService/Reserve","breaker":"closed","calls":3,"failures":0,"inFlight":0,"repeats":0,` +
		`"policy":{"timeoutSeconds":5,"attempts":3,"inFlight":4096,"openAfter":10,"openForSeconds":1,"fallback":"503, the order is not taken","why":"the customer waits; named by the order, so a repeat gets the first answer"}}`; string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if again := e.Target("inventory"); len(again.States()) != 6 {
		t.Error("callers of one target do not share its guards")
	}
	var none *call.Edges
	if reset, err := none.Reset(); len(none.States()) != 0 || len(reset) != 0 || err != nil {
		t.Errorf("no edges have states, or %v", err)
	}
	if err := none.Target("simulated").Do(t.Context(), "Void", func(context.Context) error { return nil }); err != nil {
		t.Errorf("a target that stands alone: %v", err)
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		names  []string
		reset  []string
		closed bool // the breaker that was open
	}{
		"an edge":         {[]string{"inventory/Unknown"}, []string{"inventory/Unknown"}, true},
		"another":         {[]string{"inventory/Reserve"}, []string{"inventory/Reserve"}, false},
		"a target":        {[]string{"inventory"}, []string{"inventory/Reserve", "inventory/Release", "inventory/Commit", "inventory/Check", "inventory/ListReservations", "inventory/Unknown"}, true},
		"everything":      {nil, []string{"inventory/Reserve", "inventory/Release", "inventory/Commit", "inventory/Check", "inventory/ListReservations", "inventory/Unknown"}, true},
		"what is nowhere": {[]string{"inventory/Unknown", "payments"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fail := error(errDown)
			e := call.NewEdges(call.Policies(), slog.New(slog.DiscardHandler), nil)
			conn := e.Target("inventory").Conn(peer(func(context.Context, string) error { return fail }))
			for range 11 {
				_ = conn.Invoke(t.Context(), unknown, nil, nil)
			}
			if s := state(t, e, "inventory/Unknown"); s.Breaker != "open" || s.Failures != 10 {
				t.Fatalf("%+v", s)
			}
			fail = nil
			reset, err := e.Reset(c.names...)
			if d := cmp.Diff(c.reset, reset); d != "" || (err == nil) != (c.reset != nil) {
				t.Error(d, err)
			}
			err = conn.Invoke(t.Context(), unknown, nil, nil)
			s := state(t, e, "inventory/Unknown")
			if c.closed && (err != nil || s.Breaker != "closed" || s.Calls != 1 || s.Failures != 0) || !c.closed && (err == nil || s.Breaker != "open") {
				t.Errorf("then err = %v, %+v", err, s)
			}
		})
	}
}

// Every end of a call is counted once, under its own name.
func TestFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := telemetry.NewMetrics()
		e := call.NewEdges(call.Policies(), slog.New(slog.DiscardHandler), m)
		var answer error
		release := make(chan struct{})
		hang := false
		conn := e.Target("inventory").Conn(peer(func(context.Context, string) error {
			if hang {
				<-release
			}
			return answer
		}))
		ask := func(n int, method string, err error) {
			answer = err
			for range n {
				_ = conn.Invoke(t.Context(), method, nil, nil)
			}
		}
		ask(5, reserve, nil)
		ask(2, reserve, errSold)
		ask(1, reserve, errDown) // three attempts
		gone, cancel := context.WithCancel(t.Context())
		hang, answer = true, context.Canceled
		left := make(chan error)
		go func() { left <- conn.Invoke(gone, reserve, nil, nil) }()
		synctest.Wait()
		if s := state(t, e, "inventory/Reserve"); s.InFlight != 1 {
			t.Errorf("%+v, want one in flight", s)
		}
		figures(t, m, `orderkeep_calls_in_flight{target="inventory",method="Reserve"} 1`)
		cancel()
		close(release)
		<-left
		hang = false
		ask(10, unknown, errDown)
		ask(4, unknown, nil)
		time.Sleep(2 * time.Second)
		figures(t, m,
			`orderkeep_call_attempts_total{target="inventory",method="Reserve",result="ok"} 5`,
			`orderkeep_call_attempts_total{target="inventory",method="Reserve",result="refused"} 2`,
			`orderkeep_call_attempts_total{target="inventory",method="Reserve",result="failed"} 3`,
			`orderkeep_call_attempts_total{target="inventory",method="Reserve",result="left"} 1`,
			`orderkeep_call_repeats_total{target="inventory",method="Reserve"} 2`,
			`orderkeep_call_attempts_total{target="inventory",method="Unknown",result="failed"} 10`,
			`orderkeep_call_attempts_total{target="inventory",method="Unknown",result="breaker_open"} 4`,
			`orderkeep_call_breaker_state{target="inventory",method="Reserve"} 0`,
			`orderkeep_call_breaker_state{target="inventory",method="Unknown"} 2`,
			`orderkeep_calls_in_flight{target="inventory",method="Reserve"} 0`,
			`orderkeep_calls_in_flight_limit{target="inventory",method="Reserve"} 4096`,
		)
	})
}

// Repeats in flight are counted while they are, and those that the budget denies.
func TestFiguresOfRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := telemetry.NewMetrics()
		e := call.NewEdges(call.Policies(), slog.New(slog.DiscardHandler), m)
		release := make(chan struct{})
		var calls atomic.Int64
		conn := e.Target("payments").Conn(peer(func(context.Context, string) error {
			if calls.Add(1) <= 8 { // too few for the breaker
				return errDown
			}
			<-release
			return nil
		}))
		done := make(chan error)
		for range 8 {
			go func() { done <- conn.Invoke(t.Context(), "/orderkeep.payments.v1.PaymentsService/Void", nil, nil) }()
		}
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		s := state(t, e, "payments/Void")
		if s.Repeats == 0 || s.Repeats != s.InFlight {
			t.Errorf("%+v, want only repeats in flight", s)
		}
		close(release)
		for range 8 {
			<-done
		}
		text := new(bytes.Buffer)
		_ = m.Write(text)
		if strings.Contains(text.String(), `orderkeep_call_repeats_denied_total{target="payments",method="Void"} 0`) {
			t.Error("eight calls that fail at once are repeated, all of them: the budget denies nothing")
		}
		figures(t, m, `orderkeep_call_repeats_in_flight{target="payments",method="Void"} 0`)
	})
}

// figures fails unless the metrics have all the lines.
func figures(t *testing.T, m *telemetry.Metrics, lines ...string) {
	t.Helper()
	var text bytes.Buffer
	if err := m.Write(&text); err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if !strings.Contains(text.String(), "\n"+line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			t.Errorf("no line %s among", line)
			for l := range strings.Lines(text.String()) {
				if strings.HasPrefix(l, name+"{") {
					t.Log(strings.TrimSpace(l))
				}
			}
		}
	}
}
