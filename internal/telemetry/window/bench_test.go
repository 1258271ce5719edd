package window

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

// BenchmarkReadFull is what the page of an order asks of a window of the default size that is full: the entries of one order, of which there are
// two in each segment.
func BenchmarkReadFull(b *testing.B) {
	const size = 32 << 20
	w, err := Open(b.TempDir(), "orders", size, 24*time.Hour, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	order := func(n int) (string, string) {
		return fmt.Sprintf("0197b7b0-0000-7000-8000-%012d", n), fmt.Sprintf("0197b7b0-0001-7000-8000-%012d", n)
	}
	for n := 0; w.Size() < size-size/segments+size/16; n++ {
		id, correlation := order(n)
		if n%5000 < 2 {
			id, correlation = order(1)
		}
		w.Append(Entry{Kind: Span, At: noon.Add(time.Duration(n) * time.Millisecond), Service: "orders", Name: "POST /v1/orders", SpanKind: "server", CorrelationID: correlation,
			TraceID: fmt.Sprintf("%032x", n), SpanID: fmt.Sprintf("%016x", n), Attrs: map[string]any{"orderId": id, "http.request.method": "POST", "http.response.status_code": 201, "url.path": "/v1/orders"}})
	}
	id, correlation := order(1)
	b.SetBytes(w.Size())
	for name, q := range map[string]Query{
		"correlation": {Correlation: correlation, Limit: 500},
		"text":        {Text: []string{id}, Limit: 500},
		"either":      {Text: []string{correlation, id}, Limit: 1000},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, err := w.Read(b.Context(), q)
				if err != nil || len(p.Entries) < segments {
					b.Fatalf("%d entries, %v", len(p.Entries), err)
				}
			}
		})
	}
}
