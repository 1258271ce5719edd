package orderkeep_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBrokenContractsAreRefused breaks contracts in clones of their own and looks what tools/contracts, which make contracts
// and CI run, has to say. Commits are made one after another, so the last edit is held against the one before it.
func TestBrokenContractsAreRefused(t *testing.T) {
	t.Parallel()
	const (
		proto = "inventory/v1/inventory.proto"
		rest  = "payments/v1/openapi.yaml"
	)
	var (
		lessAnswer  = edit{rest, `(?m)^\s+declineCode:.*\n`, ""} // which every caller could do without: an answer only grows all the same
		moreRequest = edit{rest, `required: (\[amountMinor, .*)\]\n( +)properties:`, "required: ${1}, country]\n${2}properties:\n${2}  country: {type: string}"}
	)
	for _, c := range []struct {
		name  string
		tag   bool   // the state before the edits is released
		edits []edit // one commit each
		body  string // of the commit messages
		wants []string
		fine  bool
	}{
		{name: "a field more", fine: true, edits: []edit{
			{proto, `(?m)^message ReserveRequest \{`, "${0}\n  string note = 99;"},
			{rest, `(?m)^( +)declineCode: (.*)$`, "${0}\n${1}adviceCode: ${2}"},
		}, wants: []string{"they keep what stands in"}},
		{name: "a field of a message less", edits: []edit{{proto, `(?m)^message ReserveRequest \{\n(?:\s*//.*\n)*.*;`, "message ReserveRequest {"}},
			wants: []string{proto, "ReserveRequest", "they break what stands in", "add the new beside it"}},
		{name: "a field of a message under another name", edits: []edit{{proto, `(?m)^(message ReserveRequest \{\n(?:\s*//.*\n)*\s*\w+) \w+ =`, "${1} another ="}},
			wants: []string{proto, "another", "they break what stands in"}},
		{name: "a field of an answer less", edits: []edit{lessAnswer}, wants: []string{rest, "declineCode", "they break what stands in"}},
		{name: "a field that a request must have", edits: []edit{moreRequest}, wants: []string{rest, "country", "they break what stands in"}},
		{name: "a document less", edits: []edit{{file: rest}}, wants: []string{rest + ": is gone", "they break what stands in"}},
		{name: "a break with its reason", fine: true, edits: []edit{lessAnswer}, body: "Breaks-Contract: nobody has it yet",
			wants: []string{"declineCode", "which no release has, because: nobody has it yet"}},
		{name: "a break of what was released, with a reason and long ago", tag: true, edits: []edit{lessAnswer, {rest, `\z`, "# more\n"}}, body: "Breaks-Contract: we changed our minds",
			wants: []string{"declineCode", "they break what v0.1.0 promised"}},
		{name: "one commit only", fine: true, wants: []string{"not compared: there is no release and no commit before this one"}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			repo := newClone(t)
			if c.tag {
				repo.git("tag", "v0.1.0")
			}
			for _, e := range c.edits {
				repo.apply(e)
				repo.commit("contract: an edit\n\n" + c.body)
			}
			repo.judged(c.fine, c.wants...)
		})
	}
}

func TestContractsOfAShallowCloneAreNotJudged(t *testing.T) {
	t.Parallel()
	full := newClone(t)
	full.commit("contract: nothing")
	shallow := clone{t, filepath.Join(t.TempDir(), "shallow")}
	full.git("clone", "--quiet", "--depth", "1", "file://"+full.dir, shallow.dir)
	shallow.git("remote", "remove", "origin")
	shallow.judged(true, "not compared: this clone is shallow", "git fetch --unshallow")
}

// edit replaces the one place in a file where pattern is, or, without a pattern, takes the file away.
type edit struct{ file, pattern, with string }

// clone is a git repository with the contracts in it, and what judges them.
type clone struct {
	t   *testing.T
	dir string
}

func newClone(t *testing.T) clone {
	t.Helper()
	for _, program := range []string{"git", "bash"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("contracts are compared with %s, and CI has to: %v", program, err)
			}
			t.Skipf("contracts are compared with %s: %v", program, err)
		}
	}
	c := clone{t, t.TempDir()}
	for _, path := range []string{"buf.yaml", "go.mod", "go.sum", "tools", "orders/v1", "inventory/v1", "payments/v1"} {
		to := filepath.Join(c.dir, path)
		if info, err := os.Stat(path); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			err = os.CopyFS(to, os.DirFS(path))
			if err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(to, []byte(read(t, path)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.git("init", "--quiet", "--initial-branch", "main")
	c.commit("contract: the first")
	return c
}

// command is one in the clone, in which nothing of this repository and of the user's own settings counts.
func (c clone) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.t.Context(), name, args...)
	cmd.Dir = c.dir
	if _, err := os.Stat(c.dir); err != nil {
		cmd.Dir = filepath.Dir(c.dir)
	}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "GIT_") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=ann", "GIT_AUTHOR_EMAIL=ann@example.org",
		"GIT_COMMITTER_NAME=ann", "GIT_COMMITTER_EMAIL=ann@example.org")
	return cmd
}

func (c clone) git(args ...string) {
	c.t.Helper()
	if out, err := c.command("git", args...).CombinedOutput(); err != nil {
		c.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (c clone) commit(message string) {
	c.t.Helper()
	c.git("add", "--all")
	c.git("commit", "--quiet", "--allow-empty", "--message", message)
}

func (c clone) apply(e edit) {
	c.t.Helper()
	path := filepath.Join(c.dir, e.file)
	if e.pattern == "" {
		if err := os.Remove(path); err != nil {
			c.t.Fatal(err)
		}
		return
	}
	text, pattern := read(c.t, path), regexp.MustCompile(e.pattern)
	at := pattern.FindStringSubmatchIndex(text)
	if at == nil {
		c.t.Fatalf("%s has nothing like %s any more: edit another part of it here", e.file, e.pattern)
	}
	edited := text[:at[0]] + string(pattern.ExpandString(nil, e.with, text, at)) + text[at[1]:]
	if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// judged runs tools/contracts and looks whether it finds the contracts fine, and for what it says.
func (c clone) judged(fine bool, wants ...string) {
	c.t.Helper()
	out, err := c.command("bash", "tools/contracts").CombinedOutput()
	if (err == nil) != fine {
		c.t.Errorf("it ends with %v, want fine: %v", err, fine)
	}
	for _, w := range wants {
		if !strings.Contains(string(out), w) {
			c.t.Errorf("it does not say %q", w)
		}
	}
	if c.t.Failed() {
		c.t.Logf("it says:\n%s", out)
	}
}
