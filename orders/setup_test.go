package orders

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry/telemetrytest"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// bundle is the whole context behind a real server, with a database of its own. The shelf has BOOK (5 units), PEN (none) and
// GIFT (without end); the till knows the simulated provider's names of tokens.
type bundle struct {
	t     testing.TB
	url   string
	db    string // the database's URL
	shelf *shelf
	till  *till
	log   *telemetrytest.Log
	svc   *node.Service
}

func setup(t testing.TB) *bundle {
	t.Helper()
	dir := t.TempDir()
	b := &bundle{t: t, db: "sqlite:" + dir + "/orders.db", log: &telemetrytest.Log{}}
	b.shelf = &shelf{units: map[string]int64{"BOOK": 5, "PEN": 0, "GIFT": 1 << 40}, held: map[string]map[string]int64{}}
	b.till = &till{outcomes: map[string]*paymentsv1.AuthorizeResponse{}}
	log := telemetry.NewLogger(b.log, false, slog.LevelInfo)
	stock, money := &inprocgrpc.Channel{}, &inprocgrpc.Channel{}
	inventoryv1.RegisterInventoryServiceServer(stock, b.shelf)
	paymentsv1.RegisterPaymentsServiceServer(money, b.till)
	bus := outbox.NewLocal()
	svc, err := Context().Open(t.Context(), node.Env{
		DB: b.db, Data: dir, Bus: bus, Log: log,
		Peers: map[string]node.Peer{
			"inventory": {Conn: call.New("inventory", log).Conn(stock)},
			"payments":  {Conn: call.New("payments", log).Conn(money)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Subscribe(giveBack(bus)); err != nil {
		t.Fatal(err)
	}
	bus.Start()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	edge := httpd.New(httpd.Options{Routes: svc.Routes, Contracts: [][]byte{ordersv1.OpenAPI}, Log: log})
	served := make(chan error, 1)
	go func() { served <- edge.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := edge.Drain(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := svc.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	b.url, b.svc = "http://"+l.Addr().String(), svc
	return b
}

// giveBack answers Orders' cancellations as Inventory and Payments do.
func giveBack(bus *outbox.Local) outbox.Subscription {
	return outbox.Subscription{Name: "peers", Types: []string{"orderkeep.orders.v1.OrderCancelled"}, Receive: func(ctx context.Context, events []outbox.Event) error {
		for _, e := range events {
			var m ordersv1.OrderCancelled
			if err := proto.Unmarshal(e.Data, &m); err != nil {
				return err
			}
			now := time.Now()
			answers := []outbox.Event{outbox.New(ctx, &inventoryv1.StockReleased{
				OrderId: m.OrderId, Lines: []*inventoryv1.Line{{Sku: "BOOK", Qty: 2}, {Sku: "GIFT", Qty: 1}}, ReleasedAt: timestamppb.New(now),
			}, m.OrderId, now)}
			if m.Paid {
				answers = append(answers, outbox.New(ctx, &paymentsv1.PaymentVoided{OrderId: m.OrderId, PaymentId: "pay-" + m.OrderId, VoidedAt: timestamppb.New(now)}, m.OrderId, now))
			}
			if err := bus.Publish(ctx, answers); err != nil {
				return err
			}
		}
		return nil
	}}
}

// counts is what the database holds, once everything that happened is published. No promise may be broken in it.
func (b *bundle) counts() (counts map[string]int64) {
	b.t.Helper()
	until(b.t, func() bool {
		source, err := Context().Inspect(context.Background(), b.db, "") // anew: it is one snapshot
		if err != nil {
			b.t.Fatal(err)
		}
		defer source.Close()
		var broken []audit.Violation
		if counts, broken, err = source.Check(context.Background()); err != nil {
			b.t.Fatal(err)
		}
		return len(broken) == 0
	})
	return counts
}

// shelf is Inventory's contract over a map.
type shelf struct {
	inventoryv1.UnimplementedInventoryServiceServer
	mu    sync.Mutex
	units map[string]int64
	held  map[string]map[string]int64 // by reservation; nil for one that was released
	fail  error                       // what every call answers, if set
	block chan struct{}               // Reserve says that it has begun, and waits until it is closed
	begun chan struct{}
	seen  []string // correlation ids
}

func (s *shelf) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *shelf) Reserve(ctx context.Context, req *inventoryv1.ReserveRequest) (*inventoryv1.ReserveResponse, error) {
	s.mu.Lock()
	block, begun := s.block, s.begun
	s.mu.Unlock()
	if block != nil {
		begun <- struct{}{}
		<-block
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, metadata.ValueFromIncomingContext(ctx, "x-correlation-id")...)
	if s.fail != nil {
		return nil, fault.ToGRPC(s.fail)
	}
	if units, ok := s.held[req.ReservationId]; ok {
		if units == nil {
			return &inventoryv1.ReserveResponse{State: inventoryv1.ReservationState_RESERVATION_STATE_RELEASED}, nil
		}
		return &inventoryv1.ReserveResponse{State: inventoryv1.ReservationState_RESERVATION_STATE_RESERVED}, nil
	}
	sum, short := s.short(req.Lines)
	if len(short) > 0 {
		return &inventoryv1.ReserveResponse{State: inventoryv1.ReservationState_RESERVATION_STATE_REFUSED, Shortages: short}, nil
	}
	for sku, n := range sum {
		s.units[sku] -= n
	}
	s.held[req.ReservationId] = sum
	return &inventoryv1.ReserveResponse{State: inventoryv1.ReservationState_RESERVATION_STATE_RESERVED}, nil
}

func (s *shelf) short(lines []*inventoryv1.Line) (sum map[string]int64, short []*inventoryv1.Shortage) {
	sum = map[string]int64{}
	for _, l := range lines {
		sum[l.Sku] += l.Qty
	}
	for sku, n := range sum {
		if have, ok := s.units[sku]; !ok || have < n {
			short = append(short, &inventoryv1.Shortage{Sku: sku, Requested: n, Available: have, Unknown: !ok})
		}
	}
	return sum, short
}

func (s *shelf) Release(_ context.Context, req *inventoryv1.ReleaseRequest) (*inventoryv1.ReleaseResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, fault.ToGRPC(s.fail)
	}
	for sku, n := range s.held[req.ReservationId] {
		s.units[sku] += n
	}
	s.held[req.ReservationId] = nil
	return &inventoryv1.ReleaseResponse{}, nil
}

func (s *shelf) Check(_ context.Context, req *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, short := s.short(req.Lines)
	return &inventoryv1.CheckResponse{Shortages: short}, nil
}

// till is Payments' contract: one outcome for each order.
type till struct {
	paymentsv1.UnimplementedPaymentsServiceServer
	mu       sync.Mutex
	outcomes map[string]*paymentsv1.AuthorizeResponse
	fail     error
	known    bool // that outcomes of unknown tokens are known by now
}

func (c *till) Authorize(_ context.Context, req *paymentsv1.AuthorizeRequest) (*paymentsv1.AuthorizeResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return nil, fault.ToGRPC(c.fail)
	}
	if a, ok := c.outcomes[req.OrderId]; ok {
		return a, nil
	}
	a := &paymentsv1.AuthorizeResponse{State: paymentsv1.PaymentState_PAYMENT_STATE_AUTHORIZED, PaymentId: "pay-" + req.OrderId}
	switch {
	case req.Provider != "simulated":
		return nil, fault.ToGRPC(fault.New(fault.Invalid, "unknown_provider", "There is no such provider."))
	case req.Token == "pm_card_chargeDeclinedInsufficientFunds":
		a = &paymentsv1.AuthorizeResponse{State: paymentsv1.PaymentState_PAYMENT_STATE_DECLINED, DeclineCode: "insufficient_funds"}
	case req.Token == "pm_unknown" && !c.known:
		return &paymentsv1.AuthorizeResponse{State: paymentsv1.PaymentState_PAYMENT_STATE_UNKNOWN}, nil
	}
	c.outcomes[req.OrderId] = a
	return a, nil
}

func (c *till) Void(_ context.Context, req *paymentsv1.VoidRequest) (*paymentsv1.VoidResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[req.OrderId] = &paymentsv1.AuthorizeResponse{State: paymentsv1.PaymentState_PAYMENT_STATE_VOIDED}
	return &paymentsv1.VoidResponse{State: paymentsv1.PaymentState_PAYMENT_STATE_VOIDED}, nil
}

// answer is what came back.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// call sends a JSON body, with headers as pairs.
func (b *bundle) call(method, path, body string, header ...string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header[header[i]] = []string{header[i+1]}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	a := answer{b.t, method + " " + path, res.StatusCode, res.Header, string(raw), nil}
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			b.t.Fatalf("%s: %v in %s", a.what, err, raw)
		}
	}
	return a
}

// place places an order in the form of the contract.
func (b *bundle) place(body string, header ...string) answer {
	b.t.Helper()
	return b.call("POST", "/v1/orders", body, header...)
}

// is checks the status, and the error code of a problem, which must then be a whole problem document.
func (a answer) is(status int, code ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("%s: status %d, want %d: %s", a.what, a.status, status, a.raw)
	}
	if a.header.Get("X-Correlation-ID") == "" {
		a.t.Errorf("%s: no correlation id in %v", a.what, a.header)
	}
	if len(code) == 0 {
		return a
	}
	detail, _ := a.body["detail"].(string)
	if len(detail) < 10 || !strings.HasSuffix(detail, ".") {
		a.t.Errorf("%s: detail %q is no sentence that says what to do", a.what, detail)
	}
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		a.t.Errorf("%s: Content-Type %q", a.what, ct)
	}
	title, _ := a.body["title"].(string)
	want := map[string]any{"type": "urn:orderkeep:problem:" + code[0], "error": code[0], "status": float64(status), "correlationId": a.header.Get("X-Correlation-ID")}
	for name, w := range want {
		if a.body[name] != w {
			a.t.Errorf("%s: %s is %v, want %v", a.what, name, a.body[name], w)
		}
	}
	if title == "" {
		a.t.Errorf("%s: no title", a.what)
	}
	return a
}

// has checks fields of the body, as JSON.
func (a answer) has(fields string) answer {
	a.t.Helper()
	var want map[string]any
	if err := json.Unmarshal([]byte(fields), &want); err != nil {
		a.t.Fatal(err)
	}
	for name, w := range want {
		if diff := cmp.Diff(w, a.body[name]); diff != "" {
			a.t.Errorf("%s: %s (-want +got):\n%s", a.what, name, diff)
		}
	}
	return a
}

// str is a string field of the body.
func (a answer) str(name string) string {
	a.t.Helper()
	s, ok := a.body[name].(string)
	if !ok {
		a.t.Fatalf("%s: no %s in %s", a.what, name, a.raw)
	}
	return s
}

// until asks for something that comes about in the background, until it has or the test runs out of time.
func until(t testing.TB, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !happened(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about in 20 s")
		}
		<-time.After(5 * time.Millisecond) // so that asking does not hold up what is asked for
	}
}
