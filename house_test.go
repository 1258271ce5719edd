package orderkeep_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is one Go file of the module.
type source struct {
	path      string // below the module
	text      []byte
	file      *ast.File
	fset      *token.FileSet
	generated bool
	test      bool
	bubble    bool // of a package whose tests run in testing/synctest, where sleeping moves a clock and takes no time
}

// sources parses all Go files of the module.
func sources(t *testing.T) []source {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var all []source
	for _, p := range packages(t) {
		bubble := slices.Contains(slices.Concat(p.TestImports, p.XTestImports), "testing/synctest")
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			path := filepath.Join(p.Dir, name)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := source{text: text, fset: token.NewFileSet(), test: strings.HasSuffix(name, "_test.go"), bubble: bubble}
			if s.path, err = filepath.Rel(root, path); err != nil {
				t.Fatal(err)
			}
			if s.file, err = parser.ParseFile(s.fset, s.path, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
				t.Errorf("%v", err)
				continue
			}
			s.generated = ast.IsGenerated(s.file)
			all = append(all, s)
		}
	}
	return all
}

// written returns the files that people write.
func written(t *testing.T) []source {
	return slices.DeleteFunc(sources(t), func(s source) bool { return s.generated })
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	type doc struct{ pkg, text string }
	docs := map[string][]doc{} // directory -> its package comments
	for _, s := range written(t) {
		dir := filepath.Dir(s.path)
		if s.test && dir != "." {
			continue
		}
		if docs[dir] == nil {
			docs[dir] = []doc{}
		}
		if s.file.Doc != nil {
			docs[dir] = append(docs[dir], doc{s.file.Name.Name, s.file.Doc.Text()})
		}
	}
	for dir, found := range docs {
		if len(found) != 1 {
			t.Errorf("%s has %d package comments, want one: a reader looks in one place for what a package owns, promises and refuses", dir, len(found))
			continue
		}
		if why := poorDoc(dir, found[0].pkg, found[0].text); why != "" {
			t.Errorf("%s: %s", dir, why)
		}
	}
}

// poorDoc says what is wrong with the package comment of the package name in dir, or "".
func poorDoc(dir, name, text string) string {
	start := "Package " + name + " "
	if name == "main" {
		start = "Command " + filepath.Base(dir) + " "
	}
	if !strings.HasPrefix(text, start) {
		return "the package comment should start with " + strconv.Quote(start) + ": go doc and readers look for it"
	}
	if name == "main" {
		return "" // what a program does, its help says
	}
	sentences := strings.Count(strings.ReplaceAll(text, "\n", " ")+" ", ". ")
	if sentences < 2 {
		return "the package comment is a single sentence: say also what the package promises and what it refuses"
	}
	return ""
}

// forbiddenNames are names of packages that say nothing about what is inside, so that anything ends up there.
var forbiddenNames = []string{"base", "common", "core", "helper", "helpers", "lib", "manager", "misc", "models", "pkg", "services", "shared", "types", "util", "utils"}

func TestPackagesHaveNamesOfThings(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if slices.Contains(forbiddenNames, p.Name) {
			t.Errorf("package %s: the name says nothing, so anything ends up in it; name it by what it provides", below(p.ImportPath))
		}
	}
}

// serial are the tests that may not run beside others, each with its reason. A test that calls t.Setenv or t.Chdir
// needs no row: the testing package refuses to run it in parallel.
var serial = map[string]string{}

func TestCodeKeepsTheHabits(t *testing.T) {
	t.Parallel()
	for _, s := range written(t) {
		for _, fault := range habits(s) {
			t.Error(fault)
		}
	}
}

// maxLines is where a file is past being read in one go; the best Go projects split well before it.
const maxLines = 800

// habits returns what in a file is against the rules of the house, with the reason of each rule.
func habits(s source) []string {
	var faults []string
	at := func(n ast.Node, why string) {
		faults = append(faults, s.fset.Position(n.Pos()).String()+": "+why)
	}
	if n := bytes.Count(s.text, []byte("\n")); n > maxLines {
		at(s.file.Name, "the file is past 800 lines: nobody reads it in one go; split it by its nouns")
	}
	if formatted, err := format.Source(s.text); err != nil || !bytes.Equal(formatted, s.text) {
		at(s.file.Name, "not as gofmt writes it: run gofmt -w, so that no diff is about spaces")
	}
	for _, group := range s.file.Comments {
		for _, c := range group.List {
			if strings.Contains(c.Text, "TO"+"DO") || strings.Contains(c.Text, "FIX"+"ME") {
				at(c, "a note to do it later: do it, or write down as a fact what is missing and why")
			}
		}
	}
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if f.Recv == nil && f.Name.Name == "init" {
			at(f, "init runs for whoever links the package and cannot fail politely: let main call what has to happen")
		}
		if s.test && isTest(f) && !startsParallel(f) && serial[f.Name.Name] == "" && !calls(f, "Setenv") && !calls(f, "Chdir") {
			at(f, "a test begins with t.Parallel(), so that tests find what breaks when things happen at once; if it cannot, give its reason in house_test.go")
		}
	}
	if s.test && !s.bubble {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					at(sel, "a sleeping test is slow when it is right and fails when the machine is slow: wait for the thing itself, or use testing/synctest")
				}
			}
			return true
		})
	}
	return faults
}

