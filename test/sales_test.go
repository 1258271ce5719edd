package test

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// salesEnv names the directory with nine months of a real shop's sales; see CONTRIBUTING.md.
const salesEnv = "ORDERKEEP_SALES"

// replayed is what replay --json prints, as far as it says what became of the sales and not how fast.
type replayed struct {
	Confirmed, OutOfStock, Failed, Lines, Units, ValueMinor                           int
	Returns, ReturnedUnits, Corrections, CorrectedUnits, RefusedLines, Skipped, Again int
}

// Figures of the sales, one invoice after the other, from a model that is independent of this program.
var oneByOne = replayed{
	Confirmed: 11_233, OutOfStock: 1_744, Lines: 223_203, Units: 2_558_151, ValueMinor: 478_158_225,
	Returns: 2_554, ReturnedUnits: 145_217, Corrections: 925, CorrectedUnits: -28_831, RefusedLines: 441, Skipped: 3,
}

// leftOver is what the model has available at the end, of all tracked SKUs.
const leftOver = 589_668

// past is what a shop sold, and what an independent model makes of it, one invoice after the other.
type past struct {
	file, sheet string // the sales, and the stock before them
	figures     replayed
	leftOver    int
}

// wholePast is nine months, in a directory.
func wholePast(dir string) past {
	return past{filepath.Join(dir, "online_retail_2010-12_2011-08.csv.gz"), filepath.Join(dir, "online_retail_2010-12_2011-08_stock.csv"), oneByOne, leftOver}
}

// somePast is nine months where they are at hand, and the demo's week elsewhere.
func somePast(t *testing.T) past {
	t.Helper()
	if dir := os.Getenv(salesEnv); dir != "" {
		return wholePast(dir)
	}
	dir, err := filepath.Abs("../internal/cli/demo")
	if err != nil {
		t.Fatal(err)
	}
	return past{filepath.Join(dir, "week.csv.gz"), filepath.Join(dir, "stock.csv"), replayed{
		Confirmed: 263, OutOfStock: 92, Lines: 4_664, Units: 52_680, ValueMinor: 9_225_779,
		Returns: 58, ReturnedUnits: 1_280, Corrections: 35, CorrectedUnits: -378, RefusedLines: 25,
	}, 40_411}
}

// TestSalesOfARealShop replays them.
func TestSalesOfARealShop(t *testing.T) {
	t.Parallel()
	dir := os.Getenv(salesEnv)
	if dir == "" {
		t.Skipf("%s does not name the sales", salesEnv)
	}
	past := wholePast(dir)
	file, sheet := past.file, past.sheet

	t.Run("one after the other gives exactly the figures of an independent model", func(t *testing.T) {
		t.Parallel()
		s := opened(t, sheet)
		first := s.replay(t, file, 1)
		if d := cmp.Diff(oneByOne, first); d != "" {
			t.Error(d)
		}
		if n := sum(s.export(t), func(i item) int { return i.available }); n != leftOver {
			t.Errorf("%d units are left over, want %d", n, leftOver)
		}
		s.verify(t)
		shelf := s.export(t)
		second := s.replay(t, file, 8)
		// One request for each order, one for each line of a return or a correction.
		if second.Again <= first.Confirmed+first.OutOfStock {
			t.Errorf("%d requests of the second replay got stored answers", second.Again)
		}
		second.Again = 0
		if d := cmp.Diff(oneByOne, second); d != "" {
			t.Errorf("the second replay: %s", d)
		}
		if n := len(s.orders(t, "")); n != oneByOne.Confirmed+oneByOne.OutOfStock {
			t.Errorf("there are %d orders after the second replay, want none new", n)
		}
		if !slices.Equal(shelf, s.export(t)) {
			t.Error("the second replay changed the stock")
		}
		s.verify(t)
		s.close(t)
	})
	t.Run("64 at once conserve every SKU", func(t *testing.T) {
		t.Parallel()
		s := opened(t, sheet)
		got := s.replay(t, file, 64)
		if got.Failed > 0 || got.Confirmed+got.OutOfStock != oneByOne.Confirmed+oneByOne.OutOfStock || got.Returns != oneByOne.Returns || got.Corrections != oneByOne.Corrections {
			t.Errorf("replayed: %+v", got)
		}
		s.conserves(t, sheet, file, got)
		s.verify(t)
		s.close(t)
	})
}

// opened is a shop with the opening stock on its shelf.
func opened(t *testing.T, sheet string) *shop {
	t.Helper()
	s := newShop(t)
	s.add(stage.Launch{Path: program, Args: s.serve()}, "orders", "inventory", "payments")
	s.start(t)
	if out, log, code := s.cli(t, "", "stock", "import", sheet); code != 0 {
		t.Fatalf("stock import exits with %d: %s%s", code, out, log)
	}
	return s
}

