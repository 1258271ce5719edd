package call

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// numbers are what a setting may change of a policy: each takes its value or says what is wrong with it.
var numbers = map[string]func(p *Policy, value string) error{
	// Ten minutes are longer than anybody waits; a millisecond is the least that a call takes over a wire.
	"timeout": func(p *Policy, v string) error { return takeTime(&p.Timeout, v, time.Millisecond, 10*time.Minute) },
	// More than ten attempts within a caller's deadline are an attack on the peer.
	"attempts": func(p *Policy, v string) error { return takeCount(&p.Attempts, v, 10) },
	// A hundred thousand goroutines are a gigabyte.
	"in-flight":  func(p *Policy, v string) error { return takeCount(&p.InFlight, v, 100_000) },
	"open-after": func(p *Policy, v string) error { return takeCount(&p.OpenAfter, v, 10_000) },
	"open-for":   func(p *Policy, v string) error { return takeTime(&p.OpenFor, v, 10*time.Millisecond, 10*time.Minute) },
}

func takeTime(to *time.Duration, value string, least, most time.Duration) error {
	d, err := time.ParseDuration(value)
	if err != nil || d < least || d > most {
		return fmt.Errorf("is not a time from %v to %v, such as 500ms or 3s", least, most)
	}
	*to = d
	return nil
}

func takeCount(to *int, value string, most int) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		return fmt.Errorf("is not a whole number from 1 to %d", most)
	}
	*to = n
	return nil
}

// Set changes the policy of one edge by a setting such as
//
//	inventory/Reserve timeout=3s attempts=2 in-flight=256 open-after=5 open-for=2s
//
// which names the edge and some of the five numbers. Its error says all that is wrong, and then nothing is changed. A call
// that the table sends once cannot be given more attempts: what it does is not known to be harmless when done twice.
func (t Table) Set(setting string) error {
	fields := strings.Fields(setting)
	first := slices.IndexFunc(fields, func(f string) bool { return strings.Contains(f, "=") })
	if first < 0 {
		return fmt.Errorf("%q sets no number: write it as 'inventory/Reserve timeout=3s'", setting)
	}
	edge := strings.Join(fields[:first], " ") // a REST method has a space in it
	at := slices.IndexFunc(t, func(p Policy) bool { return p.Edge() == edge })
	if at < 0 {
		return fmt.Errorf("there is no call %q; %s", edge, t.those(edge))
	}
	p := t[at]
	var mistakes []string
	for _, f := range fields[first:] {
		name, value, _ := strings.Cut(f, "=")
		take := numbers[name]
		if take == nil {
			mistakes = append(mistakes, fmt.Sprintf("%q is no number of a policy; there are timeout, attempts, in-flight, open-after and open-for", name))
		} else if err := take(&p, value); err != nil {
			mistakes = append(mistakes, f+" "+err.Error())
		}
	}
	// Policies keeps the order of the table.
	if p.Attempts > 1 && table[at].Attempts == 1 {
		mistakes = append(mistakes, fmt.Sprintf("attempts=%d: this call is sent once (%s)", p.Attempts, p.Why))
	}
	if len(mistakes) > 0 {
		return fmt.Errorf("%s: %s", edge, strings.Join(mistakes, "; "))
	}
	t[at] = p
	return nil
}

// those says which edges there are: of the target that was meant, or of all.
func (t Table) those(edge string) string {
	target, _, _ := strings.Cut(edge, "/")
	var of, all []string
	for _, p := range t {
		all = append(all, p.Edge())
		if p.Target == target {
			of = append(of, p.Edge())
		}
	}
	if len(of) == 0 {
		of = all
	}
	return "there are " + strings.Join(of, ", ")
}
