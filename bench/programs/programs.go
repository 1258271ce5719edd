// Package programs builds and runs the programs that are measured. It promises that each is up when Start returns and gone when Stop has, and
// that none has the settings of whoever runs the benchmark. It knows how Orderkeep's programs say that they serve, and nothing else of them.
package programs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Build makes packages of this module as the images have them, static, in dir.
func Build(dir string, packages ...string) error {
	args := []string{"build", "-trimpath", "-o", dir + string(filepath.Separator)}
	for _, p := range packages {
		args = append(args, "github.com/orderkeep/orderkeep/"+p)
	}
	c := exec.Command("go", args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	return c.Run()
}

// Program is one under way.
type Program struct {
	URL  string // where it answers, as it says itself
	GRPC string
	// Stop lets it end, waits for that, and says how it did. Repeating it says the same.
	Stop func() error

	cmd *exec.Cmd
}

// Start runs a program of Orderkeep with settings besides its arguments, such as ORDERS_DB=..., and waits until it says that it serves.
func Start(settings []string, path string, args ...string) (*Program, error) {
	return run(settings, path, args, func(p *Program, log *bufio.Scanner) error {
		for log.Scan() {
			var line struct{ Level, Msg, Address, GRPC string }
			if json.Unmarshal(log.Bytes(), &line) != nil {
				continue
			}
			if line.Msg == "serving" || line.Msg == "the broker is serving" {
				p.URL, p.GRPC = line.Address, line.GRPC
				return nil
			}
			if line.Level == "ERROR" {
				return errors.New(log.Text())
			}
		}
		return errors.New("it does not serve: " + log.Text())
	})
}

// StartOther runs a program that does not say when it is up; whoever starts it asks.
func StartOther(path string, args ...string) (*Program, error) {
	return run(nil, path, args, func(*Program, *bufio.Scanner) error { return nil })
}

func run(settings []string, path string, args []string, until func(*Program, *bufio.Scanner) error) (*Program, error) {
	p := &Program{cmd: exec.Command(path, args...)}
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), ours), settings...)
	log, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.Stop = sync.OnceValue(func() error {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return p.cmd.Wait()
	})
	lines := bufio.NewScanner(log)
	if err := until(p, lines); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", filepath.Base(path), err), p.Stop())
	}
	go func() {
		for lines.Scan() { // so that it can go on
		}
	}()
	return p, nil
}

// ours reports whether an environment variable is a setting of Orderkeep.
func ours(entry string) bool {
	name, _, _ := strings.Cut(entry, "=")
	return strings.HasPrefix(name, "ORDERKEEP_") || strings.HasSuffix(name, "_DB") || strings.HasSuffix(name, "_URL")
}

// Resident is the memory of the program, in bytes; 0 where the system does not say.
func (p *Program) Resident() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// CPU is the time that the program has had of a CPU so far; 0 where the system does not say.
func (p *Program) CPU() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// The name, in brackets, may hold anything; after it come the state and numbers, of which the 12th and 13th are ticks in user and in kernel mode.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	kernel, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+kernel) * (time.Second / ticks)
}

// ticks a second are what Linux counts times of programs in, on every architecture that Go has.
const ticks = 100

// Output runs a program of Orderkeep to its end, and returns what it prints. Its error has that too.
func Output(ctx context.Context, settings []string, program string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, program, args...)
	c.Env = append(slices.DeleteFunc(os.Environ(), ours), settings...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return out, err
}

// Verify proves the promises on what a run has left, and returns the last line of what it says.
func Verify(settings []string, program, data string) (string, error) {
	out, err := Output(context.Background(), settings, program, "verify", "--data", data)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], err
}
