package serve

import (
	"maps"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// FuzzEvents hears anything as an event of Inventory or Payments. What is noted is one note, with the effect in the event's
// transaction, of text and a time that a row can keep; all else is refused and leaves nothing.
func FuzzEvents(f *testing.F) {
	types := slices.Sorted(maps.Keys(Consumers(&notebook{})))
	for _, m := range []proto.Message{
		&inventoryv1.StockReleased{OrderId: "o", Lines: []*inventoryv1.Line{{Sku: "A", Qty: 2}}, ReleasedAt: timestamppb.New(noon)},
		&inventoryv1.StockReleased{Lines: []*inventoryv1.Line{nil, {Qty: 1 << 62}, {Qty: 1 << 62}}, ReleasedAt: &timestamppb.Timestamp{Seconds: 1 << 62, Nanos: -5}},
		&timestamppb.Timestamp{},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		for i := range types {
			f.Add(uint8(i), data)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		b := &notebook{}
		marked := 0
		e := outbox.Event{ID: "e-1", Time: noon, Type: types[int(kind)%len(types)], Data: data}
		err := Consumers(b)[e.Type](t.Context(), e, func(*db.Tx) error { marked++; return nil })
		if err != nil {
			if len(b.got) > 0 || marked > 0 {
				t.Errorf("refused (%v) and noted %+v", err, b.got)
			}
			return
		}
		if len(b.got) != 1 || marked != 1 {
			t.Fatalf("noted %+v, marked %d times", b.got, marked)
		}
		n := b.got[0].Note
		if kept := time.UnixMicro(n.At.UnixMicro()); n.At.UnixMicro() <= 0 || n.At.Sub(kept).Abs() > time.Microsecond {
			t.Errorf("noted at %v, which a row would keep as %v, or as not yet", n.At, kept.UTC())
		}
		if !utf8.ValidString(n.Detail) || !utf8.ValidString(b.got[0].Order) {
			t.Errorf("noted %+v, which is no text", b.got[0])
		}
	})
}
