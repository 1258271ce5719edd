package stock

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
)

func TestAdjust(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		a      Adjustment
		onHand int64 // afterwards
		delta  int64 // of the movement
		err    error
	}{
		{"adds", Adjustment{SKU: "BOOK", Delta: 3}, 8, 3, nil},
		{"takes what is available", Adjustment{SKU: "BOOK", Delta: -3}, 2, -3, nil},
		{"leaves what is reserved", Adjustment{SKU: "BOOK", Delta: -4}, 5, 0, ErrInsufficient},
		{"sets what it saw", Adjustment{SKU: "BOOK", Set: true, Expected: 5, OnHand: 9}, 9, 4, nil},
		{"sets to the same without a movement", Adjustment{SKU: "BOOK", Set: true, Expected: 5, OnHand: 5}, 5, 0, nil},
		{"refuses a number that is old", Adjustment{SKU: "BOOK", Set: true, Expected: 4, OnHand: 9}, 5, 0, ErrStale},
		{"does not set below what is reserved", Adjustment{SKU: "BOOK", Set: true, Expected: 5, OnHand: 1}, 5, 0, ErrInsufficient},
		{"refuses an unknown SKU", Adjustment{SKU: "NONE", Delta: 1}, 0, 0, ErrNotFound},
		{"refuses an unknown location", Adjustment{SKU: "BOOK", Location: "moon", Delta: 1}, 5, 0, ErrNotFound},
		{"lets an untracked item fall below 0", Adjustment{SKU: "GIFT", Delta: -7}, -7, -7, nil},
		{"refuses overflow", Adjustment{SKU: "BOOK", Delta: MaxUnits - 4}, 5, 0, ErrOverflow},
		{"refuses overflow below", Adjustment{SKU: "FULL", Delta: -1}, -MaxUnits, 0, ErrOverflow},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := shop()
			r.AddLevel("FULL", false, Level{Location: Default, OnHand: -MaxUnits})
			if _, err := r.Reserve(Ask{ID: "a", Lines: []Line{{"BOOK", 2}}}); err != nil {
				t.Fatal(err)
			}
			if tt.a.Location == "" {
				tt.a.Location = Default
			}
			got, err := r.Adjust(tt.a)
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Fatalf("err = %v, want %v", err, tt.err)
			}
			if got.Movement.Delta != tt.delta {
				t.Errorf("movement of %d, want %d", got.Movement.Delta, tt.delta)
			}
			if _, ok := r.shelves[tt.a.SKU]; ok && level(r, tt.a.SKU).OnHand != tt.onHand {
				t.Errorf("on hand %d, want %d", level(r, tt.a.SKU).OnHand, tt.onHand)
			}
		})
	}
}

func TestStaleNamesThePresentValue(t *testing.T) {
	t.Parallel()
	_, err := shop().Adjust(Adjustment{SKU: "BOOK", Location: Default, Set: true, Expected: 77, OnHand: 9})
	if f := fault.Of(err); !strings.Contains(f.Detail, " 5 ") {
		t.Errorf("detail %q does not name 5", f.Detail)
	}
}

