package explore

import (
	"runtime"
	"strings"
	"sync/atomic"
)

// Actor is code that runs by itself from one call of a port to the next. All but Stop and Saw are called by the run, when the
// actor stands still; those two by the ports, in the actor's goroutine or in one that it waits for.
type Actor struct {
	Name string

	stops   chan string // what it is about to do; closed when it has ended
	goOn    chan struct{}
	killed  atomic.Bool
	pending string
	ended   bool
	saw     strings.Builder
}

// Go starts an actor, and returns when it has come to its first stop or its end.
func Go(name string, f func(*Actor)) *Actor {
	a := &Actor{Name: name, stops: make(chan string), goOn: make(chan struct{})}
	go func() {
		defer close(a.stops)
		f(a)
	}()
	a.wait()
	return a
}

func (a *Actor) wait() {
	what, ok := <-a.stops
	a.pending, a.ended = what, !ok
}

// Stop holds the actor before it does something, until the run lets it go on. A killed actor never goes on: its goroutine ends
// there, as a process does, but for deferred calls.
func (a *Actor) Stop(what string) {
	if a.killed.Load() {
		runtime.Goexit()
	}
	a.stops <- what
	<-a.goOn
	if a.killed.Load() {
		runtime.Goexit()
	}
}

// Saw notes what the actor learned of the world. It must be told of all that its further way depends on.
func (a *Actor) Saw(what string) {
	a.saw.WriteString(what)
	a.saw.WriteByte(';')
}

// Pending is what the actor is about to do. It is false when the actor has ended.
func (a *Actor) Pending() (string, bool) { return a.pending, !a.ended }

// Step lets the actor do what it is about to do, and returns when it has come to its next stop or its end.
func (a *Actor) Step() {
	a.goOn <- struct{}{}
	a.wait()
}

// Kill ends the actor where it stands.
func (a *Actor) Kill() {
	if a.ended {
		return
	}
	a.killed.Store(true)
	a.goOn <- struct{}{}
	for range a.stops {
	}
	a.ended = true
}

// State names where the actor stands. Code that depends on nothing but what it sees has come to the same place if it saw the same.
func (a *Actor) State() string {
	if a.ended {
		return a.Name + " ended"
	}
	return a.Name + " at " + a.pending + " saw " + a.saw.String()
}
