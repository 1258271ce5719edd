package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Local is the bus inside one process. Publish hands events to each subscription's Receive, so that they are in every
// consumer's inbox when it returns. It keeps nothing itself.
type Local struct {
	started chan struct{}
	start   sync.Once

	mu   sync.Mutex // guards subs until Start; after it they do not change
	subs []Subscription
}

// NewLocal returns a bus that holds back all events until Start.
func NewLocal() *Local { return &Local{started: make(chan struct{})} }

// Start lets events through. The process calls it once every context has subscribed: an event published before its
// consumer had subscribed would be lost to it, because the relay marks it as published.
func (l *Local) Start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start.Do(func() { close(l.started) })
}

// Started reports whether events go through.
func (l *Local) Started() bool {
	select {
	case <-l.started:
		return true
	default:
		return false
	}
}

// Subscribe adds a consumer. It refuses a second one of the same name, and any after Start.
func (l *Local) Subscribe(s Subscription) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Started() {
		return fmt.Errorf("subscribe %s: the bus has started, and may have delivered what it wants", s.Name)
	}
	if slices.ContainsFunc(l.subs, func(o Subscription) bool { return o.Name == s.Name }) {
		return fmt.Errorf("subscribe %s: there is a consumer of that name", s.Name)
	}
	l.subs = append(l.subs, s)
	return nil
}

// Publish waits for Start and delivers the events to everyone who wants them. One consumer's failure does not
// keep them from the others; the publisher repeats all of them, and the inboxes ignore what they have.
func (l *Local) Publish(ctx context.Context, events []Event) error {
	select {
	case <-l.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	var errs []error
	for _, s := range l.subs {
		wanted := make([]Event, 0, len(events))
		for _, e := range events {
			if slices.Contains(s.Types, e.Type) {
				wanted = append(wanted, e)
			}
		}
		if len(wanted) == 0 {
			continue
		}
		if err := s.Receive(ctx, wanted); err != nil {
			errs = append(errs, fmt.Errorf("deliver to %s: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Wants reports whether any consumer wants events of a type, so that the relay need not read the others. It waits
// for Start, or the end of ctx, because before it nobody knows.
func (l *Local) Wants(ctx context.Context, eventType string) (bool, error) {
	select {
	case <-l.started:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	for _, s := range l.subs {
		if slices.Contains(s.Types, eventType) {
			return true, nil
		}
	}
	return false, nil
}
