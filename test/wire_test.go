package test

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// wire carries TCP connections to a server that may move from port to port, and can be cut like a cable.
type wire struct {
	listener net.Listener

	mu    sync.Mutex
	moved *sync.Cond
	to    string // "" while there is no server yet: who connects, waits
	cut   bool
	open  map[net.Conn]bool

	carried atomic.Int64 // bytes to the server
}

// wires are those to the replicas of a server.
type wires []*wire

func newWires(t testing.TB, n int) wires {
	t.Helper()
	var all wires
	for range n {
		all = append(all, newWire(t))
	}
	return all
}

// addrs is where to connect, as a caller is told.
func (ws wires) addrs() string {
	var all []string
	for _, w := range ws {
		all = append(all, w.addr())
	}
	return strings.Join(all, ",")
}

// carried is how many bytes went to the server over all of them.
func (ws wires) carried() (n int64) {
	for _, w := range ws {
		n += w.carried.Load()
	}
	return n
}

func (ws wires) sever() {
	for _, w := range ws {
		w.sever()
	}
}

func (ws wires) mend() {
	for _, w := range ws {
		w.mend()
	}
}

// newWire lays a wire that leads nowhere yet. It is taken away when the test ends.
func newWire(t testing.TB) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, open: map[net.Conn]bool{}}
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
		w.sever()
		l.Close()
		carrying.Wait()
	})
	return w
}

// addr is where to connect.
func (w *wire) addr() string { return w.listener.Addr().String() }

// lead makes the wire lead to addr.
func (w *wire) lead(addr string) { w.set(func() { w.to = addr }) }

// sever cuts what is connected, and refuses who connects, until mend.
func (w *wire) sever() { w.set(func() { w.cut = true }) }

func (w *wire) mend() { w.set(func() { w.cut = false }) }

func (w *wire) set(change func()) {
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

// target is where the wire leads, once it does; "" when it is cut.
func (w *wire) target() string {
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
func (w *wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.open[c] = true
	}
	return !w.cut
}

func (w *wire) drop(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(w.open, c)
	}
}

func (w *wire) carry(near net.Conn) {
	defer near.Close()
	to := w.target()
	if to == "" {
		return
	}
	far, err := net.Dial("tcp", to)
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
	both.Go(func() { pump(counted{far, &w.carried}, near) })
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
