package stage

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Wire carries TCP connections to a server that may move from port to port, and can be cut like a cable.
type Wire struct {
	listener net.Listener

	mu    sync.Mutex
	moved *sync.Cond
	to    string // "" while there is no server yet: who connects, waits
	cut   bool
	open  map[net.Conn]bool

	Carried atomic.Int64 // bytes to the server
}

// Wires are those to the replicas of a server.
type Wires []*Wire

// NewWires lays n wires.
func NewWires(t testing.TB, n int) Wires {
	t.Helper()
	var all Wires
	for range n {
		all = append(all, NewWire(t))
	}
	return all
}

// Addrs is where to connect, as a caller is told.
func (ws Wires) Addrs() string {
	var all []string
	for _, w := range ws {
		all = append(all, w.Addr())
	}
	return strings.Join(all, ",")
}

// Carried is how many bytes went to the server over all of them.
func (ws Wires) Carried() (n int64) {
	for _, w := range ws {
		n += w.Carried.Load()
	}
	return n
}

// Sever cuts all of them.
func (ws Wires) Sever() {
	for _, w := range ws {
		w.Sever()
	}
}

// Mend joins all of them.
func (ws Wires) Mend() {
	for _, w := range ws {
		w.Mend()
	}
}

// NewWire lays a wire that leads nowhere yet. It is taken away when the test ends.
func NewWire(t testing.TB) *Wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{listener: l, open: map[net.Conn]bool{}}
	w.moved = sync.NewCond(&w.mu)
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			carrying.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		w.Sever()
		l.Close()
		carrying.Wait()
	})
	return w
}

// Addr is where to connect.
func (w *Wire) Addr() string { return w.listener.Addr().String() }

// Lead makes the wire lead to addr: HOST:PORT, or the path of a Unix socket.
func (w *Wire) Lead(addr string) { w.set(func() { w.to = addr }) }

// Sever cuts what is connected, and refuses who connects, until Mend.
func (w *Wire) Sever() { w.set(func() { w.cut = true }) }

// Mend joins what was cut.
func (w *Wire) Mend() { w.set(func() { w.cut = false }) }

// Relead takes a wire from one server to another.
func (w *Wire) Relead(addr string) {
	w.Sever()
	w.Lead(addr)
	w.Mend()
}

func (w *Wire) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	if w.cut {
		for c := range w.open {
			c.Close()
		}
	}
	w.moved.Broadcast()
}

// Target is where the wire leads, once it does; "" when it is cut.
func (w *Wire) Target() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.to == "" && !w.cut {
		w.moved.Wait()
	}
	if w.cut {
		return ""
	}
	return w.to
}

// keep notes a connection, or closes it if the wire was cut meanwhile.
func (w *Wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.open[c] = true
	}
	return !w.cut
}

func (w *Wire) drop(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(w.open, c)
	}
}

func (w *Wire) carry(near net.Conn) {
	defer near.Close()
	to := w.Target()
	if to == "" {
		return
	}
	network := "tcp"
	if strings.HasPrefix(to, "/") {
		network = "unix"
	}
	far, err := net.Dial(network, to)
	if err != nil {
		return
	}
	defer w.drop(near, far)
	if !w.keep(near, far) {
		return
	}
	var both sync.WaitGroup
	pump := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // an error is the end of the connection, which is passed on
		to.Close()
		from.Close()
	}
	both.Go(func() { pump(counted{far, &w.Carried}, near) })
	both.Go(func() { pump(near, far) })
	both.Wait()
}

// counted is a connection of which what is written is counted.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.Add(int64(n))
	return n, err
}
