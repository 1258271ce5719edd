package node_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/porttest"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
)

// wires are the ways to a peer in another process. ask makes one call over the wire to the peer at an address.
var wires = map[string]struct {
	address func(running) string
	ask     func(context.Context, node.Peer) error
}{
	"gRPC": {
		func(r running) string { return "grpc://" + r.grpc },
		func(ctx context.Context, p node.Peer) error {
			_, err := inventoryv1.NewInventoryServiceClient(p.Conn).Check(ctx, &inventoryv1.CheckRequest{})
			return err
		},
	},
	"REST": {
		func(r running) string { return "http://" + r.addr },
		func(ctx context.Context, p node.Peer) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/v1/stock/A", nil)
			if err != nil {
				return err
			}
			res, err := p.HTTP.Do(req)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			var answer struct{ Error, Detail string }
			if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode == http.StatusOK {
				return err
			}
			return fault.FromHTTP(res.StatusCode, answer.Error, answer.Detail)
		},
	},
}

// farInventory runs an Inventory for both wires on given ports; wait is called by every request with its context.
func farInventory(t *testing.T, listen, grpcListen string, wait func(context.Context)) running {
	t.Helper()
	cfg := config(t)
	cfg.Listen, cfg.GRPCListen = listen, grpcListen
	f := &fake{
		name: "inventory", journal: &journal{},
		check: func(ctx context.Context, _ *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
			wait(ctx)
			return &inventoryv1.CheckResponse{}, ctx.Err()
		},
		routes: map[string]http.Handler{"/v1/stock": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			wait(r.Context())
			if err := r.Context().Err(); err != nil {
				httpd.WriteProblem(w, r, err)
				return
			}
			_, _ = io.WriteString(w, "{}")
		})},
	}
	return start(t, cfg, f.context())
}

// orderer runs an Orders whose Inventory is at the address, and returns its wire there.
func orderer(t *testing.T, address string) node.Peer {
	t.Helper()
	orders, _ := shop(&journal{}, nil)
	cfg := config(t)
	cfg.InventoryURL, cfg.BrokerURL = address, nobody
	start(t, cfg, orders.context())
	return orders.env.Peers["inventory"]
}

func TestPeerThatHangs(t *testing.T) {
	t.Parallel()
	for name, wire := range wires {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			released := make(chan error, 8) // why each call ended over there
			far := farInventory(t, "127.0.0.1:0", "127.0.0.1:0", func(ctx context.Context) {
				<-ctx.Done()
				released <- ctx.Err()
			})
			p := orderer(t, wire.address(far))
			// The caller's deadline is far away: what ends the call is the policy's, a second for an attempt.
			if f := fault.Of(wire.ask(t.Context(), p)); f == nil || f.Kind != fault.Unavailable || f.Code != "deadline_exceeded" {
				t.Errorf("err = %v", f)
			}
			// The peer stops working for it too: by the deadline that crossed, or because the call was withdrawn.
			<-released
		})
	}
}

func TestPeerThatDiesAndComesBack(t *testing.T) {
	t.Parallel()
	for name, wire := range wires {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := farInventory(t, porttest.Addr(t), porttest.Addr(t), func(context.Context) {})
			p := orderer(t, wire.address(first))
			if err := wire.ask(t.Context(), p); err != nil {
				t.Fatalf("while it is there: %v", err)
			}
			if err := first.stop(); err != nil {
				t.Fatal(err)
			}
			for range 20 { // past what opens the breaker
				if f := fault.Of(wire.ask(t.Context(), p)); f == nil || f.Kind != fault.Unavailable || f.Code != "inventory_unavailable" {
					t.Fatalf("while it is away: %v", f)
				}
			}
			farInventory(t, first.addr, first.grpc, func(context.Context) {})
			answered(t, func() error { return wire.ask(t.Context(), p) })
		})
	}
}

func TestPeerThatIsNotThereAtStart(t *testing.T) {
	t.Parallel()
	for name, wire := range wires {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nobody := running{addr: porttest.Addr(t), grpc: porttest.Addr(t)}
			p := orderer(t, wire.address(nobody))
			if f := fault.Of(wire.ask(t.Context(), p)); f == nil || f.Code != "inventory_unavailable" {
				t.Errorf("while it is away: %v", f)
			}
			farInventory(t, nobody.addr, nobody.grpc, func(context.Context) {})
			answered(t, func() error { return wire.ask(t.Context(), p) })
		})
	}
}

// A peer that dies in the middle of a call is unavailable, and whether it acted is not known.
func TestPeerThatDiesInTheMiddle(t *testing.T) {
	t.Parallel()
	for name, wire := range wires {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entered := make(chan struct{}, 8)
			far := farInventory(t, "127.0.0.1:0", "127.0.0.1:0", func(ctx context.Context) {
				entered <- struct{}{}
				<-ctx.Done()
			})
			_, to, _ := strings.Cut(wire.address(far), "://")
			proxy := newProxy(t, to)
			p := orderer(t, wire.address(running{addr: proxy.addr, grpc: proxy.addr}))
			answer := make(chan error, 1)
			go func() { answer <- wire.ask(context.Background(), p) }()
			<-entered
			proxy.cut()
			if f := fault.Of(<-answer); f == nil || f.Kind != fault.Unavailable {
				t.Errorf("err = %v", f)
			}
		})
	}
}

// answered waits until a call is answered; how soon is the breaker's and the connection's affair.
func answered(t *testing.T, ask func() error) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("20 s after it came back: %v", err)
		}
	}
}

// proxy passes connections on until they are cut.
type proxy struct {
	addr     string
	listener net.Listener
	mu       sync.Mutex
	open     []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), listener: l}
	t.Cleanup(p.cut)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.open = append(p.open, in, out)
			p.mu.Unlock()
			go func() { _, _ = io.Copy(out, in) }()
			go func() { _, _ = io.Copy(in, out) }()
		}
	}()
	return p
}

// cut ends all connections, and takes no more.
func (p *proxy) cut() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.Close()
	}
}
