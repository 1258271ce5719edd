package broker_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/natsd"
	"github.com/twmb/franz-go/pkg/kfake"
)

// A test's program plays other parts when this is set: a broker, or a consumer to be killed.
const part = "ORDERKEEP_TEST_PART"

func TestMain(m *testing.M) {
	parts := map[string]func(args []string) error{"nats": playNATS, "kafka": playKafka, "consumer": playConsumer}
	if name, args, _ := strings.Cut(os.Getenv(part), " "); name != "" {
		if err := parts[name](strings.Fields(args)); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	stopRabbit()
	os.Exit(code)
}

// orphaned ends with the process that started this one, so that nothing is left running whatever becomes of the tests.
func orphaned() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}

func playNATS(args []string) error {
	return natsd.Run(orphaned(), args[0], args[1], slog.New(slog.DiscardHandler), func(string) { fmt.Println("ready") })
}

func playKafka(args []string) error {
	port, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	c, err := kfake.NewCluster(kfake.Ports(port), kfake.DataDir(args[0]), kfake.SyncWrites(), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-orphaned().Done()
	c.Close()
	return nil
}

// process is one that tests start and kill. What it writes is its output.
type process struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	watched bool // by a shell, which ends it when its input does
	mu      sync.Mutex
	said    strings.Builder
	more    *sync.Cond
	ended   bool
}

// spawn starts a process and waits until its output holds the word.
func spawn(t testing.TB, cmd *exec.Cmd, word string) *process {
	t.Helper()
	p := &process{cmd: cmd, watched: cmd.Args[0] == "sh"}
	p.more = sync.NewCond(&p.mu)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin, cmd.Stdout = stdin, p
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // it is killed, mostly
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended = true
		p.more.Broadcast()
	}()
	if !p.says(word) {
		t.Fatalf("%s ended before it said %q:\n%s", cmd.Path, word, p.said.String())
	}
	return p
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.more.Broadcast()
	return p.said.Write(b)
}

// says waits until the output holds the word; it is false if the process ends without it.
func (p *process) says(word string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !strings.Contains(p.said.String(), word) {
		if p.ended {
			return false
		}
		p.more.Wait()
	}
	return true
}

// kill ends the process as a power cut does.
func (p *process) kill() {
	if p.watched {
		_ = p.stdin.Close()
	} else {
		_ = p.cmd.Process.Kill()
	}
	p.wait()
}

// stop lets the process end in order.
func (p *process) stop() {
	if p.watched {
		_, _ = io.WriteString(p.stdin, "stop\n")
	} else {
		_ = p.stdin.Close()
	}
	p.wait()
}

func (p *process) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.ended {
		p.more.Wait()
	}
}

func self(playing string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), part+"="+playing)
	cmd.Stderr = os.Stderr
	return cmd
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// server is a broker that tests can kill and start again on the same data.
type server struct {
	url     string
	process *process
	again   func(testing.TB) *process
}

func (s *server) start(t testing.TB) {
	t.Helper()
	s.process = s.again(t)
}

