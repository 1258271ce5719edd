package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
)

// benched is what bench --json prints, as far as the tests look.
type benched struct {
	Runs []struct {
		Loop      string           `json:"loop"`
		Offered   float64          `json:"offered"`
		PerSecond float64          `json:"perSecond"`
		Served    int64            `json:"served"`
		Unserved  int64            `json:"unserved"`
		Outcomes  map[string]int64 `json:"outcomes"`
		P99Ms     float64          `json:"p99Ms"`
		Holds     bool             `json:"holds"`
	} `json:"runs"`
	Top *struct {
		PerSecond float64 `json:"perSecond"`
	} `json:"top"`
	Stock struct {
		ConfirmedUnits int64 `json:"confirmedUnits"`
		ReservedUnits  int64 `json:"reservedUnits"`
		OK             bool  `json:"ok"`
	} `json:"stock"`
	Verify *struct {
		OK     bool                        `json:"ok"`
		Counts map[string]map[string]int64 `json:"counts"`
	} `json:"verify"`
}

func (s *shop) bench(t *testing.T, args ...string) benched {
	t.Helper()
	out, log, code := s.cli(t, "", append([]string{"bench", "--json"}, args...)...)
	var b benched
	if err := json.Unmarshal([]byte(out), &b); code != 0 || err != nil {
		t.Fatalf("bench %v exits with %d, %v:\n%s%s", args, code, err, out, log)
	}
	return b
}

// forTests is a shop of one process that says so.
func forTests(t *testing.T) *shop {
	s := newShop(t)
	s.add(stage.Launch{Path: program, Args: s.serve("--for-tests")}, "orders", "inventory", "payments")
	s.start(t)
	return s
}

func TestBenchMeasuresWhatItOrdered(t *testing.T) {
	t.Parallel()
	s := forTests(t)
	b := s.bench(t, "--duration", "700ms", "--warmup", "100ms", "--skus", "20", "--hot", "0.5", "--lines", "3", "--paid", "0.5", "--refused", "0.25", "--keyed", "0.5", "--verify")
	r := b.Runs[0]
	if r.Loop != "closed" || r.Served == 0 || r.Unserved != 0 || r.P99Ms <= 0 {
		t.Errorf("%+v", r)
	}
	if share := float64(r.Outcomes["refused"]) / float64(r.Served); share < 0.2 || share > 0.3 {
		t.Errorf("%.2f of the orders were refused, want a quarter", share)
	}
	if !b.Stock.OK || b.Stock.ConfirmedUnits == 0 || b.Stock.ConfirmedUnits != b.Stock.ReservedUnits {
		t.Errorf("stock %+v", b.Stock)
	}
	if b.Verify == nil || !b.Verify.OK {
		t.Fatalf("verify %+v", b.Verify)
	}
	all := b.Verify.Counts["orders"]["confirmed"]
	if 3*all != b.Stock.ConfirmedUnits {
		t.Errorf("the database has %d confirmed orders of three lines, and the bench counts %d units", all, b.Stock.ConfirmedUnits)
	}
	if share := float64(b.Verify.Counts["payments"]["authorized"]) / float64(all); share < 0.4 || share > 0.6 {
		t.Errorf("%.2f of the orders are paid, want half", share)
	}
	s.close(t)
}

func TestBenchSweepsAndDrawsIt(t *testing.T) {
	t.Parallel()
	s := forTests(t)
	page := filepath.Join(t.TempDir(), "bench.html")
	b := s.bench(t, "--sweep", "--duration", "200ms", "--warmup", "0s", "--connections", "32", "--p99", "5s", "--html", page)
	if len(b.Runs) < 3 || b.Runs[0].Loop != "closed" || b.Runs[1].Loop != "open" || b.Top == nil || !b.Stock.OK {
		t.Fatalf("%+v", b)
	}
	for _, r := range b.Runs[1:] {
		if r.Holds && r.Offered > b.Top.PerSecond+1 {
			t.Errorf("%.0f/s holds, and the top rate is %.0f", r.Offered, b.Top.PerSecond)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	html := string(text)
	for what, pattern := range map[string]string{
		"curves": `(?s)<svg .*<svg .*<svg .*<svg `, "a text for each": `role="img" aria-label="Latency by rate\.`, "a table": `<table>(?s:.*)closed loop`,
		"dark mode": `prefers-color-scheme: dark`, "phones": `width=device-width`,
	} {
		if !regexp.MustCompile(pattern).MatchString(html) {
			t.Errorf("the page has no %s", what)
		}
	}
	if m := regexp.MustCompile(`<script|src=|href=|NaN|Inf`).FindString(html); m != "" {
		t.Errorf("the page has %q: it needs no script and nothing from elsewhere, and every figure is one", m)
	}
	s.close(t)
}

// A shop's own server would keep the orders of a bench for ever.
func TestBenchLeavesServersAloneThatAreNotForTests(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 1)
	for _, args := range [][]string{{"bench", "--duration", "200ms"}, {"bench", "load", "--orders", "10"}} {
		out, log, code := s.cli(t, "", args...)
		if code != 2 || out != "" || !strings.Contains(log, "does not say that it is for tests") || !strings.Contains(log, "--yes") {
			t.Errorf("%v exits with %d: %s%s", args, code, out, log)
		}
	}
	if out, _, _ := s.cli(t, "", "stock", "export"); strings.Contains(out, "BENCH") || strings.Contains(out, "LOAD") {
		t.Errorf("it stocked its SKUs all the same:\n%s", out)
	}
	if b := s.bench(t, "--duration", "200ms", "--warmup", "0s", "--skus", "5", "--yes"); b.Runs[0].Served == 0 {
		t.Errorf("%+v", b)
	}
	s.close(t)
}

func TestBenchFindsInventoryElsewhere(t *testing.T) {
	t.Parallel()
	s := threeProcesses("grpc", ownBroker)(t, 1)
	b := s.bench(t, "--duration", "300ms", "--warmup", "0s", "--skus", "5", "--yes", "--inventory-at", s.process("inventory").URL, "--rate", "50")
	if r := b.Runs[0]; r.Loop != "open" || r.Offered != 50 || r.Served+r.Unserved != 15 || !b.Stock.OK {
		t.Errorf("%+v", b)
	}
	s.settles(t)
	s.close(t)
}

func TestLoadGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	s := forTests(t)
	for _, orders := range []string{"300", "1000", "1000"} {
		if out, log, code := s.cli(t, "", "bench", "load", "--orders", orders, "--skus", "70", "--lines", "2"); code != 0 || !strings.Contains(out, "orders and 70 SKUs are there") {
			t.Fatalf("load of %s exits with %d: %s%s", orders, code, out, log)
		}
	}
	out, log, code := s.cli(t, "", "verify", "--json")
	var v struct {
		Counts map[string]map[string]int64 `json:"counts"`
	}
	if err := json.Unmarshal([]byte(out), &v); code != 0 || err != nil {
		t.Fatalf("verify exits with %d, %v: %s", code, err, log)
	}
	if o, i := v.Counts["orders"], v.Counts["inventory"]; o["confirmed"] != 1000 || i["items"] != 70 || i["reserved"] != 2000 {
		t.Errorf("orders %v, inventory %v: want 1,000 confirmed, 70 items, 2,000 units reserved", o, i)
	}
	s.close(t)
}
