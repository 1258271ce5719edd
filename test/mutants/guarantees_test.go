package mutants_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/test/mutants"
)

var (
	testName   = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	mutantName = regexp.MustCompile(`mutants? ((?:\*[a-z ]+\*(?:, )?)+)`)
)

// What docs/guarantees.md leans on is there: each test that it names, and each mutant; and it leaves out no mutant.
func TestGuaranteesNameTheirProofs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs/guarantees.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	tests := map[string]bool{}
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllSubmatch(source, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range testName.FindAllStringSubmatch(page, -1) {
		if !tests[m[1]] {
			t.Errorf("docs/guarantees.md names %s, and there is no such test", m[1])
		}
	}
	named := map[string]bool{}
	for _, m := range mutantName.FindAllStringSubmatch(page, -1) {
		for name := range strings.SplitSeq(strings.Trim(m[1], "*, "), "*, *") {
			named[name] = true
		}
	}
	for _, m := range mutants.All {
		if !named[m.Name] {
			t.Errorf("docs/guarantees.md does not say which promise the mutant %q breaks", m.Name)
		}
		delete(named, m.Name)
	}
	for name := range named {
		t.Errorf("docs/guarantees.md names the mutant %q, and there is none", name)
	}
}

var testFunc = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
