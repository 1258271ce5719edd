// Package broker carries events between processes: an outbox.Bus over NATS JetStream, RabbitMQ or Kafka, picked by the
// scheme of a URL.
//
// What it promises: Publish returns when the broker has the events on disk in a log that it keeps, so that a consumer that
// runs for the first time later gets them too; a consumer's Receive has stored an event before the broker may forget
// it; events of one subject arrive in the order in which they were published, also when they arrive again and whichever
// replica gets them. A broker that is away, at start or later, is a bus that is not ready: it connects by itself and
// goes on where it was. What it refuses: to print what a URL says about credentials, and to start on a URL that it
// does not understand.
//
// An event on the wire is the Protobuf message as the body and the attributes of CloudEvents 1.0 as headers, by the names
// that the binary mode of the broker's protocol binding gives them. docs/operations.md has a table of what each broker
// needs and promises, and docs/adr/0017-brokers.md says why it is done so.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/outbox"
)

const (
	// batchMost is as many events as a consumer stores at once, and as many as the relay publishes at once.
	batchMost = 256
	// awayTimeout is how long Publish waits for a broker that is away before it lets the relay say so.
	awayTimeout = 10 * time.Second
	// receiveTimeout bounds one attempt to store a batch. The database answers or refuses well within it.
	receiveTimeout = 10 * time.Second
	// steady is how long a connection has to hold before the next attempt counts as the first again.
	steady = 10 * time.Second
)

// options are what the adapters need to know besides the address. Tests make the times shorter.
type options struct {
	consumers      []string      // all there are
	ackWait        time.Duration // after which JetStream takes a consumer for dead
	sessionTimeout time.Duration // after which Kafka does
}

// In patience a consumer that is only slow is not taken for dead; it is longer than receiveTimeout.
const patience = 30 * time.Second

// session is one connection to a broker, from when all that is needed there has been made.
type session interface {
	// publish returns when the broker has all events.
	publish(context.Context, []outbox.Event) error
	// consume hands events to in until ctx ends, and returns when the batch under way is stored and acknowledged. An error is
	// the session's end.
	consume(ctx context.Context, in intake) error
	// ping fails if the broker does not answer.
	ping(context.Context) error
	// fail ends the session; the first cause counts.
	fail(error)
	// down is closed when the session has ended, and cause says why.
	down() <-chan struct{}
	cause() error
	close()
}

// Bus is an outbox.Bus over a broker. Make it with New; its methods may be called at once from many goroutines.
type Bus struct {
	where string // the broker as a person may see it
	open  func(context.Context) (session, error)
	log   *slog.Logger

	life      context.Context // ends with Close
	end       context.CancelFunc
	consuming context.Context // ends with Stop
	stop      context.CancelFunc
	consumers sync.WaitGroup
	ended     chan struct{} // run has returned

	mu      sync.Mutex
	subs    []outbox.Subscription
	started bool
	now     session       // nil while the broker is away
	why     error         // it is away
	changed chan struct{} // closed when now changes
}

// New returns the bus of the broker at a URL that Check accepts; nothing is connected before Start. The consumers are the
// names of all that there are, in this process, in others, and of those that have never run yet.
func New(url string, consumers []string, log *slog.Logger) (*Bus, error) {
	return newBus(url, log, options{consumers: consumers, ackWait: patience, sessionTimeout: patience})
}

func newBus(url string, log *slog.Logger, o options) (*Bus, error) {
	a, err := parse(url)
	if err != nil {
		return nil, err
	}
	b := &Bus{where: a.String(), log: log.With("broker", a.String()), ended: make(chan struct{}), changed: make(chan struct{}), why: errors.New("not started")}
	b.life, b.end = context.WithCancel(context.Background())
	b.consuming, b.stop = context.WithCancel(b.life)
	open := map[string]func(context.Context, address, options, *slog.Logger) (session, error){
		"nats": openNATS, "amqp": openRabbit, "kafka": openKafka,
	}[a.kind]
	b.open = func(ctx context.Context) (session, error) {
		o := o
		o.consumers = slices.Clone(o.consumers)
		for _, s := range b.subs { // which do not change any more
			if !slices.Contains(o.consumers, s.Name) {
				o.consumers = append(o.consumers, s.Name)
			}
		}
		return open(ctx, a, o, b.log)
	}
	return b, nil
}

