// Package porttest gives tests the ports of servers that cannot be told to take any free one: those whose address others must
// know before they start, or after they have been started again.
//
// It promises that no port is given twice on a machine while the tests that got it run, and that none is one of those that the system gives
// to whoever asks for any. What listens on a port that it chose itself is not kept out.
package porttest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports are taken below those that systems give to whoever asks for any (from 32768 on Linux, 49152 elsewhere). A port that was
// merely free a moment ago is one of those, and a connection made somewhere else meanwhile may have it.
const first, last = 12000, 31999

// taken are the UDP sockets that tell the tests of all packages which ports are taken: one port, one test. They are never closed, so that a
// server can come back to its port; they go with the process, however it ends.
var taken struct {
	sync.Mutex
	sockets []net.PacketConn
}

// Port takes a TCP port that nobody listens on at any of the hosts, 127.0.0.1 if none is named, until this process ends. It may
// be called by several goroutines. A host that this machine does not have ends the test.
func Port(t testing.TB, hosts ...string) int {
	t.Helper()
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1"}
	}
	taken.Lock()
	defer taken.Unlock()
	for range 1000 {
		port := first + rand.IntN(last-first+1) //nolint:gosec // nobody is to be kept from guessing it
		socket, err := net.ListenPacket("udp", join("127.0.0.1", port))
		if err != nil {
			continue
		}
		if !free(port, hosts) {
			socket.Close()
			continue
		}
		taken.sockets = append(taken.sockets, socket)
		return port
	}
	t.Fatalf("no port from %d to %d is free at %v", first, last, hosts)
	return 0
}

// Addr takes a port of 127.0.0.1 and returns HOST:PORT. Until something is started there nobody answers at it.
func Addr(t testing.TB) string {
	t.Helper()
	return join("127.0.0.1", Port(t))
}

func free(port int, hosts []string) bool {
	for _, host := range hosts {
		l, err := net.Listen("tcp", join(host, port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
