package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/outbox"
	amqp "github.com/rabbitmq/amqp091-go"
)

// rabbitHeader begins the names of headers, as in CloudEvents' binding for AMQP 1.0, which RabbitMQ maps these to.
const rabbitHeader = "cloudEvents:"

// rabbitSession is a connection to RabbitMQ, or rather two: the server stops reading from connections that publish
// when it is short of memory, and acknowledgements must not stop with them.
//
// Events go to the topic exchange PREFIX.events under their type. Each consumer has a quorum queue, PREFIX.consumer.NAME,
// that gets all of them. RabbitMQ keeps nothing for a queue that is not there yet, so whoever publishes makes the queues of
// all consumers that there are, whether they have ever run or not. What is no event ends in
// PREFIX.consumer.NAME.dead.
type rabbitSession struct {
	link
	out, in *amqp.Connection
	sockets sockets
	prefix  string
	log     *slog.Logger

	publishing sync.Mutex // guards what follows
	ch         *amqp.Channel
	returned   chan amqp.Return
	blocked    chan amqp.Blocking
	full       string // why the server takes nothing now
}

func openRabbit(ctx context.Context, a address, o options, log *slog.Logger) (session, error) {
	var failures []error
	for _, host := range a.hosts {
		s := &rabbitSession{link: newLink(), prefix: a.prefix, log: log}
		err := s.open(ctx, a, host, o.consumers)
		if err == nil {
			return s, nil
		}
		s.close()
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

func (s *rabbitSession) open(ctx context.Context, a address, host string, consumers []string) (err error) {
	// The library's handshakes and declarations do not know ctx.
	defer context.AfterFunc(ctx, s.hangUp)()
	if s.out, err = s.dial(a, host, "publish"); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if s.in, err = s.dial(a, host, "consume"); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if s.ch, err = s.out.Channel(); err != nil {
		return err
	}
	s.blocked = s.out.NotifyBlocked(make(chan amqp.Blocking, 16))
	s.returned = s.ch.NotifyReturn(make(chan amqp.Return, batchMost))
	if err := s.ch.Confirm(false); err != nil {
		return fmt.Errorf("ask for confirms: %w", err)
	}
	if err := s.prepare(consumers); err != nil {
		return err
	}
	for _, c := range []*amqp.Connection{s.out, s.in} {
		closed := c.NotifyClose(make(chan *amqp.Error, 1))
		go func() {
			if e := <-closed; e != nil {
				s.fail(lostBy(e))
			}
			s.fail(lostBy(nil))
		}()
	}
	return nil
}

// prepare makes what is missing. One replica of a consumer at a time gets the deliveries, so that they are in order; the
// next one takes over when it goes.
func (s *rabbitSession) prepare(consumers []string) error {
	if err := s.ch.ExchangeDeclare(s.exchange(), amqp.ExchangeTopic, true, false, false, false, nil); err != nil {
		return fmt.Errorf("declare the exchange %s: %w", s.exchange(), err)
	}
	for _, name := range consumers {
		if _, err := s.ch.QueueDeclare(s.dead(name), true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
			return fmt.Errorf("declare the queue %s: %w", s.dead(name), err)
		}
		if _, err := s.ch.QueueDeclare(s.queue(name), true, false, false, false, amqp.Table{
			"x-queue-type": "quorum", "x-single-active-consumer": true,
			"x-dead-letter-exchange": "", "x-dead-letter-routing-key": s.dead(name),
			"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish", // the first needs the second
		}); err != nil {
			return fmt.Errorf("declare the queue %s: %w", s.queue(name), err)
		}
		if err := s.ch.QueueBind(s.queue(name), "#", s.exchange(), false, nil); err != nil {
			return fmt.Errorf("bind the queue %s: %w", s.queue(name), err)
		}
	}
	return nil
}

func (s *rabbitSession) dial(a address, host, what string) (*amqp.Connection, error) {
	u := url.URL{Scheme: "amqp", User: a.user, Host: host, Path: "/" + a.vhost}
	c := amqp.Config{
		Heartbeat: 10 * time.Second, Properties: amqp.NewConnectionProperties(),
		Dial: func(network, addr string) (net.Conn, error) {
			socket, err := amqp.DefaultDial(5*time.Second)(network, addr)
			if err == nil {
				s.sockets.add(socket)
			}
			return socket, err
		},
	}
	c.Properties.SetClientConnectionName("orderkeep " + what)
	if a.tls != nil {
		u.Scheme, c.TLSClientConfig = "amqps", a.tls.Clone()
	}
	return amqp.DialConfig(u.String(), c)
}

func (s *rabbitSession) exchange() string           { return s.prefix + ".events" }
func (s *rabbitSession) queue(name string) string   { return s.prefix + ".consumer." + name }
func (s *rabbitSession) dead(name string) string    { return s.queue(name) + ".dead" }
func (s *rabbitSession) hangUp()                    { s.sockets.close() }
func (s *rabbitSession) ping(context.Context) error { return s.refusing() }

// sockets are those of a session. It may be hung up while it dials: what comes after that is closed at once.
type sockets struct {
	mu     sync.Mutex
	open   []net.Conn
	closed bool
}

func (s *sockets) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, c)
	if s.closed {
		_ = c.Close()
	}
}

