// Package brokertest starts RabbitMQ for tests, and processes that they may kill.
//
// It promises that nothing is left running or lying about, whatever becomes of the tests' process: a shell watches over
// each server and ends it when that process has gone. It uses no port, directory or node name of a server that runs
// anyway. Without RabbitMQ a test is skipped, but not in CI.
package brokertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/orderkeep/orderkeep/internal/porttest"
)

// shared is the one RabbitMQ of this process: it takes seconds and two cores to start.
var shared struct {
	using    sync.RWMutex // read by those who use it, written by those who restart it
	mu       sync.Mutex   // guards what follows
	prefixes int
	port     int
	start    func(testing.TB) *Process
	process  *Process // nil while it does not run
}

// RabbitMQ returns the URL of a running RabbitMQ where nothing is yet under the prefix in it.
func RabbitMQ(t testing.TB) string {
	t.Helper()
	shared.using.RLock()
	t.Cleanup(shared.using.RUnlock)
	return prepare(t, true)
}

// Server is the RabbitMQ while nobody else uses it.
type Server struct{ URL string }

// OwnRabbitMQ waits until nobody uses the RabbitMQ and returns it, stopped, for the test alone.
func OwnRabbitMQ(t testing.TB) *Server {
	t.Helper()
	shared.using.Lock()
	t.Cleanup(shared.using.Unlock)
	s := &Server{prepare(t, false)}
	s.Stop()
	return s
}

// Start starts it on the data that it had.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.process = shared.start(t)
}

// Kill ends it as a power cut does.
func (s *Server) Kill() { end((*Process).Kill) }

// Stop ends it in order.
func (s *Server) Stop() { end((*Process).Stop) }

func end(how func(*Process)) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.process != nil {
		how(shared.process)
		shared.process = nil
	}
}

// prepare makes the server, lets it run if it is to, and returns its URL with a prefix that no other test has.
func prepare(t testing.TB, run bool) string {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.start == nil {
		shared.port, shared.start = newServer(t)
	}
	if run && shared.process == nil {
		shared.process = shared.start(t)
	}
	shared.prefixes++
	return fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/?prefix=test%d", shared.port, shared.prefixes)
}

// newServer starts epmd, where Erlang nodes find each other, and returns what starts a RabbitMQ beside it.
func newServer(t testing.TB) (port int, start func(testing.TB) *Process) {
	t.Helper()
	program, epmd := find(t, "rabbitmq-server"), find(t, "epmd")
	dir, err := os.MkdirTemp("", "orderkeep-rabbitmq-") // of this process, not of the first test
	if err != nil {
		t.Fatal(err)
	}
	port = porttest.Port(t)
	names := strconv.Itoa(porttest.Port(t))
	env := append(os.Environ(), "HOME="+dir, "ERL_EPMD_PORT="+names, "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_NODENAME=test@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT="+strconv.Itoa(port),
		"ERL_CRASH_DUMP="+filepath.Join(dir, "crash"), "RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "mnesia"),
		"RABBITMQ_LOG_BASE="+filepath.Join(dir, "log"), "RABBITMQ_LOGS=-", "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE="+filepath.Join(dir, "none"), "RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "plugins"),
		"RABBITMQ_ALLOW_INPUT=1") // with it the script becomes the server instead of waiting for it
	// The shell waits for the end of its input, which comes when this process ends, however that ends.
	watched := func(command, after string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", "trap '' INT TERM HUP PIPE; "+command+` </dev/null & echo "started $!"
			read -r how; if [ "$how" = stop ]; then kill $!; else kill -9 $!; fi; wait; `+after)
		cmd.Env = env
		return cmd
	}
	Spawn(t, watched(epmd+" -port "+names, "rm -rf '"+dir+"'"), "started")
	return port, func(t testing.TB) *Process {
		t.Helper()
		for range 5 { // somebody else may be faster to take a port
			cmd := watched(program+" -noinput", "")
			cmd.Env = append(cmd.Env, "RABBITMQ_DIST_PORT="+strconv.Itoa(porttest.Port(t)))
			p, ok := try(t, cmd, "Server startup complete", "Kernel pid terminated")
			if ok {
				return p
			}
			p.Kill()
			t.Logf("RabbitMQ did not start:\n%s", p.said.String())
		}
		t.Fatal("RabbitMQ does not start")
		return nil
	}
}

// find returns the path of a program. Debian's rabbitmq-server on PATH changes the user first; the server itself lies
// elsewhere.
func find(t testing.TB, name string) string {
	t.Helper()
	if debian := "/usr/lib/rabbitmq/bin/" + name; exists(debian) {
		return debian
	}
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed (Debian's package is rabbitmq-server)", name)
	}
	t.Skipf("%s is not installed (Debian's package is rabbitmq-server)", name)
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
