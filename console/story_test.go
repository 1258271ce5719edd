package console

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/node"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
)

// The picture on the page has the states and the steps of the one in the documents.
func TestPictureIsThatOfTheDocuments(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/order-states.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got, states []string
	for _, m := range regexp.MustCompile(`(?m)^    (\w+) --> (\w+): ([\w ]+)$`).FindAllStringSubmatch(string(text), -1) {
		want = append(want, m[1]+" --> "+m[2]+": "+m[3])
	}
	for _, s := range stateSteps {
		got = append(got, s.From+" --> "+s.To+": "+s.Name)
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("the picture differs (-document +page):\n%s", cmp.Diff(want, got))
	}
	for _, s := range stateBoxes {
		states = append(states, s.Name)
	}
	for _, s := range stateSteps {
		if !slices.Contains(states, s.From) || !slices.Contains(states, s.To) {
			t.Errorf("%s leads out of the picture", s.Name)
		}
	}
}

func TestPictureShowsTheWayOfAnOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		now  string
		held bool
		want []string
	}{
		{"pending", false, nil},
		{"returned", false, []string{"confirm", "fulfil", "return"}},
		{"cancelled", true, []string{"confirm", "cancel"}},
		{"rejected", false, []string{"reject"}},
		{"rejected", true, []string{"give up", "undone"}},
	} {
		p := draw(c.now, c.held)
		var taken []string
		for _, s := range p.Steps {
			if s.Taken {
				taken = append(taken, s.Name)
			}
		}
		now := 0
		for _, s := range p.States {
			if s.Mark == "now" {
				now++
			}
		}
		if !slices.Equal(taken, c.want) || now != 1 {
			t.Errorf("%+v: took %v, %d states are now", c, taken, now)
		}
	}
	o := &ordersapi.Order{Status: ordersapi.OrderStatusPending, Reason: ordersapi.NewOptString("payment_declined")}
	if stateOf(o) != "undoing" {
		t.Error("a pending order with a reason is on its way out")
	}
}

func TestStoryIsInTheOrderOfTimeAndInScenes(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 2, 9, 15, 4, 0, time.UTC)
	s := &story{}
	s.acts("orders", []act{{At: start.Add(73 * time.Hour), Actor: "ann", What: "return_order", Reason: "too small"}})
	s.add(entry{Kind: "span", At: start.Add(10 * time.Millisecond), DurationMs: 90, Service: "payments", Name: "simulated/Authorize attempt", SpanKind: "client", Error: "away", Attrs: map[string]any{"attempt": 1.0}}.line("payments"))
	s.add(entry{Kind: "span", At: start.Add(200 * time.Millisecond), DurationMs: 5, Service: "payments", Name: "simulated/Authorize attempt", SpanKind: "client", Attrs: map[string]any{"attempt": 2.0}}.line("payments"))
	s.add(entry{Kind: "span", At: start.Add(150 * time.Millisecond), Service: "orders", Name: "payments/Authorize attempt", Error: "x", Attrs: map[string]any{"attempt": 2.0, "refused": "breaker_open"}}.line("orders"))
	s.add(entry{Kind: "log", At: start.Add(time.Millisecond), Level: "WARN", Message: "request refused", Attrs: map[string]any{"orderId": "o", "why": "y"}}.line("orders"))
	for i, err := range []string{"away", ""} { // recovery
		s.add(entry{Kind: "span", At: start.Add(time.Duration(250+10*i) * time.Millisecond), Service: "payments", Name: "simulated/Lookup attempt", SpanKind: "client", Error: err, Attrs: map[string]any{"attempt": 1.0}}.line("payments"))
	}
	s.add(entry{Kind: "span", At: start.Add(280 * time.Millisecond), Service: "payments", Name: "/orderkeep.payments.v1.PaymentsService/Authorize", SpanKind: "server", Attrs: map[string]any{"rpc.system": "grpc"}}.line("payments"),
		entry{Kind: "span", At: start.Add(290 * time.Millisecond), Service: "orders", Name: "POST /v1/orders", SpanKind: "server", Attrs: map[string]any{"http.response.status_code": 202.0, "url.path": "/v1/orders"}}.line("orders"))
	s.steps([]ordersapi.TimelineEntry{{At: start, What: "placed"}, {At: start.Add(300 * time.Millisecond), What: "confirmed"}})
	scenes := s.scenes()
	if len(scenes) != 2 || scenes[1].After != "3 days" || scenes[0].Span() != "300 ms in all" {
		t.Fatalf("%+v", scenes)
	}
	var got []string
	for _, l := range scenes[0].Lines {
		got = append(got, l.Service+" "+l.Kind+" "+l.What+"|"+l.Detail)
		if l.X+l.W > 1000 {
			t.Errorf("%s lies beside the axis: %d and %d long", l.What, l.X, l.W)
		}
	}
	want := []string{
		"orders step placed|", "orders log request refused|why y", "payments call simulated/Authorize|away",
		"orders refused payments/Authorize attempt|breaker open x", "payments retry simulated/Authorize, attempt 2|",
		"payments call simulated/Lookup|away", "payments retry simulated/Lookup|",
		"payments span PaymentsService/Authorize|", "orders span POST /v1/orders|answered 202", "orders step confirmed|",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if l := scenes[1].Lines[0]; l.What != "return order by ann" || l.Detail != "too small" || l.Kind != "hand" {
		t.Errorf("%+v", l)
	}
}

func TestChartSaysWhyItIsEmpty(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "in a moment", 1: "in a moment", 2: "No order was refused"} {
		if ch := drawChart("refusals", "", "", []string{seriesRefused}, make([]point, n)); !strings.Contains(ch.Empty, want) {
			t.Errorf("after %d readings: %q", n, ch.Empty)
		}
	}
	if ch := drawChart("queue", "", "", []string{seriesQueue}, make([]point, 2)); !strings.Contains(ch.Empty, "--metrics-from") {
		t.Errorf("a service that does not say: %q", ch.Empty)
	}
}

