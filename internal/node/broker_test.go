package node_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/natsd"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/porttest"
)

// nobody is the address of a broker that is not there.
const nobody = "nats://127.0.0.1:1"

// natsBroker runs a broker at an address until the test ends.
func natsBroker(t *testing.T, listen string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	dir := t.TempDir()
	go func() {
		ended <- natsd.Run(ctx, dir, listen, slog.New(slog.DiscardHandler), func(url string) { ready <- url })
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// consumer is a context that hands on what it hears.
func consumer(name string, heard chan<- outbox.Event) *fake {
	f := &fake{name: name, journal: &journal{}}
	f.opened = func(_ context.Context, env node.Env) error {
		return env.Bus.Subscribe(outbox.Subscription{Name: name, Types: []string{"shop.Cancelled"}, Receive: func(_ context.Context, events []outbox.Event) error {
			for _, e := range events {
				heard <- e
			}
			return nil
		}})
	}
	return f
}

// A process starts without its broker, says so and is ready all the same; when the broker comes, events of one process reach
// the other.
func TestEventsCrossProcessesOverABroker(t *testing.T) {
	t.Parallel()
	address := porttest.Addr(t)
	heard := make(chan outbox.Event, 10)
	publisher := &fake{name: "orders", journal: &journal{}}
	cfgs := [2]node.Config{config(t), config(t)}
	cfgs[0].BrokerURL, cfgs[1].BrokerURL = "nats://me:secret@"+address, "nats://me:secret@"+address
	from, to := start(t, cfgs[0], publisher.context()), start(t, cfgs[1], consumer("inventory", heard).context())
	code, _, body := get(t, "http://"+from.addr+"/readyz")
	if code != http.StatusOK || !strings.HasPrefix(body, `{"status":"degraded","away":{"broker":"`) || strings.Contains(body, "secret") {
		t.Errorf("GET /readyz = %d %s, want 200 that names the broker", code, body)
	}
	natsBroker(t, address)
	for {
		if _, _, body := get(t, "http://"+from.addr+"/readyz"); strings.HasPrefix(body, `{"status":"ready"`) {
			break
		}
	}
	e := outbox.Event{ID: "e-1", Source: "/orders", Type: "shop.Cancelled", Subject: "o-1", Time: time.Unix(0, 0).UTC(), Data: []byte{}}
	if err := publisher.env.Bus.Publish(t.Context(), []outbox.Event{e}); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got.ID != "e-1" {
		t.Errorf("heard %+v", got)
	}
	for _, n := range []running{from, to} {
		if err := n.stop(); err != nil {
			t.Error(err)
		}
		if strings.Contains(n.log.String(), "secret") {
			t.Errorf("the log has the password:\n%s", n.log)
		}
	}
}

// Nothing is received once a context is closed, and what it tells while it closes still goes out.
func TestEventsStopBeforeTheContextsAndGoOutUntilAfter(t *testing.T) {
	t.Parallel()
	address := porttest.Addr(t)
	natsBroker(t, address)
	cfg := config(t)
	cfg.BrokerURL = "nats://" + address
	heard, witness := make(chan outbox.Event, 10), make(chan outbox.Event, 10)
	start(t, cfg, consumer("payments", witness).context())
	f := consumer("inventory", heard)
	closed := errors.New("not closed")
	f.closing = func(ctx context.Context) error {
		closed = f.env.Bus.Publish(ctx, []outbox.Event{{ID: "last", Source: "/inventory", Type: "shop.Cancelled", Time: time.Unix(0, 0), Data: []byte{}}})
		if closed == nil {
			<-witness // another process has it, so this one would too
		}
		return nil
	}
	n := start(t, cfg, f.context())
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	if closed != nil {
		t.Fatalf("publish while closing: %v", closed)
	}
	if len(heard) != 0 {
		t.Error("an event came in while the context was closing")
	}
	start(t, cfg, consumer("inventory", heard).context())
	if got := <-heard; got.ID != "last" {
		t.Errorf("heard %+v", got)
	}
}

func TestProcessSaysWhatItDoesNotHear(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.InventoryURL = "http://127.0.0.1:1"
	orders, _ := shop(&journal{}, nil)
	n := start(t, cfg, orders.context())
	if !strings.Contains(n.log.String(), "without BROKER_URL no event reaches this context") {
		t.Errorf("nothing in the log:\n%s", n.log)
	}
	alone := start(t, config(t), (&fake{name: "inventory", journal: &journal{}}).context())
	if !strings.Contains(alone.log.String(), "without BROKER_URL no event leaves this process") {
		t.Errorf("nothing in the log:\n%s", alone.log)
	}
	whole := start(t, config(t), (&fake{name: "orders", peers: []string{"inventory"}, journal: &journal{}}).context(), (&fake{name: "inventory", journal: &journal{}}).context())
	if strings.Contains(whole.log.String(), "BROKER_URL") {
		t.Errorf("a process that needs no broker talks of one:\n%s", whole.log)
	}
}
