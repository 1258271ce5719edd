package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Report is the outcome of an audit.
type Report struct {
	OK         bool                        `json:"ok"`
	Counts     map[string]map[string]int64 `json:"counts"`     // by context, then by what was counted
	Violations []Violation                 `json:"violations"` // by rule, then by detail; never nil
	Passes     int                         `json:"passes"`     // how often the records were read
}

// pauses lie between the passes: five passes over three seconds. A step of an order takes milliseconds, a step that
// waits for a slow provider up to two seconds, so the last pause outlives what the first pass saw under way.
var pauses = []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond}

// Run audits the sources that open returns, and closes them. It fails if a source cannot be read; broken promises
// are in the report.
//
// The contexts' databases are read at instants that differ a little, so beside a running system an order that
// moves between two readings looks broken for a moment. Run therefore opens and reads everything again while
// there are violations, up to five times in about three seconds, and reports those that every pass found in the same
// words. Nothing real is lost by that: a broken promise is a state on disk that no running code
// repairs, so each pass sees it. Nothing false remains: an order's states form no cycle, so it crosses each step once,
// and to be reported it would have to be caught in the same step at all instants.
func Run(ctx context.Context, open func(context.Context) ([]Source, error)) (Report, error) {
	var r Report
	for pass := 0; ; pass++ {
		counts, found, err := once(ctx, open)
		if err != nil {
			return Report{}, err
		}
		if pass > 0 {
			found = both(r.Violations, found)
		}
		r = Report{OK: len(found) == 0, Counts: counts, Violations: found, Passes: pass + 1}
		if r.OK || pass == len(pauses) {
			return r, nil
		}
		select {
		case <-time.After(pauses[pass]):
		case <-ctx.Done():
			return Report{}, ctx.Err()
		}
	}
}

func once(ctx context.Context, open func(context.Context) ([]Source, error)) (counts map[string]map[string]int64, found []Violation, err error) {
	sources, err := open(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		for _, s := range sources {
			err = errors.Join(err, s.Close())
		}
	}()
	counts = make(map[string]map[string]int64, len(sources))
	found = []Violation{}
	for _, s := range sources {
		c, v, err := s.Check(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("check %s: %w", s.Name(), err)
		}
		counts[s.Name()] = c
		found = append(found, v...)
	}
	said := map[What]bool{}
	for _, s := range sources {
		for _, w := range s.States() {
			said[w] = true
		}
	}
	err = join(ctx, sources, func(claims []Claim) {
		found = append(found, judge(claims, said)...)
	})
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(found, compare)
	return counts, slices.Compact(found), nil
}

func compare(a, b Violation) int {
	return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Detail, b.Detail))
}

// both returns what is in a and in b; each is sorted.
func both(a, b []Violation) []Violation {
	out := []Violation{}
	for _, v := range b {
		if _, ok := slices.BinarySearchFunc(a, v, compare); ok {
			out = append(out, v)
		}
	}
	return out
}
