package program_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/program"
)

// asProgram makes this test's program a program of the suite, with the arguments that it was given.
const asProgram = "ORDERKEEP_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(program.Main("inventory", "Holds the stock.", defaults, os.Args[1:], os.Stdout, os.Stderr, inventory()))
	}
	os.Exit(m.Run())
}

var defaults = program.Defaults{Listen: "127.0.0.1:3001", GRPCListen: "127.0.0.1:3101"}

func inventory() node.Context {
	return node.Context{Name: "inventory", Open: func(context.Context, node.Env) (*node.Service, error) {
		return &node.Service{
			Ready: func(context.Context) error { return nil },
			Close: func(context.Context) error { return nil },
		}, nil
	}}
}

type result struct {
	code        int
	out, errout string
}

func run(args ...string) result {
	var out, errout bytes.Buffer
	code := program.Main("inventory", "Holds the stock.", defaults, args, &out, &errout, inventory())
	return result{code, out.String(), errout.String()}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if r := run(args...); r.code != 0 || !strings.HasPrefix(r.out, "inventory ") || !strings.Contains(r.out, "go1.") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	var b node.Build
	if r := run("version", "--json"); r.code != 0 || json.Unmarshal([]byte(r.out), &b) != nil || b.Go == "" {
		t.Errorf("%+v", r)
	}
}

func TestHelpShowsThisProgramsDefaults(t *testing.T) {
	t.Parallel()
	r := run("serve", "--help")
	for _, want := range []string{`--listen="127.0.0.1:3001"`, `--grpc-listen="127.0.0.1:3101"`, "--data", "ORDERKEEP_GRPC_LISTEN", "INVENTORY_DB"} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("help does not say %s:\n%s", want, r.out)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	r := run("config", "--inventory-db", "sqlite:/elsewhere.db", "--payments-url", "http://me:secret@money:3002")
	for _, want := range []string{`listen +127.0.0.1:3001 +default +ORDERKEEP_LISTEN`, `inventory-db +sqlite:/elsewhere.db +flag +INVENTORY_DB`, `payments-url +http://me:xxxxx@money:3002 +flag`} {
		if r.code != 0 || !regexp.MustCompile(want).MatchString(r.out) {
			t.Errorf("no line like %s: %+v", want, r)
		}
	}
	t.Run("a call policy is a flag that repeats", func(t *testing.T) {
		r := run("config", "--call-policy", "inventory/Reserve timeout=3s", "--call-policy", "inventory/Check timeout=1s attempts=1")
		if r.code != 0 || !regexp.MustCompile(`call-policy +inventory/Reserve timeout=3s,inventory/Check timeout=1s attempts=1 +flag +ORDERKEEP_CALL_POLICY`).MatchString(r.out) {
			t.Errorf("%+v", r)
		}
		if r := run("config", "--call-policy", "inventory/Reserve timeout=3s", "--call-policy", "inventory/POST /reserve attempts=2"); r.code != 1 || !strings.Contains(r.errout, "--call-policy: inventory/POST /reserve: attempts=2") {
			t.Errorf("%+v", r)
		}
	})
	if r := run("config", "--listen", "3001"); r.code != 1 || !strings.Contains(r.errout, "serve would not start") || !strings.Contains(r.errout, "--listen") {
		t.Errorf("%+v", r)
	}
}

func TestRefusesACommandLineThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--colour"}, {"sell"}, {"serve", "--log-level", "loud"}} {
		if r := run(args...); r.code != 2 || !strings.Contains(r.errout, "inventory --help") || r.out != "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := run("--listen", "nowhere", "--data", t.TempDir()); r.code != 1 || !strings.Contains(r.errout, "--listen") {
		t.Errorf("a setting that cannot work: %+v", r)
	}
}

// serving runs a program of the suite as a process, and returns its addresses.
func serving(t *testing.T) (addr, grpc string, stop func() error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0") //nolint:gosec // this test's own program
	cmd.Env = append(os.Environ(), asProgram+"=1", "INVENTORY_URL=http://inventory:3001")                                                 // which is itself
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := json.NewDecoder(stderr) // no terminal, so JSON
	for addr == "" {
		var line struct{ Msg, Address, GRPC string }
		if err := log.Decode(&line); err != nil {
			t.Fatalf("the program ended before it served: %v", err)
		}
		if line.Msg == "serving" {
			addr, grpc = strings.TrimPrefix(line.Address, "http://"), line.GRPC
		}
	}
	return addr, grpc, func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		for { // what it still says, so that it can end
			var line json.RawMessage
			if log.Decode(&line) != nil {
				return cmd.Wait()
			}
		}
	}
}

func TestServesWithoutACommand(t *testing.T) {
	t.Parallel()
	addr, grpc, stop := serving(t)
	if r := run("health", "--listen", addr); r.code != 0 || r.out != "ready\n" {
		t.Errorf("health: %+v", r)
	}
	c, err := net.Dial("tcp", grpc)
	if err != nil {
		t.Errorf("gRPC: %v", err)
	} else {
		c.Close()
	}
	if err := stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if r := run("health", "--listen", addr); r.code != 1 || !strings.Contains(r.errout, "nobody answers at http://"+addr) {
		t.Errorf("health of none: %+v", r)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	answer := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				t.Errorf("asks %s", r.URL.Path)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	for name, c := range map[string]struct {
		listen string
		want   result
	}{
		"ready":                {answer(200, `{"status":"ready"}`), result{0, "ready\n", ""}},
		"not ready, with why":  {answer(503, `{"status":"not_ready","notReady":{"inventory":"The file is gone."}}`), result{1, "not_ready\n", "inventory: The file is gone.\n"}},
		"degraded":             {answer(200, `{"status":"degraded","away":{"broker":"It is away."}}`), result{0, "degraded\n", "broker: It is away.\n"}},
		"draining":             {answer(503, `{"status":"draining"}`), result{1, "draining\n", ""}},
		"another program":      {answer(200, `<html>`), result{1, "", "is answered by another program"}},
		"an address not right": {"nowhere:x:y", result{1, "", "--listen"}},
	} {
		r := run("health", "--listen", c.listen)
		if r.code != c.want.code || r.out != c.want.out || !strings.Contains(r.errout, c.want.errout) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	_, port, err := net.SplitHostPort(answer(200, `{"status":"ready"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, everywhere := range []string{":", "0.0.0.0:", "[::]:"} {
		if r := run("health", "--listen", everywhere+port); r.code != 0 {
			t.Errorf("a program that listens on %sPORT: %+v", everywhere, r)
		}
	}
	hangs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	if r := run("health", "--listen", hangs.Addr().String(), "--timeout", "20ms"); r.code != 1 || !strings.Contains(r.errout, "within 20ms") {
		t.Errorf("a program that hangs: %+v", r)
	}
}

func TestCallPolicyFromTheEnvironment(t *testing.T) {
	t.Setenv("ORDERKEEP_CALL_POLICY", "inventory/Reserve timeout=3s,inventory/POST /reserve attempts=2,inventory/Check timeout=nine")
	r := run("config")
	for _, want := range []string{"--call-policy: inventory/POST /reserve: attempts=2", "--call-policy: inventory/Check: timeout=nine"} {
		if r.code != 1 || !strings.Contains(r.errout, want) {
			t.Errorf("no %q: %+v", want, r)
		}
	}
	if strings.Contains(r.errout, "inventory/Reserve:") {
		t.Errorf("%+v", r)
	}
}
