package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

const header = "sku,title,on_hand,tracked\n"

func TestImport(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		b.reserve(newID(t), "BOOK", 2)
		got, err := b.Import(b.ctx, strings.NewReader(header+"BOOK,A good book,40,true\nPEN,A pen,0,true\nGIFT,A gift,0,true\nCUP,A cup,7,true\nCARD,A card,-3,false\n"))
		if diff := cmp.Diff(Imported{Rows: 5, Created: 2, Changed: 2, Unchanged: 1}, got); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
		var items []stock.Item
		if err := b.Export(b.ctx, func(i stock.Item) error { items = append(items, i); return nil }); err != nil {
			t.Fatal(err)
		}
		at := func(onHand, reserved int64) []stock.Level {
			return []stock.Level{{Location: stock.Default, OnHand: onHand, Reserved: reserved}}
		}
		want := []stock.Item{
			{SKU: "BOOK", Title: "A good book", Tracked: true, Levels: at(40, 2)},
			{SKU: "CARD", Title: "A card", Levels: at(-3, 0)},
			{SKU: "CUP", Title: "A cup", Tracked: true, Levels: at(7, 0)},
			{SKU: "GIFT", Title: "A gift", Tracked: true, Levels: at(0, 0)},
			{SKU: "PEN", Title: "A pen", Tracked: true, Levels: at(0, 0)},
		}
		if diff := cmp.Diff(want, items); diff != "" {
			t.Errorf("items (-want +got):\n%s", diff)
		}
		moved, _, err := b.Movements(b.ctx, "BOOK", 0, 1)
		if err != nil || moved[0].Delta != -10 || moved[0].Reason != "import" || moved[0].CorrelationID != "corr-1" {
			t.Errorf("movement %+v, %v", moved, err)
		}
		if e := b.events(); len(e) != 3 {
			t.Errorf("%d events, want one for each of BOOK, CUP and CARD", len(e))
		}
		again, err := b.Import(b.ctx, strings.NewReader(header+"BOOK,A good book,40,true\nCUP,A cup,7,true\n"))
		if diff := cmp.Diff(Imported{Rows: 2, Unchanged: 2}, again); err != nil || diff != "" {
			t.Errorf("again: %v (-want +got):\n%s", err, diff)
		}
		b.sound()
	})
}

func TestImportIsAllOrNothing(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		many := func(bad string) string {
			var f strings.Builder
			f.WriteString(header)
			for n := range 1000 {
				fmt.Fprintf(&f, "SKU-%04d,x,%d,true\n", n, n)
			}
			return f.String() + bad
		}
		tests := []struct {
			name, file string
			rows       []int64
		}{
			{"with a bad row after many good ones", many("X,x,-1,true\n"), []int64{1002}},
			{"with a SKU twice, far apart", many("SKU-0000,y,1,true\nZ,x,?,true\nSKU-0000,y,1,true\n"), []int64{1002, 1003, 1004}},
			{"with less than is reserved", many("BOOK,A book,19,true\n"), []int64{1002}},
			{"with an item that becomes tracked and holds too much", many("GIFT,A gift,2,true\n"), []int64{1002}},
			{"with nothing in it", "", []int64{1}},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				b := setup(t, e)
				b.reserve(newID(t), "BOOK", 20)
				b.reserve(newID(t), "GIFT", 3)
				_, err := b.Import(b.ctx, strings.NewReader(tt.file))
				if !errors.Is(err, stock.ErrInvalidCSV) {
					t.Fatalf("err = %v", err)
				}
				var rows []int64
				for _, i := range fault.Of(err).Items {
					rows = append(rows, i.Row)
				}
				if diff := cmp.Diff(tt.rows, rows); diff != "" {
					t.Errorf("rows (-want +got):\n%s", diff)
				}
				items, _, err := b.Items(b.ctx, "", 10)
				if err != nil || len(items) != 3 || b.level("BOOK").OnHand != 50 || len(b.events()) != 0 {
					t.Errorf("something was imported: %v, %v", items, err)
				}
				if left, _ := filepath.Glob(filepath.Join(b.dir, spooled)); len(left) != 0 {
					t.Errorf("left behind: %v", left)
				}
				b.sound()
			})
		}
	})
}

func TestImportRefusesAFileThatIsTooLarge(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		file := header + "CUP,A cup,7,true\n"
		b.maxImport = int64(len(file)) - 1
		if _, err := b.Import(b.ctx, strings.NewReader(file)); fault.Of(err).Code != "body_too_large" {
			t.Errorf("err = %v, want body_too_large", err)
		}
		b.maxImport++
		if _, err := b.Import(b.ctx, strings.NewReader(file)); err != nil {
			t.Error(err)
		}
	})
}

func TestExportIsOneSnapshot(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		var seen []int64
		err := b.Export(b.ctx, func(i stock.Item) error {
			if i.SKU == "BOOK" {
				_, err := b.Adjust(b.ctx, Wait, stock.Adjustment{SKU: "PEN", Location: stock.Default, Delta: 9, Reason: "found", Actor: "api"})
				return err
			}
			seen = append(seen, i.OnHand())
			return nil
		})
		if diff := cmp.Diff([]int64{0, 0}, seen); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		if got := b.level("PEN").OnHand; got != 9 {
			t.Errorf("on hand of PEN is %d, want 9: the export held a lock", got)
		}
	})
}

func TestRepeated(t *testing.T) {
	t.Parallel()
	tests := []struct{ all, want []uint64 }{
		{nil, nil},
		{[]uint64{1}, nil},
		{[]uint64{2, 1, 3}, nil},
		{[]uint64{2, 2}, []uint64{2}},
		{[]uint64{5, 1, 5, 1, 1, 9, 0, 5, 0}, []uint64{0, 1, 5}},
	}
	for _, tt := range tests {
		if got := repeated(tt.all); len(got) != len(tt.want) || len(got) > 0 && !cmp.Equal(got, tt.want) {
			t.Errorf("got %v, want %v", got, tt.want)
		}
	}
}

func TestOpenSweepsWhatACrashLeft(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		f, err := b.spoolFile(strings.NewReader(header))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		b.reopen()
		if left, _ := filepath.Glob(filepath.Join(b.dir, spooled)); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}
