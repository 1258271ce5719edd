package test

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/porttest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// A developer's day, in a copy of the repository.
func TestMakeDevRunsTheServicesUntilItIsEnded(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"make", "sed", "stty"} {
		stage.Need(t, program)
	}
	d := newDev(t)
	d.build(t)

	s := d.start(t)
	s.stock(t, 5)
	a := s.place(t, "k", paid(visa, one))
	want(t, a, http.StatusCreated, "")
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/fulfil", nil), http.StatusOK, "")
	stage.Eventually(t, "Inventory and Payments hear of it, by the broker", func() bool {
		return s.get(t, "/v1/orders/"+a.OrderID).Settlement == "done"
	})

	d.edit(t, "cmd/inventory/main.go", "holds the stock", "holds all of the stock")
	stage.Eventually(t, "Inventory is built and started again", func() bool { return d.says("inventory", "serving") == 2 })
	d.ready(t)
	stage.Eventually(t, "Orders finds it again", func() bool { return s.place(t, "found again", paid(visa, one)).status == http.StatusCreated })
	for name, starts := range map[string]int{"orders": 1, "payments": 1, "broker": 1} {
		if n := d.says(name, "serving"); n != starts {
			t.Errorf("%s was started %d times: the change was not in it", name, n)
		}
	}
	d.edit(t, "cmd/payments/main.go", "os.Args", "so.Args")
	stage.Eventually(t, "a build fails and says why", func() bool { return d.says("build", "undefined: so") == 1 })
	want(t, s.place(t, "", paid(visa, one)), http.StatusCreated, "") // by the Payments that was there
	built := d.says("build", "ended with status 0")
	d.edit(t, "cmd/payments/main.go", "so.Args", "os.Args")
	// A build that begins while all of it ends would go on by itself, for as long as it takes.
	stage.Eventually(t, "it is built again", func() bool { return d.says("build", "ended with status 0") > built })

	// What a terminal does on Ctrl-C.
	d.ends(t, func() error { return syscall.Kill(-d.cmd.Process.Pid, syscall.SIGINT) })
	s.verify(t)

	s = d.start(t)
	s.hasAvailable(t, book, 2) // of five, one was fulfilled and two are reserved
	d.ends(t, func() error { return d.cmd.Process.Signal(syscall.SIGTERM) })
}

// dev is make dev in a copy of the repository, on ports of its own.
type dev struct {
	dir   string
	env   []string
	ports map[string]string // by name of the setting

	cmd   *exec.Cmd
	log   *stage.Journal
	ended chan struct{}
}

