package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/inventory"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"github.com/orderkeep/orderkeep/orders"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"github.com/orderkeep/orderkeep/payments"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// shop is the three contexts in one process, with faults between them.
type shop struct {
	dir      string
	contexts map[string]node.Context
	open     map[string]*node.Service
	ports    map[string]*port
	edges    map[string]*call.Target // as long-lived as a process's, so that breakers remember
	bus      *bus
	log      *slog.Logger
}

// trouble is what becomes of the next calls of a port.
type trouble struct {
	Kind  string // away: not done; lost: done, and the answer is lost; late: the same, a while after; twice; slow
	Calls int
}

// port is the wire to a context, or nothing while it is closed.
type port struct {
	mu      sync.Mutex
	channel *inprocgrpc.Channel
	next    trouble
	swallow string // planted: the method whose calls are said to be done, and are not made
}

// take returns what becomes of a call.
func (p *port) take() (*inprocgrpc.Channel, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Calls == 0 {
		return p.channel, ""
	}
	p.next.Calls--
	return p.channel, p.next.Kind
}

func (p *port) set(t trouble) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = t
}

var errAway = status.Error(codes.Unavailable, "injected")

// Invoke implements grpc.ClientConnInterface.
func (p *port) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c, kind := p.take()
	switch {
	case c == nil:
		return errAway
	case p.swallow != "" && strings.HasSuffix(method, "/"+p.swallow):
		switch reply := reply.(type) {
		case *inventoryv1.ReserveResponse:
			reply.State = inventoryv1.ReservationState_RESERVATION_STATE_RESERVED
		case *paymentsv1.AuthorizeResponse:
			reply.State = paymentsv1.PaymentState_PAYMENT_STATE_AUTHORIZED
		}
		return nil
	}
	another := reply.(proto.Message).ProtoReflect().New().Interface() // of a call whose answer nobody reads
	switch kind {
	case "away":
		return errAway
	case "lost":
		_ = c.Invoke(ctx, method, args, another, opts...)
		return errAway
	case "late":
		go func() {
			time.Sleep(lateBy)
			if c, _ := p.take(); c != nil {
				_ = c.Invoke(context.WithoutCancel(ctx), method, args, another, opts...)
			}
		}()
		return errAway
	case "twice":
		_ = c.Invoke(ctx, method, args, another, opts...)
	case "slow":
		time.Sleep(slowBy)
	}
	return c.Invoke(ctx, method, args, reply, opts...)
}

const (
	// lateBy is longer than recovery needs to undo what a late command is part of.
	lateBy = 40 * time.Second
	// slowBy is longer than an attempt waits.
	slowBy = 4 * time.Second
)

// NewStream implements grpc.ClientConnInterface; no contract between contexts has a stream.
func (p *port) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errAway
}

// bus is one whose consumers come back after a restart.
type bus struct {
	mu   sync.Mutex
	subs map[string]outbox.Subscription
	next trouble
	deaf bool // planted: events are acknowledged and not delivered
}

func (b *bus) Subscribe(s outbox.Subscription) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs[s.Name] = s
	return nil
}

func (b *bus) set(t trouble) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = t
}

// Publish implements outbox.Bus.
func (b *bus) Publish(ctx context.Context, events []outbox.Event) error {
	b.mu.Lock()
	kind := ""
	if b.next.Calls > 0 {
		b.next.Calls--
		kind = b.next.Kind
	}
	var subs []outbox.Subscription
	for _, s := range b.subs {
		subs = append(subs, s)
	}
	b.mu.Unlock()
	if b.deaf {
		return nil
	}
	if kind == "away" || len(subs) < 3 {
		return errAway
	}
	times := 1
	if kind == "twice" {
		times = 2
	}
	var errs []error
	for range times {
		local := outbox.NewLocal() // it knows who wants what
		for _, s := range subs {
			errs = append(errs, local.Subscribe(s))
		}
		local.Start()
		errs = append(errs, local.Publish(ctx, events))
	}
	if kind == "slow" {
		time.Sleep(slowBy)
	}
	if kind == "lost" || kind == "late" {
		return errAway
	}
	return errors.Join(errs...)
}

