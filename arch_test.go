// Package orderkeep_test holds the rules of the house: who may import whom, how packages and tests are written, and that
// the README tells the truth. Each rule is a test whose failure says why the rule is there.
package orderkeep_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/orderkeep/orderkeep"

// room is one row of the architecture: a set of packages, what of this module they may import, and what of the outside
// world they may not. A pattern is a path below the module; "x/..." means x and everything below it, and a "!" before a
// pattern takes away what the others give. A package belongs to the first row that matches it, and may always import
// its own row.
type room struct {
	packages string
	may      []string
	never    []string // import paths of the standard library and of other modules, with the same patterns
	because  string
}

// Names for what several rows share.
var (
	storage   = []string{"database/sql/...", "modernc.org/...", "github.com/pressly/goose/..."}
	transport = []string{"net/http/...", "google.golang.org/grpc/...", "github.com/ogen-go/...", "github.com/go-faster/..."}
	// pure is what a domain may use of the platform: kinds of errors, the correlation id, the shape of an event, and
	// the words that all domains share.
	pure = []string{"internal/card", "internal/fault", "internal/lab", "internal/money", "internal/outbox", "internal/telemetry"}
	// platform is all of internal/ but the command lines, which stand in front of the contexts and not under them.
	platform = []string{"internal/...", "!internal/cli/...", "!internal/program"}
)

// architecture is the whole of it: what is not allowed here is not allowed.
var architecture = []room{
	{"orders/v1/...", nil, storage, "a contract is what other programs see: it imports nothing of ours, so that it can be read and vendored alone"},
	{"inventory/v1/...", nil, storage, "a contract is what other programs see: it imports nothing of ours, so that it can be read and vendored alone"},
	{"payments/v1/...", nil, storage, "a contract is what other programs see: it imports nothing of ours, so that it can be read and vendored alone"},

	{"orders/internal/order", append(pure, "orders/v1"), append(storage, transport...), "the domain decides and declares what it needs; it knows no engine, no wire and no neighbour"},
	{"orders/internal/store", append(platform, "orders/internal/order", "orders/v1"), transport, "a store turns the domain's decisions into rows; it knows no wire"},
	{"orders/internal/peers", append(platform, "orders/internal/order", "inventory/v1/...", "payments/v1/..."), storage, "peers speak the other contexts' contracts and know nothing else of them"},
	{"orders/internal/serve", append(platform, "orders/internal/order", "orders/v1/...", "inventory/v1", "payments/v1"), storage, "serve turns requests and others' events into the domain's words; rows are the store's"},
	{"orders", append(platform, "orders/internal/...", "orders/v1/...", "inventory/v1", "payments/v1"), nil, "Orders calls Inventory and Payments by their contracts; in their code it has no business"},

	{"inventory/internal/stock", append(pure, "inventory/v1", "orders/v1"), append(storage, transport...), "the domain decides and declares what it needs; it knows no engine and no wire"},
	{"inventory/internal/store", append(platform, "inventory/internal/stock", "inventory/v1", "orders/v1"), transport, "a store turns the domain's decisions into rows; it knows no wire"},
	{"inventory/internal/serve", append(platform, "inventory/internal/stock", "inventory/internal/store", "inventory/v1/...", "orders/v1"), storage, "serve turns requests and others' events into the domain's words; SQL is the store's"},
	{"inventory", append(platform, "inventory/internal/...", "inventory/v1/...", "orders/v1"), nil, "Inventory consumes the events of orders/v1 (docs/adr/0004) and calls nobody"},

	{"payments/internal/payment", append(pure, "payments/v1", "orders/v1"), append(storage, transport...), "the domain decides and declares what it needs; it knows no engine, no wire and no provider"},
	{"payments/internal/provider/...", append(platform, "payments/internal/payment"), nil, "a provider is a plug-in: it knows the domain's words and no other provider"},
	{"payments/internal/store", append(platform, "payments/internal/payment", "payments/internal/provider/...", "payments/v1", "orders/v1"), transport, "a store turns the domain's decisions into rows, and its audit holds them against the provider's record; it knows no wire"},
	{"payments/internal/serve", append(platform, "payments/internal/payment", "payments/v1/...", "orders/v1"), storage, "serve turns requests and others' events into the domain's words; rows are the store's"},
	{"payments", append(platform, "payments/internal/...", "payments/v1/...", "orders/v1"), nil, "Payments consumes the events of orders/v1 (docs/adr/0004) and calls nobody"},

	{"console", append(platform, "orders/v1/...", "inventory/v1/...", "payments/v1/..."), storage, "the console is a client: it speaks the contracts over REST, as every other program does, and keeps no records"},
	{"internal/cli/...", []string{"internal/...", "orders/v1/...", "inventory/v1/...", "payments/v1/..."}, nil, "the CLI is a client: it speaks the contracts, as every other program does"},
	{"internal/program", platform, nil, "the command line of a program that serves is the same for all contexts, and links the client of none"},
	{"internal/...", platform, nil, "the platform knows no context: what a context needs of it, every context gets"},

	{"cmd/orderkeep", []string{"orders", "inventory", "payments", "console", "internal/..."}, append(storage, transport...), "the program names its contexts and hands them on; it does nothing itself"},
	{"cmd/orders", []string{"orders", "internal/program"}, append(storage, transport...), "the program names its context and hands it on; another's it cannot have, or they could not be deployed apart"},
	{"cmd/inventory", []string{"inventory", "internal/program"}, append(storage, transport...), "the program names its context and hands it on; another's it cannot have, or they could not be deployed apart"},
	{"cmd/payments", []string{"payments", "internal/program"}, append(storage, transport...), "the program names its context and hands it on; another's it cannot have, or they could not be deployed apart"},
	{"test/model", []string{"orders", "inventory", "payments", "orders/v1", "inventory/v1", "payments/v1", "internal/..."}, nil, "the model has the contexts in its own process, by their doors, to put faults and time between them"},
	{"test/...", []string{"orders/v1/...", "inventory/v1/...", "payments/v1/...", "internal/..."}, nil, "scenarios come through the contracts and the programs, as users do"},
	{"bench/...", []string{"internal/load"}, nil, "the benchmark measures from outside, with the generator that orderkeep bench has"},
	{"", nil, nil, "the tests of the house link nothing of it"},
}