// Subscribe adds a consumer. It refuses a second one of the same name, and any after Start.
func (b *Bus) Subscribe(s outbox.Subscription) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started {
		return fmt.Errorf("subscribe %s: the bus has started", s.Name)
	}
	if slices.ContainsFunc(b.subs, func(o outbox.Subscription) bool { return o.Name == s.Name }) {
		return fmt.Errorf("subscribe %s: there is a consumer of that name", s.Name)
	}
	b.subs = append(b.subs, s)
	return nil
}

// Start connects in the background, and again whenever the connection is lost, until Close.
func (b *Bus) Start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started {
		b.started = true
		go b.run()
	}
}

// Started reports whether the broker is there, so that a drain does not wait for one that is away: what is not
// published stays in the outbox.
func (b *Bus) Started() bool {
	s, _, _ := b.current()
	return s != nil
}

// errAway is for whoever asks why the process is not ready, who may be a stranger: the address is for the log.
var errAway = fault.New(fault.Unavailable, "broker_unavailable", "The broker that BROKER_URL names does not answer. Events wait until it does; look at the broker, and at the log.")

// Ready fails while the broker is away, with the reason.
func (b *Bus) Ready(ctx context.Context) error {
	s, _, why := b.current()
	if s == nil {
		return errAway.Because(fmt.Errorf("%s is away: %w", b.where, why))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.ping(ctx); err != nil {
		return errAway.Because(fmt.Errorf("%s does not answer: %w", b.where, err))
	}
	return nil
}

// Publish returns when the broker has all events on disk, in a log that consumers which never ran before read from its
// beginning. After an error some of them may be there: publish all again, consumers ignore what they have.
func (b *Bus) Publish(ctx context.Context, events []outbox.Event) error {
	s, err := b.await(ctx)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, call.BrokerPublish.Timeout)
	defer cancel()
	err = s.publish(bounded, events)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("publish %d events to %s: %w", len(events), b.where, err)
	if ctx.Err() == nil {
		// What became of them is unknown; on a new connection nothing of this attempt can come late.
		s.fail(err)
	}
	return err
}

func (b *Bus) current() (session, <-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now, b.changed, b.why
}

// await returns the session, and waits for one if there is none.
func (b *Bus) await(ctx context.Context) (session, error) {
	timeout := time.NewTimer(awayTimeout)
	defer timeout.Stop()
	for {
		s, changed, why := b.current()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return nil, fmt.Errorf("%s is away: %w", b.where, why)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-b.life.Done():
			return nil, fmt.Errorf("%s: the bus is closed", b.where)
		}
	}
}

func (b *Bus) set(s session, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now, b.why = s, why
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *Bus) run() {
	defer close(b.ended)
	away, flapping := false, false // as the log has it, and: the last connection did not hold
	there := func() { b.log.Info("the broker is there again") }
	for failures := 1; b.life.Err() == nil; failures++ {
		var connected time.Time
		held := time.AfterFunc(time.Hour, there)
		held.Stop()
		err := b.once(func() {
			connected = time.Now()
			switch {
			case away && flapping:
				held.Reset(steady)
			case away:
				there()
				away = false
			}
		})
		held.Stop()
		if b.life.Err() != nil {
			return
		}
		b.set(nil, err)
		if !connected.IsZero() {
			// One that connects and fails again and again has been told of; Ready has the reason.
			flapping = time.Since(connected) < steady
			away = away && flapping
		}
		if !away {
			b.log.Warn("the broker is away; trying until it is there", "error", err)
			away = true
		}
		if !connected.IsZero() && !flapping {
			failures = 1
		}
		pause(b.life, failures)
	}
}

