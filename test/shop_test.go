package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// shop is Orderkeep under way, in some topology, as its users see it.
type shop struct {
	inventoryWire, paymentsWire stage.Wires // one to each replica; none where they cannot be cut

	data     string   // the directory of the databases
	env      []string // settings that verify needs as well
	redis    string   // URL of what the replicas share limits in, if they do
	services []*service
	of       map[string][]*service // the replicas of a context
	turn     atomic.Uint64         // of the replica that gets the next request
	door     string                // where the command line finds all contexts, if not where Orders is
	client   *http.Client
	private  sync.Map // what was sent that is nobody else's: tokens, keys, customers' names; why, by what it is
}

// service is a program of the shop.
type service struct {
	launch   stage.Launch
	contexts []string     // for which it answers
	mu       sync.RWMutex // held where the process is replaced by another
	process  *stage.Process
	started  func(*stage.Process) // after each start
	old      bool                 // of a version before this one, whose own faults are not for today's tests to find
}

func newShop(t testing.TB) *shop {
	t.Helper()
	// One idle connection for each buyer of the largest crowd.
	wide := &http.Transport{MaxIdleConns: crowd, MaxIdleConnsPerHost: crowd}
	s := &shop{data: t.TempDir(), of: map[string][]*service{}, client: &http.Client{Transport: wide, Timeout: stage.Patience}}
	t.Cleanup(wide.CloseIdleConnections)
	return s
}

// serve is the command line of a program of ours on the shop's data and a free port.
func (s *shop) serve(more ...string) []string {
	return append([]string{"serve", "--data", s.data, "--listen", "127.0.0.1:0"}, more...)
}

// add adds a program that answers for some contexts.
func (s *shop) add(l stage.Launch, contexts ...string) *service {
	sv := &service{launch: l, contexts: contexts, started: func(*stage.Process) {}}
	s.services = append(s.services, sv)
	for _, c := range contexts {
		s.of[c] = append(s.of[c], sv)
	}
	return sv
}

// start starts what does not run.
func (s *shop) start(t testing.TB) {
	t.Helper()
	fresh := map[*service]*stage.Process{}
	for _, sv := range s.services {
		if sv.process == nil || sv.process.Gone() {
			fresh[sv] = stage.Spawn(t, sv.launch)
		}
	}
	for sv, p := range fresh {
		p.Serves(t)
		sv.become(p)
	}
}

// run starts a service that does not run.
func (sv *service) run(t testing.TB) {
	t.Helper()
	sv.become(stage.Start(t, sv.launch))
}

// become replaces the process, of which others may ask for the address meanwhile.
func (sv *service) become(p *stage.Process) {
	sv.mu.Lock()
	sv.process = p
	sv.mu.Unlock()
	sv.started(p)
}

// now is the process, for those who come while it is replaced.
func (sv *service) now() *stage.Process {
	sv.mu.RLock()
	defer sv.mu.RUnlock()
	return sv.process
}

// close stops all that runs.
func (s *shop) close(t testing.TB) {
	t.Helper()
	s.client.CloseIdleConnections() // a server waits seconds for connections on which nothing was ever asked
	for _, sv := range s.services {
		if sv.process == nil {
			continue
		}
		sv.stop(t)
		sv.process = nil
	}
}

// stop ends a program as an operator does, and looks whether it ended well and had nothing to complain about.
func (sv *service) stop(t testing.TB) {
	t.Helper()
	complain := t.Errorf
	if sv.old {
		sv.process.Expected, complain = true, t.Logf
	}
	if err := sv.process.Stop(); err != nil {
		complain("it does not end well: %v", err)
	}
	if n := sv.process.Log.Errors(); n > 0 {
		complain("%d errors in the log of a shop in which nothing broke", n)
	}
}

// process is the first of those that answer for a context.
func (s *shop) process(context string) *stage.Process { return s.of[context][0].process }

// url is where a path of a context is. Its replicas get a request each in turn, as from a load balancer that knows who is there.
func (s *shop) url(path string) string {
	context := "orders"
	switch {
	case strings.HasPrefix(path, "/v1/payments"), strings.HasPrefix(path, "/v1/events/payments"):
		context = "payments"
	case strings.HasPrefix(path, "/v1/stock"), strings.HasPrefix(path, "/v1/reservations"), strings.HasPrefix(path, "/v1/events/inventory"), path == "/reserve":
		context = "inventory"
	}
	replicas := s.of[context]
	next := func() *stage.Process { return replicas[s.turn.Add(1)%uint64(len(replicas))].now() }
	p := next()
	for range replicas {
		if !p.Gone() {
			break
		}
		p = next()
	}
	return p.URL + path
}

