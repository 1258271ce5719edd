// Package explore runs small concurrent programs through all orders in which their steps can happen, so that a test can say "in no
// order" and mean it.
//
// A test describes a run: actors, which are real code that stops at each call of a port, and the ways in which the world can go
// on from where they stand. All repeats the run until every way was gone from every state. A state is gone on from once: the test
// names it by all that the rest of the run depends on, which for an actor is what it was answered so far (Actor.State). It
// promises that nothing is left out that the test's ways and names distinguish, and refuses a run that is not the same
// when it is repeated.
package explore

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// Count says how much was explored.
type Count struct {
	States int // distinct
	Runs   int // each went a way from a state that none before it had gone
}

func (c Count) String() string {
	return fmt.Sprintf("%d states in %d runs", c.States, c.Runs)
}

// key names a state: 128 bits of its hash, so that two among millions are not taken for one.
type key [16]byte

// fork is a state on the path, and the way that is gone from it.
type fork struct {
	taken, ways int
	name        string // of the way
}

// Path is one run.
type Path struct {
	forks []fork // the first of them are repeated from the run before
	at    int
	seen  map[key]struct{}
	ended bool
	err   error
}

// All calls run until there is no path left, or until it returns an error, which All returns with the way that led to it. Run
// starts from nothing each time, and ends when Choose says so or nothing is left to do.
func All(run func(*Path) error) (Count, error) {
	var c Count
	var forks []fork
	seen := map[key]struct{}{}
	for {
		p := &Path{forks: forks, seen: seen}
		err := run(p)
		c.Runs++
		c.States = len(seen)
		if p.err != nil {
			err = p.err
		}
		if err != nil {
			return c, fmt.Errorf("%w\nafter:\n%s", err, p)
		}
		forks = p.forks
		for len(forks) > 0 && forks[len(forks)-1].taken == forks[len(forks)-1].ways-1 {
			forks = forks[:len(forks)-1]
		}
		if len(forks) == 0 {
			return c, nil
		}
		forks[len(forks)-1].taken++
	}
}

// Choose returns which of n ways to go from a state. It is false when the run is over: there is no way, or all that follows has
// been seen. Ended tells the two apart. State and name are asked only where they are new: most steps of a run repeat one before.
func (p *Path) Choose(state func() string, n int, name func(way int) string) (int, bool) {
	if p.at < len(p.forks) {
		f := &p.forks[p.at]
		if f.ways != n {
			p.err = fmt.Errorf("the run is not the same when it is repeated: at step %d there were %d ways, and now there are %d", p.at+1, f.ways, n)
			return 0, false
		}
		p.at++
		if p.at == len(p.forks) {
			f.name = name(f.taken)
		}
		return f.taken, true
	}
	sum := sha256.Sum256([]byte(state()))
	k := key(sum[:16])
	if _, ok := p.seen[k]; ok {
		return 0, false
	}
	p.seen[k] = struct{}{}
	if n == 0 {
		p.ended = true
		return 0, false
	}
	p.forks = append(p.forks, fork{ways: n, name: name(0)})
	p.at++
	return 0, true
}

// Ended reports that the run came to a state from which there is no way, for the first time.
func (p *Path) Ended() bool { return p.ended }

// String lists the ways that were gone.
func (p *Path) String() string {
	var b strings.Builder
	for i, f := range p.forks[:p.at] {
		fmt.Fprintf(&b, "%3d %s\n", i+1, f.name)
	}
	return b.String()
}
