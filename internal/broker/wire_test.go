package broker_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/orderkeep/orderkeep/internal/outbox"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What another program sees of an event: CloudEvents in the binary mode of each protocol's binding. And what a consumer of
// ours does with what another program puts there that is no event: it says so and goes on.

func sample() outbox.Event {
	e := text("Tasse blau", "x")
	e.ID, e.CorrelationID, e.CausationID, e.TraceParent = "id-1", "req-7", "c-1", "00-4bf9-00"
	return e
}

func wantHeaders(prefix, subject string) map[string]string {
	return map[string]string{
		prefix + "specversion": "1.0", prefix + "id": "id-1", prefix + "source": "/test", prefix + "type": textType, prefix + "subject": subject,
		prefix + "time": "2011-03-01T09:30:00.000005Z", prefix + "correlationid": "req-7", prefix + "causationid": "c-1", prefix + "traceparent": "00-4bf9-00",
	}
}

// passes checks that an event behind a message that is none arrives, and that the log tells of the message.
func passes(t *testing.T, url, says string, foreign func()) {
	t.Helper()
	s := newShelf()
	b, log := connectLogged(t, url, s.subscription("c", textType))
	foreign()
	after := text("Tasse blau", "after")
	publish(t, b, after)
	s.await(t, "the event behind has arrived", func(s *shelf) bool { return s.has[after.ID] })
	eventually(t, "the log tells of the message", func() bool { return strings.Contains(log.String(), says) })
	if n := len(s.holds(t, 1)); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

func TestEventOverNATS(t *testing.T) {
	t.Parallel()
	address := running(t, "nats")
	e := sample()
	publish(t, connect(t, address), e)
	conn, err := nats.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "orderkeep")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	want := wantHeaders("ce-", "Tasse%20blau")
	want["Content-Type"], want[nats.MsgIdHdr] = contentType, "/test#id-1"
	got := map[string]string{}
	for name, values := range m.Header {
		got[name] = values[0]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if got := m.Subject; !strings.HasPrefix(got, "orderkeep.events.") || !strings.HasSuffix(got, "."+textType) {
		t.Errorf("subject %s", got)
	}
	passes(t, address, "a message is no event and is passed by", func() {
		broken := nats.NewMsg(m.Subject) // of the same partition
		broken.Header.Set("ce-specversion", "%zz")
		if _, err := js.PublishMsg(t.Context(), broken); err != nil {
			t.Fatal(err)
		}
	})
}

// Whether a stream takes batches is to be seen in what it keeps, and nothing is lost or out of order where it takes none, or
// refuses one because it has some of its events already.
func TestBatchesOverNATS(t *testing.T) {
	t.Parallel()
	for name, batches := range map[string]bool{"a stream of ours": true, "a stream that takes no batches": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := running(t, "nats")
			conn, err := nats.Connect(address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			js, err := jetstream.New(conn)
			if err != nil {
				t.Fatal(err)
			}
			if !batches {
				if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "orderkeep", Subjects: []string{"orderkeep.events.>"}}); err != nil {
					t.Fatal(err)
				}
			}
			events := texts(9, "a", "b")
			b := connect(t, address)
			publish(t, b, events[:4]...)
			publish(t, b, events[2:9]...)
			stream, err := js.Stream(t.Context(), "orderkeep")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			inBatches := 0
			for seq := uint64(1); ; seq++ {
				m, err := stream.GetMsg(t.Context(), seq)
				if errors.Is(err, jetstream.ErrMsgNotFound) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, m.Header["ce-id"][0])
				if m.Header.Get(jetstreamext.BatchIDHeader) != "" {
					inBatches++
				}
			}
			want := make([]string, len(events))
			for i, e := range events {
				want[i] = e.ID
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events in the stream (-want +got):\n%s", diff)
			}
			if want := map[bool]int{true: 4}[batches]; inBatches != want {
				t.Errorf("%d events came in batches, want %d", inBatches, want)
			}
		})
	}
}

const contentType = "application/protobuf"

func TestEventOverRabbitMQ(t *testing.T) {
	t.Parallel()
	address := running(t, "amqp")
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	prefix := u.Query().Get("prefix")
	b := connect(t, address)
	eventually(t, "the exchange is there", b.Started)
	conn, err := amqp.Dial(strings.TrimSuffix(address, "/?"+u.RawQuery))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := ch.QueueDeclare("", false, true, true, false, nil) // anybody may listen
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(listener.Name, "google.protobuf.*", prefix+".events", false, nil); err != nil {
		t.Fatal(err)
	}
	publish(t, b, sample())
	deliveries, err := ch.ConsumeWithContext(t.Context(), listener.Name, "", true, true, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := <-deliveries
	got := map[string]string{"content-type": d.ContentType, "message-id": d.MessageId}
	for name, value := range d.Headers {
		got[name], _ = value.(string)
	}
	want := wantHeaders("cloudEvents:", "Tasse blau")
	want["content-type"], want["message-id"] = contentType, "id-1"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if d.RoutingKey != textType || d.DeliveryMode != amqp.Persistent {
		t.Errorf("routing key %s, delivery mode %d", d.RoutingKey, d.DeliveryMode)
	}
	passes(t, address, "goes to the dead letters", func() {
		if err := ch.PublishWithContext(t.Context(), prefix+".events", textType, true, false, amqp.Publishing{Body: []byte("no event")}); err != nil {
			t.Fatal(err)
		}
	})
	eventually(t, "it is among the dead letters", func() bool {
		d, ok, err := ch.Get(prefix+".consumer.c.dead", true)
		return err == nil && ok && string(d.Body) == "no event"
	})
}

func TestEventOverKafka(t *testing.T) {
	t.Parallel()
	address := running(t, "kafka")
	e := sample()
	publish(t, connect(t, address), e)
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.TrimPrefix(address, "kafka://")), kgo.ConsumeTopics("orderkeep.events"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	records := client.PollRecords(t.Context(), 1).Records()
	if len(records) != 1 {
		t.Fatalf("%d records", len(records))
	}
	want := wantHeaders("ce_", "Tasse blau")
	want["content-type"] = contentType
	got := map[string]string{}
	for _, h := range records[0].Headers {
		got[h.Key] = string(h.Value)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if string(records[0].Key) != "Tasse blau" {
		t.Errorf("key %q", records[0].Key)
	}
	passes(t, address, "a record is no event and is passed by", func() {
		broken := &kgo.Record{Topic: "orderkeep.events", Key: []byte("Tasse blau"), Value: []byte("no event"), Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte("a\x00b")}, {Key: "ce_source", Value: []byte("/x")},
			{Key: "ce_type", Value: []byte(textType)}, {Key: "ce_time", Value: []byte("2011-03-01T09:30:00Z")},
		}}
		if err := client.ProduceSync(context.Background(), broken).FirstErr(); err != nil {
			t.Fatal(err)
		}
	})
}