func (s *server) kill() {
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

func (s *server) stop() {
	s.process.stop()
	s.process = nil
}

// own makes a server that no other test uses. It is not started.
func own(t testing.TB, kind string) *server {
	t.Helper()
	if kind == "amqp" {
		return ownRabbit(t)
	}
	dir, port := t.TempDir(), freePort(t)
	s := &server{url: fmt.Sprintf("%s://127.0.0.1:%d", kind, port)}
	s.again = func(t testing.TB) *process {
		arg := strconv.Itoa(port)
		if kind == "nats" {
			arg = "127.0.0.1:" + arg
		}
		return spawn(t, self(fmt.Sprintf("%s %s %s", kind, dir, arg)), "ready")
	}
	t.Cleanup(s.kill)
	return s
}

// running returns the URL of a running broker where nothing is yet under the prefix in it.
func running(t testing.TB, kind string) string {
	t.Helper()
	if kind == "amqp" {
		rabbit.using.RLock() // a test that restarts it waits
		t.Cleanup(rabbit.using.RUnlock)
		return prefixed(t, sharedRabbit(t).url)
	}
	s := own(t, kind)
	s.start(t)
	return s.url
}

// prefixed gives a test names of its own at a shared broker.
func prefixed(t testing.TB, url string) string {
	rabbit.mu.Lock()
	defer rabbit.mu.Unlock()
	rabbit.prefixes++
	return fmt.Sprintf("%s/?prefix=test%d", url, rabbit.prefixes)
}

// rabbit is the one RabbitMQ of this process: it takes seconds and two cores to start.
var rabbit struct {
	using    sync.RWMutex // read by those who use it, written by those who restart it
	mu       sync.Mutex
	prefixes int
	server   *server
	names    *process // epmd, where Erlang nodes find each other
	dir      string
}

func stopRabbit() {
	if rabbit.server != nil {
		rabbit.server.kill()
		rabbit.names.kill()
		_ = os.RemoveAll(rabbit.dir)
	}
}

// ownRabbit is the shared server while nobody else uses it.
func ownRabbit(t testing.TB) *server {
	rabbit.using.Lock()
	t.Cleanup(rabbit.using.Unlock)
	s := *sharedRabbit(t)
	s.url = prefixed(t, s.url)
	rabbit.server.kill()
	s.process = nil
	s.again = func(t testing.TB) *process {
		rabbit.server.start(t)
		return rabbit.server.process
	}
	t.Cleanup(func() {
		if rabbit.server.process == nil || s.process == nil {
			rabbit.server.start(t)
		}
	})
	return &s
}

func sharedRabbit(t testing.TB) *server {
	t.Helper()
	rabbit.mu.Lock()
	defer rabbit.mu.Unlock()
	if rabbit.server != nil {
		return rabbit.server
	}
	program := rabbitProgram(t)
	epmd, err := exec.LookPath("epmd")
	if err != nil {
		missing(t, "epmd")
	}
	dir, err := os.MkdirTemp("", "orderkeep-rabbitmq-") // of the process, not of the first test
	if err != nil {
		t.Fatal(err)
	}
	port, names := freePort(t), strconv.Itoa(freePort(t))
	env := append(os.Environ(), "HOME="+dir, "ERL_EPMD_PORT="+names, "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_NODENAME=test@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT="+strconv.Itoa(port),
		"RABBITMQ_DIST_PORT="+strconv.Itoa(freePort(t)), "RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "mnesia"),
		"RABBITMQ_LOG_BASE="+filepath.Join(dir, "log"), "RABBITMQ_LOGS=-", "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE="+filepath.Join(dir, "none"), "RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "plugins"),
		"RABBITMQ_ALLOW_INPUT=1") // with it the script becomes the server instead of waiting for it
	// A shell ends what it started when its input does, which happens too when this process is killed.
	watched := func(command string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", command+` </dev/null & echo "started $!"; read how; if [ "$how" = stop ]; then kill $!; else kill -9 $!; fi; wait`)
		cmd.Env = env
		return cmd
	}
	rabbit.dir = dir
	rabbit.names = spawn(t, watched(epmd+" -port "+names), "started")
	rabbit.server = &server{url: fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d", port), again: func(t testing.TB) *process {
		return spawn(t, watched(program+" -noinput"), "Server startup complete")
	}}
	rabbit.server.start(t)
	return rabbit.server
}

// rabbitProgram finds the server itself. Debian's script on PATH changes the user first.
func rabbitProgram(t testing.TB) string {
	t.Helper()
	if debian := "/usr/lib/rabbitmq/bin/rabbitmq-server"; exists(debian) {
		return debian
	}
	program, err := exec.LookPath("rabbitmq-server")
	if err != nil {
		missing(t, "rabbitmq-server")
	}
	return program
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func missing(t testing.TB, program string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
}
