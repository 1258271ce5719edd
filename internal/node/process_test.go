package node_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// asProcess, set to a data directory, makes this test's program a node of its own.
const asProcess = "ORDERKEEP_TEST_NODE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asProcess); dir != "" {
		os.Exit(process(dir))
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: resolver.dial}
	os.Exit(m.Run())
}

// process is a node with a route that says that it was entered and does not return.
func process(dir string) int {
	stuck := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("entered")
		<-context.WithoutCancel(r.Context()).Done()
	})
	f := &fake{name: "inventory", journal: &journal{}, routes: map[string]http.Handler{"/v1/stock": stuck}}
	cfg := node.Config{Listen: "127.0.0.1:0", Data: dir, BodyLimit: 1, ReadTimeout: 1 << 40, DrainTimeout: 1 << 40, Keep: 1 << 50}
	log := telemetry.NewLogger(os.Stdout, false, slog.LevelInfo)
	if err := node.Run(context.Background(), cfg, []node.Context{f.context()}, log, func(a string) { fmt.Println("ready", a) }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// spawn starts a node in a process of its own.
func spawn(t *testing.T) (cmd *exec.Cmd, lines *bufio.Reader, addr string) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // this test's own program
	cmd.Env = append(os.Environ(), asProcess+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines = bufio.NewReader(out)
	addr = strings.TrimPrefix(await(t, lines, "ready "), "ready ")
	return cmd, lines, addr
}

func await(t *testing.T, lines *bufio.Reader, what string) string {
	t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the process ended before it said %q", what)
		}
		if strings.Contains(line, what) {
			return strings.TrimSpace(line)
		}
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String()+" drains, and the process ends well", func(t *testing.T) {
			t.Parallel()
			cmd, lines, _ := spawn(t)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			await(t, lines, "msg=stopped")
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("the second one ends what will not finish", func(t *testing.T) {
		t.Parallel()
		cmd, lines, addr := spawn(t)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if res, err := http.Get("http://" + addr + "/v1/stock"); err == nil { //nolint:noctx // ends with the process
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		}()
		await(t, lines, "entered")
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		await(t, lines, "msg=draining")
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Errorf("the process ended with %v", err)
		}
		<-gone
	})
}

func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	stuck := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-release })
	j := &journal{}
	f := &fake{name: "inventory", journal: j, routes: map[string]http.Handler{"/v1/stock": stuck}}
	cfg := config(t)
	cfg.DrainTimeout = 1 // over before it begins
	n := start(t, cfg, f.context())
	go func() {
		if res, err := http.Get("http://" + n.addr + "/v1/stock"); err == nil { //nolint:noctx // ends with the node
			res.Body.Close()
		}
	}()
	<-entered
	err := n.stop()
	close(release)
	if err == nil || !strings.Contains(err.Error(), "still under way") {
		t.Errorf("drain = %v", err)
	}
	if got := strings.Join(j.all(), ", "); got != "open inventory, close inventory" {
		t.Errorf("%s: the context is closed all the same", got)
	}
}
