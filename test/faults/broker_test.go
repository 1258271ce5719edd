package faults

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/orderkeep/orderkeep/internal/broker/brokertest"
	"github.com/orderkeep/orderkeep/test/stage"
	amqp "github.com/rabbitmq/amqp091-go"
)

// broker is a server that carries events. It may come back at another port, to which its wires lead then.
type broker struct {
	*server
	url    string        // as it was first; the host is where a wire leads
	lead   []*stage.Wire // which lead to it
	repeat func()        // puts some events among the others once more, late, until the test ends
}

// brokers are those that the split lab knows, by the names that the setting has.
var brokers = map[string]func(*world) *broker{"nats": (*world).natsBroker, "rabbitmq": (*world).rabbitBroker}

// through is the broker's URL by an edge.
func (b *broker) through(e *edge) string {
	b.lead = append(b.lead, e.wire)
	e.wire.Lead(hostOf(b.url))
	u, err := url.Parse(b.url)
	if err != nil {
		panic(err) // the test server's own
	}
	u.Host = e.addr()
	return u.String()
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err) // the test server's own
	}
	return u.Host
}

// natsBroker is "orderkeep broker" on one directory, which comes back at another port.
func (w *world) natsBroker() *broker {
	data := w.t.TempDir()
	b := &broker{}
	var p *stage.Process
	start := func() {
		p, b.url = stage.ServeBroker(w.t, program, data, "127.0.0.1:0")
		p.Expected, p.Quiet = true, true
		for _, wire := range b.lead {
			wire.Lead(hostOf(b.url))
		}
	}
	start()
	b.server = &server{name: "the broker", restart: func(down time.Duration) {
		p.Kill()
		pause(w.t.Context(), down)
		start()
	}}
	b.repeat = func() { w.repeatInNATS(b) }
	return b
}

// rabbitBroker is a RabbitMQ that nobody else uses. It keeps its port.
func (w *world) rabbitBroker() *broker {
	s := brokertest.OwnRabbitMQ(w.t)
	s.Start(w.t)
	return &broker{
		url: s.URL,
		server: &server{name: "the broker", restart: func(down time.Duration) {
			s.Kill()
			pause(w.t.Context(), down)
			s.Start(w.t)
		}},
		repeat: func() { w.repeatInRabbitMQ(s.URL) },
	}
}

// copied marks an event that was sent again, so that its copy is not.
const copied = "Lab-Copy"

// repeatInNATS puts some events into the broker's stream once more, after others that came later, and without the id by which the
// broker itself would know them again.
func (w *world) repeatInNATS(b *broker) {
	wire := stage.NewWire(w.t)
	b.mu.Lock()
	b.lead = append(b.lead, wire)
	wire.Lead(hostOf(b.url))
	b.mu.Unlock()
	conn, err := nats.Connect("nats://"+wire.Addr(), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		w.t.Fatal(err)
	}
	const stream = "orderkeep"
	var consumer jetstream.Consumer
	stage.Eventually(w.t, "the stream of events is there", func() bool {
		consumer, err = js.OrderedConsumer(w.t.Context(), stream, jetstream.OrderedConsumerConfig{})
		return err == nil
	})
	d := &dice{chance: w.chance()}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		if m.Headers().Get(copied) != "" || w.calm.Load() || !d.in(10) {
			return
		}
		again := &nats.Msg{Subject: m.Subject(), Data: m.Data(), Header: nats.Header{copied: {"1"}}}
		for name, values := range m.Headers() {
			if !strings.HasPrefix(name, "Nats-") {
				again.Header[name] = values
			}
		}
		time.AfterFunc(d.upTo(late), func() {
			if conn.PublishMsg(again) == nil { // nobody waits for it
				w.report.count("event sent again")
			}
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(consuming.Stop)
}

// repeatInRabbitMQ has a queue of its own at the exchange of events, and sends some to the exchange once more, after others that came later.
func (w *world) repeatInRabbitMQ(at string) {
	u, err := url.Parse(at)
	if err != nil {
		w.t.Fatal(err)
	}
	exchange := u.Query().Get("prefix") + ".events"
	u.RawQuery = ""
	d := &dice{chance: w.chance()}
	ctx, cancel := context.WithCancel(w.t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			if err := w.copyEvents(ctx, d, u.String(), exchange); err != nil {
				pause(ctx, 200*time.Millisecond) // it is away, or has no exchange yet
			}
		}
	}()
	w.t.Cleanup(func() { cancel(); <-over })
}

// copyEvents does so on one connection, until it breaks.
func (w *world) copyEvents(ctx context.Context, d *dice, at, exchange string) error {
	conn, err := amqp.Dial(at)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	in, err := conn.Channel()
	if err != nil {
		return err
	}
	out, err := conn.Channel()
	if err != nil {
		return err
	}
	q, err := in.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		return err
	}
	if err := in.QueueBind(q.Name, "#", exchange, false, nil); err != nil {
		return err
	}
	events, err := in.Consume(q.Name, "", true, true, false, false, nil)
	if err != nil {
		return err
	}
	for e := range events {
		if e.Headers[copied] != nil || w.calm.Load() || !d.in(10) {
			continue
		}
		headers := maps.Clone(e.Headers)
		headers[copied] = "1"
		time.AfterFunc(d.upTo(late), func() {
			// Nobody waits for it.
			if out.PublishWithContext(ctx, exchange, e.RoutingKey, false, false, amqp.Publishing{
				Headers: headers, ContentType: e.ContentType, DeliveryMode: e.DeliveryMode, MessageId: e.MessageId, Body: e.Body,
			}) == nil {
				w.report.count("event sent again")
			}
		})
	}
	return errors.New("the connection broke")
}