func (s *shop) replay(t *testing.T, file string, concurrency int) replayed {
	t.Helper()
	out, log, code := s.cli(t, "", replaying(file, concurrency)...)
	return summary(t, out, log, code)
}

// replaying is the command line of a replay.
func replaying(file string, concurrency int) []string {
	return []string{"replay", file, "--concurrency", strconv.Itoa(concurrency), "--json"}
}

// summary reads what a replay printed.
func summary(t *testing.T, out, log string, code int) replayed {
	t.Helper()
	if code != 0 {
		t.Fatalf("replay exits with %d: %s%s", code, out, log)
	}
	t.Log(strings.Join(strings.Fields(out), " "))
	var got struct {
		replayed
		Replayed int
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	got.Again = got.Replayed
	return got.replayed
}

// item is a row of the stock's export.
type item struct {
	sku                         string
	onHand, reserved, available int
	tracked                     bool
}

func (s *shop) export(t *testing.T) []item {
	t.Helper()
	out, log, code := s.cli(t, "", "stock", "export")
	if code != 0 {
		t.Fatalf("stock export exits with %d: %s", code, log)
	}
	var all []item
	for _, row := range rows(t, strings.NewReader(out), "sku", "on_hand", "reserved", "available", "tracked") {
		i := item{sku: row[0], onHand: number(t, row[1]), reserved: number(t, row[2]), tracked: row[4] == "true"}
		if i.tracked {
			i.available = number(t, row[3])
		}
		all = append(all, i)
	}
	return all
}

// conserves proves for every tracked SKU: opening + returned + corrected - sold = available >= 0. What was there at first
// and what was returned is in the files, what was corrected in the movements (some corrections are refused), and what
// was sold in the orders.
func (s *shop) conserves(t *testing.T, sheet, file string, got replayed) {
	t.Helper()
	expected := map[string]int{}
	for _, row := range rows(t, open(t, sheet), "sku", "on_hand") {
		expected[row[0]] = number(t, row[1])
	}
	zipped, err := gzip.NewReader(open(t, file))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows(t, zipped, "InvoiceNo", "StockCode", "Quantity") {
		if strings.HasPrefix(row[0], "C") {
			expected[row[1]] -= number(t, row[2])
		}
	}
	units := 0
	for _, o := range s.orders(t, "status=confirmed") {
		for _, l := range o.Items {
			expected[l.SKU] -= l.Qty
			units += l.Qty
		}
	}
	if units != got.Units {
		t.Errorf("the confirmed orders have %d units, and replay says %d", units, got.Units)
	}
	corrected := 0
	for _, i := range s.export(t) {
		if !i.tracked {
			continue
		}
		n := s.corrected(t, i.sku)
		corrected += n
		if want := expected[i.sku] + n; i.available != want || want < 0 || i.available != i.onHand-i.reserved {
			t.Errorf("%+v, want %d available", i, want)
		}
	}
	if corrected != got.CorrectedUnits {
		t.Errorf("the corrections come to %d units, and replay says %d", corrected, got.CorrectedUnits)
	}
}

// corrected is the sum of the corrections of a SKU, of which there are few.
func (s *shop) corrected(t *testing.T, sku string) (n int) {
	t.Helper()
	var page struct {
		Movements []struct {
			Delta  int
			Reason string
		}
		NextCursor string
	}
	a := s.get(t, "/v1/stock/"+url.PathEscape(sku)+"/movements?limit=1000")
	if err := json.Unmarshal([]byte(a.text), &page); err != nil || a.status != http.StatusOK || page.NextCursor != "" {
		t.Fatalf("movements of %s: %v, %v", sku, a, err)
	}
	for _, m := range page.Movements {
		if m.Reason == "correction" {
			n += m.Delta
		}
	}
	return n
}

// rows reads CSV and gives the named columns.
func rows(t *testing.T, r io.Reader, columns ...string) [][]string {
	t.Helper()
	all, err := csv.NewReader(r).ReadAll()
	if err != nil || len(all) == 0 {
		t.Fatalf("CSV of %d rows: %v", len(all), err)
	}
	picked := make([][]string, len(all)-1)
	for _, name := range columns {
		at := slices.Index(all[0], name)
		if at < 0 {
			t.Fatalf("there is no column %s in %v", name, all[0])
		}
		for i, row := range all[1:] {
			picked[i] = append(picked[i], row[at])
		}
	}
	return picked
}

func open(t *testing.T, path string) io.Reader {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(text)
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(fmt.Errorf("%q: %w", text, err))
	}
	return n
}

func sum[T any](all []T, of func(T) int) (n int) {
	for _, x := range all {
		n += of(x)
	}
	return n
}