func newDev(t *testing.T) *dev {
	t.Helper()
	d := &dev{dir: t.TempDir(), ports: map[string]string{}}
	for _, path := range []string{"Makefile", "go.mod", "go.sum", "cmd", "console", "internal", "orders", "inventory", "payments", "tools"} {
		from, to := filepath.Join("..", path), filepath.Join(d.dir, path)
		info, err := os.Stat(from)
		if err == nil && info.IsDir() {
			err = os.CopyFS(to, os.DirFS(from))
		} else if err == nil {
			var text []byte
			if text, err = os.ReadFile(from); err == nil {
				err = os.WriteFile(to, text, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// As the program of these tests is built, so that there is little to compile.
	d.env = []string{"CGO_ENABLED=0", "GOFLAGS=-trimpath", "ORDERKEEP_LOG_FORMAT=text", "DEV_DATA="}
	settings := []string{"ORDERS_PORT", "ORDERS_GRPC_PORT", "INVENTORY_PORT", "INVENTORY_GRPC_PORT", "PAYMENTS_PORT", "PAYMENTS_GRPC_PORT", "BROKER_PORT"}
	for _, setting := range settings {
		d.ports[setting] = strconv.Itoa(porttest.Port(t))
		d.env = append(d.env, setting+"="+d.ports[setting])
	}
	return d
}

// build builds the programs once, however long that takes.
func (d *dev) build(t *testing.T) {
	t.Helper()
	if out, log, code := (stage.Launch{Path: "tools/dev", Args: []string{"build"}, Env: d.env, Dir: d.dir}).Run(t, ""); code != 0 || !strings.Contains(out, "status 0") {
		t.Fatalf("the build exits with %d:\n%s%s", code, out, log)
	}
}

// start starts make dev and waits until all of it is ready. It and all that it started end with the test.
func (d *dev) start(t *testing.T) *shop {
	t.Helper()
	d.cmd = stage.Launch{Path: "make", Args: []string{"dev"}, Env: d.env, Dir: d.dir}.Command(t)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a terminal's shell does
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stdout, d.cmd.Stderr = w, w
	err = d.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		t.Fatal(err)
	}
	d.log, d.ended = stage.NewJournal(), make(chan struct{})
	go func(cmd *exec.Cmd, log *stage.Journal, ended chan struct{}) {
		log.Read(r)
		r.Close()
		_ = cmd.Wait() // make calls an interruption a failure
		close(ended)
	}(d.cmd, d.log, d.ended)
	t.Cleanup(func() {
		_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) // the terminals of the services go with it, and they with those
		<-d.ended
		if t.Failed() {
			t.Logf("make dev wrote:\n%s", d.log.Tail())
		}
	})
	d.ready(t)
	s := newShop(t)
	s.data = filepath.Join(d.dir, "orderkeep-data", "dev")
	for _, name := range []string{"orders", "inventory", "payments"} {
		s.of[name] = []*service{{process: &stage.Process{URL: d.url(name)}}}
		if !strings.Contains(d.log.String(), d.url(name)) {
			t.Errorf("it does not say where %s is", name)
		}
	}
	return s
}

func (d *dev) url(name string) string {
	return "http://127.0.0.1:" + d.ports[strings.ToUpper(name)+"_PORT"]
}

// ready waits until the services and their broker are.
func (d *dev) ready(t *testing.T) {
	t.Helper()
	client := http.Client{Timeout: stage.Patience}
	defer client.CloseIdleConnections()
	for _, name := range []string{"orders", "inventory", "payments"} {
		stage.Eventually(t, name+" is ready", func() bool {
			res, err := client.Get(d.url(name) + "/readyz")
			if err != nil {
				return false
			}
			defer res.Body.Close()
			var c condition
			return json.NewDecoder(res.Body).Decode(&c) == nil && c.Status == "ready"
		})
	}
}

// says counts the lines under a name that have a text.
func (d *dev) says(name, text string) int {
	return len(regexp.MustCompile(`(?m)^`+name+` *\| .*`+regexp.QuoteMeta(text)).FindAllString(d.log.String(), -1))
}

func (d *dev) edit(t *testing.T, path, old, text string) {
	t.Helper()
	path = filepath.Join(d.dir, path)
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	is := strings.Replace(string(was), old, text, 1)
	if is == string(was) {
		t.Fatalf("%s does not have %q any more: edit another part of it here", path, old)
	}
	if err := os.WriteFile(path, []byte(is), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ends ends make dev and looks whether every service had its time, and nothing is left.
func (d *dev) ends(t *testing.T, end func() error) {
	t.Helper()
	if err := end(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.ended:
	case <-time.After(stage.Patience):
		t.Fatal("it does not end")
	}
	for _, name := range []string{"orders", "inventory", "payments"} {
		if d.says(name, "draining") == 0 {
			t.Errorf("%s did not drain", name)
		}
	}
	for _, name := range []string{"orders", "inventory", "payments", "broker"} {
		// The program's own last word. The shell's about its status comes after it, and on a busy machine too late for who passes it on.
		if d.says(name, "stopped") == 0 {
			t.Errorf("%s did not end well", name)
		}
		if n, m := d.says(name, "ended with status"), d.says(name, "ended with status 0"); n != m {
			t.Errorf("%s ended %d times, %d times well", name, n, m)
		}
	}
	for setting, port := range d.ports {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			t.Errorf("somebody still answers at %s", setting)
		}
	}
	for _, left := range d.left() {
		t.Errorf("it left %s behind", left)
	}
}

// left finds the processes that are at work in the copy, where the system shows them.
func (d *dev) left() []string {
	var all []string
	found, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range found {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, d.dir) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
			all = append(all, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return all
}
