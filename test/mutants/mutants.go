// Package mutants holds bugs that would break Orderkeep's promises, each as a small change of the source, and shows that the tests
// see them. A test that stays green on a mutant of what it is there for tests nothing.
//
// The changes are applied to copies that the compiler reads in place of the files (go's -overlay): the source itself is never
// touched. "make mutants" runs them all.
package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Mutant is one planted bug.
type Mutant struct {
	Name  string
	Wrong string // what happens in the world if it gets out
	Edits []Edit
	By    Catcher
}

// Edit replaces a text that occurs once in a file.
type Edit struct {
	File     string // from the root of the repository
	Old, New string
}

// Catcher is the test that sees a mutant.
type Catcher struct {
	Package string // as "./test/faults"
	Run     string // as -run takes it
	Seeds   int    // how many schedules of faults it may take to see it; 0 is a test that needs no luck
	Says    string // a part of what it says when it sees the mutant, so that failing for another reason does not count
}

func (c Catcher) saying(words string) Catcher {
	c.Says = words
	return c
}

// unit is a test that fails whenever the mutant is there.
func unit(pkg, run string) Catcher { return Catcher{Package: pkg, Run: run} }

// Overlay writes the changed files into dir, and returns the file that go's -overlay takes. root is the repository's.
func (m Mutant) Overlay(root, dir string) (string, error) {
	replace := map[string]string{}
	for _, e := range m.Edits {
		path, err := filepath.Abs(filepath.Join(root, e.File))
		if err != nil {
			return "", err
		}
		from := path
		if changed, ok := replace[path]; ok {
			from = changed
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(text), e.Old); n != 1 {
			return "", fmt.Errorf("mutant %q: %s has the text %d times, want once: change the mutant with the code that it breaks\n%s", m.Name, e.File, n, e.Old)
		}
		changed := filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if from != path {
			changed = from
		}
		if err := os.WriteFile(changed, []byte(strings.Replace(string(text), e.Old, e.New, 1)), 0o600); err != nil {
			return "", err
		}
		replace[path] = changed
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, overlay, 0o600)
}