func TestFiguresAreRatesAndLevels(t *testing.T) {
	t.Parallel()
	at := time.Now()
	read := func(text string, at time.Time) totals { return totals{at, parseMetrics([]byte(text))} }
	before := read("orderkeep_orders_total{outcome=\"confirmed\"} 10\norderkeep_order_step_seconds_bucket{step=\"reserve\",le=\"0.1\"} 5\norderkeep_order_step_seconds_bucket{step=\"reserve\",le=\"0.2\"} 5\norderkeep_order_step_seconds_bucket{step=\"reserve\",le=\"+Inf\"} 5\n", at)
	after := read(`# HELP x
orderkeep_orders_total{outcome="confirmed"} 40
orderkeep_orders_total{outcome="rejected",reason="out \"of\" stock"} 3
orderkeep_orders_total{outcome="rejected",reason="other"} 0
orderkeep_order_step_seconds_bucket{step="reserve",le="0.1"} 105
orderkeep_order_step_seconds_bucket{step="reserve",le="0.2"} 105
orderkeep_order_step_seconds_bucket{step="reserve",le="+Inf"} 105
orderkeep_queue_depth{context="orders"} 250
orderkeep_outbox_oldest_seconds{context="orders"} NaN
go_goroutines 7
`, at.Add(3*time.Second))
	got := map[string]float64{}
	figures(got, []vitals{{sum: after}}, map[string]totals{"": before})
	want := map[string]float64{"orders confirmed": 10, "orders not confirmed": 1, `refused out "of" stock`: 1, "latency reserve": 99, "queue orders": 250}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	first := map[string]float64{}
	figures(first, []vitals{{sum: after}}, nil)
	if d := cmp.Diff(map[string]float64{"queue orders": 250}, first); d != "" {
		t.Errorf("a first reading has rates: %s", d)
	}

	// Two replicas: their orders and queues are added up, the quantile is of both, and what both read in one database is there once.
	slow := read(`orderkeep_orders_total{outcome="confirmed"} 20
orderkeep_order_step_seconds_bucket{step="reserve",le="0.1"} 5
orderkeep_order_step_seconds_bucket{step="reserve",le="0.2"} 105
orderkeep_order_step_seconds_bucket{step="reserve",le="+Inf"} 105
orderkeep_queue_depth{context="orders"} 30
orderkeep_outbox_oldest_seconds{context="orders"} 7
`, at.Add(3*time.Second))
	again := read("orderkeep_outbox_oldest_seconds{context=\"orders\"} 6\n", at.Add(3*time.Second))
	both := map[string]float64{}
	one, two, three := process{Front: node.Front{URL: "a"}}, process{Front: node.Front{URL: "b"}}, process{Front: node.Front{URL: "c"}}
	figures(both, []vitals{{process: one, sum: after}, {process: two, sum: slow}, {process: three, sum: again}}, map[string]totals{"a": before, "b": before, "c": before})
	want = map[string]float64{"orders confirmed": 10 + 10.0/3, "orders not confirmed": 1, `refused out "of" stock`: 1, "latency reserve": 198, "queue orders": 280, "to be published orders": 7}
	if d := cmp.Diff(want, both, cmpopts.EquateApprox(1e-9, 0)); d != "" {
		t.Error(d)
	}
}

// A value that nobody measured is a gap of its line, and no 0; a rate that nobody counted is 0.
func TestChartsHaveGapsWhereNothingWasMeasured(t *testing.T) {
	t.Parallel()
	points := []point{{Values: map[string]float64{"latency reserve": 8}}, {Values: map[string]float64{"orders confirmed": 3}}, {Values: map[string]float64{"latency reserve": 4}}}
	ch := drawChart("latency", "", "", []string{seriesLatency}, points)
	if path := ch.Series[0].Path; path != "M0.0 4.0h0M300.0 31.0h0" || ch.Series[0].Last != "4.00" || !ch.Drawn {
		t.Errorf("latency is drawn as %s, %+v", path, ch)
	}
	if ch = drawChart("latency", "", "", []string{seriesLatency}, points[:2]); ch.Series[0].Last != "–" {
		t.Errorf("without an order the last latency is %q", ch.Series[0].Last)
	}
	ch = drawChart("orders", "", "", []string{seriesConfirmed}, points)
	if path := ch.Series[0].Path; path != "M0.0 58.0h0L150.0 4.0L300.0 58.0" || ch.Series[0].Last != "0" {
		t.Errorf("orders are drawn as %s, %+v", path, ch)
	}
}

// A process need not read what it has kept of the time before an order.
func TestOnlyWindowsOfAnOrdersTimeAreAskedFor(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.Path+"?"+r.URL.RawQuery)
		io.WriteString(w, `{"service":"orders","entries":[]}`)
	}))
	defer s.Close()
	c, err := newConsole(node.Env{Fronts: map[string]node.Front{"orders": {URL: s.URL, HTTP: s.Client()}}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	o := &ordersapi.Order{OrderId: uuid.MustParse("0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55"), CorrelationId: "till-4", PlacedAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	c.windows(t.Context(), o, &story{})
	slices.Sort(asked)
	want := []string{
		"/internal/window?correlation=till-4&from=2026-03-01T11%3A50%3A00Z&limit=500",
		"/internal/window?from=2026-03-01T11%3A50%3A00Z&limit=500&text=0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55",
	}
	if d := cmp.Diff(want, asked); d != "" {
		t.Error(d)
	}
}
