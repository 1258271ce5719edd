package broker_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/broker/brokertest"
	"github.com/orderkeep/orderkeep/internal/natsd"
	"github.com/orderkeep/orderkeep/internal/porttest"
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
	os.Exit(m.Run())
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

func self(playing string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), part+"="+playing)
	cmd.Stderr = os.Stderr
	return cmd
}

// server is a broker that tests can stop, kill and start again on the same data.
type server struct {
	url        string
	start      func(testing.TB)
	stop, kill func()
}

// own makes a server that no other test uses. It is not running.
func own(t testing.TB, kind string) *server {
	t.Helper()
	if kind == "amqp" {
		s := brokertest.OwnRabbitMQ(t)
		return &server{s.URL, s.Start, s.Stop, s.Kill}
	}
	dir, port := t.TempDir(), porttest.Port(t)
	listen := strconv.Itoa(port)
	if kind == "nats" {
		listen = "127.0.0.1:" + listen
	}
	var p *brokertest.Process
	s := &server{
		url:   fmt.Sprintf("%s://127.0.0.1:%d", kind, port),
		start: func(t testing.TB) { p = brokertest.Spawn(t, self(fmt.Sprintf("%s %s %s", kind, dir, listen)), "ready") },
		stop:  func() { p.Stop() },
		kill:  func() { p.Kill() },
	}
	t.Cleanup(func() {
		if p != nil {
			p.Kill()
		}
	})
	return s
}

// running returns the URL of a running broker where nothing is yet under the prefix in it.
func running(t testing.TB, kind string) string {
	t.Helper()
	if kind == "amqp" {
		return brokertest.RabbitMQ(t)
	}
	s := own(t, kind)
	s.start(t)
	return s.url
}
