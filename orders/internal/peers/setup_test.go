package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry/telemetrytest"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const id = order.ID("0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55")

var (
	twoBooks = []order.Line{{SKU: "BOOK", Qty: 2, UnitPriceMinor: 1250}}
	paidFor  = &order.Order{ID: id, Lines: twoBooks, Currency: "GBP", TotalMinor: 2500, Payment: order.Payment{Provider: "simulated", Token: "pm_card_visa"}}
)

// asked is a new order of lines.
func asked(lines ...order.Line) *order.Order { return &order.Order{ID: id, Lines: lines} }

// stockPeer is an Inventory's gRPC service that answers as told.
type stockPeer struct {
	inventoryv1.UnimplementedInventoryServiceServer
	reserve func(context.Context, *inventoryv1.ReserveRequest) (*inventoryv1.ReserveResponse, error)
	release func(context.Context, *inventoryv1.ReleaseRequest) (*inventoryv1.ReleaseResponse, error)
	check   func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error)
	list    func(context.Context, *inventoryv1.ListReservationsRequest) (*inventoryv1.ListReservationsResponse, error)
}

func (p *stockPeer) Reserve(ctx context.Context, r *inventoryv1.ReserveRequest) (*inventoryv1.ReserveResponse, error) {
	return p.reserve(ctx, r)
}

func (p *stockPeer) Release(ctx context.Context, r *inventoryv1.ReleaseRequest) (*inventoryv1.ReleaseResponse, error) {
	return p.release(ctx, r)
}

func (p *stockPeer) Check(ctx context.Context, r *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
	return p.check(ctx, r)
}

func (p *stockPeer) ListReservations(ctx context.Context, r *inventoryv1.ListReservationsRequest) (*inventoryv1.ListReservationsResponse, error) {
	if p.list == nil { // an Inventory from before it
		return p.UnimplementedInventoryServiceServer.ListReservations(ctx, r)
	}
	return p.list(ctx, r)
}

// moneyPeer is a Payments' gRPC service that answers as told.
type moneyPeer struct {
	paymentsv1.UnimplementedPaymentsServiceServer
	authorize func(context.Context, *paymentsv1.AuthorizeRequest) (*paymentsv1.AuthorizeResponse, error)
	void      func(context.Context, *paymentsv1.VoidRequest) (*paymentsv1.VoidResponse, error)
	refund    func(context.Context, *paymentsv1.RefundRequest) (*paymentsv1.RefundResponse, error)
}

func (p *moneyPeer) Authorize(ctx context.Context, r *paymentsv1.AuthorizeRequest) (*paymentsv1.AuthorizeResponse, error) {
	return p.authorize(ctx, r)
}

func (p *moneyPeer) Void(ctx context.Context, r *paymentsv1.VoidRequest) (*paymentsv1.VoidResponse, error) {
	return p.void(ctx, r)
}

func (p *moneyPeer) Refund(ctx context.Context, r *paymentsv1.RefundRequest) (*paymentsv1.RefundResponse, error) {
	return p.refund(ctx, r)
}

// overTCP serves both over a real connection, and returns the clients with the policy of internal/call around them.
func overTCP(t *testing.T, stock *stockPeer, money *moneyPeer) (Stock, Cashier) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	inventoryv1.RegisterInventoryServiceServer(s, stock)
	paymentsv1.RegisterPaymentsServiceServer(s, money)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	log := slog.New(slog.DiscardHandler)
	return NewStock(call.New("inventory", log).Conn(conn)), NewCashier(call.New("payments", log).Conn(conn))
}

// web is a REST peer that notes what it was asked and answers as told.
type web struct {
	url string
	log *telemetrytest.Log

	mu     sync.Mutex
	asked  []string // METHOD path body
	header []http.Header
	close  func()
}

func serve(t *testing.T, answer http.HandlerFunc) *web {
	t.Helper()
	w := &web{log: &telemetrytest.Log{}}
	s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.asked = append(w.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
		w.header = append(w.header, r.Header)
		w.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer(out, r)
	}))
	t.Cleanup(s.Close)
	w.url, w.close = s.URL, s.Close
	return w
}

func (w *web) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.asked...)
}

// stock is a client of the peer, as a process makes it.
func (w *web) stock(t *testing.T) *RESTStock {
	t.Helper()
	log := telemetry.NewLogger(w.log, false, slog.LevelInfo)
	s, err := NewRESTStock(w.url, call.New("inventory", log).Client(transport(t)), log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *web) cashier(t *testing.T) *RESTCashier {
	t.Helper()
	c, err := NewRESTCashier(w.url, call.New("payments", slog.New(slog.DiscardHandler)).Client(transport(t)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func transport(t *testing.T) *http.Transport {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// says answers a status and a body of a media type.
func says(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// refuses answers a problem document.
func refuses(status int, code string, items ...map[string]any) http.HandlerFunc {
	doc := map[string]any{"type": "urn:orderkeep:problem:" + code, "title": code, "status": status, "detail": "Because.", "error": code}
	if len(items) > 0 {
		doc["items"] = items
	}
	body, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return says(status, "application/problem+json", string(body))
}

// soon is a context whose deadline passes within the test.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// kindOf is the kind of an error that must be there: of none it is none of the kinds.
func kindOf(err error) fault.Kind {
	if err == nil {
		return -1
	}
	return fault.KindOf(err)
}
