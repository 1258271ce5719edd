package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
)

// program is the path of the real thing, built once for all tests; the programs of one context lie beside it.
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
	if err := stage.Compile("../..", dir, "./cmd/..."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