func isTest(f *ast.FuncDecl) bool {
	return f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" && len(f.Type.Params.List) == 1
}

func startsParallel(f *ast.FuncDecl) bool {
	if len(f.Body.List) == 0 {
		return false
	}
	stmt, ok := f.Body.List[0].(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := stmt.X.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Parallel"
}

// calls reports whether f calls a method of its testing.T by this name.
func calls(f *ast.FuncDecl, method string) bool {
	found := false
	ast.Inspect(f.Body, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		found = found || ok && sel.Sel.Name == method
		return !found
	})
	return found
}

func TestHabitsCatchWhatTheyForbid(t *testing.T) {
	t.Parallel()
	const parallel = "t.Parallel()"
	for name, c := range map[string]struct {
		text   string
		test   bool
		bubble bool
		want   string // in the one fault; "" for none
	}{
		"a clean file":            {text: "package p\n", want: ""},
		"init":                    {text: "package p\n\nfunc init() {}\n", want: "init runs"},
		"a method named init":     {text: "package p\n\nfunc (t T) init() {}\n", want: ""},
		"bad format":              {text: "package p\n\n\n\nvar x  = 1\n", want: "gofmt"},
		"a long file":             {text: "package p\n\nvar (\n" + strings.Repeat("\t_ = 1\n", maxLines) + ")\n", want: "800 lines"},
		"a note for later":        {text: "package p\n\n// TO" + "DO: finish.\n", want: "do it later"},
		"a test in line":          {test: true, text: "package p\n\nfunc TestX(t *testing.T) {\n\tx()\n}\n", want: "begins with t.Parallel"},
		"an empty test":           {test: true, text: "package p\n\nfunc TestX(t *testing.T) {}\n", want: "begins with t.Parallel"},
		"a parallel test":         {test: true, text: "package p\n\nfunc TestX(t *testing.T) {\n\t" + parallel + "\n}\n", want: ""},
		"a test of environment":   {test: true, text: "package p\n\nfunc TestX(t *testing.T) {\n\tt.Setenv(\"A\", \"b\")\n}\n", want: ""},
		"a sleeping test":         {test: true, text: "package p\n\nfunc TestX(t *testing.T) {\n\t" + parallel + "\n\ttime.Sleep(1)\n}\n", want: "sleeping test"},
		"a sleep in a bubble":     {test: true, bubble: true, text: "package p\n\nfunc TestX(t *testing.T) {\n\t" + parallel + "\n\ttime.Sleep(1)\n}\n", want: ""},
		"sleep outside the tests": {text: "package p\n\nfunc f() { time.Sleep(1) }\n", want: ""},
	} {
		s := source{text: []byte(c.text), test: c.test, bubble: c.bubble, fset: token.NewFileSet()}
		var err error
		if s.file, err = parser.ParseFile(s.fset, "p.go", c.text, parser.ParseComments); err != nil {
			t.Fatal(err)
		}
		got := habits(s)
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	for text, ok := range map[string]bool{
		"Package p holds stock. It never sells twice.\n": true,
		"Package p holds stock.\n":                       false,
		"Holds stock. It never sells twice.\n":           false,
		"Package parrot talks. It never stops.\n":        false,
	} {
		if got := poorDoc("x/p", "p", text) == ""; got != ok {
			t.Errorf("package comment %q: fine %v, want %v", text, got, ok)
		}
	}
}

// listedCheck is a CHECK that looks a word up among three or more.
var listedCheck = regexp.MustCompile(`(?i)\bCHECK\b.*\bIN\s*\(([^(),]*,){2}`)

func TestChecksOfSQLiteCompareWordByWord(t *testing.T) {
	t.Parallel()
	var files []string
	for _, place := range []string{"*/internal/store", "*/internal/*/*"} {
		found, err := filepath.Glob(place + "/migrations/sqlite/*.sql")
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 9 {
		t.Fatalf("only the migrations %q are found", files)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if check := listedCheck.Find(text); check != nil {
			t.Errorf("%s: %s...: SQLite makes a table of such a list for every row that it checks, and that took a tenth of a paid order; compare word by word (state = 'a' OR ...), or by CASE", name, check)
		}
	}
	for check, is := range map[string]bool{"CHECK (a IN ('x', 'y'))": false, "CHECK (b > 0 AND NOT a IN ('x', 'y', 'z'))": true, "WHERE a IN ('x', 'y', 'z')": false} {
		if listedCheck.MatchString(check) != is {
			t.Errorf("%s is taken for the other kind", check)
		}
	}
}
