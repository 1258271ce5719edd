package node_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/porttest"
)

// Whether the replicas of a peer have one name or are listed, each gets its share of the calls; the others get the share of one
// that has gone, and one that comes later is found.
func TestCallsAreSpreadOverReplicas(t *testing.T) {
	t.Parallel()
	port := portOf(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	addr := func(host string) string { return net.JoinHostPort(host, port) }
	ask := func(p node.Peer) error { return wires["gRPC"].ask(t.Context(), p) }
	var asked [4]atomic.Int64 // of the replica at 127.0.0.n
	replica := func(n int) running {
		return farInventory(t, "127.0.0.1:0", addr(netip.AddrFrom4([4]byte{127, 0, 0, byte(n)}).String()), func(context.Context) { asked[n].Add(1) })
	}
	// served looks whether the calls reach these replicas in turn, once all of them are found, and nobody else.
	served := func(p node.Peer, by ...int) {
		t.Helper()
		answered(t, func() error {
			if err := ask(p); err != nil {
				return err
			}
			for _, n := range by {
				if asked[n].Load() == 0 {
					return errors.New("one is not asked yet")
				}
			}
			return nil
		})
		for n := range asked {
			asked[n].Store(0)
		}
		const rounds = 20
		for range rounds * len(by) {
			if err := ask(p); err != nil {
				t.Errorf("with the replicas %v: %v", by, err)
			}
		}
		for _, n := range by {
			if got := asked[n].Swap(0); got != rounds {
				t.Errorf("replica %d of %v has answered %d of %d calls", n, by, got, rounds*len(by))
			}
		}
	}

	first, second := replica(1), replica(2)
	listed := orderer(t, "grpc://"+addr("127.0.0.1")+","+addr("127.0.0.2"))
	resolver.set("inventory.test", "127.0.0.1", "127.0.0.2")
	named := orderer(t, "grpc://"+addr("inventory.test"))
	served(listed, 1, 2)
	served(named, 1, 2)

	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	served(listed, 1)
	served(named, 1)

	replica(3) // instead of the second
	resolver.set("inventory.test", "127.0.0.1", "127.0.0.3")
	if err := first.stop(); err != nil { // whose loss is what makes the caller look again
		t.Fatal(err)
	}
	served(named, 3)
	replica(1)
	served(named, 1, 3)
	served(listed, 1)
}

// portOf is a port that is free at all of the addresses. Without them all the test is skipped, but not in CI.
func portOf(t *testing.T, hosts ...string) string {
	t.Helper()
	for _, host := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			if os.Getenv("CI") != "true" {
				t.Skipf("this machine has no loopback but one address: %v", err)
			}
			t.Fatal(err)
		}
		l.Close()
	}
	return strconv.Itoa(porttest.Port(t, hosts...))
}

// names is where this process looks names up: there is no other that says that a name has several addresses.
type names struct {
	mu sync.Mutex
	of map[string][]netip.Addr
}

var resolver = &names{of: map[string][]netip.Addr{}}

func (n *names) set(name string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[name] = nil
	for _, a := range addresses {
		n.of[name] = append(n.of[name], netip.MustParseAddr(a))
	}
}

// dial is net.Resolver's.
func (n *names) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go n.serve(far)
	return near, nil
}

// serve answers questions as RFC 1035 has them over TCP: each message behind its length.
func (n *names) serve(c net.Conn) {
	defer c.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		answer := n.answer(question)
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

func (n *names) answer(question []byte) []byte {
	const header, a, in = 12, 1, 1
	var labels []string
	end := header
	for question[end] != 0 {
		size := int(question[end])
		labels = append(labels, string(question[end+1:end+1+size]))
		end += 1 + size
	}
	end += 5 // the root's label, the type and the class
	n.mu.Lock()
	addresses, known := n.of[strings.Join(labels, ".")]
	n.mu.Unlock()
	if binary.BigEndian.Uint16(question[end-4:]) != a {
		addresses = nil
	}
	flags := uint16(0x8180) // an answer, recursion desired and available
	if !known {
		flags |= 3 // there is no such name
	}
	m := append([]byte(nil), question[:2]...)
	for _, field := range []uint16{flags, 1, uint16(len(addresses)), 0, 0} {
		m = binary.BigEndian.AppendUint16(m, field)
	}
	m = append(m, question[header:end]...)
	for _, addr := range addresses {
		m = binary.BigEndian.AppendUint16(m, 0xc000|header) // the name in the question
		m = binary.BigEndian.AppendUint16(m, a)
		m = binary.BigEndian.AppendUint16(m, in)
		m = binary.BigEndian.AppendUint32(m, 0) // not to be kept
		m = binary.BigEndian.AppendUint16(m, 4)
		m = append(m, addr.AsSlice()...)
	}
	return m
}
