package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// world is a shop under fire: its processes, the wires between them, the servers that it stands on, and the clients.
type world struct {
	t       testing.TB
	began   time.Time
	nodes   []*node
	edges   []*edge
	servers []*server
	bank    *edge             // to the provider, if it is away from Payments
	calm    atomic.Bool       // nothing is sent twice or lost
	disk    string            // the directory of the data, if it has a disk of its own
	filling sync.Mutex        // held while the disk is full
	doors   []*edge           // to Orders, one for each replica
	stock   *edge             // to Inventory
	urls    map[string]string // of the databases by context, past all proxies
	verify  []string          // settings of verify

	history History
	report  *Run
	healed  time.Duration // since the beginning

	mu     sync.Mutex
	deaths []string
}

// node is a process of Orderkeep that is killed and started again.
type node struct {
	name   string
	launch stage.Launch
	clock  string               // the file that says by how much its clock is wrong
	leads  func(*stage.Process) // lets the wires lead to it

	setting sync.Mutex // held while its clock is set
	mu      sync.Mutex // held while it is replaced
	process *stage.Process
	lives   []*stage.Process // all that it was
}

// server is what processes of Orderkeep stand on: a broker, a Redis, a PostgreSQL. It keeps its address.
type server struct {
	name    string
	mu      sync.Mutex               // held while it is away
	restart func(down time.Duration) // ends it as a power cut does, and starts it again after a while
}

func newWorld(t testing.TB, r *Run) *world {
	w := &world{t: t, began: time.Now(), urls: map[string]string{}, report: r}
	t.Cleanup(w.keepLogs)
	return w
}

// keepLogs writes what all processes said beside the report, if the run has failed.
func (w *world) keepLogs() {
	dir := os.Getenv(reportEnv)
	if !w.t.Failed() || dir == "" {
		return
	}
	dir = filepath.Join(dir, "logs "+w.report.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	for _, n := range w.nodes {
		var all strings.Builder
		for _, p := range n.lives {
			fmt.Fprintf(&all, "--- process %d: %v\n%s", p.Cmd.Process.Pid, p.Cmd.ProcessState, p.Log)
		}
		if err := os.WriteFile(filepath.Join(dir, n.name+".log"), []byte(all.String()), 0o644); err != nil {
			w.t.Error(err)
		}
	}
}

// sqlite is where the databases of a data directory are.
func sqlite(data string) map[string]string {
	urls := map[string]string{}
	for _, name := range databases {
		urls[name] = "sqlite:" + filepath.Join(data, name+".db")
	}
	return urls
}

// databases are those of the contexts, and the record of the simulated provider.
var databases = []string{"orders", "inventory", "payments", "simulated-provider"}

// add adds a process, whose clock can be set. It is started by up.
func (w *world) add(name string, l stage.Launch, leads func(*stage.Process)) *node {
	n := &node{name: name, launch: l, clock: filepath.Join(w.t.TempDir(), "clock"), leads: leads}
	n.launch.Env = append(slices.Clone(l.Env), "ORDERKEEP_LAB_CLOCK="+n.clock)
	w.nodes = append(w.nodes, n)
	return n
}

// up starts every process that does not run.
func (w *world) up() {
	var starting sync.WaitGroup
	for _, n := range w.nodes {
		starting.Go(func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			w.ensure(n, "")
		})
	}
	starting.Wait()
}

// ensure starts a process, again and again, as a supervisor does: what it needs may be away. The caller has the node's lock. A crash
// is the point at which it is to die, with how often it is to be passed before.
func (w *world) ensure(n *node, crash string) {
	if n.process != nil && !n.process.Gone() {
		return
	}
	w.mourn(n)
	l := n.launch
	if crash != "" {
		l.Env = append(slices.Clone(l.Env), "ORDERKEEP_LAB_CRASH="+crash)
	}
	for end := time.After(stage.Patience); ; {
		p := stage.Spawn(w.t, l)
		p.Expected, p.Quiet = true, true // how it ends is the checker's to judge
		n.lives = append(n.lives, p)
		select {
		case line := <-p.Log.Await("serving"):
			p.URL, p.GRPC = line.Address, line.GRPC
			n.process = p
			n.leads(p)
			return
		case <-p.Ended:
			if p.Killed() && crash != "" { // it came to the point before it served
				n.process = p
				return
			}
			w.panicked(n, p)
			pause(context.Background(), 50*time.Millisecond)
		case <-end:
			w.lament(fmt.Sprintf("%s does not start: %s", n.name, lastLine(p.Log.Tail())))
			n.process = p
			return
		}
	}
}

// mourn notes a process that ended and was not killed.
func (w *world) mourn(n *node) {
	if p := n.process; p != nil && p.Gone() {
		if !p.Killed() {
			w.lament(fmt.Sprintf("%s ended by itself: %s", n.name, lastLine(p.Log.Tail())))
		}
		w.panicked(n, p)
	}
}

