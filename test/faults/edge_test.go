package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/orderkeep/orderkeep/test/stage"
	"github.com/rs/zerolog"
)

// edge is a way from one process to another, with a proxy on it that delays, drops, cuts and throttles what is said there. Before the
// proxy is a wire, so that the address stays when the proxy is replaced, and behind it one that leads to where the other process is.
type edge struct {
	name  string
	front *stage.Wire
	wire  *stage.Wire

	once  sync.Mutex // held while it is hurt
	mu    sync.Mutex // held while toxics are put on and taken off
	proxy *toxiproxy.Proxy
}

// newEdge lays one that leads nowhere yet. It is taken away when the test ends.
func (w *world) newEdge(name string) *edge {
	w.t.Helper()
	e := &edge{name: name, front: stage.NewWire(w.t), wire: stage.NewWire(w.t)}
	e.renew(w.t)
	w.t.Cleanup(func() { go e.proxy.Stop() }) // which a connection can hold up
	w.edges = append(w.edges, e)
	return e
}

// renew puts a new proxy on the edge.
func (e *edge) renew(t testing.TB) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	e.proxy = toxiproxy.NewProxy(server, e.name, "127.0.0.1:0", e.wire.Addr())
	if err := e.proxy.Start(); err != nil {
		t.Error(err)
	}
	e.front.Relead(e.proxy.Listen)
}

// addr is where to connect.
func (e *edge) addr() string { return e.front.Addr() }

// toxic is what can be put on an edge.
type toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // upstream is from the caller
	Attributes map[string]any `json:"attributes"`
}

func (x toxic) String() string { return fmt.Sprint(x.Type, " ", x.Stream, " ", x.Attributes) }

// hurt puts a toxic on the edge, and on all connections that are there.
func (e *edge) hurt(t testing.TB, x toxic) {
	text, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	e.change(t, func(on *toxiproxy.ToxicCollection) {
		if _, err := on.AddToxicJson(strings.NewReader(string(text))); err != nil {
			t.Errorf("%s on %s: %v", x, e.name, err)
		}
	})
}

// heal takes everything off.
func (e *edge) heal(t testing.TB) {
	e.change(t, func(on *toxiproxy.ToxicCollection) { on.ResetToxics(context.Background()) })
}

// change changes the toxics. A toxic that writes to a connection which has gone never looks up again, and the proxy waits for it for
// ever: then another one takes its place.
func (e *edge) change(t testing.TB, f func(*toxiproxy.ToxicCollection)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	done, on := make(chan struct{}), e.proxy.Toxics
	go func() {
		defer close(done)
		f(on)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
		e.renew(t)
	}
}
