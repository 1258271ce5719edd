package test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// program is the path of the real thing, built once for all tests as the images have it, static; the programs of one context lie
// beside it.
var program string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "orderkeep")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "orderkeep")
	if err := compile("..", dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// compile builds the programs of the module in source.
func compile(source, dir string, flags ...string) error {
	build := exec.Command("go", append(append([]string{"build", "-trimpath", "-o", dir}, flags...), "./cmd/...")...)
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// noteSources looks at what the programs are made of, in a test that runs one. By what a test has looked at, go test knows whether
// its last result still holds; what go build reads for TestMain does not count.
var noteSources = sync.OnceValue(func() error {
	for _, dir := range []string{"cmd", "internal", "orders", "inventory", "payments"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			return err
		}
	}
	_, err := os.Stat("../go.mod")
	return err
})
