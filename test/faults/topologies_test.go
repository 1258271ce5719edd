package faults

import (
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
)

// oneProcess is what "orderkeep serve" starts.
func oneProcess(t testing.TB, r *Run) *world {
	w := newWorld(t, r)
	data := t.TempDir()
	w.urls = sqlite(data)
	w.verify = []string{"ORDERKEEP_DATA=" + data}
	door := w.newEdge("client to orders")
	w.doors, w.stock = []*edge{door}, door
	w.add("orderkeep", stage.Launch{Path: program, Args: []string{"serve", "--data", data, "--listen", "127.0.0.1:0"}}, func(p *stage.Process) {
		door.wire.Lead(host(p.URL))
	})
	w.up()
	w.layIn()
	return w
}

// host is the HOST:PORT of a URL.
func host(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	return rest
}
