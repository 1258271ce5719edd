package call

import (
	"fmt"
	"strings"
)

// Document is the tables as docs/resilience.md has them; a test holds the two together.
func Document() string {
	var b strings.Builder
	b.WriteString("| call | attempt ends after | attempts | in flight | breaker opens after | and probes after | meanwhile | because |\n|---|---|---|---|---|---|---|---|\n")
	for _, p := range append(Policies(), other.full()) {
		name := "`" + p.Edge() + "`"
		if p.Method == "" {
			name = "any other"
		}
		fmt.Fprintf(&b, "| %s | %v | %d | %d | %d in a row | %v | %s | %s |\n", name, p.Timeout, p.Attempts, p.InFlight, p.OpenAfter, p.OpenFor, p.Fallback, p.Why)
	}
	fmt.Fprintf(&b, "\n| for every call | |\n|---|---|\n")
	for _, r := range [][2]string{
		{"deadline", "the caller's: it travels with the call and ends an attempt earlier"},
		{"wait before attempt 2, 3, ...", fmt.Sprintf("drawn from 0 to %v, doubling, to at most %v (full jitter)", 2*backoffFirst, 2*backoffLast)},
		{"repeats in flight", fmt.Sprintf("at most %.0f %% of the calls in flight; %d are always allowed", retryShare*100, retryMinimum)},
		{"breaker opens too", fmt.Sprintf("when %.0f %% of at least %d calls within %v failed", failureRate*100, failureCalls, failureWindow)},
		{"breaker probes", fmt.Sprintf("with one call, the time given ± %.0f %%; its success closes it", openJitter*100)},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", r[0], r[1])
	}
	b.WriteString("\n| call to the broker | attempt ends after | waits between attempts | attempts | in flight | meanwhile | because |\n|---|---|---|---|---|---|---|\n")
	for _, l := range []Loop{BrokerConnect, BrokerPublish} {
		fmt.Fprintf(&b, "| `%s` | %v | drawn from 0 to %v, doubling, to at most %v | until it is done | %s | %s | %s |\n", l.Name, l.Timeout, l.First, l.Most, l.InFlight, l.Fallback, l.Why)
	}
	return b.String()
}
