package audit

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestForgottenOrdersAreTheManyInARowAndTheNewest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		knows  string // the orders that Orders has, a letter each, in the order of their ids
		others string // those for which units are held
		want   []string
	}{
		{"none", "abc", "abc", nil},
		{"a stray", "acd", "abcd", nil},
		{"a stray before all others", "bcd", "abcd", nil},
		{"two strays with a known one between them", "ace", "abcde", nil},
		{"newer than all that are known", "ab", "abc", []string{"c"}},
		{"many newer", "ab", "abcd", []string{"c", "d"}},
		{"a gap, after which orders went on", "aef", "abcdef", []string{"b", "c", "d"}},
		{"a gap before all others, and a stray", "cdf", "abcdef", []string{"a", "b"}},
		{"Orders is empty", "", "a", []string{"a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			orders, units := record{name: "orders"}, record{name: "inventory"}
			for _, id := range tt.knows {
				orders.claims = append(orders.claims, Claim{Order: string(id), What: OrderConfirmed})
			}
			for _, id := range tt.others {
				units.claims = append(units.claims, Claim{Order: string(id), What: UnitsHeld, Ref: string(id)})
			}
			r, err := Run(t.Context(), always(orders, units))
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(tt.want, r.Forgotten()); diff != "" {
				t.Errorf("forgotten are (-want +got):\n%s", diff)
			}
		})
	}
}
