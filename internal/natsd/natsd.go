// Package natsd runs a NATS server with JetStream inside this program, so that a shop can split its contexts into
// processes without installing a broker.
//
// It promises that what it has acknowledged is on disk: every write is synced before its acknowledgement. It refuses a
// directory that another server uses. It has no TLS and no authentication, and is one server, not a cluster: who needs
// those runs nats-server itself.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout is how long the server may take to read its store: a minute is many gigabytes.
const startTimeout = time.Minute

// Run serves on listen, HOST:PORT, with its data below dir, until ctx ends. Port 0 takes a free one. ready, if not nil,
// is called with the server's URL once it answers. Errors say what to do.
func Run(ctx context.Context, dir, listen string, log *slog.Logger, ready func(url string)) error {
	host, port, err := hostPort(listen)
	if err != nil {
		return err
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "orderkeep", Host: host, Port: port, NoSigs: true, DontListen: false,
		JetStream: true, StoreDir: dir, SyncAlways: true,
	})
	if err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	notes := &notes{log: log, failed: make(chan error, 1)}
	s.SetLoggerV2(notes, false, false, false)
	go s.Start()
	if err := await(ctx, s, notes); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("start the broker on %s with its data in %s: %w; name others with --listen and --data", listen, dir, err)
	}
	url := "nats://" + s.Addr().String()
	if t, ok := s.Addr().(*net.TCPAddr); ok && !t.IP.IsLoopback() {
		log.Warn("this address can be reached from other machines, and there is no TLS and no authentication here; keep it inside a private network", "address", url)
	}
	log.Info("the broker is serving", "address", url, "data", dir)
	if ready != nil {
		ready(url)
	}
	select {
	case <-ctx.Done():
		err = nil
	case err = <-notes.failed:
		err = fmt.Errorf("the broker stopped: %w", err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	if err == nil {
		log.Info("stopped")
	}
	return err
}

func hostPort(listen string) (string, int, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("--listen: %q is not HOST:PORT, such as 127.0.0.1:4222", listen)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return "", 0, fmt.Errorf("--listen: %q has no port between 0 and 65535", listen)
	}
	return host, n, nil
}

// lock keeps a second server out of the directory; the lock ends with the process.
func lock(dir string) (func(), error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the broker: %w; name one that can be written with --data", err)
	}
	l := flock.New(filepath.Join(dir, "broker.lock"), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w; name a directory that can be written with --data", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("the directory %s is in use by another broker; stop that one, or name another directory with --data", dir)
	}
	return func() { _ = l.Unlock() }, nil
}

// await returns when the server answers, or has failed.
func await(ctx context.Context, s *server.Server, n *notes) error {
	serving := make(chan bool, 1)
	go func() { serving <- s.ReadyForConnections(startTimeout) }()
	select {
	case err := <-n.failed:
		return err
	case ok := <-serving:
		if !ok {
			return errors.New("it does not answer")
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// notes is the server's log: what it tells about its daily life is for whoever looks for a fault.
type notes struct {
	log    *slog.Logger
	failed chan error
}

func (n *notes) Noticef(format string, v ...any) { n.log.Debug(fmt.Sprintf(format, v...)) }
func (n *notes) Warnf(format string, v ...any)   { n.log.Warn(fmt.Sprintf(format, v...)) }
func (n *notes) Errorf(format string, v ...any)  { n.log.Error(fmt.Sprintf(format, v...)) }
func (n *notes) Debugf(string, ...any)           {}
func (n *notes) Tracef(string, ...any)           {}

// Fatalf is where the server by itself would end the process.
func (n *notes) Fatalf(format string, v ...any) {
	select {
	case n.failed <- fmt.Errorf(format, v...):
	default:
	}
}