// cli runs the command line against the shop.
func (s *shop) cli(t testing.TB, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	env := append(slices.Clone(s.env), "ORDERKEEP_DATA="+s.data)
	if p := s.process("orders"); s.door != "" {
		env = append(env, "ORDERKEEP_URL="+s.door)
	} else if p != nil {
		env = append(env, "ORDERKEEP_URL="+p.URL)
	}
	return stage.Launch{Path: program, Args: args, Env: env}.Run(t, stdin)
}

// verify proves the promises on the databases.
func (s *shop) verify(t testing.TB) {
	t.Helper()
	if out, log, code := s.cli(t, "", "verify"); code != 0 {
		t.Errorf("verify exits with %d:\n%s%s", code, out, log)
	}
}

// audit is what verify --json prints, as far as the tests read it.
type audit struct {
	OK       bool
	Counts   map[string]map[string]int64
	OnItsWay []struct {
		Rule, Oldest string
		Count        int
	}
	Violations []struct{ Rule, Detail string }
}

// audited is the answer of verify, whose exit code has to say the same.
func (s *shop) audited(t testing.TB) audit {
	t.Helper()
	out, log, code := s.cli(t, "", "verify", "--json")
	var a audit
	if err := json.Unmarshal([]byte(out), &a); err != nil || a.OK != (code == 0) {
		t.Fatalf("verify exits with %d: %v\n%s%s", code, err, out, log)
	}
	return a
}

// waits is how much is on its way under a rule.
func (a audit) waits(rule string) int {
	for _, w := range a.OnItsWay {
		if w.Rule == rule {
			return w.Count
		}
	}
	return 0
}

// settles waits until nothing is on its way between the contexts, and fails the test unless every promise is kept then.
func (s *shop) settles(t testing.TB) {
	t.Helper()
	var a audit
	stage.Eventually(t, "nothing is on its way", func() bool {
		a = s.audited(t)
		return len(a.OnItsWay) == 0
	})
	if !a.OK {
		t.Errorf("verify finds %v", a.Violations)
	}
}

// The shelf: what the scenarios sell.
const (
	book   = "BOOK-001"
	record = "RECORD-002"
	// service is not tracked: there is always more of it. A foreign Inventory does not know the difference.
	wrapping = "GIFT-WRAP"
)

// hot is the SKU of one of the sales that everybody comes to.
func hot(n int) string { return fmt.Sprintf("HOT-%d", n) }

// sales is how many of them there are.
const sales = 10

// stock puts units of each SKU on the shelf.
func (s *shop) stock(t testing.TB, units int) {
	t.Helper()
	sheet := fmt.Sprintf("sku,title,on_hand,tracked\n%s,Wrapping,0,false\n", wrapping)
	for _, sku := range shelf() {
		sheet += fmt.Sprintf("%s,,%d,true\n", sku, units)
	}
	if out, log, code := s.cli(t, sheet, "--url", s.process("inventory").URL, "stock", "import", "-"); code != 0 {
		t.Fatalf("stock import exits with %d: %s%s", code, out, log)
	}
}

// shelf lists the tracked SKUs.
func shelf() []string {
	skus := []string{book, record}
	for n := range sales {
		skus = append(skus, hot(n))
	}
	return skus
}

// line is one of an order.
type line struct {
	SKU   string `json:"sku"`
	Qty   int    `json:"qty"`
	Price int    `json:"unitPrice,omitempty"` // minor units
}

// order is what a buyer sends.
type order struct {
	Items    []line   `json:"items"`
	Currency string   `json:"currency,omitempty"`
	Customer string   `json:"customer,omitempty"`
	Payment  *payment `json:"payment,omitempty"`
}

type payment struct {
	Provider string `json:"provider"`
	Token    string `json:"token"`
}

const visa = "pm_card_visa"

// paid is an order that is paid with a token.
func paid(token string, lines ...line) order {
	return order{Items: lines, Currency: "GBP", Payment: &payment{"simulated", token}}
}

// one is a book for 12.50.
var one = line{book, 1, 1250}

// answer is what came back, as far as the scenarios look at it.
type answer struct {
	status int
	header http.Header
	text   string

	// Of an order, or a problem.
	OrderID, Reason, Error, CorrelationID, Undo, Settlement string
	Status                                                  state
	Items                                                   []struct {
		SKU                  string
		Requested, Available int
		Qty                  int
	}
	TotalMinor int
	// Of an item of stock.
	OnHand, Reserved, Available int
	// Of a payment.
	AuthorizedMinor, VoidedMinor, CapturedMinor, RefundedMinor int
}

// state is the status of an order or a payment. That of a problem is the answer's own, and is not looked at here.
type state string

func (s *state) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(s))
	}
	return nil
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.text) }

// replayed reports whether it is the stored answer of an earlier request.
func (a answer) replayed() bool { return a.header.Get("Idempotent-Replayed") == "true" }

