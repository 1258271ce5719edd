package stage

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Launch says how to start a program.
type Launch struct {
	Path string
	Args []string
	Env  []string // besides the test's own, from which all settings of Orderkeep are taken out
	Dir  string   // where to start it; a directory of its own if it is ""
}

// Command is the program, not started yet.
func (l Launch) Command(t testing.TB) *exec.Cmd {
	if err := noteSources(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(l.Path, l.Args...)
	if cmd.Dir = l.Dir; cmd.Dir == "" {
		cmd.Dir = t.TempDir() // where a forgotten --data would end up
	}
	cmd.Env = append(slices.DeleteFunc(os.Environ(), ours), l.Env...)
	return cmd
}

// ours reports whether an environment variable is a setting of Orderkeep, or of these tests.
func ours(entry string) bool {
	name, _, _ := strings.Cut(entry, "=")
	return strings.HasPrefix(name, "ORDERKEEP_") || strings.HasSuffix(name, "_DB") || strings.HasSuffix(name, "_URL")
}

// Process is a program under way. Its addresses are there once Serves has returned.
type Process struct {
	Cmd   *exec.Cmd
	Log   *Journal
	URL   string        // where it answers
	GRPC  string        // where it answers gRPC, if it does
	Ended chan struct{} // closed when it has
	err   error         // how it ended

	Expected bool // that it ends otherwise than by our asking: a test that makes it fail says so
	Quiet    bool // when a test fails, its log is not shown: the test keeps it elsewhere
}

// Start starts a program and waits until it says that it serves. It is stopped when the test ends.
func Start(t testing.TB, l Launch) *Process {
	t.Helper()
	p := Spawn(t, l)
	p.Serves(t)
	return p
}

// Serves waits until a process says that it does.
func (p *Process) Serves(t testing.TB) {
	t.Helper()
	select {
	case line := <-p.Log.Await("serving"):
		p.URL, p.GRPC = line.Address, line.GRPC
	case <-p.Ended:
		t.Fatalf("%s did not start: %v\n%s", p.Cmd, p.err, p.Log)
	case <-time.After(Patience):
		t.Fatalf("%s does not say that it serves:\n%s", p.Cmd, p.Log)
	}
}

// Spawn starts a program, which is stopped when the test ends, and does not wait until it serves.
func Spawn(t testing.TB, l Launch) *Process {
	t.Helper()
	cmd := l.Command(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{Cmd: cmd, Log: NewJournal(), Ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		t.Fatal(err)
	}
	go func() {
		p.Log.Read(r)
		r.Close()
		p.err = cmd.Wait()
		close(p.Ended)
	}()
	t.Cleanup(func() {
		if err := p.Stop(); err != nil && !p.Killed() && !p.Expected {
			t.Errorf("%s does not end well: %v\n%s", strings.Join(l.Args, " "), err, p.Log.Tail())
		}
		if t.Failed() && !p.Quiet {
			t.Logf("%s wrote:\n%s", strings.Join(l.Args, " "), p.Log.Tail())
		}
	})
	return p
}

// Stop asks the process to end, waits for it, and returns how it did. Repeating it returns the same.
func (p *Process) Stop() error {
	_ = p.Cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.Ended:
		return p.err
	case <-time.After(Patience):
		p.Kill()
		return errors.New("it did not end after SIGTERM and was killed")
	}
}

// Kill ends the process as a power cut does, for it: between two instructions.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // it may have ended
	<-p.Ended
}

// Gone reports whether the process has ended.
func (p *Process) Gone() bool {
	select {
	case <-p.Ended:
		return true
	default:
		return false
	}
}

// Killed reports whether the process was ended by kill.
func (p *Process) Killed() bool {
	if !p.Gone() {
		return false
	}
	status, ok := p.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Answers waits until the process accepts connections at addr, or has ended.
func (p *Process) Answers(addr string) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(Patience); ; {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return true
		}
		select {
		case <-p.Ended:
			return false
		case <-end:
			return false
		case <-tick.C:
		}
	}
}

// Run runs a program to its end.
func (l Launch) Run(t testing.TB, stdin string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := l.Command(t)
	var out, log bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &log
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}
