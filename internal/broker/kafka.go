package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// kafkaPartitions is how many partitions the topic is made with: as many replicas of a consumer can share it. More can
// be added at a quiet moment only, since a subject then moves to another partition.
const kafkaPartitions = 16

// kafkaSession is a client of Kafka, which connects to its brokers again by itself. All events are in the topic
// PREFIX.events, by subject; each consumer is the group PREFIX.NAME.
type kafkaSession struct {
	link
	client         *kgo.Client // publishes
	connect        []kgo.Opt
	prefix, topic  string
	sessionTimeout time.Duration
	log            *slog.Logger
}

func openKafka(ctx context.Context, a address, o options, log *slog.Logger) (session, error) {
	s := &kafkaSession{link: newLink(), prefix: a.prefix, topic: a.prefix + ".events", sessionTimeout: o.sessionTimeout, log: log}
	s.connect = []kgo.Opt{
		kgo.SeedBrokers(a.hosts...), kgo.ClientID("orderkeep"), kgo.DialTimeout(5 * time.Second), kgo.RetryTimeout(call.BrokerPublish.Timeout),
		kgo.DisableClientMetrics(),
	}
	if a.tls != nil {
		s.connect = append(s.connect, kgo.DialTLSConfig(a.tls.Clone()))
	}
	if a.user != nil {
		s.connect = append(s.connect, kgo.SASL(mechanism(a)))
	}
	s.connect = slices.Clip(s.connect) // each client appends its own
	var err error
	// A client is idempotent unless told otherwise: within a partition nothing is written twice or overtaken.
	s.client, err = kgo.NewClient(append(s.connect, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.DefaultProduceTopic(s.topic),
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(16*batchMost))...)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx, a.replicas); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func mechanism(a address) sasl.Mechanism {
	user, password := a.user.Username(), a.password()
	switch a.sasl {
	case "plain":
		return plain.Auth{User: user, Pass: password}.AsMechanism()
	case "scram-sha-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	}
	return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
}

// prepare makes the topic if there is none, one that keeps everything, and looks at one that is there.
func (s *kafkaSession) prepare(ctx context.Context, replicas int) error {
	if err := s.client.Ping(ctx); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	admin := kadm.NewClient(s.client)
	factor := int16(-1) // the broker's default
	if replicas > 0 {
		factor = int16(replicas) //nolint:gosec // at most 5
	}
	forever := "-1"
	_, err := admin.CreateTopic(ctx, kafkaPartitions, factor, map[string]*string{"retention.ms": &forever, "retention.bytes": &forever}, s.topic)
	if err == nil {
		return nil
	}
	if !errors.Is(err, kerr.TopicAlreadyExists) {
		// Whoever may not make it may use one that is there.
		if topics, lerr := admin.ListTopics(ctx, s.topic); lerr != nil || topics.Error() != nil {
			return fmt.Errorf("make the topic %s: %w", s.topic, err)
		}
	}
	configs, err := admin.DescribeTopicConfigs(ctx, s.topic)
	if err != nil || len(configs) != 1 || configs[0].Err != nil {
		return nil //nolint:nilerr // it may not be ours to read
	}
	for _, c := range configs[0].Configs {
		switch {
		case c.Key == "cleanup.policy" && strings.Contains(c.MaybeValue(), "compact"):
			return fmt.Errorf("the topic %s is compacted: that would drop all events of a subject but the last; set its cleanup.policy to delete", s.topic)
		case c.Key == "retention.ms" || c.Key == "retention.bytes":
			if n, err := strconv.ParseInt(c.MaybeValue(), 10, 64); err == nil && n >= 0 {
				s.log.Warn("the topic does not keep everything: a consumer that is away for longer, or runs for the first time, misses events", "topic", s.topic, c.Key, n)
			}
		}
	}
	return nil
}

func (s *kafkaSession) publish(ctx context.Context, events []outbox.Event) error {
	failed := make(chan error, len(events))
	for _, e := range events {
		s.client.Produce(ctx, kafkaRecord(e), func(_ *kgo.Record, err error) { failed <- err })
	}
	for n := range events {
		select {
		case err := <-failed:
			if err != nil {
				return fmt.Errorf("an event was not stored: %w", err)
			}
		case <-ctx.Done():
			// The client goes on trying what is under way; the session's end stops it.
			return fmt.Errorf("%d events were not acknowledged: %w", len(events)-n, ctx.Err())
		case <-s.broken:
			return s.cause()
		}
	}
	return nil
}

func kafkaRecord(e outbox.Event) *kgo.Record {
	r := &kgo.Record{Key: []byte(e.Subject), Value: e.Data, Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte(contentType)}}}
	for name, value := range attributes(e) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_" + name, Value: []byte(value)})
	}
	return r
}

func fromKafka(r *kgo.Record) (outbox.Event, error) {
	return event(func(name string) string {
		for _, h := range r.Headers {
			if h.Key == "ce_"+name {
				return string(h.Value)
			}
		}
		return ""
	}, r.Value)
}

// consume is a member of the consumer's group. Partitions may move to another member while a batch is being stored: a batch
// begins where all before it is stored, and so does the other's, so the order holds whichever is first.
func (s *kafkaSession) consume(ctx context.Context, in intake) error {
	group, err := kgo.NewClient(append(s.connect, kgo.ConsumerGroup(s.prefix+"."+in.Name), kgo.ConsumeTopics(s.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.SessionTimeout(s.sessionTimeout),
		kgo.HeartbeatInterval(s.sessionTimeout/3), kgo.FetchMaxBytes(8<<20), kgo.FetchMaxPartitionBytes(1<<20))...)
	if err != nil {
		return err
	}
	defer bounded(group.Close)
	for {
		fetched := group.PollRecords(ctx, batchMost)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetched.Err(); err != nil {
			return err
		}
		records := fetched.Records()
		var events []outbox.Event
		for _, r := range records {
			e, err := fromKafka(r)
			if err != nil {
				in.log.Error("a record is no event and is passed by; it stays in the topic", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
			} else if in.wants(e.Type) {
				events = append(events, e)
			}
		}
		if len(events) > 0 && !in.take(ctx, events) {
			return nil
		}
		if err := s.commit(ctx, group, records); err != nil {
			return err
		}
	}
}

// commit tells the group how far its events are stored. While the group is being shared out anew it does not listen: then
// the events come again, and are ignored.
func (s *kafkaSession) commit(ctx context.Context, group *kgo.Client, records []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), call.BrokerPublish.Timeout)
	defer cancel()
	err := group.CommitRecords(ctx, records...)
	for _, passing := range []error{kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID} {
		if errors.Is(err, passing) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (s *kafkaSession) ping(ctx context.Context) error { return s.client.Ping(ctx) }

func (s *kafkaSession) close() { bounded(s.client.Close) }

// bounded waits for f for a few seconds: a client that says goodbye to a broker which is away takes longer than a drain has.
func bounded(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	t := time.NewTimer(3 * time.Second)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}