func (s *sockets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.open {
		_ = c.Close() // all that is left to do with it
	}
}

// refusing says why the server takes no events at present, or nil.
func (s *rabbitSession) refusing() error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	return s.refused()
}

func (s *rabbitSession) refused() error {
	for {
		select {
		case b, ok := <-s.blocked:
			switch {
			case !ok:
				return errors.New("the connection is closed")
			case b.Active:
				s.full = b.Reason
			default:
				s.full = ""
			}
		default:
			if s.full != "" {
				return fmt.Errorf("it takes no messages now: %s", s.full)
			}
			return nil
		}
	}
}

func (s *rabbitSession) publish(ctx context.Context, events []outbox.Event) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	// A write to a server that does not read ends with the socket only.
	defer context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			s.hangUp()
		}
	})()
	for _, wave := range waves(events) {
		if err := s.refused(); err != nil {
			return err
		}
		if err := s.wave(ctx, wave); err != nil {
			return err
		}
	}
	return nil
}

func (s *rabbitSession) wave(ctx context.Context, events []outbox.Event) error {
	confirms := make([]*amqp.DeferredConfirmation, len(events))
	for i, e := range events {
		var err error
		if confirms[i], err = s.ch.PublishWithDeferredConfirm(s.exchange(), e.Type, true, false, rabbitMessage(e)); err != nil {
			return fmt.Errorf("send event %s: %w", e.ID, err)
		}
	}
	for i, c := range confirms {
		select {
		case <-c.Done():
			if !c.Acked() {
				return fmt.Errorf("event %s was refused by a queue: one may be full", events[i].ID)
			}
		case <-s.broken:
			return s.cause()
		case <-ctx.Done():
			return fmt.Errorf("event %s was not confirmed: %w", events[i].ID, ctx.Err())
		}
	}
	// What no queue takes is returned before it is confirmed: somebody has deleted them.
	select {
	case r := <-s.returned:
		return fmt.Errorf("event %s came back: %s", r.MessageId, r.ReplyText)
	default:
		return nil
	}
}

func rabbitMessage(e outbox.Event) amqp.Publishing {
	m := amqp.Publishing{ContentType: contentType, DeliveryMode: amqp.Persistent, MessageId: e.ID, Headers: amqp.Table{}, Body: e.Data}
	for name, value := range attributes(e) {
		m.Headers[rabbitHeader+name] = value
	}
	return m
}

func fromRabbit(d amqp.Delivery) (outbox.Event, error) {
	return event(func(name string) string {
		v, _ := d.Headers[rabbitHeader+name].(string)
		return v
	}, d.Body)
}

func (s *rabbitSession) consume(ctx context.Context, in intake) error {
	ch, deliveries, err := s.receive(s.queue(in.Name))
	if err != nil {
		return err
	}
	// What was delivered and not acknowledged goes back to its place in the queue.
	defer ch.Close()
	for {
		batch, err := gather(ctx, deliveries)
		if err != nil || len(batch) == 0 {
			return err
		}
		var events []outbox.Event
		var last uint64
		for _, d := range batch {
			e, err := fromRabbit(d)
			if err != nil {
				in.log.Error("a message is no event and goes to the dead letters", "queue", s.dead(in.Name), "error", err)
				if err := d.Reject(false); err != nil {
					return fmt.Errorf("reject: %w", err)
				}
				continue
			}
			last = d.DeliveryTag
			if in.wants(e.Type) {
				events = append(events, e)
			}
		}
		if len(events) > 0 && !in.take(ctx, events) {
			return nil
		}
		if last == 0 {
			continue // nothing but what was rejected
		}
		if err := ch.Ack(last, true); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
}

func (s *rabbitSession) receive(queue string) (*amqp.Channel, <-chan amqp.Delivery, error) {
	ch, err := s.in.Channel()
	if err != nil {
		return nil, nil, err
	}
	if err := ch.Qos(batchMost, 0, false); err != nil {
		return nil, nil, errors.Join(err, ch.Close())
	}
	deliveries, err := ch.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("consume from %s: %w", queue, err)
	}
	return ch, deliveries, nil
}

// gather returns what there is, at least one delivery; none once ctx has ended.
func gather(ctx context.Context, deliveries <-chan amqp.Delivery) ([]amqp.Delivery, error) {
	var batch []amqp.Delivery
	select {
	case <-ctx.Done():
		return nil, nil
	case d, ok := <-deliveries:
		if !ok {
			return nil, errors.New("the server ended the deliveries")
		}
		batch = append(batch, d)
	}
	for len(batch) < batchMost {
		select {
		case d, ok := <-deliveries:
			if !ok {
				return batch, nil // the next call reports it
			}
			batch = append(batch, d)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

func (s *rabbitSession) close() {
	deadline := time.Now().Add(2 * time.Second)
	for _, c := range []*amqp.Connection{s.out, s.in} {
		if c != nil {
			_ = c.CloseDeadline(deadline) // the server finds out by itself if it is gone
		}
	}
	s.hangUp()
}