// newShop opens the contexts on a directory. planted is the method that is swallowed, or "events", or "".
func newShop(dir, planted string) (*shop, error) {
	s := &shop{
		dir: dir, contexts: map[string]node.Context{}, open: map[string]*node.Service{}, ports: map[string]*port{}, edges: map[string]*call.Target{},
		bus: &bus{subs: map[string]outbox.Subscription{}, deaf: planted == "events"}, log: slog.New(slog.DiscardHandler),
	}
	for _, c := range []node.Context{inventory.Context(), payments.Context(), orders.Context()} {
		s.contexts[c.Name], s.ports[c.Name], s.edges[c.Name] = c, &port{swallow: planted}, call.New(c.Name, s.log)
		if err := s.start(c.Name); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *shop) url(database string) string { return "sqlite:" + filepath.Join(s.dir, database+".db") }

// start opens a context.
func (s *shop) start(name string) error {
	peers := map[string]node.Peer{}
	for _, peer := range s.contexts[name].Peers {
		peers[peer] = node.Peer{Conn: s.edges[peer].Conn(s.ports[peer])}
	}
	svc, err := s.contexts[name].Open(context.Background(), node.Env{
		DB: s.url(name), Data: s.dir, ProviderDB: s.url("simulated-provider"), Peers: peers, Bus: s.bus, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	channel := (&inprocgrpc.Channel{}).WithServerUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		res, err := handle(ctx, req)
		return res, fault.ToGRPC(err)
	})
	svc.Register(channel)
	p := s.ports[name]
	p.mu.Lock()
	defer p.mu.Unlock()
	s.open[name], p.channel = svc, channel
	return nil
}

// stop closes a context. What calls it meanwhile finds nothing there.
func (s *shop) stop(name string) error {
	p := s.ports[name]
	p.mu.Lock()
	p.channel = nil
	p.mu.Unlock()
	svc := s.open[name]
	if svc == nil {
		return nil
	}
	delete(s.open, name)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return svc.Close(ctx)
}

func (s *shop) close() error {
	s.heal()
	var errs []error
	for _, name := range []string{"orders", "inventory", "payments"} {
		errs = append(errs, s.stop(name))
	}
	return errors.Join(errs...)
}

// heal ends all trouble.
func (s *shop) heal() {
	for _, p := range s.ports {
		p.set(trouble{})
	}
	s.bus.set(trouble{})
}

// orders is the wire of a client of Orders; nothing is wrong with it.
func (s *shop) orders() ordersv1.OrdersServiceClient {
	return ordersv1.NewOrdersServiceClient(s.ports["orders"].channel)
}

// stock asks Inventory for an item, or has it change one.
func (s *shop) stock(method, path, body string) (onHand, reserved int64, err error) {
	answer, err := s.rest(method, "/v1/stock"+path, body)
	if err != nil {
		return 0, 0, err
	}
	var item struct{ OnHand, Reserved int64 }
	err = json.Unmarshal(answer, &item)
	return item.OnHand, item.Reserved, err
}

// rest calls Inventory. An answer of another class than 2xx is an error.
func (s *shop) rest(method, path, body string) ([]byte, error) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	prefix := "/v1/stock"
	switch {
	case strings.HasSuffix(path, ".csv"):
		prefix = path
		r.Header.Set("Content-Type", "text/csv")
	case strings.HasPrefix(path, "/v1/reservations"):
		prefix = "/v1/reservations"
	}
	w := httptest.NewRecorder()
	s.open["inventory"].Routes[prefix].ServeHTTP(w, r)
	if w.Code/100 != 2 {
		return nil, fmt.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Body.Bytes(), nil
}

// audit is orderkeep verify.
func (s *shop) audit() (audit.Report, error) {
	return audit.Run(context.Background(), func(ctx context.Context) ([]audit.Source, error) {
		var all []audit.Source
		for name, c := range s.contexts {
			source, err := c.Inspect(ctx, s.url(name), s.url("simulated-provider"))
			if err != nil {
				return all, err
			}
			all = append(all, source)
		}
		return all, nil
	})
}

// duplicate copies a shop that nobody has open: to migrate four databases takes longer than most histories.
func duplicate(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, d.Name()), data, 0o600)
	})
}