func TestAdjustUnderAKey(t *testing.T) {
	t.Parallel()
	r := shop()
	first := Adjustment{Key: "k", SKU: "BOOK", Location: Default, Delta: -2, Reason: "broken", Actor: "api"}
	want, err := r.Adjust(first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Adjust(Adjustment{SKU: "BOOK", Location: Default, Delta: 10}); err != nil {
		t.Fatal(err)
	}
	if want.Item.OnHand() != 3 {
		t.Errorf("a later command changed the first answer: on hand %d, want 3", want.Item.OnHand())
	}
	first.CorrelationID = "another request"
	got, err := r.Adjust(first)
	if diff := cmp.Diff(Adjusted{Item: want.Item, Replayed: true}, got); err != nil || diff != "" {
		t.Errorf("repeat: %v (-want +got):\n%s", err, diff)
	}
	other := first
	other.Reason = "lost"
	if _, err := r.Adjust(other); !errors.Is(err, ErrKeyReused) {
		t.Errorf("another payload: %v, want ErrKeyReused", err)
	}
	refused := Adjustment{Key: "k2", SKU: "PEN", Location: Default, Delta: -1, Reason: "broken", Actor: "api"}
	_, err = r.Adjust(refused)
	if f := fault.Of(err); f.Code != "insufficient_stock" || f.Replayed {
		t.Fatalf("first refusal: %v, replayed %t", err, f.Replayed)
	}
	if _, err := r.Adjust(Adjustment{SKU: "PEN", Location: Default, Delta: 10}); err != nil {
		t.Fatal(err)
	}
	_, err = r.Adjust(refused)
	if f := fault.Of(err); f.Code != "insufficient_stock" || !f.Replayed {
		t.Errorf("repeated refusal: %v, replayed %t", err, f.Replayed)
	}
	if got := level(r, "PEN").OnHand; got != 10 {
		t.Errorf("the repeat changed on hand to %d", got)
	}
	var kept []string
	for _, o := range r.Changes().Outcomes {
		kept = append(kept, o.Key)
	}
	if diff := cmp.Diff([]string{"k", "k2"}, kept); diff != "" {
		t.Errorf("answers to be stored, each once (-want +got):\n%s", diff)
	}
}

func TestAdjustmentCheck(t *testing.T) {
	t.Parallel()
	good := Adjustment{Key: "k", SKU: "BOOK", Location: Default, Delta: 1, Reason: "count", Actor: "api"}
	tests := []struct {
		name   string
		change func(*Adjustment)
		err    error
	}{
		{"takes a good one", func(*Adjustment) {}, nil},
		{"takes one without a key", func(a *Adjustment) { a.Key = "" }, nil},
		{"takes a key of 255", func(a *Adjustment) { a.Key = strings.Repeat("k", 255) }, nil},
		{"refuses a key of 256", func(a *Adjustment) { a.Key = strings.Repeat("k", 256) }, ErrInvalidKey},
		{"refuses a key that is not ASCII", func(a *Adjustment) { a.Key = "é" }, ErrInvalidKey},
		{"refuses a key with a control character", func(a *Adjustment) { a.Key = "a\x7f" }, ErrInvalidKey},
		{"refuses a delta of 0", func(a *Adjustment) { a.Delta = 0 }, ErrInvalidAdjustment},
		{"refuses to set below 0", func(a *Adjustment) { a.Delta, a.Set, a.OnHand = 0, true, -1 }, ErrInvalidAdjustment},
		{"sets", func(a *Adjustment) { a.Delta, a.Set, a.Expected, a.OnHand = 0, true, 1, 2 }, nil},
		{"sets to 0", func(a *Adjustment) { a.Delta, a.Set, a.Expected = 0, true, 1 }, nil},
		{"takes the greatest delta", func(a *Adjustment) { a.Delta = MaxUnits }, nil},
		{"takes the least delta", func(a *Adjustment) { a.Delta = -MaxUnits }, nil},
		{"refuses a delta below -2^53", func(a *Adjustment) { a.Delta = -MaxUnits - 1 }, ErrOverflow},
		{"refuses to expect what cannot be", func(a *Adjustment) { a.Delta, a.Set, a.Expected = 0, true, MaxUnits+1 }, ErrOverflow},
		{"takes a reason as long as can be", func(a *Adjustment) { a.Reason = strings.Repeat("é", maxReason) }, nil},
		{"refuses a longer one", func(a *Adjustment) { a.Reason = strings.Repeat("é", maxReason+1) }, ErrInvalidAdjustment},
		{"takes an actor as long as can be", func(a *Adjustment) { a.Actor = strings.Repeat("a", maxActor) }, nil},
		{"refuses a longer actor", func(a *Adjustment) { a.Actor = strings.Repeat("a", maxActor+1) }, ErrInvalidAdjustment},
		{"refuses a delta past 2^53", func(a *Adjustment) { a.Delta = MaxUnits + 1 }, ErrOverflow},
		{"refuses the least delta", func(a *Adjustment) { a.Delta = -1 << 63 }, ErrOverflow},
		{"refuses an empty reason", func(a *Adjustment) { a.Reason = "" }, ErrInvalidAdjustment},
		{"refuses a reason that is not text", func(a *Adjustment) { a.Reason = "a\nb" }, ErrInvalidAdjustment},
		{"refuses an actor that is not UTF-8", func(a *Adjustment) { a.Actor = "\xff" }, ErrInvalidAdjustment},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := good
			tt.change(&a)
			if err := a.Check(); !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Errorf("err = %v, want %v", err, tt.err)
			}
		})
	}
}
