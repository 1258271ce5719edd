package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/test/stage"
)

var pointCall = regexp.MustCompile(`\blab\.Point\("([^"]+)"\)`)

// points are the names of all crash points in the code below a directory.
func points(root string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "test" || d.Name() == ".git"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range pointCall.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
		return err
	})
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 && err == nil {
		err = errors.New("there is no crash point in the code")
	}
	return names, err
}

// soon is how long a sweep waits for a process to come to a point. Most come to most points many times a second; on a machine with other work a
// few of them are seldom.
const soon = time.Minute

// sweep lets a process die at each of the points, and returns those to which none came.
func (w *world) sweep(ctx context.Context, chance *rand.Rand, names []string) (missed []string) {
	for _, i := range chance.Perm(len(names)) {
		name := names[i]
		if name == failedPoint && w.bank == nil {
			missed = append(missed, name) // where the provider is never away nobody comes to it
			continue
		}
		n := w.nodeOf(name)
		crash, tries := fmt.Sprintf("%s:%d", name, 1+chance.IntN(3)), 1
		if name == takenBackPoint {
			crash, tries = name+":1", 10
		}
		w.report.Schedule = append(w.report.Schedule, n.name+" dies at "+crash)
		died := false
		for try := 0; try < tries && !died; try++ {
			if name == takenBackPoint {
				w.dies(ctx, n, name, "orders.reserved:2000", soon/4) // by then it reserves before it records, and leaves some in between
			}
			died = w.dies(ctx, n, name, crash, soon/time.Duration(tries))
		}
		if died {
			w.report.Points[name]++
			w.report.count("crash at a point")
		} else {
			missed = append(missed, name)
		}
		w.kill(n, 0)
	}
	return missed
}

// dies kills a process, starts it anew, and reports whether that one comes to a point within a time, and dies there.
func (w *world) dies(ctx context.Context, n *node, point, crash string, within time.Duration) bool {
	n.mu.Lock()
	n.process.Kill()
	w.ensure(n, crash)
	p := n.process
	n.mu.Unlock()
	defer w.provoke(ctx, point)()
	select {
	case <-p.Ended:
		return true
	case <-time.After(within):
		return false
	}
}

// nodeOf is a process that comes to a point.
func (w *world) nodeOf(point string) *node {
	room, _, _ := strings.Cut(point, ".")
	if room != "orders" && room != "inventory" {
		room = "payments" // whose provider can be away
	}
	for _, n := range w.nodes {
		if strings.HasPrefix(n.name, room) {
			return n
		}
	}
	return w.nodes[0]
}

// takenBackPoint comes after a crash that found orders between their two writes, which not every crash does.
const takenBackPoint = "orders.taken_back"

// failedPoint comes after the failure of an event's handler.
const failedPoint = "inbox.failed"

// provoke does what buyers do not, so that a process comes to a point, until calm is called.
func (w *world) provoke(ctx context.Context, point string) (calm func()) {
	var again func(n int)
	b := &buyers{w: w, client: &http.Client{Timeout: patient, Transport: &http.Transport{MaxIdleConnsPerHost: crowd * 2}}}
	switch {
	case point == "inventory.imported":
		again = func(n int) {
			sheet := fmt.Sprintf("sku,title,on_hand,tracked\nSIDE-%d,,%d,true\n", n%3, n+1)
			stage.Launch{Path: program, Args: []string{"--url", "http://" + w.stock.addr(), "stock", "import", "-"}}.Run(w.t, sheet)
		}
	case point == takenBackPoint:
		again = func(int) { // many at once, so that a crash finds some in one batch
			var together sync.WaitGroup
			for range 24 {
				together.Go(func() {
					q := Request{Verb: Place, Intent: "aside-" + uuid.NewString(), Wants: &Basket{Lines: []Line{{"LASTS", 1, 0}}}}
					b.send(&q)
				})
			}
			together.Wait()
		}
	case point == failedPoint:
		// There and away: orders have to be paid before their money cannot be taken or given back.
		again = func(int) {
			pause(ctx, 300*time.Millisecond)
			w.bank.hurt(w.t, toxic{Type: "reset_peer", Stream: "upstream", Attributes: map[string]any{"timeout": 0}})
			pause(ctx, 300*time.Millisecond)
			w.bank.heal(w.t)
		}
	default:
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for n := 0; ctx.Err() == nil; n++ {
			again(n)
		}
	}()
	return func() {
		cancel()
		<-over
		b.client.CloseIdleConnections()
	}
}

// seldom are points that a kill at a random instant does not meet often: little time lies between an event and its effect.
var seldom = []string{"relay.marked", "inbox.handled"}

// TestCrashPoints lets processes die right after each durable write, at the named points in the code; in its short form only at those
// that random kills seldom meet, several times.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	if !whole() {
		w := oneProcess(t, begin(t, "Crash points", "One process with all contexts on SQLite", 10))
		w.run(func(ctx context.Context, chance *rand.Rand) {
			if missed := w.sweep(ctx, chance, append(slices.Repeat(seldom, 6), takenBackPoint)); len(missed) > 0 {
				t.Errorf("no process came to %v", missed)
			}
		})
		return
	}
	root, err := stage.Root()
	if err != nil {
		t.Fatal(err)
	}
	all, err := points(root)
	if err != nil {
		t.Fatal(err)
	}
	report.expect(all)
	left := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return name == keptPoint })
	for i, top := range []struct {
		name string
		open func(testing.TB, *Run) *world
	}{
		{"One process with all contexts on SQLite", oneProcess},
		{apart("nats"), func(t testing.TB, r *Run) *world { return split(t, r, "nats") }},
	} {
		if len(left) == 0 {
			break
		}
		t.Run(fmt.Sprint(len(left), "_points"), func(t *testing.T) {
			w := top.open(t, begin(t, "Crash points", top.name, uint64(10+i)))
			w.run(func(ctx context.Context, chance *rand.Rand) { left = w.sweep(ctx, chance, left) })
		})
	}
	if len(left) > 0 {
		t.Errorf("no process came to %v: what happens after a crash there is not known", left)
	}
}

func TestPointsAreFoundInTheCode(t *testing.T) {
	t.Parallel()
	root, err := stage.Root()
	if err != nil {
		t.Fatal(err)
	}
	all, err := points(root)
	if err != nil || !slices.Contains(all, "orders.begun") || slices.Contains(all, "here") {
		t.Errorf("%v, %v", all, err)
	}
	if all, err = points(t.TempDir()); err == nil {
		t.Errorf("where there is no code it finds %v", all)
	}
}
