package porttest_test

import (
	"net"
	"testing"

	"github.com/orderkeep/orderkeep/internal/porttest"
)

func TestPortIsGivenOnce(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 500 {
		addr := porttest.Addr(t)
		if seen[addr] {
			t.Fatalf("%s was given twice", addr)
		}
		seen[addr] = true
	}
}

// A server may go away and come back, and what asks for any port does not get in between.
func TestPortCanBeListenedOnAgain(t *testing.T) {
	t.Parallel()
	addr := porttest.Addr(t)
	for range 100 {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if another, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		} else if another.Addr().(*net.TCPAddr).Port < 32000 {
			t.Skipf("this system gives away %s to who asks for any port", another.Addr())
		} else {
			another.Close()
		}
		l.Close()
	}
}
