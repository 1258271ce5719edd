package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"google.golang.org/protobuf/proto"
)

// FuzzCursor reads a cursor of the feed: what is taken is what the feed gives out.
func FuzzCursor(f *testing.F) {
	for _, s := range []string{"", "0", "7", "07", "+7", "-1", "9223372036854775807", "9223372036854775808", "1e3", " 1", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := cursor(s)
		if err == nil && s != "" && (n < 0 || strconv.FormatInt(n, 10) != s) {
			t.Errorf("took %q as %d", s, n)
		}
	})
}

// FuzzPayload reads a message of an event, as the inbox hands it to a handler and as the feed shows it to anybody. Bytes that are no
// such message never reach the handler's effect, and every event is shown as JSON.
func FuzzPayload(f *testing.F) {
	whole, err := proto.Marshal(&ordersv1.OrderCancelled{OrderId: "o-1", Paid: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("orderkeep.orders.v1.OrderCancelled", "o-1", whole)
	f.Add("orderkeep.orders.v1.OrderCancelled", "\xff", []byte("\x0a\x02\xff\xfe"))
	f.Add("google.protobuf.Any", "", []byte("\x0a\x03a/b\x12\x00"))
	f.Add("google.protobuf.Timestamp", "", []byte("\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))
	f.Add("no.such.Message", "", []byte{0})
	f.Fuzz(func(t *testing.T, kind, subject string, data []byte) {
		e := Event{ID: "e-1", Type: kind, Source: "/orders", Subject: subject, Time: time.Unix(0, 0).UTC(), Data: data}
		var out bytes.Buffer
		if err := encode(&out, published{e, 1}.cloud()); err != nil || !json.Valid(out.Bytes()) || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
			t.Errorf("shown as %q, %v", out.Bytes(), err)
		}
		handlers := map[string]Handler{}
		var got *ordersv1.OrderCancelled
		Hear(handlers, func(_ context.Context, m *ordersv1.OrderCancelled, _ Event, _ func(*db.Tx) error) error {
			got = m
			return nil
		})
		if err := handlers["orderkeep.orders.v1.OrderCancelled"](t.Context(), e, nil); (err == nil) != (got != nil) {
			t.Fatalf("err %v, handled %v", err, got)
		}
		if got != nil {
			if _, err := proto.Marshal(got); err != nil {
				t.Errorf("took a message that cannot be written: %v", err)
			}
		}
	})
}
