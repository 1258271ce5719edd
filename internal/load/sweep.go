package load

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Sweep looks for the highest rate that a server bears: one at which a share of the requests is answered within a bound.
type Sweep struct {
	Share float64       // such as 0.99
	Bound time.Duration // that this share must not exceed
	// Measure runs requests at a rate, or in a closed loop for 0. Its error ends the sweep.
	Measure func(rate float64) (*Result, error)
}

const (
	// kept is what a rate must be answered with: a server that falls behind has a backlog, which a longer run would show as latency.
	kept = 0.97
	// missed is how many requests may fail at a rate that counts as borne.
	missed = 0.001
	// closeEnough is how near the highest rate that holds and the lowest that does not are when the search ends.
	closeEnough = 0.05
	// steps bounds the search below the first rate that does not hold.
	steps = 6
)

// ramp are the shares of what a closed loop reaches that are tried first, so that there is a curve.
var ramp = []float64{0.1, 0.25, 0.5, 0.75, 0.9, 1}

// Do runs a closed loop to find out what the server gives, then open loops at rising rates until one does not hold, then between the last that
// held and that one. It returns the closed loop, all open ones in the order of their rates, and the highest rate that held, 0 if none did.
func (s *Sweep) Do() (closed *Result, open []*Result, top float64, err error) {
	closed, err = s.Measure(0)
	if err != nil {
		return nil, nil, 0, err
	}
	if closed.Served == 0 {
		return closed, nil, 0, fmt.Errorf("not one request was answered as wanted: %v%v", closed.Outcomes, closed.Errors)
	}
	most := closed.PerSecond()
	low, high := 0.0, 0.0
	try := func(rate float64) error {
		r, err := s.Measure(rate)
		if err != nil {
			return err
		}
		open = append(open, r)
		if s.Holds(r) {
			low = max(low, rate)
		} else {
			high = rate
		}
		return nil
	}
	for _, share := range ramp {
		if err := try(share * most); err != nil {
			return closed, sorted(open), low, err
		}
		if high > 0 {
			break
		}
	}
	for range steps {
		if high == 0 || high-low < closeEnough*high {
			break
		}
		if err := try((low + high) / 2); err != nil {
			return closed, sorted(open), low, err
		}
	}
	return closed, sorted(open), low, nil
}

// Holds reports whether a rate was borne: the share within the bound, hardly any request missed, and no backlog growing.
func (s *Sweep) Holds(r *Result) bool {
	all := float64(r.Served + r.Unserved)
	return r.Quantile(s.Share) <= s.Bound && float64(r.Unserved) <= missed*all && r.PerSecond() >= kept*r.Offered
}

// sorted puts measurements in the order of their rates.
func sorted(all []*Result) []*Result {
	slices.SortFunc(all, func(a, b *Result) int { return cmp.Compare(a.Offered, b.Offered) })
	return all
}
