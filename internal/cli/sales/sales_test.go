package sales

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"

// rows makes a file of "invoice sku qty price customer" lines.
func rows(lines ...string) string {
	var b strings.Builder
	b.WriteString(header)
	for _, l := range lines {
		f := strings.Split(l, " ")
		fmt.Fprintf(&b, "%s,%s,a thing,%s,2010-12-01 08:26,%s,%s,United Kingdom\n", f[0], f[1], f[2], f[3], f[4])
	}
	return b.String()
}

func TestInvoicesAreSortedByTheRules(t *testing.T) {
	t.Parallel()
	got, err := Read(strings.NewReader(rows(
		"536365 85123A 6 2.55 17850",
		"C536379 D -1 27.5 14527",
		"536365 85123a 2 0.001 17850",
		"536589 21777 -10 0 ",
		"536589 22000 0 0 ",
		"A563185 B 1 -11062.06 ",
		"536370 POST 3 18 12583",
		"536365 85123A 1 2.55 17850", // the first invoice again, after others
	)))
	if err != nil {
		t.Fatal(err)
	}
	want := []Invoice{
		{"536365", Order, "17850", []Line{{"85123A", 6, 255, 2}, {"85123a", 2, 0, 4}, {"85123A", 1, 255, 9}}},
		{"C536379", Return, "14527", []Line{{"D", -1, 2750, 3}}},
		{"536589", Correction, "", []Line{{"21777", -10, 0, 5}, {"22000", 0, 0, 6}}},
		{"A563185", Skipped, "", []Line{{"B", 1, -1106206, 7}}},
		{"536370", Order, "12583", []Line{{"POST", 3, 1800, 8}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if total, ok := got[0].Total(); total != 7*255 || !ok || got[0].Units() != 9 {
		t.Errorf("total %d (%v) of %d units, want %d of 9", total, ok, got[0].Units(), 7*255)
	}
}

func TestReadRefusesWithTheRow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, want string }{
		"nothing":                   {"", "the file is empty"},
		"a header alone":            {header, "no rows"},
		"another header":            {"a,b\n1,2\n", "row 1: the header lacks InvoiceNo, StockCode, Quantity, UnitPrice, CustomerID"},
		"a quantity with a point":   {rows("1 A 1 1 c", "2 A 1.5 1 c"), `row 3: Quantity "1.5" is not a whole number`},
		"a quantity past 2^31":      {rows("1 A 2147483648 1 c"), "row 2: Quantity"},
		"a price in words":          {rows("1 A 1 1 c", "1 A 1 1 c", "1 A 1 free c"), `row 4: UnitPrice "free" is not a price`},
		"a price with an exponent":  {rows("1 A 1 1e3 c"), `row 2: UnitPrice "1e3"`},
		"no price":                  {rows("1 A 1  c"), `row 2: UnitPrice "" is not a price`},
		"a huge price":              {rows("1 A 1 99999999999999 c"), "row 2: UnitPrice"},
		"no SKU":                    {rows("1  1 1 c"), "row 2: StockCode is empty"},
		"a long SKU":                {rows("1 " + strings.Repeat("x", 129) + " 1 1 c"), "row 2: StockCode is longer than 128"},
		"no invoice":                {rows(" A 1 1 c"), "row 2: InvoiceNo is empty"},
		"an invoice beyond ASCII":   {rows("é1 A 1 1 c"), "row 2: InvoiceNo"},
		"a SKU not in UTF-8":        {rows("1 \xff 1 1 c"), "row 2: StockCode"},
		"a return that sells":       {rows("C1 A -1 1 c", "C1 A 2 1 c"), "row 3: invoice C1 is a return"},
		"a sale that takes back":    {rows("1 A 1 1 c", "1 A -2 1 c"), "row 3: invoice 1 sells other lines"},
		"a sale below nothing":      {rows("1 A 1 -1 c"), "row 2: invoice 1 sells at a price below 0"},
		"a row too short":           {header + "1,A,b\n" + "2,A,b,1,d,x,c,e\n", "row 2: wrong number of fields"},
		"a row after one too short": {header + "1,A,b\n" + "2,A,b,1,d,x,c,e\n", `row 3: UnitPrice "x"`},
		"a quote left open":         {header + "1,A,\"b\n", "row 2: "},
		"gzip cut short":            {zip(rows("1 A 1 1 c"))[:40], "row 1: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Read(strings.NewReader(c.file))
			if err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
				t.Errorf("got %v, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestReadTellsTwentyRowsAndNoMore(t *testing.T) {
	t.Parallel()
	var lines []string
	for range 50 {
		lines = append(lines, "1 A x 1 c")
	}
	_, err := Read(strings.NewReader(rows(lines...)))
	if n := strings.Count(err.Error(), "\n") + 1; n != maxErrors+1 {
		t.Errorf("%d lines of errors, want %d and the one that says so:\n%v", n, maxErrors, err)
	}
}

func TestReadTakesGzipAndAByteOrderMark(t *testing.T) {
	t.Parallel()
	file := rows("1 SCHÖN-ÄÖ 1 1 Zoë")
	want, err := Read(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{zip(file), "\ufeff" + file, zip("\ufeff" + file), strings.ReplaceAll(file, "\n", "\r\n")} {
		got, err := Read(strings.NewReader(other))
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Error(err, d)
		}
	}
}

func zip(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	z.Close()
	return b.String()
}

func TestPence(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"2.55": 255, "2.5": 250, "2": 200, "0": 0, "0.001": 0, "0.004": 0, "0.0049999": 0, "0.005": 1, "0.0051": 1,
		"1.005": 101, "0.999": 100, "1.115": 112, "2.675": 268, ".5": 50, "5.": 500, "-11062.06": -1106206, "-0.005": -1,
		"90071992547409.91": maxPence,
	} {
		if got, err := pence(text); got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".", "-", "+1", "1,50", "1.2.3", " 1", "£1", "1e2", "0x1", "--1", "90071992547409.92"} {
		if got, err := pence(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

// Rounding half up is floor(x*100 + 1/2), worked out here over rationals.
func TestPenceRoundsHalfUpExactly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[0-9]{1,9}(\.[0-9]{0,12})?`).Draw(t, "price")
		x, ok := new(big.Rat).SetString(strings.TrimSuffix(text, "."))
		if !ok {
			t.Fatalf("not a number: %q", text)
		}
		x.Mul(x, big.NewRat(100, 1)).Add(x, big.NewRat(1, 2))
		want := new(big.Int).Div(x.Num(), x.Denom())
		if got, err := pence(text); err != nil || got != want.Int64() {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	})
}

func TestTotalSaysWhenItIsPast63Bits(t *testing.T) {
	t.Parallel()
	many := Line{"A", maxQty, maxPence, 2}
	for _, v := range []Invoice{{Lines: []Line{many}}, {Lines: []Line{{"A", 1023, maxPence, 2}, {"A", 1023, maxPence, 2}}}} {
		if total, ok := v.Total(); ok {
			t.Errorf("%v: %d, want no total", v, total)
		}
	}
}

// However the rows of invoices are shuffled together, each invoice keeps its rows in order, and the invoices come in the
// order of their first rows.
func TestInterleavedRowsGroupByInvoice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2", "3", "4", "5"}), 1, 40).Draw(t, "numbers")
		var lines, order []string
		want := map[string][]string{}
		for i, n := range numbers {
			sku := fmt.Sprint("S", i)
			lines = append(lines, n+" "+sku+" 1 1 c")
			if want[n] == nil {
				order = append(order, n)
			}
			want[n] = append(want[n], sku)
		}
		got, err := Read(strings.NewReader(rows(lines...)))
		if err != nil {
			t.Fatal(err)
		}
		var gotOrder []string
		gotLines := map[string][]string{}
		for _, v := range got {
			gotOrder = append(gotOrder, v.Number)
			for _, l := range v.Lines {
				gotLines[v.Number] = append(gotLines[v.Number], l.SKU)
			}
		}
		if d := cmp.Diff(order, gotOrder) + cmp.Diff(want, gotLines); d != "" {
			t.Error(d)
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(rows("1 A 1 2.55 c", "C1 A -1 2.55 c")))
	f.Add([]byte(zip(rows("1 A 1 2.55 c"))))
	f.Add([]byte(header + "1,\"A\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			t.Skip("a small file says as much")
		}
		got, err := Read(bytes.NewReader(data))
		if (err == nil) != (len(got) > 0) {
			t.Errorf("%d invoices and %v", len(got), err)
		}
	})
}
