package broker

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// natsPartitions is how many events a consumer stores at once over JetStream. A durable consumer with at most one event
// not acknowledged is the one way to have redelivery in order there, whoever crashes; sixteen of them side by side share the
// commits of the consumer's database. The number is part of the subjects' names and cannot change.
const natsPartitions = 16

// natsSession is a connection to NATS. One stream keeps all events, under the subjects PREFIX.events.PARTITION.TYPE; each
// consumer has a durable one for each partition, shared by its replicas.
type natsSession struct {
	link
	conn    *nats.Conn
	js      jetstream.JetStream
	prefix  string
	atomic  bool // the stream takes batches
	ackWait time.Duration
	log     *slog.Logger
}

func openNATS(ctx context.Context, a address, o options, log *slog.Logger) (session, error) {
	s := &natsSession{link: newLink(), prefix: a.prefix, ackWait: o.ackWait, log: log}
	opts := []nats.Option{
		nats.Name("orderkeep"), nats.Timeout(5 * time.Second), nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(10 * time.Second),
		nats.NoReconnect(), // the bus does it, so that nothing half sent is sent again behind its back
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { s.fail(lostBy(err)) }),
		nats.ClosedHandler(func(c *nats.Conn) { s.fail(lostBy(c.LastError())) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Debug("nats", "error", err) }),
	}
	if a.tls != nil {
		opts = append(opts, nats.Secure(a.tls.Clone()))
	}
	if a.user != nil {
		if password, ok := a.user.Password(); ok {
			opts = append(opts, nats.UserInfo(a.user.Username(), password))
		} else {
			opts = append(opts, nats.Token(a.user.Username()))
		}
	}
	conn, err := nats.Connect("nats://"+strings.Join(a.hosts, ",nats://"), opts...)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s.conn = conn
	if err := s.prepare(ctx, a.replicas); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func lostBy(err error) error {
	if err == nil {
		return errors.New("the connection is closed")
	}
	return fmt.Errorf("the connection is lost: %w", err)
}

// prepare makes the stream if there is none. One that is there may have limits and replicas of the operator's; what
// Publish promises must be possible with it.
func (s *natsSession) prepare(ctx context.Context, replicas int) error {
	var err error
	// A batch of each context's relay may be under way.
	if s.js, err = jetstream.New(s.conn, jetstream.WithPublishAsyncMaxPending(16*batchMost), jetstream.WithDefaultTimeout(call.BrokerConnect.Timeout)); err != nil {
		return err
	}
	stream, err := s.js.Stream(ctx, s.prefix)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = s.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: s.prefix, Description: "Orderkeep's events; see docs/operations.md before changing limits", Subjects: []string{s.prefix + ".events.>"},
			Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Replicas: max(replicas, 1),
			Discard:            jetstream.DiscardNew, // past a limit that an operator sets, events wait in the outbox instead of pushing old ones out
			AllowAtomicPublish: true,                 // servers before 2.12 know no batches and ignore it
		})
	}
	if err != nil {
		return fmt.Errorf("open the stream %s: %w", s.prefix, err)
	}
	if c := stream.CachedInfo().Config; c.Storage != jetstream.FileStorage || c.Retention != jetstream.LimitsPolicy || c.NoAck || !slices.Contains(c.Subjects, s.prefix+".events.>") {
		return fmt.Errorf("the stream %s is not one to keep events in: it needs file storage, limits retention, acknowledgements and the subject %s.events.>", s.prefix, s.prefix)
	}
	s.atomic = stream.CachedInfo().Config.AllowAtomicPublish
	return nil
}

// publish sends the events as one batch where the stream takes batches, so that a server which syncs before it acknowledges
// syncs once. A batch that is refused, such as one with an event that the stream has already, has stored nothing: its events
// then go one by one, as they do to a stream without batches. Source: NATS architecture decision record 50.
func (s *natsSession) publish(ctx context.Context, events []outbox.Event) error {
	if s.atomic && len(events) > 1 {
		err := s.publishBatch(ctx, events)
		var refused *jetstream.APIError
		if err == nil || !errors.As(err, &refused) {
			return err
		}
		s.log.Debug("a batch of events was refused; they go one by one", "events", len(events), "error", err)
	}
	for _, wave := range waves(events) {
		acks := make([]jetstream.PubAckFuture, len(wave))
		for i, e := range wave {
			var err error
			if acks[i], err = s.js.PublishMsgAsync(s.message(e)); err != nil {
				return fmt.Errorf("send event %s: %w", e.ID, err)
			}
		}
		for i, ack := range acks {
			select {
			case <-ack.Ok():
			case err := <-ack.Err():
				return fmt.Errorf("event %s was not stored: %w", wave[i].ID, err)
			case <-s.broken:
				return s.cause()
			case <-ctx.Done():
				return fmt.Errorf("event %s was not acknowledged: %w", wave[i].ID, ctx.Err())
			}
		}
	}
	return nil
}

