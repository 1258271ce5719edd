package call_test

import (
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/call"
)

// FuzzTimeout reads the header in which a caller says how long it waits. What is taken is a time that is not negative, and
// written again it is never longer.
func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"500m", "99999999H", "1n", "0S", "-1S", "+1S", "1_0S", "m", "", "123456789S", "１S"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := call.ParseTimeout(s)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("%q is %v", s, d)
		}
		again, err := call.ParseTimeout(call.FormatTimeout(d))
		if err != nil || again > max(d, time.Microsecond) {
			t.Errorf("%q is %v, written again %q, and read %v, %v", s, d, call.FormatTimeout(d), again, err)
		}
	})
}
