package stage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// OverlayEnv names an overlay of go build for the programs, in which something is broken on purpose.
const OverlayEnv = "ORDERKEEP_LAB_OVERLAY"

// Compile builds programs of the module in source, such as "./cmd/...", into dir, static as the images have them.
func Compile(source, dir, programs string, flags ...string) error {
	if file := os.Getenv(OverlayEnv); file != "" {
		flags = append(flags, "-overlay", file)
	}
	build := exec.Command("go", append(append([]string{"build", "-trimpath", "-o", dir}, flags...), programs)...)
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// noteSources looks at what the programs are made of, in a test that runs one. By what a test has looked at, go test knows whether
// its last result still holds; what go build reads for TestMain does not count.
var noteSources = sync.OnceValue(func() error {
	root, err := Root()
	if err != nil {
		return err
	}
	for _, dir := range []string{"cmd", "internal", "orders", "inventory", "payments", "console", "test/collector"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			return err
		}
	}
	_, err = os.Stat(filepath.Join(root, "go.mod"))
	return err
})

// Root is the directory of the module, above the one that the test runs in.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the tests do not run within the module")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// ServeBroker starts "orderkeep broker", of the program at path, on a directory and returns its URL.
func ServeBroker(t testing.TB, path, data, listen string) (p *Process, url string) {
	t.Helper()
	p = Spawn(t, Launch{Path: path, Args: []string{"broker", "--data", data, "--listen", listen}})
	select {
	case line := <-p.Log.Await("the broker is serving"):
		return p, line.Address
	case <-p.Ended:
		t.Fatalf("the broker did not start: %v\n%s", p.err, p.Log)
	case <-time.After(Patience):
		t.Fatalf("the broker does not say that it serves:\n%s", p.Log)
	}
	return nil, ""
}