// try sends a request. header is pairs of name and value.
func (s *shop) try(method, path string, body any, header ...string) (answer, error) {
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			return answer{}, err
		}
	}
	r, err := http.NewRequest(method, s.url(path), &b)
	if err != nil {
		return answer{}, err
	}
	if o, ok := body.(order); ok {
		s.private.Store(o.Customer, "a customer's name")
		if o.Payment != nil {
			s.private.Store(o.Payment.Token, "a token")
		}
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Idempotency-Key" {
			s.private.LoadOrStore(header[i+1], "a key") // one may be named by its customer
		}
		if header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	res, err := s.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: res.StatusCode, header: res.Header, text: string(text)}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &a); err != nil {
			return answer{}, fmt.Errorf("%s %s answers %d with what is no JSON: %q", method, path, res.StatusCode, text)
		}
	}
	return a, nil
}

// do is try for a test that cannot go on without an answer.
func (s *shop) do(t testing.TB, method, path string, body any, header ...string) answer {
	t.Helper()
	a, err := s.try(method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// place sends an order under a key, if it is not "".
func (s *shop) place(t testing.TB, key string, o order) answer {
	t.Helper()
	return s.do(t, http.MethodPost, "/v1/orders", o, "Idempotency-Key", key)
}

// get looks something up.
func (s *shop) get(t testing.TB, path string) answer {
	t.Helper()
	return s.do(t, http.MethodGet, path, nil)
}

// ends waits until an order is no longer pending.
func (s *shop) ends(t testing.TB, id string) answer {
	t.Helper()
	var a answer
	stage.Eventually(t, "order "+id+" ends", func() bool {
		a = s.get(t, "/v1/orders/"+id)
		return a.status == http.StatusOK && a.Status != "pending"
	})
	return a
}

// hasAvailable looks at the shelf, where Inventory lets one look.
func (s *shop) hasAvailable(t testing.TB, sku string, units int) {
	t.Helper()
	if s.of["inventory"] == nil {
		return
	}
	if a := s.get(t, "/v1/stock/"+sku); a.status != http.StatusOK || a.Available != units {
		t.Errorf("%s: %v, want %d available", sku, a, units)
	}
}

// want fails the test unless the answer has this status and, of a problem, this code.
func want(t testing.TB, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.Error != code {
		t.Fatalf("got %v, want %d %s", a, status, code)
	}
}

// event is a CloudEvent.
type event struct {
	ID, Type, Subject, Cursor, CorrelationID string
	Time                                     time.Time
}

// feed reads a context's feed from the beginning to its end.
func (s *shop) feed(t testing.TB, path string) []event {
	t.Helper()
	var all []event
	for after := ""; ; {
		a := s.get(t, path+"?limit=7&after="+after) // small pages: there are borders between them to fall through
		var page struct {
			Events []event
			Next   string
		}
		if err := json.Unmarshal([]byte(a.text), &page); err != nil || a.status != http.StatusOK {
			t.Fatalf("%s: %v, %v", path, a, err)
		}
		if len(page.Events) == 0 {
			return all
		}
		all, after = append(all, page.Events...), page.Next
	}
}

// discreet looks for what is private in all that the shop has told: logs, kept lines and spans, figures and events.
func (s *shop) discreet(t testing.TB) {
	t.Helper()
	told := map[string]string{}
	for name, text := range s.files(t) {
		if name == "the log" || strings.HasPrefix(name, "window/") {
			told[name] = text
		}
	}
	feeds := map[string]string{"orders": "/v1/events", "inventory": "/v1/events/inventory", "payments": "/v1/events/payments"}
	for _, sv := range s.services {
		if sv.process == nil || sv.process.Gone() {
			continue // the scenario was about that
		}
		told["the figures of "+strings.Join(sv.contexts, "+")] += figures(t, sv.process.URL)
		for _, context := range sv.contexts {
			told["the events of "+context] = s.get(t, feeds[context]+"?limit=1000").text
		}
	}
	s.private.Range(func(what, why any) bool {
		text := what.(string)
		if len(text) < 6 { // it is in any text by chance
			return true
		}
		for name, all := range told {
			// A name is in the event of the order on purpose: the contract has it, for those who deliver.
			if at := strings.Index(all, text); at >= 0 && (why != "a customer's name" || !strings.HasPrefix(name, "the events")) {
				t.Errorf("%s, %s, is in %s: %s", text, why, name, all[max(0, at-200):min(len(all), at+200)])
			}
		}
		return true
	})
}

// files returns what lies in the data directory and in the logs, by name.
func (s *shop) files(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(s.data, func(path string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, s.data+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sv := range s.services {
		all["the log"] += sv.process.Log.String()
	}
	return all
}