func (w *world) panicked(n *node, p *stage.Process) {
	text := p.Log.String()
	for _, sign := range []string{"\npanic: ", "\nfatal error: ", "handler panicked"} {
		if i := strings.Index(text, sign); i >= 0 {
			w.lament(fmt.Sprintf("%s panicked: %.2000s", n.name, text[i:]))
		}
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndex(s, "\n")+1:]
}

func (w *world) lament(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaths = append(w.deaths, what)
}

// kill ends a process between two instructions, and starts it again after a while. It is false if there was nothing to kill.
func (w *world) kill(n *node, down time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil || n.process.Gone() {
		w.ensure(n, "")
		return false
	}
	n.process.Kill()
	pause(context.Background(), down)
	w.ensure(n, "")
	return true
}

// pause waits. It spaces faults and requests, and nothing depends on how long it takes.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// down ends all processes in order.
func (w *world) down() {
	for _, n := range w.nodes {
		n.mu.Lock()
		if err := n.process.Stop(); err != nil {
			w.lament(fmt.Sprintf("%s does not end well: %v: %s", n.name, err, lastLine(n.process.Log.Tail())))
		}
		w.panicked(n, n.process)
		n.process = nil
		n.mu.Unlock()
	}
}

// heal ends all faults: clocks are right, wires whole, and everything is started again.
func (w *world) heal() {
	w.calm.Store(true)
	for _, n := range w.nodes {
		n.setClock(w.t, 0)
	}
	for _, e := range w.edges {
		e.heal(w.t)
	}
	w.down()
	w.up()
	w.healed = time.Since(w.began)
}

// audit asks orderkeep verify.
func (w *world) audit() Audit {
	out, log, code := stage.Launch{Path: program, Args: []string{"verify", "--json"}, Env: w.verify}.Run(w.t, "")
	var a Audit
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		return Audit{OnItsWay: []AuditLine{{Rule: "verify", Count: 1, Oldest: fmt.Sprintf("it exits with %d: %s", code, log)}}}
	}
	a.OK = a.OK && code == 0
	return a
}

// rest lets the system come to rest, and returns what is left.
func (w *world) rest(b *buyers) Records {
	r := Records{Opening: opening}
	if open := b.settle(); len(open) > 0 {
		r.Restless = append(r.Restless, fmt.Sprintf("%d wishes never get their answer, among them %s", len(open), open[0]))
	}
	settled := time.Since(w.began)
	for end := time.Now().Add(restful()); ; pause(context.Background(), 200*time.Millisecond) {
		r.Audit = w.audit()
		if len(r.Audit.OnItsWay) == 0 || time.Now().After(end) {
			break
		}
	}
	w.t.Logf("the faults ended after %v, every wish had its answer after %v, nothing was on its way after %v", w.healed.Round(time.Second), settled.Round(time.Second), time.Since(w.began).Round(time.Second))
	b.confirmAll()
	w.down()
	w.read(&r)
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Deaths = slices.Clone(w.deaths)
	return r
}

// chance is where the faults of the run come from.
func (w *world) chance() *rand.Rand { return rand.New(rand.NewPCG(w.report.Seed, 1)) }

// run lets buyers buy while something happens, and judges.
func (w *world) run(happens func(context.Context, *rand.Rand)) {
	b := &buyers{w: w, seed: w.report.Seed}
	b.open()
	func() {
		defer b.close()
		happens(w.t.Context(), w.chance())
	}()
	w.heal()
	records := w.rest(b)
	w.report.judge(w.history.Requests(), records)
	w.report.Seconds = time.Since(w.began).Seconds()
	said := map[string]int{}
	for _, v := range w.report.Violations {
		if said[v.Promise]++; said[v.Promise] <= enough {
			w.t.Errorf("%s: %s", v.Promise, v.Detail)
		}
	}
	for promise, n := range said {
		if n > enough {
			w.t.Errorf("%s: %d times in all", promise, n)
		}
	}
}

// enough is how many violations of one promise a reader wants to see. The report has all.
const enough = 5

// opening is what lies on the shelf at first: one SKU lasts, one sells out at once, one after a while, one is delivered and fetched.
var opening = map[string]int{"LASTS": 10_000_000, "HOT": 60, "SCARCE": 600, "MOVING": 3_000}

// wrapping is not tracked: there is always more of it.
const wrapping = "GIFT-WRAP"

// layIn puts it there.
func (w *world) layIn() {
	sheet := "sku,title,on_hand,tracked\n" + wrapping + ",,0,false\n"
	for _, sku := range slices.Sorted(maps.Keys(opening)) {
		sheet += fmt.Sprintf("%s,,%d,true\n", sku, opening[sku])
	}
	url := "http://" + w.stock.addr()
	if out, log, code := (stage.Launch{Path: program, Args: []string{"--url", url, "stock", "import", "-"}}).Run(w.t, sheet); code != 0 {
		w.t.Fatalf("stock import exits with %d: %s%s", code, out, log)
	}
}

// raw opens a database of the world past everything.
func (w *world) raw(name string) *table { return &table{w.t, dbtest.Raw(w.t, w.urls[name])} }
