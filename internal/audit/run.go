package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Report is the outcome of an audit.
type Report struct {
	OK         bool                        `json:"ok"`
	Counts     map[string]map[string]int64 `json:"counts"`     // by context, then by what was counted
	OnItsWay   []Waiting                   `json:"onItsWay"`   // by rule; never nil
	Violations []Violation                 `json:"violations"` // by rule, then by detail; never nil
	Passes     int                         `json:"passes"`     // how often the records were read

	Newest string `json:"-"` // the last order, by id, that Orders knows
}

// Forgotten are ids for which units or money are held, that Orders does not know, and of which it may have known: several in a row without
// one between them that it knows, or newer than all that it knows. Ids are in the order in which orders were placed, and an order is
// written before anything is held for it, or is known to be on its way (OrderUnrecorded); so one that nobody knows is a stray, and many in a row are the mark of an Orders
// that was restored from an old backup, which may have gone on since.
func (r Report) Forgotten() []string {
	rows := map[string][]string{} // by the order before them
	for _, v := range r.Violations {
		if x := v.Repair; x.Unknown && !slices.Contains(rows[x.After], x.Of) {
			rows[x.After] = append(rows[x.After], x.Of)
		}
	}
	var all []string
	for after, ids := range rows {
		if len(ids) > 1 || after == r.Newest {
			all = append(all, ids...)
		}
	}
	slices.Sort(all)
	return all
}

// pauses lie between the passes: five passes over three seconds. A step of an order takes milliseconds, a step that
// waits for a slow provider up to two seconds, so the last pause outlives what the first pass saw under way.
var pauses = []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond}

// Run audits the sources that open returns, and closes them. It fails if a source cannot be read; broken promises
// are in the report.
//
// The contexts' databases are read at instants that differ a little, so beside a running system an order that
// moves between two readings looks broken for a moment. Run therefore opens and reads everything again while
// there are violations or something is on its way, up to five times in about three seconds and the time that reading takes. It
// reports the violations that every pass found in the same words, and what the last one found on its way. Nothing real is lost
// by that: a broken promise is a state on disk that no running code repairs, so each pass sees it. Nothing false remains: an
// order's states form no cycle, so it crosses each step once, and to be reported it would have to be caught in the same step at
// all instants.
func Run(ctx context.Context, open func(context.Context) ([]Source, error)) (Report, error) {
	// One clock for all passes, so that nothing falls between what is on its way and what is wrong.
	now := time.Now()
	var broken map[string]*breaches
	for pass := 0; ; pass++ {
		counts, f, err := once(ctx, open, now)
		if err != nil {
			return Report{}, err
		}
		if pass > 0 {
			f.broken = both(broken, f.broken)
		}
		broken = f.broken
		if waits := f.onItsWay(); len(broken)+len(waits) == 0 || pass == len(pauses) {
			return Report{OK: len(broken) == 0, Counts: counts, OnItsWay: waits, Violations: list(broken), Passes: pass + 1, Newest: f.newest}, nil
		}
		select {
		case <-time.After(pauses[pass]):
		case <-ctx.Done():
			return Report{}, ctx.Err()
		}
	}
}

// findings are what one pass found, by rule. What is on its way is summed up at once: while a context is away it grows.
type findings struct {
	now     time.Time
	broken  map[string]*breaches
	waiting map[string]*waiting
	newest  string // the last order so far, by id, that Orders knows
}

// mostNamed bounds the violations of one rule that are named; the others are counted. It is ten times what one process can have
// in motion at once, so that what only moves between two readings crowds out nothing that is wrong.
const mostNamed = 10_000

// breaches are the violations of one rule.
type breaches struct {
	named []Violation // in once sorted, each once
	more  int64
}

type waiting struct {
	count  int64
	oldest Violation
}

