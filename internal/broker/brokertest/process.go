package brokertest

import (
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// Process is one that tests start and kill. What it writes is its output.
type Process struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	watched bool // by a shell, which ends it when its input does
	mu      sync.Mutex
	said    strings.Builder
	more    *sync.Cond
	ended   bool
}

// Spawn starts a process and waits until its output holds the word.
func Spawn(t testing.TB, cmd *exec.Cmd, word string) *Process {
	t.Helper()
	p, ok := try(t, cmd, word, "")
	if !ok {
		t.Fatalf("%s ended before it said %q:\n%s", cmd.Path, word, p.said.String())
	}
	return p
}

// try is Spawn for a process that may fail. One that a shell watches over does not end by itself then, and says the other word.
func try(t testing.TB, cmd *exec.Cmd, word, failure string) (p *Process, ok bool) {
	t.Helper()
	p = &Process{cmd: cmd, watched: cmd.Args[0] == "sh"}
	p.more = sync.NewCond(&p.mu)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin, cmd.Stdout, cmd.Stderr = stdin, p, p
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
	return p, p.says(word, failure)
}

// Write takes the process's output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.more.Broadcast()
	return p.said.Write(b)
}

// says waits until the output holds the word; it is false if the process ends without it, or says that it has failed.
func (p *Process) says(word, failure string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !strings.Contains(p.said.String(), word) {
		if p.ended || failure != "" && strings.Contains(p.said.String(), failure) {
			return false
		}
		p.more.Wait()
	}
	return true
}

// Kill ends the process as a power cut does.
func (p *Process) Kill() {
	if p.watched {
		_ = p.stdin.Close()
	} else {
		_ = p.cmd.Process.Kill()
	}
	p.wait()
}

// Stop lets the process end in order: its input ends.
func (p *Process) Stop() {
	if p.watched {
		_, _ = io.WriteString(p.stdin, "stop\n")
	} else {
		_ = p.stdin.Close()
	}
	p.wait()
}

func (p *Process) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.ended {
		p.more.Wait()
	}
}
