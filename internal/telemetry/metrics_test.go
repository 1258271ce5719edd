package telemetry_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/orderkeep/orderkeep/internal/telemetry"
)

func TestMetricsAreWrittenAsPrometheusReadsThem(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics()
	m.Gauge("orderkeep_lag_seconds", "Age of the oldest.", func() float64 { return 1.5 }, "context", "orders")
	sold := m.Counter("orderkeep_sold_total", "Units sold.", "sku", `a "b" \ `+"\n", "shop", "é")
	m.Gauge("orderkeep_lag_seconds", "Age of the oldest.", func() float64 { return math.NaN() }, "context", "inventory")
	m.Count("orderkeep_asked_total", "Times asked.", func() float64 { return 12345678 })
	sold.Add(2)
	sold.Inc()
	var got bytes.Buffer
	if err := m.Write(&got); err != nil {
		t.Fatal(err)
	}
	want := `# HELP orderkeep_asked_total Times asked.
# TYPE orderkeep_asked_total counter
orderkeep_asked_total 12345678
# HELP orderkeep_lag_seconds Age of the oldest.
# TYPE orderkeep_lag_seconds gauge
orderkeep_lag_seconds{context="inventory"} NaN
orderkeep_lag_seconds{context="orders"} 1.5
# HELP orderkeep_sold_total Units sold.
# TYPE orderkeep_sold_total counter
orderkeep_sold_total{sku="a \"b\" \\ \n",shop="é"} 3
`
	if ours, rest, _ := strings.Cut(got.String(), "go_"); ours != want {
		t.Errorf("got\n%s\nwant\n%s", ours, want)
	} else if !strings.Contains(rest, "\ngo_goroutines ") || !strings.Contains(rest, "\nprocess_start_time_seconds ") {
		t.Errorf("the process has no figures:\n%s", rest)
	}
}

func TestNobodyReadsNoMetrics(t *testing.T) {
	t.Parallel()
	var m *telemetry.Metrics
	m.Gauge("orderkeep_x", "", func() float64 { return 0 })
	m.Count("orderkeep_x", "", func() float64 { return 0 })
	m.Counter("orderkeep_x", "").Inc()
}

// What is added while another reads appears at the next reading.
func TestMetricsMayBeAddedAnyTime(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { m.Counter("orderkeep_n_total", "N.", "n", fmt.Sprint(i)).Inc() })
		all.Go(func() { _ = m.Write(new(bytes.Buffer)) })
	}
	all.Wait()
	var got bytes.Buffer
	if err := m.Write(&got); err != nil || strings.Count(got.String(), "orderkeep_n_total{") != 20 {
		t.Errorf("%v\n%s", err, got.String())
	}
}

func ExampleMetrics() {
	m := telemetry.NewMetrics()
	sold := m.Counter("orderkeep_units_sold_total", "Units sold since the start.", "shop", "till")
	sold.Add(3)
	var text bytes.Buffer
	_ = m.Write(&text)
	ours, _, _ := strings.Cut(text.String(), "go_")
	_, _ = os.Stdout.WriteString(ours)
	// Output:
	// # HELP orderkeep_units_sold_total Units sold since the start.
	// # TYPE orderkeep_units_sold_total counter
	// orderkeep_units_sold_total{shop="till"} 3
}
