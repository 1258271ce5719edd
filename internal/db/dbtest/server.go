package dbtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// server is a PostgreSQL server that listens on a Unix socket in its directory and nowhere else.
type server struct {
	dir, password string
	stdin         io.WriteCloser // kept so that nobody closes it before this process ends
	out           *bufio.Reader
}

var errMissing = errors.New("there is no PostgreSQL: install it (Debian's package is postgresql), or put its initdb on the PATH")

var start = sync.OnceValues(startServer)

func theServer(t testing.TB) *server {
	t.Helper()
	return started(t, start)
}

func started(t testing.TB, start func() (*server, error)) *server {
	t.Helper()
	s, err := start()
	if errors.Is(err, errMissing) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// script makes, starts and holds a server, and does with it what its standard input says, until that ends, which comes when the
// test process ends, however that ends; no signal that the process's group gets along with it ends it before it has
// cleaned up. The directory is $1, the programs are in $2.
const script = `
trap '' INT TERM HUP PIPE
cd "$1"
"$2/initdb" -D data -U postgres -A scram-sha-256 --pwfile=password -E UTF8 --no-locale --no-sync >log 2>&1 &&
printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$1'" "max_connections = 300" >>data/postgresql.conf &&
"$2/pg_ctl" -D data -l log -w -t 60 start >/dev/null 2>&1 &&
echo ready
while read -r how; do
	case $how in
	stop) "$2/pg_ctl" -D data -m immediate stop ;;
	start) "$2/pg_ctl" -D data -l log -w -t 60 start ;;
	esac >/dev/null 2>&1 && echo ready || echo failed
done
"$2/pg_ctl" -D data -m immediate stop >/dev/null 2>&1
cd / && rm -rf "$1"
`

// template is the database that others are copied from, shared the one that most tests have a schema in. Their texts sort by
// a language's rules, so that a schema which forgot to say that keys sort by bytes is found out.
const (
	template = "language"
	shared   = "tests"
)

func startServer() (*server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	// Not a test's directory: its path may be too long for a socket's, which ends at 107 bytes.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, password: uuid.NewString()}
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(s.password), 0o600); err != nil {
		return nil, err
	}
	command := []string{"sh", "-c", script, "sh", dir, bin}
	if os.Geteuid() == 0 { // whom the server refuses to run as
		if command, err = unprivileged(dir, command); err != nil {
			return nil, err
		}
	}
	c := exec.Command(command[0], command[1:]...)
	if s.stdin, err = c.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	s.out = bufio.NewReader(out)
	if err := s.ready(); err != nil {
		return nil, err
	}
	err = s.run("postgres", fmt.Sprintf(`CREATE DATABASE %s TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'`, template))
	if err != nil { // built without ICU, or before 15
		err = s.run("postgres", fmt.Sprintf(`CREATE DATABASE %s TEMPLATE template0`, template))
	}
	if err == nil {
		err = s.run("postgres", fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, shared, template))
	}
	return s, err
}

// ready waits until the script has done what it was told.
func (s *server) ready() error {
	line, err := s.out.ReadString('\n')
	if line == "ready\n" {
		return nil
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return fmt.Errorf("PostgreSQL did not start or stop: %w\n%s", err, log)
}

// binaries finds the directory of the server's programs: where the PATH has them, or the newest that Debian installed.
func binaries() (string, error) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		real, err := filepath.EvalSymlinks(initdb) // the others need not be linked
		return filepath.Dir(real), err
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errMissing
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

// unprivileged gives the directory to a user who is not root, and runs the command as that user.
func unprivileged(dir string, command []string) ([]string, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.Atoi(u.Uid)
		gid, gerr := strconv.Atoi(u.Gid)
		if err := errors.Join(uerr, gerr, os.Chown(dir, uid, gid), os.Chown(filepath.Join(dir, "password"), uid, gid)); err != nil {
			return nil, err
		}
		return append([]string{"runuser", "-u", name, "--"}, command...), nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no other user to run it as")
}
