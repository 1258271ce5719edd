// Package ratetest starts Redis for tests.
//
// It promises that the server is on a free port with nothing in it, and that it has ended when the test has, or the test's process,
// however that ends. Without the program redis-server a test is skipped, but not in CI.
package ratetest

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/orderkeep/orderkeep/internal/porttest"
)

// Redis starts a server and returns its URL; stop ends it before the test does.
func Redis(t testing.TB) (url string, stop func()) {
	t.Helper()
	url = "redis://" + porttest.Addr(t)
	return url, Restart(t, url)
}

// watched runs a program until the end of the shell's input, which comes when this process ends, however that ends.
const watched = `trap '' INT TERM HUP PIPE; "$0" "$@" </dev/null & read -r forever; kill -9 $!; wait`

// Restart starts another server at the URL of one that was stopped, with nothing in it.
func Restart(t testing.TB, url string) (stop func()) {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not on PATH (Debian's package is redis-server)")
		}
		t.Skip("redis-server is not on PATH (Debian's package is redis-server)")
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(url, "redis://"))
	c := exec.Command("sh", "-c", watched, program, "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir())
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		in.Close()
		_ = c.Wait() // it was killed
	})
	t.Cleanup(stop)
	for said := bufio.NewScanner(out); said.Scan(); {
		switch line := said.Text(); {
		case strings.Contains(line, "Ready to accept connections"):
			return stop
		case strings.Contains(line, "aborting"): // the port is taken
			t.Fatalf("redis-server does not start at %s: %s", url, line)
		}
	}
	t.Fatalf("redis-server does not start at %s", url)
	return nil
}