// once connects, and serves the connection until it ends.
func (b *Bus) once(connected func()) error {
	ctx, cancel := context.WithTimeout(b.life, call.BrokerConnect.Timeout)
	s, err := b.open(ctx)
	cancel()
	if err != nil {
		return err
	}
	defer s.close()
	connected()
	b.set(s, nil)
	b.consume(s)
	select {
	case <-s.down():
	case <-b.life.Done():
		s.fail(b.life.Err())
	}
	return s.cause()
}

// consume starts the consumers of a session; they end with it, or with Stop.
func (b *Bus) consume(s session) {
	b.mu.Lock() // so that none starts once Stop waits for them
	defer b.mu.Unlock()
	if b.consuming.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(b.consuming)
	go func() {
		<-s.down()
		cancel()
	}()
	for _, sub := range b.subs {
		b.consumers.Go(func() {
			if err := s.consume(ctx, intake{sub, b.log.With("consumer", sub.Name)}); err != nil && ctx.Err() == nil {
				s.fail(fmt.Errorf("consume as %s: %w", sub.Name, err))
			}
		})
	}
}

// Stop ends consuming: it returns when what was being received is stored and acknowledged. The rest waits at the
// broker. Publishing goes on, for what a drain still has to tell.
func (b *Bus) Stop() {
	b.mu.Lock()
	b.stop()
	b.mu.Unlock()
	b.consumers.Wait()
}

// Close ends consuming as Stop does, and then the connection.
func (b *Bus) Close() {
	b.Stop()
	b.end()
	b.mu.Lock()
	started := b.started
	b.started = true // nobody starts it any more
	b.mu.Unlock()
	if started {
		<-b.ended
	}
}

// intake is where a consumer's events go.
type intake struct {
	outbox.Subscription
	log *slog.Logger
}

// take stores events, and tries until they are stored or ctx ends; only then is the answer false. An attempt under way is
// not cut off.
func (i intake) take(ctx context.Context, events []outbox.Event) bool {
	for n := 1; ; n++ {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), receiveTimeout)
		err := i.Receive(bounded, events)
		cancel()
		if err == nil {
			if n > 1 {
				i.log.Info("events are stored again", "attempts", n)
			}
			return true
		}
		if n == 1 {
			i.log.Warn("events cannot be stored; they stay at the broker, trying again until they are", "events", len(events), "error", err)
		}
		pause(ctx, n)
		if ctx.Err() != nil {
			return false
		}
	}
}

// wants reports whether the consumer asked for a type of event.
func (i intake) wants(eventType string) bool { return slices.Contains(i.Types, eventType) }

// pause waits before the attempt after the nth, to connect or to store.
func pause(ctx context.Context, n int) {
	t := time.NewTimer(rand.N(min(call.BrokerConnect.Most, call.BrokerConnect.First<<min(n-1, 10))) + 1)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// link is a session's state: up until something fails.
type link struct {
	once   sync.Once
	broken chan struct{}
	why    error
}

func newLink() link { return link{broken: make(chan struct{})} }

func (l *link) fail(err error) {
	l.once.Do(func() {
		l.why = err
		close(l.broken)
	})
}

func (l *link) down() <-chan struct{} { return l.broken }

func (l *link) cause() error {
	<-l.broken
	return l.why
}

// waves splits events so that none is published before all earlier ones of its subject are at the broker: the nth wave
// has each subject's nth event. Were they sent together, one that fails and is repeated would come after its successors.
func waves(events []outbox.Event) [][]outbox.Event {
	var all [][]outbox.Event
	nth := map[string]int{}
	for _, e := range events {
		n := nth[e.Subject]
		nth[e.Subject] = n + 1
		if n == len(all) {
			all = append(all, nil)
		}
		all[n] = append(all[n], e)
	}
	return all
}
