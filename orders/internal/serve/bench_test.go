package serve

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-faster/jx"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	"github.com/orderkeep/orderkeep/orders/v1/rest"
	"google.golang.org/protobuf/proto"
)

// BenchmarkCodec is what the wires of an order cost, of one line and of thirteen: the request from JSON with its checks, the answer to JSON, and
// the call to Inventory to Protobuf and back.
func BenchmarkCodec(b *testing.B) {
	for _, lines := range []int{1, 13} {
		item := `{"sku":"BENCH-0001","qty":1,"unitPrice":1250}`
		request := []byte(`{"items":[` + strings.TrimSuffix(strings.Repeat(item+",", lines), ",") + `],"currency":"GBP","customer":"ann","payment":{"provider":"simulated","token":"pm_card_visa"}}`)
		o := &order.Order{ID: "0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55", State: order.Confirmed, Currency: "GBP", TotalMinor: 1250, Customer: "ann", CorrelationID: "c", PlacedAt: time.Now(), DecidedAt: time.Now()}
		call := &inventoryv1.ReserveRequest{}
		for range lines {
			o.Lines = append(o.Lines, order.Line{SKU: "BENCH-0001", Qty: 1, UnitPriceMinor: 1250})
			call.Lines = append(call.Lines, &inventoryv1.Line{Sku: "BENCH-0001", Qty: 1})
		}
		b.Run(fmt.Sprintf("request/lines=%d", lines), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var in rest.NewOrder
				if err := in.Decode(jx.DecodeBytes(request)); err != nil {
					b.Fatal(err)
				}
				if err := in.Validate(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("answer/lines=%d", lines), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				out := asOrder(o)
				var e jx.Encoder
				out.Encode(&e)
			}
		})
		b.Run(fmt.Sprintf("reserve/lines=%d", lines), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				text, err := proto.Marshal(call)
				if err != nil {
					b.Fatal(err)
				}
				var back inventoryv1.ReserveRequest
				if err := proto.Unmarshal(text, &back); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