// inTests is what the tests of a room may import besides.
var inTests = map[string][]string{
	"internal/...": {"orders/v1/...", "inventory/v1/...", "payments/v1/..."}, // a real contract makes the best sample
	// The explorer knows no engine and no wire either.
	"orders/internal/order":     {"internal/explore"},
	"payments/internal/payment": {"internal/explore"},
}

func TestImportsKeepTheArchitecture(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		from := below(p.ImportPath)
		for _, to := range p.Imports {
			if why := forbidden(from, to); why != "" {
				t.Error(why)
			}
		}
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			if why := forbidden(from, to); why != "" && !given(below(to), inTests[roomOf(from)]) {
				t.Errorf("in a test, %s", why)
			}
		}
	}
}

// The compiler keeps one context out of another's internal/ by name; this keeps it, and its program, out by any road.
func TestContextLinksNoPartOfAnother(t *testing.T) {
	t.Parallel()
	all := byPath(packages(t))
	for _, context := range []string{"orders", "inventory", "payments"} {
		for _, path := range []string{context, "cmd/" + context} {
			p, ok := all[module+"/"+path]
			if !ok {
				t.Errorf("there is no package %s: each context has its door and its program", path)
			}
			for _, dep := range p.Deps {
				if why := foreign(context, below(dep)); why != "" {
					t.Errorf("%s links %s: %s", path, below(dep), why)
				}
			}
		}
	}
}

// foreign says why a context and its program may not link a package of this module, or "".
func foreign(context, dep string) string {
	for _, other := range []string{"orders", "inventory", "payments"} {
		if other == context {
			continue
		}
		if dep == other || within(dep, other+"/internal/...") {
			return "what links another context's code cannot be deployed without it"
		}
		// Orders is their client; they know only its events (docs/adr/0004), whose package has no client for REST in it.
		if dep == other+"/v1/rest" && context != "orders" {
			return "a client that it never uses"
		}
	}
	if dep == "console" {
		return "the console is a client of all contexts, and a service needs none of it"
	}
	if within(dep, "internal/cli/...") {
		return "the command line is a client of all contexts, and a service needs none of it"
	}
	return ""
}

