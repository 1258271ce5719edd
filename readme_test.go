package orderkeep_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// example is one command of the README with the output shown under it.
type example struct {
	command string
	output  string
}

var console = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")

// examples reads the commands of a document's console blocks. A line that begins with "$ " is a command; it goes on
// while a quote is open or the line ends in a backslash. What follows is output.
func examples(text string) []example {
	var all []example
	for _, block := range console.FindAllStringSubmatch(text, -1) {
		open := false
		for line := range strings.Lines(block[1]) {
			command, isCommand := strings.CutPrefix(line, "$ ")
			switch {
			case open:
				all[len(all)-1].command += line
			case isCommand:
				all = append(all, example{command: command})
			default:
				all[len(all)-1].output += line
			}
			if open || isCommand {
				last := all[len(all)-1].command
				open = strings.Count(last, "'")%2 == 1 || strings.HasSuffix(last, "\\\n")
			}
		}
	}
	return all
}

// TestReadmeTellsTheTruth runs every command of the README in order, against one server, and compares what is shown
// with what comes.
func TestReadmeTellsTheTruth(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the README's examples need curl, and CI has to run them")
		}
		t.Skip("the README's examples need curl")
	}
	shell := newTerminal(t)
	ran := 0
	for _, e := range examples(read(t, "README.md")) {
		command := strings.TrimSpace(e.command)
		switch {
		case command == "go test ./...":
			// It is what runs this test; TestCIRunsTheReadmesTests sees to it.
		case command == "go build -o orderkeep ./cmd/orderkeep":
			shell.build()
		case command == "./orderkeep serve":
			shell.serve()
		case command == "go run ./cmd/orderkeep demo":
			shell.demo()
		default:
			out := shell.run(command)
			if why := shell.differs(e.output, out); why != "" {
				t.Errorf("$ %s\n%s\ncame:\n%s", command, why, out)
			}
		}
		ran++
	}
	if ran < 15 {
		t.Errorf("found %d commands in the README: the test does not read it any more", ran)
	}
}

func TestCIRunsTheReadmesTests(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSpace(read(t, ".ci/run")), "\n")
	if last := lines[len(lines)-1]; last != "step go test ./..." {
		t.Errorf(".ci/run ends with %q: it has to end with the README's test command, so that both mean the same", last)
	}
	if !slices.ContainsFunc(examples(read(t, "README.md")), func(e example) bool { return strings.TrimSpace(e.command) == "go test ./..." }) {
		t.Error("the README does not say go test ./..., which CI runs")
	}
}

// terminal stands for the reader's: a directory with the repository in it, and a server.
type terminal struct {
	t       *testing.T
	dir     string
	program string
	url     string
	ids     map[string]string // ids as the README shows them -> as they are here
}

func newTerminal(t *testing.T) *terminal {
	s := &terminal{t: t, dir: t.TempDir(), ids: map[string]string{}}
	s.program = filepath.Join(s.dir, "orderkeep")
	s.build() // the demo comes before the README builds it
	return s
}

// build makes the program with the README's command, in a directory that is not the repository.
func (s *terminal) build() {
	s.t.Helper()
	if out, err := exec.Command("go", "build", "-o", s.program, "./cmd/orderkeep").CombinedOutput(); err != nil {
		s.t.Fatalf("go build: %v\n%s", err, out)
	}
}

var address = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// serve starts the server as the README says, but on a free port.
func (s *terminal) serve() {
	s.t.Helper()
	s.url = address.FindString(s.start(address, "serve"))
	if s.url == "" {
		s.t.Fatal("serve logs no address")
	}
}

// demo starts the demo as the README says, but on a free port, and waits until it has shown what to try next.
func (s *terminal) demo() {
	s.t.Helper()
	s.start(regexp.MustCompile(`(?i)try next`), "demo")
}

// start runs the program in the background until the test ends and returns what it wrote up to the first match.
func (s *terminal) start(until *regexp.Regexp, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(s.program, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "ORDERKEEP_LISTEN=127.0.0.1:0")
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		w.Close()
		exited <- err
	}()
	s.t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			cmd.Process.Kill() // Windows cannot interrupt
		}
		if err := <-exited; err != nil {
			s.t.Errorf("orderkeep %s does not end well when it is interrupted: %v", strings.Join(args, " "), err)
		}
	})
	return s.waitFor(r, until)
}

// waitFor reads lines until one matches, and goes on reading so that the writer never blocks.
func (s *terminal) waitFor(r io.Reader, until *regexp.Regexp) string {
	s.t.Helper()
	var mu sync.Mutex
	var text strings.Builder
	found := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(r)
		for seen := false; lines.Scan(); {
			mu.Lock()
			fmt.Fprintln(&text, lines.Text())
			mu.Unlock()
			if !seen && until.MatchString(lines.Text()) {
				seen = true
				found <- true
			}
		}
		found <- false
	}()
	var ok bool
	select {
	case ok = <-found:
	case <-time.After(2 * time.Minute): // a bound against hanging for ever, not an expectation
	}
	mu.Lock()
	defer mu.Unlock()
	if !ok {
		s.t.Fatalf("no %q in:\n%s", until, text.String())
	}
	return text.String()
}

