package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds what a test waits for. It is no expectation: it only keeps a broken program from hanging the tests.
const patience = time.Minute

// launch says how to start a program.
type launch struct {
	path string
	args []string
	env  []string // besides the test's own, from which all settings of Orderkeep are taken out
	dir  string   // where to start it; a directory of its own if it is ""
}

func (l launch) command(t testing.TB) *exec.Cmd {
	if err := noteSources(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(l.path, l.args...)
	if cmd.Dir = l.dir; cmd.Dir == "" {
		cmd.Dir = t.TempDir() // where a forgotten --data would end up
	}
	cmd.Env = append(slices.DeleteFunc(os.Environ(), ours), l.env...)
	return cmd
}

// ours reports whether an environment variable is a setting of Orderkeep, or of these tests.
func ours(entry string) bool {
	name, _, _ := strings.Cut(entry, "=")
	return strings.HasPrefix(name, "ORDERKEEP_") || strings.HasSuffix(name, "_DB") || strings.HasSuffix(name, "_URL")
}

// process is a program under way.
type process struct {
	cmd   *exec.Cmd
	log   *journal
	url   string // where it answers
	grpc  string // where it answers gRPC, if it does
	ended chan struct{}
	err   error // how it ended

	expected bool // that it ended otherwise than by our asking
}

// start starts a program and waits until it says that it serves. It is stopped when the test ends.
func start(t testing.TB, l launch) *process {
	t.Helper()
	p := spawn(t, l)
	p.serves(t)
	return p
}

// serves waits until a process says that it does.
func (p *process) serves(t testing.TB) {
	t.Helper()
	select {
	case line := <-p.log.await("serving"):
		p.url, p.grpc = line.Address, line.GRPC
	case <-p.ended:
		t.Fatalf("%s did not start: %v\n%s", p.cmd, p.err, p.log)
	case <-time.After(patience):
		t.Fatalf("%s does not say that it serves:\n%s", p.cmd, p.log)
	}
}

// spawn starts a program that is stopped when the test ends.
func spawn(t testing.TB, l launch) *process {
	t.Helper()
	cmd := l.command(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, log: newJournal(), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		t.Fatal(err)
	}
	go func() {
		p.log.read(r)
		r.Close()
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		if err := p.stop(); err != nil && !p.killed() && !p.expected {
			t.Errorf("%s does not end well: %v\n%s", strings.Join(l.args, " "), err, p.log.tail())
		}
		if t.Failed() {
			t.Logf("%s wrote:\n%s", strings.Join(l.args, " "), p.log.tail())
		}
	})
	return p
}

// stop asks the process to end, waits for it, and returns how it did. Repeating it returns the same.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
		p.kill()
		return errors.New("it did not end after SIGTERM and was killed")
	}
}

// kill ends the process as a power cut does, for it: between two instructions.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// gone reports whether the process has ended.
func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// killed reports whether the process was ended by kill.
func (p *process) killed() bool {
	if !p.gone() {
		return false
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// run runs a program to its end.
func (l launch) run(t testing.TB, stdin string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := l.command(t)
	var out, log bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &log
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// entry is a line of the log as far as the tests read it.
type entry struct {
	Level, Msg, Address, GRPC string
}

// journal keeps what a process writes.
type journal struct {
	mu      sync.Mutex
	text    bytes.Buffer
	entries []entry
	waiting map[string][]chan entry // by message
}

func newJournal() *journal { return &journal{waiting: map[string][]chan entry{}} }

// read takes lines until the writer is gone.
func (j *journal) read(r io.Reader) {
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadBytes('\n')
		j.add(line)
		if err != nil {
			return
		}
	}
}

func (j *journal) add(line []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Write(line)
	var e entry
	if json.Unmarshal(line, &e) != nil {
		return // not of the log: a panic, say
	}
	j.entries = append(j.entries, e)
	for _, c := range j.waiting[e.Msg] {
		c <- e
	}
	delete(j.waiting, e.Msg)
}

// await returns the first line with the message, once it is there.
func (j *journal) await(msg string) <-chan entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := make(chan entry, 1)
	if i := slices.IndexFunc(j.entries, func(e entry) bool { return e.Msg == msg }); i >= 0 {
		c <- j.entries[i]
		return c
	}
	j.waiting[msg] = append(j.waiting[msg], c)
	return c
}

// errors returns how many lines tell of errors.
func (j *journal) errors() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.entries {
		if e.Level == "ERROR" {
			n++
		}
	}
	return n
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// tail is the end of it, for a reader of a failure.
func (j *journal) tail() string {
	const enough = 8 << 10
	s := j.String()
	if len(s) > enough {
		s = "...\n" + s[len(s)-enough:]
	}
	return s
}

// eventually asks until the answer is yes.
func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !yes(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
