package test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

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
	out, log, code := s.cli(t, "", "bench", "--duration", "200ms")
	if code != 2 || out != "" || !strings.Contains(log, "does not say that it is for tests") || !strings.Contains(log, "--yes") {
		t.Errorf("bench exits with %d: %s%s", code, out, log)
	}
	out, log, code = s.cli(t, "", "bench", "load", "--orders", "10")
	if code != 1 || out != "" || !strings.Contains(log, "in use by process") || !strings.Contains(log, "--data") {
		t.Errorf("bench load exits with %d: %s%s", code, out, log)
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

// loaded fails the test unless that many orders of two lines are there, each once and confirmed, and nothing is left to do.
func (s *shop) loaded(t *testing.T, orders int64) {
	t.Helper()
	a := s.audited(t)
	o, i := a.Counts["orders"], a.Counts["inventory"]
	if !a.OK || len(a.OnItsWay) > 0 || o["confirmed"] != orders || o["rejected"]+o["pending"] != 0 || i["items"] != 70 || i["reserved"] != 2*orders {
		t.Errorf("%+v: want %d confirmed orders and no other, 70 items, %d units reserved, and nothing on its way", a, orders, 2*orders)
	}
}

// loading is the command line of a load.
func loading(orders string) []string {
	return []string{"bench", "load", "--orders", orders, "--skus", "70", "--lines", "2"}
}

func (s *shop) load(t *testing.T, orders string) {
	t.Helper()
	if out, log, code := s.cli(t, "", loading(orders)...); code != 0 || !strings.Contains(out, "orders and 70 SKUs are there") || log != "" {
		t.Fatalf("load of %s exits with %d: %s%s", orders, code, out, log)
	}
}

func TestLoadGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.add(stage.Launch{Path: program, Args: s.serve("--for-tests")}, "orders", "inventory", "payments")
	for _, orders := range []string{"300", "1000", "1000"} {
		s.load(t, orders)
	}
	s.loaded(t, 1000)
	// A server goes on with it.
	s.start(t)
	if b := s.bench(t, "--duration", "200ms", "--warmup", "0s", "--skus", "5", "--verify"); !b.Stock.OK || !b.Verify.OK {
		t.Errorf("%+v", b)
	}
	s.close(t)
}

// A load is killed at any instant, again and again, and then let to its end.
func TestLoadGoesOnAfterKills(t *testing.T) {
	t.Parallel()
	const orders, kills = 8000, 5
	s := newShop(t)
	s.add(stage.Launch{Path: program, Args: s.serve()}, "orders", "inventory", "payments")
	s.load(t, "40")
	amid := 0
	for round := range kills {
		p := stage.Spawn(t, stage.Launch{Path: program, Args: loading(strconv.Itoa(orders)), Env: []string{"ORDERKEEP_DATA=" + s.data}})
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(round+1) * int64(250*time.Millisecond)))): // later and later, for a slow machine
		case <-p.Ended:
		}
		p.Kill()
		a := s.audited(t)
		for _, v := range a.Violations {
			if v.Rule != "pending_order_is_driven" { // nobody drives one that an earlier kill has left: the next load does
				t.Fatalf("kill %d: verify finds %v", round, v)
			}
		}
		if n := a.Counts["orders"]["confirmed"]; n > 40 && n < orders {
			amid++
		}
	}
	if amid == 0 {
		t.Error("no kill came amid the orders: the test does not test what it says")
	}
	s.load(t, strconv.Itoa(orders))
	s.loaded(t, orders)
}

// On a server the databases are not one process's own: others go on beside the load.
func TestLoadFillsPostgreSQLBesideAServer(t *testing.T) {
	t.Parallel()
	s := replicated(t, 1)
	s.start(t)
	s.load(t, "700")
	s.settles(t)
	s.loaded(t, 700)
	s.close(t)
}
