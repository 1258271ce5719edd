package orderkeep_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// documents returns the Markdown files that are ours to keep true.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "bench/*.md", "deploy/*.md", "test/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence  = regexp.MustCompile("(?ms)^```.*?^```$")
	header = regexp.MustCompile(`(?m)^#+ +(.*)$`)
)

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, doc), ""), -1) {
			if why := deadLink(doc, m[1]); why != "" {
				t.Errorf("%s links to %s: %s", doc, m[1], why)
			}
		}
	}
}

// deadLink says what is wrong with a link in doc, or "". Links to other sites are not followed.
func deadLink(doc, target string) string {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return ""
	}
	path, anchor, _ := strings.Cut(target, "#")
	file := doc
	if path != "" {
		file = filepath.Join(filepath.Dir(doc), path)
	}
	info, err := os.Stat(file)
	if err != nil {
		return "there is no such file"
	}
	if anchor == "" {
		return ""
	}
	if info.IsDir() {
		return "a directory has no headings"
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	for _, m := range header.FindAllStringSubmatch(fence.ReplaceAllString(string(text), ""), -1) {
		if slug(m[1]) == anchor {
			return ""
		}
	}
	return "there is no such heading"
}

// slug is the anchor that GitHub gives a heading.
func slug(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

func TestDeadLinksAreFound(t *testing.T) {
	t.Parallel()
	for target, dead := range map[string]bool{
		"LICENSE":                       false,
		"docs/adr":                      false,
		"docs/adr/README.md#decisions":  false,
		"https://example.org/nowhere":   false,
		"docs/adr/9999-nothing.md":      true,
		"docs/adr/README.md#no-heading": true,
		"docs/adr#decisions":            true,
	} {
		if why := deadLink("README.md", target); (why != "") != dead {
			t.Errorf("%s: dead %v, want %v (%s)", target, why != "", dead, why)
		}
	}
}

func TestDependenciesHaveTheirReasons(t *testing.T) {
	t.Parallel()
	edit := exec.Command("go", "mod", "edit", "-json")
	out, err := edit.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&mod); err != nil {
		t.Fatal(err)
	}
	table := read(t, "docs/adr/0007-dependencies.md")
	for _, r := range mod.Require {
		// The table leaves out what says nothing: the host of a GitHub path and the suffix of a major version.
		name := majorVersion.ReplaceAllString(strings.TrimPrefix(r.Path, "github.com/"), "")
		if !r.Indirect && !strings.Contains(table, name) {
			t.Errorf("go.mod requires %s, and docs/adr/0007-dependencies.md does not say what for: each dependency has its reason there", r.Path)
		}
	}
}

var majorVersion = regexp.MustCompile(`/v\d+$`)

// Whoever sees a figure needs to know what it is.
func TestMetricsAreDescribed(t *testing.T) {
	t.Parallel()
	page := read(t, "docs/operations.md")
	found := 0
	for _, s := range written(t) {
		if s.test {
			continue
		}
		for _, name := range metricName.FindAllStringSubmatch(string(s.text), -1) {
			found++
			if !strings.Contains(page, "\n| `"+name[1]+"` |") {
				t.Errorf("%s has the metric %s, and docs/operations.md has no row that says what it is", s.path, name[1])
			}
		}
	}
	if found == 0 {
		t.Error("no metrics are found: the test does not read the code any more")
	}
}

var metricName = regexp.MustCompile(`"(orderkeep_\w+)"`)

func TestDecisionsAreListedAndHaveTheirParts(t *testing.T) {
	t.Parallel()
	found, err := filepath.Glob("docs/adr/[0-9]*.md")
	if err != nil {
		t.Fatal(err)
	}
	index := read(t, "docs/adr/README.md")
	for i, path := range found {
		name := filepath.Base(path)
		if !strings.Contains(index, "("+name+")") {
			t.Errorf("%s is not listed in docs/adr/README.md", path)
		}
		if want := []string{"## Context", "## Decision", "## Consequences"}; !slices.Equal(regexp.MustCompile(`(?m)^## .*$`).FindAllString(read(t, path), -1), want) {
			t.Errorf("%s does not have the headings %q in this order: a decision is read by them", path, want)
		}
		if i > 0 && name[:4] == filepath.Base(found[i-1])[:4] {
			t.Errorf("%s has the number of another decision", path)
		}
	}
}
