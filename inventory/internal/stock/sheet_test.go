package stock

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
	"pgregory.net/rapid"
)

// readAll returns the good rows of a file and its problems.
func readAll(t interface{ Fatal(...any) }, file string) ([]Row, *Problems) {
	var p Problems
	s, err := ReadSheet(strings.NewReader(file), &p)
	if err != nil {
		t.Fatal(err)
	}
	var rows []Row
	for {
		row, ok, err := s.Next(&p)
		if err == io.EOF {
			return rows, &p
		}
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			rows = append(rows, row)
		}
	}
}

func TestSheetReads(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		want       []Row
	}{
		{"the plain form", "sku,title,on_hand,tracked\nA,Book,5,true\nB,,0,false\n", []Row{{2, "A", "Book", 5, true}, {3, "B", "", 0, false}}},
		{"a byte order mark and Windows line ends", "\ufeffsku,title,on_hand,tracked\r\nA,Book,5,TRUE\r\n", []Row{{2, "A", "Book", 5, true}}},
		{"columns in another order", "tracked,on_hand,sku,title\nfalse,-5,A,Book\n", []Row{{2, "A", "Book", -5, false}}},
		{"an export", "sku,title,on_hand,reserved,available,tracked\nA,Book,5,2,3,true\n", []Row{{2, "A", "Book", 5, true}}},
		{"quotes, commas and other scripts", "sku,title,on_hand,tracked\n\"A,1\",\"Ein \"\"Buch\"\" – 本\",5,true\n", []Row{{2, "A,1", "Ein \"Buch\" – 本", 5, true}}},
		{"case and spaces of a SKU as they are", "sku,title,on_hand,tracked\na,x,1,true\nA,x,2,true\n\" A\",x,3,true\n", []Row{{2, "a", "x", 1, true}, {3, "A", "x", 2, true}, {4, " A", "x", 3, true}}},
		{"past empty lines, which count", "sku,title,on_hand,tracked\n\n\nA,x,1,true", []Row{{4, "A", "x", 1, true}}},
		{"a header alone", "sku,title,on_hand,tracked\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, p := readAll(t, tt.file)
			if err := p.Err(); err != nil {
				t.Fatal(err, fault.Of(err).Items)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSheetRefuses(t *testing.T) {
	t.Parallel()
	const header = "sku,title,on_hand,tracked\n"
	tests := []struct {
		name, file string
		rows       []int64
		field      string
	}{
		{"an empty file", "", []int64{1}, ""},
		{"a missing column", "sku,title,tracked\nA,x,true\n", []int64{1}, "on_hand"},
		{"an unknown column", "sku,title,on_hand,tracked,price\nA,x,1,true,2\n", []int64{1}, ""},
		{"a column twice", "sku,title,on_hand,tracked,sku\n", []int64{1}, "sku"},
		{"no header", "A,x,1,true\n", []int64{1, 1, 1, 1, 1, 1, 1, 1}, ""},
		{"a number that is none", header + "A,x,many,true\n", []int64{2}, "on_hand"},
		{"a fraction", header + "A,x,1.5,true\n", []int64{2}, "on_hand"},
		{"an empty number", header + "A,x,,true\n", []int64{2}, "on_hand"},
		{"2^53", header + "A,x,9007199254740992,true\n", []int64{2}, "on_hand"},
		{"a number past 64 bits", header + "A,x,99999999999999999999,true\n", []int64{2}, "on_hand"},
		{"less than nothing of a tracked item", header + "A,x,1,true\nB,x,-1,true\n", []int64{3}, "on_hand"},
		{"an empty SKU", header + ",x,1,true\n", []int64{2}, "sku"},
		{"a SKU of 129 bytes", header + strings.Repeat("s", 129) + ",x,1,true\n", []int64{2}, "sku"},
		{"a control character in a SKU", header + "A\tB,x,1,true\n", []int64{2}, "sku"},
		{"a space that does not break in a SKU", header + "A\u00a0B,x,1,true\n", []int64{2}, "sku"},
		{"a space without a width in a SKU", header + "A\u200bB,x,1,true\n", []int64{2}, "sku"},
		{"a character that stands for a broken one in a SKU", header + "A\ufffd,x,1,true\n", []int64{2}, "sku"},
		{"a NUL in a title", header + "A,x\x00,1,true\n", []int64{2}, "title"},
		{"broken UTF-8", header + "A,\xff\xfe,1,true\n", []int64{2}, "title"},
		{"a boolean that is none", header + "A,x,1,maybe\n", []int64{2}, "tracked"},
		{"too few columns", header + "A,x,1\nB,x,1,true\nC\n", []int64{2, 4}, ""},
		{"too many columns", header + "A,x,1,true,\n", []int64{2}, ""},
		{"a stray quote", header + "A,\"x\"y,1,true\nB,x,-1,true\n", []int64{2, 3}, ""},
		{"a line end inside of a title, and counts rows past it", header + "A,\"x\ny\",1,true\nB,x,-1,true\n", []int64{2, 3}, "title"},
		{"a quote that is never closed", header + "A,x,1,true\nB,\"x,1,true\n" + strings.Repeat("C,x,1,true\n", 100_000), []int64{3}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, p := readAll(t, tt.file)
			err := p.Err()
			if !errors.Is(err, ErrInvalidCSV) {
				t.Fatalf("err = %v", err)
			}
			f := fault.Of(err)
			var rows []int64
			for _, i := range f.Items {
				rows = append(rows, i.Row)
				if i.Detail == "" {
					t.Errorf("row %d has no detail", i.Row)
				}
			}
			if diff := cmp.Diff(tt.rows, rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s%v", diff, f.Items)
			}
			if f.Items[0].Field != tt.field {
				t.Errorf("field %q, want %q", f.Items[0].Field, tt.field)
			}
		})
	}
}

func TestProblemsListTheFirstHundredAndCountAll(t *testing.T) {
	t.Parallel()
	_, p := readAll(t, "sku,title,on_hand,tracked\n"+strings.Repeat("A,x,no,true\n", 250))
	f := fault.Of(p.Err())
	if len(f.Items) != 100 || f.Items[99].Row != 101 || !strings.Contains(f.Detail, "250") {
		t.Errorf("%d items, last of row %d, detail %q", len(f.Items), f.Items[len(f.Items)-1].Row, f.Detail)
	}
}

func TestProblemsSayHowManyThereAre(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{
		1:   "Nothing was imported: 1 problem, in row 2.",
		2:   "Nothing was imported: 2 problems, the first in row 2.",
		100: "Nothing was imported: 100 problems, the first in row 2.",
		101: "Nothing was imported: 101 problems, the first in row 2. The first 100 are listed.",
	} {
		_, p := readAll(t, "sku,title,on_hand,tracked\n"+strings.Repeat("A,x,no,true\n", n))
		if f := fault.Of(p.Err()); f.Detail != want || f.Items[0].SKU != "A" {
			t.Errorf("%q of %q, want %q", f.Detail, f.Items[0].SKU, want)
		}
	}
}

func TestALongFileOfShortRowsIsRead(t *testing.T) {
	t.Parallel()
	n := 2 * maxRow / len("A,x,1,true\n")
	rows, p := readAll(t, "sku,title,on_hand,tracked\n"+strings.Repeat("A,x,1,true\n", n))
	if err := p.Err(); err != nil || len(rows) != n {
		t.Errorf("%d rows of %d, %v", len(rows), n, err)
	}
}

// drawSKU draws what a SKU may be.
func drawSKU(t *rapid.T) string {
	return rapid.StringOfN(rapid.OneOf(
		rapid.SampledFrom([]rune{'"', ',', '\'', ' ', ';', '\\', '.', '=', '#', 'é', '本'}),
		rapid.Rune().Filter(func(r rune) bool { return unicode.IsPrint(r) && r != utf8.RuneError }),
	), 1, 20, 20).Draw(t, "sku")
}

// text draws what a title may be.
func text(t *rapid.T, min, max int, name string) string {
	return rapid.StringOfN(rapid.OneOf(
		rapid.SampledFrom([]rune{'"', ',', '\'', ' ', ';', '\\', '.', '=', '#', 'é', '本', '\u2028', '\ufeff'}),
		rapid.Rune().Filter(func(r rune) bool { return !unicode.IsControl(r) }),
	), -1, max, max).Filter(func(s string) bool { return badText(s, min, max) == "" }).Draw(t, name)
}

func TestSheetReadsBackWhatWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var want []Row
		var file bytes.Buffer
		w := csv.NewWriter(&file)
		w.UseCRLF = rapid.Bool().Draw(t, "crlf")
		rows := [][]string{{"sku", "title", "on_hand", "tracked"}}
		for n := range rapid.IntRange(0, 5).Draw(t, "rows") {
			row := Row{int64(n + 2), drawSKU(t), text(t, 0, 40, "title"), rapid.Int64Range(0, MaxUnits).Draw(t, "on hand"), rapid.Bool().Draw(t, "tracked")}
			want = append(want, row)
			rows = append(rows, []string{row.SKU, row.Title, strconv.FormatInt(row.OnHand, 10), strconv.FormatBool(row.Tracked)})
		}
		if err := w.WriteAll(rows); err != nil {
			t.Fatal(err)
		}
		got, p := readAll(t, file.String())
		if err := p.Err(); err != nil {
			t.Fatal(err, fault.Of(err).Items)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// FuzzImport feeds any bytes: what comes out is rows that keep the rules, in order, or problems with rows.
func FuzzImport(f *testing.F) {
	f.Add([]byte("sku,title,on_hand,tracked\nA,Book,5,true\n"))
	f.Add([]byte("\xef\xbb\xbftracked,on_hand,sku,title\r\nfalse,-5,A,\"a \"\"b\"\"\"\r\n"))
	f.Add([]byte("sku,title,on_hand,tracked\nA,\"x\ny\",1,true\n\nB,\"x"))
	f.Add([]byte("sku\x00\n\"\"\"\n,,,,\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		rows, p := readAll(t, string(file))
		last := int64(1)
		for _, r := range rows {
			if r.N <= last {
				t.Errorf("row %d after row %d", r.N, last)
			}
			last = r.N
			if badSKU(r.SKU) != "" || badText(r.Title, 0, maxTitle) != "" || outside(r.OnHand) || r.Tracked && r.OnHand < 0 {
				t.Errorf("took %+v", r)
			}
		}
		if err := p.Err(); err != nil {
			last := int64(1)
			for _, i := range fault.Of(err).Items {
				if i.Row < last {
					t.Errorf("problem in row %d after row %d", i.Row, last)
				}
				last = i.Row
			}
		}
	})
}

func TestImport(t *testing.T) {
	t.Parallel()
	plain := Row{N: 2, SKU: "BOOK", Title: "A book", OnHand: 5, Tracked: true}
	tests := []struct {
		name          string
		change        func(*Row)
		did           Import
		delta         int64
		item, stock   bool // what is to be written
		title         string
		onHand, wrong int64
		tracked       bool
	}{
		{"what is there already", func(*Row) {}, Unchanged, 0, false, false, "A book", 5, 0, true},
		{"another title", func(r *Row) { r.Title = "The book" }, Changed, 0, true, false, "The book", 5, 0, true},
		{"more", func(r *Row) { r.OnHand = 7 }, Changed, 2, false, true, "A book", 7, 0, true},
		{"less", func(r *Row) { r.OnHand = 3 }, Changed, -2, false, true, "A book", 3, 0, true},
		{"as few as are reserved", func(r *Row) { r.OnHand = 2 }, Changed, -3, false, true, "A book", 2, 0, true},
		{"fewer than are reserved", func(r *Row) { r.OnHand = 1 }, Unchanged, 0, false, false, "A book", 5, 2, true},
		{"no longer tracked", func(r *Row) { r.Tracked, r.OnHand = false, 1 }, Changed, -4, true, true, "A book", 1, 0, false},
		{"no longer tracked, and as many", func(r *Row) { r.Tracked = false }, Changed, 0, true, true, "A book", 5, 0, false},
		{"a new item", func(r *Row) { r.SKU, r.OnHand = "LAMP", 4 }, Created, 4, true, true, "A book", 4, 0, true},
		{"a new item of which there is none", func(r *Row) { r.SKU, r.OnHand = "LAMP", 0 }, Created, 0, true, true, "A book", 0, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := NewRoom(noon)
			r.AddLevel("BOOK", true, Level{Location: Default, OnHand: 5, Reserved: 2})
			r.SetTitle("BOOK", "A book")
			row := plain
			tt.change(&row)
			var p Problems
			did, m := r.Import(row, "c1", &p)
			if did != tt.did || m.Delta != tt.delta {
				t.Errorf("did %d with a movement of %d, want %d and %d", did, m.Delta, tt.did, tt.delta)
			}
			if m.Delta != 0 && (m.Reason != "import" || m.Actor != "import" || m.CorrelationID != "c1" || m.OnHand != tt.onHand || m.SKU != row.SKU) {
				t.Errorf("movement %+v", m)
			}
			s := r.shelves[row.SKU]
			if s.item.Title != tt.title || s.item.Tracked != tt.tracked || level(r, row.SKU).OnHand != tt.onHand {
				t.Errorf("item %+v", s.item)
			}
			if c := r.Changes(); len(c.Items) > 0 != tt.item || len(c.Stock) > 0 != tt.stock {
				t.Errorf("changes %+v; want the item: %t, its stock: %t", c, tt.item, tt.stock)
			}
			if err := p.Err(); err == nil != (tt.wrong == 0) || err != nil && fault.Of(err).Items[0].Row != tt.wrong {
				t.Errorf("problems: %v, want one in row %d, or none if 0", err, tt.wrong)
			}
		})
	}
}