func (s *natsSession) publishBatch(ctx context.Context, events []outbox.Event) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the client by itself would wait for an answer that a lost connection cannot bring
		select {
		case <-s.broken:
			cancel()
		case <-ctx.Done():
		}
	}()
	messages := make([]*nats.Msg, len(events))
	for i, e := range events {
		messages[i] = s.message(e)
	}
	// Only the last message is answered: until then nothing is stored, and one that is missing fails them all.
	_, err := jetstreamext.PublishMsgBatch(ctx, s.js, messages, jetstreamext.BatchFlowControl{})
	return err
}

func (s *natsSession) message(e outbox.Event) *nats.Msg {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(e.Subject))
	m := nats.NewMsg(s.subject(int(hash.Sum32()%natsPartitions), e.Type))
	m.Data = e.Data
	m.Header.Set("Content-Type", contentType)
	m.Header.Set(nats.MsgIdHdr, escape(e.Source)+"#"+escape(e.ID)) // the stream drops what it got twice within two minutes
	for name, value := range attributes(e) {
		// Set would write the name with capitals, and names of NATS headers are case-sensitive.
		m.Header["ce-"+name] = []string{escape(value)}
	}
	return m
}

func (s *natsSession) subject(partition int, eventType string) string {
	return fmt.Sprintf("%s.events.%02d.%s", s.prefix, partition, eventType)
}

// escape is the percent-encoding of the CloudEvents binding for header values.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// consume works the partitions off side by side.
func (s *natsSession) consume(ctx context.Context, in intake) error {
	if len(in.Types) == 0 {
		<-ctx.Done() // without a subject to filter by, a consumer would get everything
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	failed := make([]error, natsPartitions)
	for p := range natsPartitions {
		wait.Go(func() {
			if failed[p] = s.partition(ctx, p, in); failed[p] != nil {
				cancel()
			}
		})
	}
	wait.Wait()
	return errors.Join(failed...)
}

func (s *natsSession) partition(ctx context.Context, p int, in intake) error {
	consumer, err := s.join(ctx, p, in)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer s.giveBack(messages)
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("pull: %w", err)
		}
		e, err := fromNATS(m)
		if err != nil {
			s.refuse(m, in, err)
			continue
		}
		if !in.take(ctx, []outbox.Event{e}) {
			return ignoreClosed(m.Nak())
		}
		if err := m.Ack(); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
}

// join makes the durable consumer, which begins at the first event that the stream has. It never takes a type away that
// another version of the program asked for: while two versions run, the older one would make the newer one's events
// pass by.
func (s *natsSession) join(ctx context.Context, p int, in intake) (jetstream.Consumer, error) {
	config := jetstream.ConsumerConfig{
		Durable: fmt.Sprintf("%s-%02d", in.Name, p), DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		MaxAckPending: 1, MaxDeliver: -1, AckWait: s.ackWait,
	}
	for _, t := range in.Types {
		config.FilterSubjects = append(config.FilterSubjects, s.subject(p, t))
	}
	there, err := s.js.Consumer(ctx, s.prefix, config.Durable)
	switch {
	case err == nil:
		had := there.CachedInfo().Config
		config.FilterSubjects = append(config.FilterSubjects, append(had.FilterSubjects, had.FilterSubject)...)
		config.FilterSubjects = slices.DeleteFunc(config.FilterSubjects, func(f string) bool { return f == "" })
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil, fmt.Errorf("look for the consumer %s: %w", config.Durable, err)
	}
	slices.Sort(config.FilterSubjects)
	config.FilterSubjects = slices.Compact(config.FilterSubjects)
	consumer, err := s.js.CreateOrUpdateConsumer(ctx, s.prefix, config)
	if err != nil {
		return nil, fmt.Errorf("make the consumer %s: %w", config.Durable, err)
	}
	return consumer, nil
}

func fromNATS(m jetstream.Msg) (outbox.Event, error) {
	var bad error
	e, err := event(func(name string) string {
		values := m.Headers()["ce-"+name]
		if len(values) == 0 {
			return ""
		}
		v, err := url.PathUnescape(values[0])
		bad = errors.Join(bad, err)
		return v
	}, m.Data())
	return e, errors.Join(err, bad)
}

// refuse lets a message pass by that no consumer could store. It stays in the stream.
func (s *natsSession) refuse(m jetstream.Msg, in intake, why error) {
	at := uint64(0)
	if meta, err := m.Metadata(); err == nil {
		at = meta.Sequence.Stream
	}
	in.log.Error("a message is no event and is passed by; it stays in the stream", "stream", s.prefix, "sequence", at, "subject", m.Subject(), "error", why)
	_ = m.TermWithReason("not a CloudEvent") // if the word is lost it comes again
}

// giveBack returns a message that was fetched and not looked at, so that another replica need not wait for it.
func (s *natsSession) giveBack(messages jetstream.MessagesContext) {
	messages.Drain()
	for {
		m, err := messages.Next()
		if err != nil {
			return
		}
		_ = m.Nak()
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) {
		return nil
	}
	return err
}

func (s *natsSession) ping(ctx context.Context) error { return s.conn.FlushWithContext(ctx) }

func (s *natsSession) close() {
	_ = s.conn.FlushTimeout(2 * time.Second) // the last acknowledgements; lost, they are repeated
	s.conn.Close()
}
