package simulated

import "testing"

// FuzzToken reads a token's script: none waits longer than a test's typo may, and only a known one is charged.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"pm_card_visa", "pm_card_chargeDeclined", slowPrefix + "2s", slowPrefix + "-2s", slowPrefix + "9e9h", downPrefix + "1m0.5s", down, timeoutCharged, timeoutNotCharged + "x", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		s := read(token)
		if s.slow < 0 || s.slow > longest || s.downFor < 0 || s.downFor > longest {
			t.Errorf("%q waits: %+v", token, s)
		}
		if s == (script{}) && !approved[token] {
			t.Errorf("%q is charged", token)
		}
	})
}
