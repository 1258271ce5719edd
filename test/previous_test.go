package test

import (
	"errors"
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// previousEnv names the version before this one, where it is not the last release or the commit before: a commit, or a
// directory with its programs.
const previousEnv = "ORDERKEEP_PREVIOUS"

// previous returns the directory with the programs of the version before this one, and what to call it. Without one the
// test is skipped, also in CI: no program that could be installed is missing, and .ci/run says what is to be done.
func previous(t *testing.T) (dir, name string) {
	t.Helper()
	named := os.Getenv(previousEnv)
	if info, err := os.Stat(named); err == nil && info.IsDir() {
		if dir, err = filepath.Abs(named); err != nil {
			t.Fatal(err)
		}
		return dir, named
	}
	stage.Need(t, "git")
	repo := repository{".."}
	v := version{commit: named}
	if named == "" {
		var err error
		if v, err = repo.before(); err != nil {
			t.Skip(err)
		}
		if v.excuse != "" {
			t.Skipf("what %s has, which no release has, is broken because: %s", v, v.excuse)
		}
	}
	return build(t, repo, v), v.String()
}

// build builds the programs of a version from a clean copy of its source, and returns their directory.
func build(t *testing.T, repo repository, v version) string {
	t.Helper()
	source, dir := t.TempDir(), t.TempDir()
	tarball := filepath.Join(t.TempDir(), "source.tar")
	if _, err := repo.git("archive", "--output", tarball, v.commit); err != nil {
		t.Fatalf("%s: %v", v, err)
	}
	if out, err := exec.Command(stage.Need(t, "tar"), "-x", "-C", source, "-f", tarball).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	if err := stage.Compile(source, dir, "./cmd/...", "-ldflags=-w"); err != nil { // nobody debugs them, and so they link faster
		t.Fatalf("%s: %v", v, err)
	}
	return dir
}

// version is one that the history has.
type version struct {
	commit  string
	release string // its tag, if it is one
	excuse  string // why the next one may break what it has; of a release, nothing may
}

func (v version) String() string {
	if v.release != "" {
		return v.release
	}
	return v.commit[:min(12, len(v.commit))]
}

// repository is a directory under git.
type repository struct{ dir string }

func (r repository) git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	// A hook of git that runs the tests names its own repository in the environment.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "GIT_") && !strings.HasPrefix(e, "GIT_CONFIG") })
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// errFirst says that there is no version before this one.
var errFirst = errors.New("there is no release and no commit before this one")

// before finds the version before the one in the work tree: the last release; as long as there is none, the commit before, which is HEAD
// where what the programs are made of was changed since. Other errors than errFirst say what to do.
func (r repository) before() (version, error) {
	if prefix, err := r.git("rev-parse", "--show-prefix"); err != nil || prefix != "" {
		return version{}, fmt.Errorf("the version before this one comes out of the history, and this is no clone of it: clone it, or let %s name a directory with its programs", previousEnv)
	}
	changed, err := r.git("status", "--porcelain", "--", "cmd", "internal", "orders", "inventory", "payments", "go.mod", "go.sum")
	if err != nil {
		return version{}, err
	}
	from := "HEAD~1"
	if changed != "" {
		from = "HEAD"
	}
	v := version{}
	if v.commit, err = r.git("rev-parse", "--quiet", "--verify", from+"^{commit}"); err != nil {
		if shallow, _ := r.git("rev-parse", "--is-shallow-repository"); shallow == "true" {
			return version{}, errors.New("the version before this one comes out of the history, and this clone is shallow: run git fetch --unshallow --tags")
		}
		return version{}, errFirst
	}
	if v.release, err = r.git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", from); err == nil {
		v.commit = v.release
		return v, nil
	}
	v.excuse, err = r.git("log", "--format=%(trailers:key=Breaks-Contract,valueonly)", v.commit+"..HEAD")
	return v, err
}

// TestTheVersionBeforeIsFoundInTheHistory looks into histories of its own, in which a file called internal stands for what programs are
// made of.
func TestTheVersionBeforeIsFoundInTheHistory(t *testing.T) {
	t.Parallel()
	stage.Need(t, "git")
	const why = "nobody has it yet"
	for name, c := range map[string]struct {
		history [][]string // what git is told, in a repository with one commit
		changed bool       // and afterwards internal is changed
		want    string     // the subject of its commit, or a release
		excuse  string
		says    string // instead
	}{
		"of two commits, the first":                        {history: [][]string{commit("second")}, want: "first"},
		"of a changed work tree, the last commit":          {history: [][]string{commit("second")}, changed: true, want: "second"},
		"the last release":                                 {history: [][]string{{"tag", "v0.1.0"}, commit("second"), {"tag", "v0.2.0"}, commit("third"), commit("fourth")}, want: "v0.2.0"},
		"of a release, the one before":                     {history: [][]string{{"tag", "v0.1.0"}, commit("second"), {"tag", "v0.2.0"}}, want: "v0.1.0"},
		"a release is no excuse":                           {history: [][]string{{"tag", "v0.1.0"}, commit("second\n\nBreaks-Contract: " + why)}, want: "v0.1.0"},
		"what no release has may be broken, with a reason": {history: [][]string{commit("second\n\nBreaks-Contract: " + why)}, want: "first", excuse: why},
		"of a change after a break, the version with it":   {history: [][]string{commit("second\n\nBreaks-Contract: " + why)}, changed: true, want: "second"},
		"of the first commit, none":                        {says: errFirst.Error()},
		"a tag that is no version does not count":          {history: [][]string{{"tag", "nightly"}, commit("second")}, want: "first"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			repo := newRepository(t)
			for _, args := range c.history {
				repo.must(t, args...)
			}
			if c.changed {
				if err := os.WriteFile(filepath.Join(repo.dir, "internal"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			v, err := repo.before()
			if c.says != "" {
				if err == nil || err.Error() != c.says {
					t.Errorf("it finds %v, %v", v, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if subject := repo.must(t, "log", "-1", "--format=%s", v.commit); subject != c.want && v.release != c.want || v.excuse != c.excuse {
				t.Errorf("it finds %v, %q, with the excuse %q", v, subject, v.excuse)
			}
		})
	}
}

func TestAHistoryThatIsNotThereIsAskedFor(t *testing.T) {
	t.Parallel()
	stage.Need(t, "git")
	full := newRepository(t)
	full.must(t, commit("second")...)
	shallow := repository{filepath.Join(t.TempDir(), "shallow")}
	full.must(t, "clone", "--quiet", "--depth", "1", "file://"+full.dir, shallow.dir)
	below := repository{filepath.Join(full.dir, "below")}
	if err := os.Mkdir(below.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for says, repo := range map[string]repository{"git fetch --unshallow --tags": shallow, previousEnv: {t.TempDir()}, "no clone of it": below} {
		if v, err := repo.before(); err == nil || errors.Is(err, errFirst) || !strings.Contains(err.Error(), says) {
			t.Errorf("it finds %v, %v, want it to say %s", v, err, says)
		}
	}
}

// newRepository is one with a commit.
func newRepository(t *testing.T) repository {
	t.Helper()
	r := repository{t.TempDir()}
	r.must(t, "init", "--quiet")
	r.must(t, commit("first")...)
	return r
}

// commit is what git is told to make one.
func commit(message string) []string {
	return []string{"-c", "user.name=ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false", "commit", "--quiet", "--allow-empty", "--message", message}
}

func (r repository) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.git(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
