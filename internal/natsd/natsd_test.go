package natsd_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/orderkeep/orderkeep/internal/natsd"
)

// start runs a broker until the test ends or stop is called.
func start(t *testing.T, dir, listen string) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- natsd.Run(ctx, dir, listen, slog.New(slog.DiscardHandler), func(url string) { ready <- url })
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	select {
	case url = <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return url, stop
}

func startError(t *testing.T, dir, listen string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := natsd.Run(ctx, dir, listen, slog.New(slog.DiscardHandler), func(string) { cancel() })
	if err == nil {
		t.Fatal("the broker started")
	}
	return err.Error()
}

func TestBrokerKeepsItsStreamsOverARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for run := range 2 {
		url, stop := start(t, dir, "127.0.0.1:0")
		conn, err := nats.Connect(url)
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(conn)
		if err != nil {
			t.Fatal(err)
		}
		s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "s", nil); err != nil {
			t.Fatal(err)
		}
		info, err := s.Info(t.Context())
		if err != nil || info.State.Msgs != uint64(run)+1 {
			t.Errorf("%d messages in run %d, %v", info.State.Msgs, run, err)
		}
		conn.Close()
		if err := stop(); err != nil {
			t.Errorf("it does not end well: %v", err)
		}
	}
}

func TestBrokerSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, dir, "127.0.0.1:0")
	if got := startError(t, dir, "127.0.0.1:0"); !strings.Contains(got, "in use by another broker") {
		t.Errorf("a second broker on a directory: %s", got)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := startError(t, t.TempDir(), l.Addr().String()); !strings.Contains(got, "address already in use") || !strings.Contains(got, "--listen") {
		t.Errorf("a port in use: %s", got)
	}
	for _, listen := range []string{"", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536"} {
		if got := startError(t, t.TempDir(), listen); !strings.HasPrefix(got, "--listen: ") {
			t.Errorf("listen on %q: %s", listen, got)
		}
	}
	if got := startError(t, "/dev/null/x", "127.0.0.1:0"); !strings.Contains(got, "--data") {
		t.Errorf("a directory that cannot be made: %s", got)
	}
}

func TestBrokerWarnsThatOthersReachIt(t *testing.T) {
	t.Parallel()
	for listen, warns := range map[string]bool{"0.0.0.0:0": true, "127.0.0.1:0": false} {
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		if err := natsd.Run(ctx, t.TempDir(), listen, slog.New(slog.NewTextHandler(&log, nil)), func(string) { cancel() }); err != nil {
			t.Fatal(err)
		}
		cancel()
		if got := strings.Contains(log.String(), "reached from other machines"); got != warns {
			t.Errorf("%s: warns %v, want %v\n%s", listen, got, warns, log.String())
		}
	}
}
