package broker

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// FuzzEvent reads a message that anybody may have put into the broker. What is taken for an event is one that a database can
// keep, and the same event after it was published again.
func FuzzEvent(f *testing.F) {
	f.Add("1.0", "e-1", "/orders", "orderkeep.orders.v1.OrderConfirmed", "o-1", "2026-03-01T12:00:00.000001Z", "c-1", "", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", []byte("\x0a\x01x"))
	f.Add("1.0", "e-1", "/", "t", "", "0000-01-01T00:00:00+23:59", "", "", "", []byte(nil))
	f.Add("0.3", "\x00", "\xff", "", "\xed\xa0\x80", "yesterday", "\n", "", "", []byte{})
	f.Fuzz(func(t *testing.T, version, id, source, kind, subject, at, correlation, causation, trace string, data []byte) {
		given := map[string]string{"specversion": version, "id": id, "source": source, "type": kind, "subject": subject, "time": at,
			"correlationid": correlation, "causationid": causation, "traceparent": trace}
		e, err := event(func(name string) string { return given[name] }, data)
		if err != nil {
			return
		}
		if e.ID == "" || e.Source == "" || e.Type == "" || e.Data == nil {
			t.Fatalf("took %+v", e)
		}
		again := map[string]string{}
		for name, v := range attributes(e) {
			if strings.ToValidUTF8(v, "?") != v || strings.Contains(v, "\x00") {
				t.Errorf("%s is %q, which PostgreSQL refuses", name, v)
			}
			again[name] = v
		}
		back, err := event(func(name string) string { return again[name] }, e.Data)
		if err != nil {
			t.Fatalf("published again it is refused: %v", err)
		}
		if d := cmp.Diff(e, back, cmp.Comparer(time.Time.Equal)); d != "" {
			t.Errorf("published again it is another event (-was +is):\n%s", d)
		}
	})
}

// FuzzAddress reads BROKER_URL. What it takes names a broker, and neither what it prints nor why it refuses holds a password.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"nats://host", "amqps://user:secret-word@a:1,b:2/vhost?prefix=x", "kafka://u:secret-word@h?sasl=plain&tls=true&replicas=3",
		"nats://secret-word@h", "kafka://[::1]:9092,x", "amqp://u:p@x@h/%2f#f", "nats://h?tls=%zz", "://", "nats://h:99999", "kafka://u:wEh:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := parse(raw)
		if err != nil {
			if len(raw) > 20 && strings.Contains(err.Error(), raw) {
				t.Errorf("the refusal of %q repeats it: %v", raw, err)
			}
			return
		}
		if len(a.hosts) == 0 || !prefixes.MatchString(a.prefix) || a.replicas < 0 || a.replicas > 5 {
			t.Errorf("took %q as %+v", raw, a)
		}
		for _, h := range a.hosts {
			if _, _, err := net.SplitHostPort(h); err != nil {
				t.Errorf("took %q, and %q cannot be dialled: %v", raw, h, err)
			}
		}
		_, rest, _ := strings.Cut(raw, "://")
		if p := a.password(); len(p) > 4 && strings.Contains(raw, ":"+p+"@") && strings.Contains(Masked(raw), ":"+p+"@") || strings.Contains(a.String(), "@") && !strings.Contains(rest, "@") {
			t.Errorf("masked, %q is %q and %q", raw, Masked(raw), a)
		}
	})
}
