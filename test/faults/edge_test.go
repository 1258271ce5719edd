package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/orderkeep/orderkeep/test/stage"
	"github.com/rs/zerolog"
)

// edge is a way from one process to another, with a proxy on it that delays, drops, cuts and throttles what is said there. Behind the
// proxy is a wire, which leads to where the other process is at the moment.
type edge struct {
	name  string
	proxy *toxiproxy.Proxy
	wire  *stage.Wire

	once sync.Mutex // held while it is hurt
	mu   sync.Mutex // held while toxics are put on and taken off
}

// newEdge lays one that leads nowhere yet. It is taken away when the test ends.
func (w *world) newEdge(name string) *edge {
	w.t.Helper()
	e := &edge{name: name, wire: stage.NewWire(w.t)}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	e.proxy = toxiproxy.NewProxy(server, name, "127.0.0.1:0", e.wire.Addr())
	if err := e.proxy.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(e.proxy.Stop)
	w.edges = append(w.edges, e)
	return e
}

// addr is where to connect.
func (e *edge) addr() string { return e.proxy.Listen }

// toxic is what can be put on an edge.
type toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // upstream is from the caller
	Attributes map[string]any `json:"attributes"`
}

func (x toxic) String() string { return fmt.Sprint(x.Type, " ", x.Stream, " ", x.Attributes) }

// hurt puts a toxic on the edge, and on all connections that are there.
func (e *edge) hurt(t testing.TB, x toxic) {
	e.mu.Lock()
	defer e.mu.Unlock()
	text, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.proxy.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
		t.Errorf("%s on %s: %v", x, e.name, err)
	}
}

// heal takes everything off.
func (e *edge) heal(testing.TB) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.proxy.Toxics.ResetToxics(context.Background())
}