func (f *findings) add(all []Violation) {
	for _, v := range all {
		if v.Since.IsZero() || f.now.Sub(v.Since) > Patience {
			f.breach(v)
			continue
		}
		w := f.waiting[v.Rule]
		if w == nil {
			w = &waiting{oldest: v}
			f.waiting[v.Rule] = w
		}
		w.count += max(1, v.Times)
		if v.Since.Before(w.oldest.Since) {
			w.oldest = v
		}
	}
}

func (f *findings) breach(v Violation) {
	b := f.broken[v.Rule]
	if b == nil {
		b = &breaches{}
		f.broken[v.Rule] = b
	}
	if v.Times > 0 || len(b.named) == mostNamed {
		b.more += max(1, v.Times)
		return
	}
	b.named = append(b.named, Violation{Rule: v.Rule, Detail: v.Detail, Repair: v.Repair})
}

func (f *findings) onItsWay() []Waiting {
	all := []Waiting{}
	for _, rule := range slices.Sorted(maps.Keys(f.waiting)) {
		w := f.waiting[rule]
		// A clock that is ahead elsewhere makes no negative age.
		age := max(0, f.now.Sub(w.oldest.Since))
		all = append(all, Waiting{Rule: rule, Count: w.count, OldestSeconds: int64(age / time.Second), Oldest: w.oldest.Detail})
	}
	return all
}

func once(ctx context.Context, open func(context.Context) ([]Source, error), now time.Time) (counts map[string]map[string]int64, found *findings, err error) {
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
	found = &findings{now: now, broken: map[string]*breaches{}, waiting: map[string]*waiting{}}
	for _, s := range sources {
		c, v, err := s.Check(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("check %s: %w", s.Name(), err)
		}
		counts[s.Name()] = c
		for i := range v {
			if v[i].Repair.Do != "" {
				v[i].Repair.Context = s.Name()
			}
		}
		found.add(v)
	}
	said := map[What]bool{}
	for _, s := range sources {
		for _, w := range s.States() {
			said[w] = true
		}
	}
	var leave Claim // of orders that are not recorded: the one that goes on longest
	err = join(ctx, sources, func(claims []Claim) {
		for _, c := range claims {
			if c.What == OrderUnrecorded && c.Ref > leave.Ref {
				leave = c
			}
		}
		var unrecorded time.Time
		if claims[0].Order < leave.Ref {
			unrecorded = leave.Since
		}
		all := judge(claims, said, unrecorded)
		for i := range all {
			if all[i].Repair.Unknown {
				all[i].Repair.After = found.newest
			}
		}
		found.add(all)
		if slices.ContainsFunc(claims, Claim.ofOrders) {
			found.newest = claims[0].Order
		}
	})
	if err != nil {
		return nil, nil, err
	}
	for _, b := range found.broken {
		slices.SortFunc(b.named, compare)
		b.named = slices.Compact(b.named)
	}
	return counts, found, nil
}

func compare(a, b Violation) int { return cmp.Compare(a.Detail, b.Detail) }

// both returns what is in a and in b.
func both(a, b map[string]*breaches) map[string]*breaches {
	out := map[string]*breaches{}
	for rule, now := range b {
		before, ok := a[rule]
		if !ok {
			continue
		}
		stays := &breaches{more: min(before.more, now.more)}
		for _, v := range now.named {
			if _, ok := slices.BinarySearchFunc(before.named, v, compare); ok {
				stays.named = append(stays.named, v)
			}
		}
		if len(stays.named) > 0 || stays.more > 0 {
			out[rule] = stays
		}
	}
	return out
}

// list puts the violations in the order of a report.
func list(broken map[string]*breaches) []Violation {
	all := []Violation{}
	for _, rule := range slices.Sorted(maps.Keys(broken)) {
		all = append(all, broken[rule].named...)
		if n := broken[rule].more; n > 0 {
			all = append(all, Violation{Rule: rule, Detail: fmt.Sprintf("and %d more", n), Times: n})
		}
	}
	return all
}
