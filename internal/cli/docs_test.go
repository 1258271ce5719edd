package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/orderkeep/orderkeep/internal/audit"
)

// The page says something about each command, each rule and each figure of a replay.
func TestPageDescribesEverything(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, rule := range audit.Rules() {
		if !strings.Contains(page, "\n### "+rule+"\n") {
			t.Errorf("docs/cli.md has no section on the rule %s: whoever sees it broken needs to know what to do", rule)
		}
	}
	parser, err := kong.New(&grammar{}, kong.Name("orderkeep"), defaults.Vars())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range parser.Model.Leaves(false) {
		words := strings.Fields(strings.TrimPrefix(c.Path(), "orderkeep "))
		if !strings.Contains(page, "\n## "+words[0]+"\n") || len(words) > 1 && !strings.Contains(page, "orderkeep "+words[0]+" "+words[1]) {
			t.Errorf("docs/cli.md says nothing of %s", c.Path())
		}
	}
	for _, name := range regexp.MustCompile(`json:"(\w+)"`).FindAllStringSubmatch(readSource(t, "summary.go"), -1) {
		if !strings.Contains(page, "`"+name[1]+"`") {
			t.Errorf("docs/cli.md does not say what %s of a replay is", name[1])
		}
	}
}

// Each command line on the page is one that the grammar takes.
func TestPageShowsCommandsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for l := range strings.Lines(block[1]) {
			l, _, _ = strings.Cut(l, " #")
			l = strings.ReplaceAll(l, `"changed my mind"`, "changed-my-mind")
			args, ok := strings.CutPrefix(strings.TrimSpace(l), "orderkeep ")
			if !ok {
				t.Errorf("not a command of ours: %s", l)
				continue
			}
			n++
			var g grammar
			parser, err := kong.New(&g, kong.Name("orderkeep"), defaults.Vars())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(strings.Fields(args)); err != nil {
				t.Errorf("%s: %v", l, err)
			}
		}
	}
	if n < 15 {
		t.Errorf("%d commands found on the page", n)
	}
}

func readSource(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
