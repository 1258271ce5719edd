// Package card recognizes card numbers, so that they can be refused wherever a token or free text is expected.
//
// It errs on the side of refusing: one in ten other numbers of 12 to 19 digits passes the same check. So it is
// for tokens, names and notes, and not for SKUs, order ids or idempotency keys.
package card

import "unicode"

// Lengths of card numbers, in digits (ISO/IEC 7812-1; 12 is the shortest Maestro).
const (
	shortest = 12
	longest  = 19
)

// LooksLikeNumber reports whether s holds a card number: 12 to 19 digits that pass the Luhn check
// (ISO/IEC 7812-1, annex B), however grouped by spaces, dashes, dots or underscores, alone or between other characters.
// Digits that run on without a gap before or after it hide a number only if it does not begin as the
// common cards do. It is safe for concurrent use and keeps nothing of s.
func LooksLikeNumber(s string) bool {
	if !worthLooking(s) {
		return false
	}
	var run run
	for _, r := range s {
		if d, ok := digit(r); ok {
			run.add(d)
			continue
		}
		if separates(r) {
			run.gap = true
			continue
		}
		if run.holdsNumber() {
			return true
		}
		run.reset()
	}
	return run.holdsNumber()
}

// worthLooking spares the ordinary token any allocation.
func worthLooking(s string) bool {
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] >= '0' && s[i] <= '9' || s[i] >= 0x80 {
			n++
		}
	}
	return n >= shortest
}

// digit knows the digits that keyboards and input methods make: ASCII, full width, Arabic-Indic and Persian.
func digit(r rune) (byte, bool) {
	for _, zero := range [...]rune{'0', 0xFF10, 0x0660, 0x06F0} {
		if r >= zero && r <= zero+9 {
			return byte(r - zero), true
		}
	}
	return 0, false
}

// separates leaves out the colon and the slash: times and dates would become one long number.
func separates(r rune) bool {
	return r == '.' || r == '_' || r == 0x2212 || unicode.IsSpace(r) || unicode.In(r, unicode.Pd, unicode.Cf)
}

// run is a stretch of digits with nothing but separators between them.
type run struct {
	digits []byte
	starts []bool // per digit, whether a separator or nothing stands before it
	gap    bool
}

func (r *run) add(d byte) {
	r.starts = append(r.starts, r.gap || len(r.digits) == 0)
	r.digits = append(r.digits, d)
	r.gap = false
}

func (r *run) reset() { r.digits, r.starts, r.gap = r.digits[:0], r.starts[:0], false }

func (r *run) holdsNumber() bool {
	for from := 0; from+shortest <= len(r.digits); from++ {
		for to := from + shortest; to <= len(r.digits) && to-from <= longest; to++ {
			number := r.digits[from:to]
			whole := r.starts[from] && (to == len(r.digits) || r.starts[to])
			// No card begins with 0; a filler of zeros would pass the check.
			if (whole && number[0] != 0 || common(number)) && luhn(number) {
				return true
			}
		}
	}
	return false
}

// common reports whether a number begins and is as long as those of Visa, Mastercard, American Express, Discover or
// UnionPay. Inside of longer numbers only these are looked for: every window of every long number would find
// something that passes the check.
func common(n []byte) bool {
	two := n[0]*10 + n[1]
	switch len(n) {
	case 16:
		return n[0] == 4 || two >= 51 && two <= 55 || two >= 22 && two <= 27 || two == 60 || two == 62 || two == 65
	case 15:
		return two == 34 || two == 37
	}
	return false
}

func luhn(number []byte) bool {
	sum := 0
	for i, d := range number {
		n := int(d)
		if (len(number)-i)%2 == 0 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}
