package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

func cpus() int { return runtime.NumCPU() }

// build makes the program as the images have it.
func build(dir string) (string, error) {
	path := filepath.Join(dir, "orderkeep")
	c := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/orderkeep/orderkeep/cmd/orderkeep")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	c.Stderr = os.Stderr
	return path, c.Run()
}

// server is the program under way.
type server struct {
	cmd  *exec.Cmd
	url  string
	stop func() error
}

func serve(program, data, policies string) (*server, error) {
	s := &server{cmd: exec.Command(program, "serve", "--data", data, "--listen", "127.0.0.1:0")}
	if policies != "" {
		s.cmd.Args = append(s.cmd.Args, "--call-policy", policies)
	}
	log, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.stop = sync.OnceValue(func() error {
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return s.cmd.Wait()
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			s.url = line.Address
			go func() {
				for lines.Scan() { // so that it can go on
				}
			}()
			return s, nil
		}
	}
	return nil, errors.Join(errors.New("the program does not serve"), s.stop())
}

// resident is the memory of the program, in bytes; 0 where the system does not say.
func (s *server) resident() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
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

// verify proves the promises on what the run has left.
func verify(program, data string) error {
	c := exec.Command(program, "verify", "--data", data)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}
