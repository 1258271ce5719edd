package explore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/orderkeep/orderkeep/internal/explore"
)

// bank is an account that two actors pay into, by reading it and writing it; in one step or in two.
func bank(p *explore.Path, steps int) (int, error) {
	balance := 0
	pay := func(a *explore.Actor) {
		a.Stop("read")
		was := balance
		a.Saw(fmt.Sprint(was))
		if steps == 2 {
			a.Stop("write")
		}
		balance = was + 1
	}
	actors := []*explore.Actor{explore.Go("one", pay), explore.Go("two", pay)}
	defer func() {
		for _, a := range actors {
			a.Kill()
		}
	}()
	for {
		var ways []string
		var able []*explore.Actor
		for _, a := range actors {
			if what, ok := a.Pending(); ok {
				ways, able = append(ways, a.Name+" "+what), append(able, a)
			}
		}
		i, ok := p.Choose(func() string { return fmt.Sprint(balance, actors[0].State(), actors[1].State()) }, len(ways), func(i int) string { return ways[i] })
		if !ok {
			break
		}
		able[i].Step()
	}
	if p.Ended() && balance != 2 {
		return balance, errors.New("a payment is lost")
	}
	return balance, nil
}

func TestEveryOrderIsTriedOnce(t *testing.T) {
	t.Parallel()
	count, err := explore.All(func(p *explore.Path) error {
		_, err := bank(p, 1)
		return err
	})
	// Neither, one, two, both: four states, and the last of them is come to by two ways.
	if want := (explore.Count{States: 4, Runs: 2}); err != nil || count != want {
		t.Errorf("%v, %v, want %v", count, err, want)
	}
}

func TestALostUpdateIsFoundAndTheWayToItTold(t *testing.T) {
	t.Parallel()
	_, err := explore.All(func(p *explore.Path) error {
		_, err := bank(p, 2)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "a payment is lost") {
		t.Fatalf("got %v", err)
	}
	for _, step := range []string{"one read", "one write", "two read", "two write"} {
		if !strings.Contains(err.Error(), step) {
			t.Errorf("the way does not name %q: %v", step, err)
		}
	}
	if strings.Index(err.Error(), "two read") > strings.Index(err.Error(), "one write") {
		t.Errorf("that way loses nothing: %v", err)
	}
}

func TestARunThatDiffersWhenItIsRepeatedIsRefused(t *testing.T) {
	t.Parallel()
	runs := 0
	_, err := explore.All(func(p *explore.Path) error {
		runs++
		for i := range 3 {
			ways := 2
			if runs == 3 {
				ways = 3
			}
			if _, ok := p.Choose(func() string { return fmt.Sprint(runs, i) }, ways, func(i int) string { return fmt.Sprint(i) }); !ok {
				return nil
			}
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "not the same") {
		t.Errorf("got %v", err)
	}
}

// A killed actor runs its deferred calls and nothing else, and so does a goroutine that it waits for.
func TestAKilledActorDoesNothingMore(t *testing.T) {
	t.Parallel()
	var did []string
	a := explore.Go("a", func(a *explore.Actor) {
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { did = append(did, "deferred") }()
			a.Stop("first")
			did = append(did, "first")
			a.Stop("second")
			did = append(did, "second")
		})
		wg.Wait()
		a.Stop("third")
		did = append(did, "third")
	})
	a.Step()
	a.Kill()
	if got := strings.Join(did, " "); got != "first deferred" {
		t.Errorf("it did %s", got)
	}
	if _, ok := a.Pending(); ok {
		t.Error("it goes on")
	}
}
