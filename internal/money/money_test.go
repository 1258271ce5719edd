package money

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestKnowsTheCurrenciesInUse(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"EUR", "USD", "GBP", "JPY", "KWD", "CHF", "AED", "ZWG", "XOF"} {
		if !ValidCurrency(code) {
			t.Errorf("%s is refused", code)
		}
	}
	for _, code := range []string{"", "eur", "EU", "EURO", "DEM", "XXX", "XTS", "XAU", " EU", "R U", "UR ", "ABC", "€"} {
		if ValidCurrency(code) {
			t.Errorf("%q is taken for a currency", code)
		}
	}
}

// edgy draws the numbers where overflow begins more often than chance would.
func edgy() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64(), rapid.Int64Range(-5, 5),
		rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, math.MaxInt64, math.MaxInt64 - 1, 1 << 31, 1 << 32, -1 << 32}))
}

func TestArithmeticIsExactOrSaysThatItOverflowed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := edgy().Draw(t, "a"), edgy().Draw(t, "b")
		for _, c := range []struct {
			name string
			op   func(a, b int64) (int64, bool)
			want *big.Int
		}{
			{"Add", Add, new(big.Int).Add(big.NewInt(a), big.NewInt(b))},
			{"Mul", Mul, new(big.Int).Mul(big.NewInt(a), big.NewInt(b))},
		} {
			got, ok := c.op(a, b)
			if ok != c.want.IsInt64() {
				t.Fatalf("%s(%d, %d) says ok = %v; the result is %s", c.name, a, b, ok, c.want)
			}
			if ok && got != c.want.Int64() {
				t.Fatalf("%s(%d, %d) = %d, want %s", c.name, a, b, got, c.want)
			}
		}
	})
}
