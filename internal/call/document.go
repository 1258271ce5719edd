package call

import (
	"fmt"
	"strings"
)

// Document is the table as docs/calls.md has it; a test holds the two together.
func Document() string {
	var b strings.Builder
	b.WriteString("| called | method | attempt ends after | attempts | in flight | because |\n|---|---|---|---|---|---|\n")
	for _, p := range append(Policies(), other.full()) {
		target, method := p.Target, p.Method[strings.LastIndex(p.Method, ".")+1:]
		if p.Method == "" {
			target, method = "any", "any other"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %v | %d | %d | %s |\n", target, method, p.Timeout, p.Attempts, p.InFlight, p.Why)
	}
	fmt.Fprintf(&b, "\n| for every edge | |\n|---|---|\n")
	for _, r := range [][2]string{
		{"wait before attempt 2, 3, ...", fmt.Sprintf("drawn from 0 to %v, doubling, to at most %v", 2*backoffFirst, 2*backoffLast)},
		{"repeats in flight", fmt.Sprintf("at most %.0f %% of the calls in flight; %d are always allowed", retryShare*100, retryMinimum)},
		{"breaker opens", fmt.Sprintf("after %d failures in a row, or when %.0f %% of at least %d calls within %v failed", openAfter, failureRate*100, failureCalls, failureWindow)},
		{"breaker probes", fmt.Sprintf("after %v ± %.0f %%, with one call; its success closes it", openFor, openJitter*100)},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", r[0], r[1])
	}
	return b.String()
}
