package card

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRecognizesCardNumbers(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]string{
		"Visa":                            "4242424242424242",
		"Mastercard":                      "5555555555554444",
		"American Express":                "378282246310005",
		"Diners":                          "30569309025904",
		"UnionPay of 19 digits":           "6205500000000000004",
		"Maestro of 12 digits":            "501800000009",
		"grouped by spaces":               "4242 4242 4242 4242",
		"grouped by dashes":               "4242-4242-4242-4242",
		"grouped by dots":                 "4242.4242.4242.4242",
		"grouped by underscores":          "4242_4242_4242_4242",
		"grouped by no-break spaces":      "4242\u00a04242\u00a04242\u00a04242",
		"grouped by typographic dashes":   "4242–4242–4242–4242",
		"with zero-width spaces":          "4242\u200b4242\u200b4242\u200b4242",
		"in full-width digits":            "４２４２４２４２４２４２４２４２",
		"between letters":                 "pm_4242424242424242x",
		"in a sentence":                   "my card is 4242 4242 4242 4242, thanks",
		"with the expiry behind it":       "4242424242424242 12/27",
		"with expiry and CVC behind it":   "4242 4242 4242 4242 12 27 123",
		"with the CVC run on":             "4242424242424242123",
		"with digits run on before it":    "994242424242424242",
		"with a number of units before":   "2 4242424242424242",
		"in a query string":               "card=4242424242424242&cvc=123",
		"at the end of a long other text": strings.Repeat("x", 300) + "4242424242424242",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !LooksLikeNumber(s) {
				t.Errorf("LooksLikeNumber(%q) = false", s)
			}
		})
	}
}

func TestLetsOtherTextPass(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]string{
		"nothing":                    "",
		"a Stripe test token":        "pm_card_visa",
		"a Stripe token":             "pm_1MqLiJLkdIwHu7ixUEgbFdYj",
		"a scripted token":           "pm_simulated_slow_2s",
		"a number that fails Luhn":   "4242424242424241",
		"eleven digits":              "42424242424",
		"zeros":                      "0000000000000000",
		"a customer's number":        "17850",
		"a name":                     "María García-Márquez",
		"a time":                     "2026-11-24T05:10:23.123456Z",
		"a UUID":                     "0190163d-8694-739b-aea5-966c26f8ad91",
		"digits broken by letters":   "4242a4242b4242c4242",
		"text in another script":     "お客様の名前は山田太郎です",
		"groups broken by a solidus": "4242/4242/4242/4242",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if LooksLikeNumber(s) {
				t.Errorf("LooksLikeNumber(%q) = true", s)
			}
		})
	}
}

func TestEveryNumberWithItsCheckDigitIsRecognizedHoweverItIsGrouped(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.SliceOfN(rapid.ByteRange(0, 9), shortest-1, longest-1).Draw(t, "digits")
		digits[0] = rapid.ByteRange(1, 9).Draw(t, "first")
		check := byte(0)
		for !luhn(append(digits, check)) {
			check++
		}
		var b strings.Builder
		b.WriteString(rapid.SampledFrom([]string{"", "tok_", "card: "}).Draw(t, "before"))
		for _, d := range append(digits, check) {
			b.WriteByte('0' + d)
			b.WriteString(rapid.SampledFrom([]string{"", "", "", " ", "-"}).Draw(t, "gap"))
		}
		b.WriteString(rapid.SampledFrom([]string{"", "x", ", please"}).Draw(t, "after"))
		if !LooksLikeNumber(b.String()) {
			t.Fatalf("LooksLikeNumber(%q) = false", b.String())
		}
	})
}

func FuzzLooksLikeNumber(f *testing.F) {
	f.Add("4242 4242 4242 4242")
	f.Add("\xff４２")
	f.Fuzz(func(t *testing.T, s string) {
		if LooksLikeNumber(s) && !LooksLikeNumber("x"+s+"y") {
			t.Errorf("letters around %q hide its number", s)
		}
	})
}
