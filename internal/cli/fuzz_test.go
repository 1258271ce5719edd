package cli

import (
	"strconv"
	"testing"
)

// FuzzLine reads a line of an order from the command line: what is taken, written again, is the same line.
func FuzzLine(f *testing.F) {
	for _, s := range []string{"BOOK=2", "BOOK=2@1299", "a=b@c=1@0", "=1", "BOOK=0", "BOOK=-1", "BOOK=+1", "BOOK=1@", "BOOK=1@-1", "BOOK=9223372036854775808", "ü=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var l, again line
		if l.UnmarshalText([]byte(s)) != nil {
			return
		}
		if l.sku == "" || l.qty < 1 || l.price < 0 || !l.priced && l.price != 0 {
			t.Errorf("took %q as %+v", s, l)
		}
		text := l.sku + "=" + strconv.FormatInt(l.qty, 10)
		if l.priced {
			text += "@" + strconv.FormatInt(l.price, 10)
		}
		if err := again.UnmarshalText([]byte(text)); err != nil || again != l {
			t.Errorf("%q is %+v, and read again %+v, %v", s, l, again, err)
		}
	})
}