// run runs a command as it stands, with the server's real address and the ids that it gave.
func (s *terminal) run(command string) string {
	s.t.Helper()
	command = strings.ReplaceAll(command, "http://127.0.0.1:3000", s.url)
	for shown, real := range s.ids {
		command = strings.ReplaceAll(command, shown, real)
	}
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "ORDERKEEP_URL="+s.url)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		s.t.Errorf("$ %s\n%v\n%s%s", command, err, out, stderr.String())
	} else if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// differs says in what the output contradicts what is shown, or "". JSON that is shown may have fewer fields; of other
// text the lines shown must come, or begin like lines that come, in this order. An id that is shown in JSON for the
// first time stands for the one that came.
func (s *terminal) differs(shown, came string) string {
	shown = strings.TrimSpace(shown)
	if shown == "" {
		return ""
	}
	var want, got any
	if json.Unmarshal([]byte(shown), &want) == nil {
		if err := json.Unmarshal([]byte(came), &got); err != nil {
			return "JSON is shown, and other text came"
		}
		return s.lacks("", want, got)
	}
	rest := "\n" + words(came)
	for line := range strings.Lines(words(shown)) {
		_, after, ok := strings.Cut(rest, "\n"+strings.TrimSpace(line))
		if !ok {
			return "the line " + strconv.Quote(strings.TrimSpace(line)) + " is shown and did not come"
		}
		rest = after
	}
	return ""
}

var instant = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z`)

// words gives text with its lines trimmed and one space between words, because how wide a column is depends on what is in
// it, and without the times of day.
func words(text string) string {
	var b strings.Builder
	for line := range strings.Lines(instant.ReplaceAllString(text, "TIME")) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

// lacks says what of want is not in got.
func (s *terminal) lacks(path string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is shown as an object, and is %v", path, got)
		}
		for k, v := range w {
			if _, ok := g[k]; !ok {
				return path + "." + k + " is shown and did not come"
			}
			if why := s.lacks(path+"."+k, v, g[k]); why != "" {
				return why
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s is shown with %d elements, and is %v", path, len(w), got)
		}
		for i := range w {
			if why := s.lacks(fmt.Sprintf("%s[%d]", path, i), w[i], g[i]); why != "" {
				return why
			}
		}
		return ""
	case string:
		g, ok := got.(string)
		if uuid.MatchString(w) && ok && uuid.MatchString(g) {
			if known, ok := s.ids[w]; !ok {
				s.ids[w] = g
			} else if known != g {
				return fmt.Sprintf("%s is the id %s, and the README shows another order's", path, g)
			}
			return ""
		}
	}
	if want != got {
		return fmt.Sprintf("%s is shown as %v, and is %v", path, want, got)
	}
	return ""
}

func TestExamplesAreComparedWithWhatComes(t *testing.T) {
	t.Parallel()
	const id, other = "0198d0c5-7c11-7b4e-9d3a-3f1f6f0c2a55", "01990000-0000-7000-8000-000000000001"
	s := &terminal{t: t, ids: map[string]string{}}
	for _, c := range []struct {
		shown, came string
		same        bool
	}{
		{"", "anything", true},
		{`{"a":1}`, `{"a":1,"b":2}`, true},
		{`{"a":1}`, `{"a":2}`, false},
		{`{"a":1}`, `{"b":1}`, false},
		{`{"a":[1]}`, `{"a":[1,2]}`, false},
		{`{"a":1}`, `oops`, false},
		{`{"id":"` + id + `"}`, `{"id":"` + other + `"}`, true},
		{`{"id":"` + id + `"}`, `{"id":"` + id + `"}`, false}, // it stands for the other one by now
		{"one\nthree", "one\ntwo\nthree\n", true},
		{"three\none", "one\ntwo\nthree\n", false},
		{"a  b", "a b c\n", true},
		{"2026-03-02T09:15:04Z a", "2027-01-01T00:00:00Z  a\n", true},
		{"b", "a b\n", false},
	} {
		if why := s.differs(c.shown, c.came); (why == "") != c.same {
			t.Errorf("shown %q, came %q: %q", c.shown, c.came, why)
		}
	}
	got := examples("text\n```console\n$ a 'b\n  c'\nout\n$ d\n```\n```sh\n$ e\n```\n")
	want := []example{{"a 'b\n  c'\n", "out\n"}, {"d\n", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("examples: got %q, want %q", got, want)
	}
}