func TestArchitectureCatchesWhatItForbids(t *testing.T) {
	t.Parallel()
	for _, edge := range []struct {
		from, to string
		allowed  bool
	}{
		{"orders", module + "/inventory/v1", true},
		{"orders/internal/peers", module + "/payments/v1/rest", true},
		{"orders/internal/peers", module + "/payments", false},
		{"orders", module + "/payments/internal/store", false},
		{"orders/internal/order", module + "/internal/fault", true},
		{"orders/internal/order", module + "/internal/db", false},
		{"orders/internal/order", module + "/orders/internal/store", false},
		{"orders/internal/order", "database/sql", false},
		{"orders/internal/order", "net/http", false},
		{"orders/internal/order", "net/netip", true},
		{"inventory/internal/stock", "google.golang.org/grpc/codes", false},
		{"inventory", module + "/orders/v1", true},
		{"inventory", module + "/orders/v1/rest", false},
		{"inventory", module + "/payments/v1", false},
		{"payments", module + "/inventory/v1", false},
		{"payments/internal/store", module + "/payments/internal/serve", false},
		{"orders/v1", module + "/internal/fault", false},
		{"orders/v1/rest", "github.com/ogen-go/ogen/http", true},
		{"internal/db", module + "/orders/v1", false},
		{"internal/db", module + "/internal/cli", false},
		{"orders/internal/store", module + "/internal/db", true},
		{"orders/internal/store", module + "/internal/cli", false},
		{"internal/cli", module + "/orders/v1/rest", true},
		{"internal/cli", module + "/orders", false},
		{"console", module + "/orders/v1/rest", true},
		{"console", module + "/orders", false},
		{"console", "database/sql", false},
		{"cmd/orderkeep", module + "/payments", true},
		{"cmd/inventory", module + "/inventory", true},
		{"cmd/inventory", module + "/orders", false},
		{"cmd/inventory", module + "/internal/cli", false},
		{"inventory", module + "/internal/program", false},
		{"cmd/orderkeep", module + "/payments/internal/payment", false},
		{"warehouse", "fmt", false}, // a room that nobody drew
	} {
		why := forbidden(edge.from, edge.to)
		if allowed := why == ""; allowed != edge.allowed {
			t.Errorf("%s imports %s: allowed %v, want %v (%s)", edge.from, edge.to, allowed, edge.allowed, why)
		}
	}
}

func TestForeignPartsAreFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		context, dep string
		fine         bool
	}{
		{"inventory", "inventory/internal/store", true},
		{"inventory", "orders/v1", true},
		{"inventory", "orders/v1/rest", false},
		{"inventory", "orders/internal/order", false},
		{"orders", "payments", false},
		{"orders", "payments/v1/rest", true},
		{"orders", "internal/cli/sales", false},
		{"payments", "internal/program", true},
	} {
		if why := foreign(c.context, c.dep); (why == "") != c.fine {
			t.Errorf("%s links %s: fine %v, want %v", c.context, c.dep, why == "", c.fine)
		}
	}
}

func TestArchitectureNamesNoEmptyRoom(t *testing.T) {
	t.Parallel()
	all := packages(t)
	for _, r := range architecture {
		if r.packages == "bench/..." || r.packages == "" {
			continue // packages of tests and of other modules come and go
		}
		if !slices.ContainsFunc(all, func(p pkg) bool { return roomOf(below(p.ImportPath)) == r.packages }) {
			t.Errorf("no package belongs to %q: a rule about nothing hides that the packages moved; change the table with them", r.packages)
		}
	}
}

// forbidden says why the package at from, a path below the module, may not import the import path to, or "".
func forbidden(from, to string) string {
	r := architecture[slices.IndexFunc(architecture, func(r room) bool { return r.packages == roomOf(from) })]
	if r.packages == "" && from != "" {
		return fmt.Sprintf("%s is in no room of the architecture: give it a row in arch_test.go, or another place", from)
	}
	ours := to == module || strings.HasPrefix(to, module+"/")
	if !ours {
		if slices.ContainsFunc(r.never, func(p string) bool { return within(to, p) }) {
			return fmt.Sprintf("%s imports %s: %s", from, to, r.because)
		}
		return ""
	}
	target := below(to)
	if target == from || within(target, r.packages) && roomOf(target) == r.packages || given(target, r.may) {
		return ""
	}
	return fmt.Sprintf("%s imports %s: %s", from, target, r.because)
}

// given reports whether the patterns give path and none takes it away.
func given(path string, patterns []string) bool {
	yes := false
	for _, p := range patterns {
		if not, ok := strings.CutPrefix(p, "!"); ok && within(path, not) {
			return false
		}
		yes = yes || within(path, p)
	}
	return yes
}

// roomOf returns the pattern of the room that a package belongs to.
func roomOf(path string) string {
	for _, r := range architecture {
		if within(path, r.packages) {
			return r.packages
		}
	}
	return ""
}

// within reports whether path matches pattern.
func within(path, pattern string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == tree || strings.HasPrefix(path, tree+"/")
	}
	return path == pattern
}

// below returns an import path of this module without the module's.
func below(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

// pkg is what the rules need to know of a package.
type pkg struct {
	ImportPath, Name, Dir              string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

// packages returns all packages of the module, as go list knows them.
func packages(t *testing.T) []pkg {
	t.Helper()
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var listed = sync.OnceValues(func() ([]pkg, error) {
	list := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Dir,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,Deps", "./...")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.Bytes())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		all = append(all, p)
	}
})

func byPath(all []pkg) map[string]pkg {
	m := make(map[string]pkg, len(all))
	for _, p := range all {
		m[p.ImportPath] = p
	}
	return m
}
