package test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/broker"
	"github.com/orderkeep/orderkeep/internal/broker/brokertest"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/porttest"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"github.com/orderkeep/orderkeep/test/stage"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// mortal is a broker that is ended and started again on the same data and port.
type mortal struct {
	url        string
	start      func(testing.TB)
	stop, kill func()
}

// mortalOwn is "orderkeep broker".
func mortalOwn(t testing.TB) *mortal {
	data, listen := t.TempDir(), porttest.Addr(t)
	var p *stage.Process
	return &mortal{
		url:   "nats://" + listen,
		start: func(t testing.TB) { p, _ = stage.ServeBroker(t, program, data, listen) },
		stop:  func() { _ = p.Stop() }, // how it ended is looked at when the test ends
		kill:  func() { p.Kill() },
	}
}

func mortalRabbitMQ(t testing.TB) *mortal {
	s := brokertest.OwnRabbitMQ(t)
	return &mortal{s.URL, s.Start, s.Stop, s.Kill}
}

// afterwards is how many orders are cancelled, how many fulfilled and how many returned while the broker is away.
const afterwards = 10

// TestReplayLosesNothingWhenTheBrokerRestarts replays a shop's sales, returns and corrections through three processes, and
// ends the broker twice in the middle of it. Meanwhile orders go on, and what is cancelled, fulfilled and returned waits.
func TestReplayLosesNothingWhenTheBrokerRestarts(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		name  string
		open  func(testing.TB) *mortal
		first func(*mortal) // the first end; the second is a kill
		keeps bool          // all events, so that they can be counted at the end
	}{
		{"the embedded broker", mortalOwn, func(m *mortal) { m.kill() }, true},
		// Stopped first: a RabbitMQ 3.10 that is killed in the seconds after a quorum queue was made has forgotten where it is
		// (docs/adr/0017), and after an orderly end it has not.
		{"RabbitMQ", mortalRabbitMQ, func(m *mortal) { m.stop() }, false},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			m := b.open(t)
			m.start(t)
			w := newWitness(t, m.url)
			if !b.keeps {
				w.join(t)
			}
			past := somePast(t)
			s := threeProcesses("grpc", func(testing.TB) string { return m.url })(t, 1000)
			d := s.openDoor(t, past.outages()...)
			if out, log, code := s.cli(t, "", "stock", "import", past.sheet); code != 0 {
				t.Fatalf("stock import exits with %d: %s%s", code, out, log)
			}
			s.replayThroughOutages(t, d, past, m, b.first)
			s.settles(t)
			s.holdsFigures(t, past)
			if b.keeps {
				w.join(t)
			}
			s.close(t)
			told := s.told(t)
			w.has(t, told)
			s.consumed(t, told)
		})
	}
}

// outages are the orders that come when the broker goes away, and is there again, twice.
func (p past) outages() []int {
	all := p.figures.Confirmed + p.figures.OutOfStock
	return []int{all / 6, all / 3, all / 2, 2 * all / 3}
}

// replayThroughOutages is the replay, one invoice after the other so that its figures are known.
func (s *shop) replayThroughOutages(t *testing.T, d *door, p past, m *mortal, first func(*mortal)) {
	t.Helper()
	type end struct {
		out, log string
		code     int
	}
	ended := make(chan end, 1)
	go func() {
		out, log, code := s.cli(t, "", replaying(p.file, 1)...)
		ended <- end{out, log, code}
	}()
	reaches := func(order int) {
		t.Helper()
		select {
		case <-d.gates[order]:
		case e := <-ended:
			t.Fatalf("the replay ended before order %d: %s%s", order, e.out, e.log)
		}
	}
	at := p.outages()
	for i, end := range []func(*mortal){first, func(m *mortal) { m.kill() }} {
		reaches(at[2*i])
		s.allReady(t)
		mine := atOnce(t, 3*afterwards, func(int) (answer, error) { return s.try(http.MethodPost, "/v1/orders", paid(visa, one)) })
		atOnce(t, afterwards, func(i int) (answer, error) { return s.act(mine[2*afterwards+i].OrderID, "fulfil") }) // to be returned
		end(m)
		d.pass()

		reaches(at[2*i+1]) // orders went on
		s.actOn(t, mine)
		got := s.audited(t)
		if n := got.waits("outbox_drained"); !got.OK || n == 0 || n < got.waits("order_is_answered") {
			t.Errorf("outage %d: verify says %+v, want events that wait and nothing wrong", i, got)
		}
		d.pass()
		m.start(t)
	}
	e := <-ended
	if d := cmp.Diff(p.figures, summary(t, e.out, e.log, e.code)); d != "" {
		t.Error(d)
	}
}

// actOn cancels a third of the orders, fulfils one and returns one, and fulfils some of the replay's, which changes nothing that
// is available. Without a broker none is answered.
func (s *shop) actOn(t *testing.T, mine []answer) {
	t.Helper()
	replayed := s.newest(t, afterwards, "status=confirmed")[:afterwards]
	atOnce(t, len(mine)+len(replayed), func(i int) (a answer, err error) {
		if i < len(mine) {
			a, err = s.act(mine[i].OrderID, []string{"cancel", "fulfil", "return"}[i/afterwards])
		} else {
			a, err = s.act(replayed[i-len(mine)].OrderID, "fulfil")
		}
		if err == nil && a.Undo != "pending" && a.Settlement != "pending" {
			err = fmt.Errorf("answered without a broker: %v", a)
		}
		return a, err
	})
}

// act cancels, fulfils or returns an order.
func (s *shop) act(id, verb string) (answer, error) {
	a, err := s.try(http.MethodPost, "/v1/orders/"+id+"/"+verb, nil)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%s %s: %v", verb, id, a)
	}
	return a, err
}

// holdsFigures compares the shelf with the model's, and looks whether a second replay finds everything done.
func (s *shop) holdsFigures(t *testing.T, p past) {
	t.Helper()
	rest := func() []item {
		return slices.DeleteFunc(s.export(t), func(i item) bool { return i.sku == wrapping || slices.Contains(shelf(), i.sku) })
	}
	left := rest()
	if n := sum(left, func(i item) int { return i.available }); n != p.leftOver {
		t.Errorf("%d units are left over, want %d", n, p.leftOver)
	}
	if i := s.get(t, "/v1/stock/"+book); i.OnHand != 1000-2*afterwards || i.Reserved != 0 {
		t.Errorf("of the orders beside the replay: %v, want %d on hand and none reserved", i, 1000-2*afterwards)
	}
	before := len(s.orders(t, ""))
	if want := p.figures.Confirmed + p.figures.OutOfStock + 2*3*afterwards; before != want {
		t.Errorf("there are %d orders, want %d", before, want)
	}
	second := s.replay(t, p.file, 8)
	if second.Again <= p.figures.Confirmed+p.figures.OutOfStock { // one request for each order, and one for each line of the rest
		t.Errorf("%d requests of the second replay got stored answers", second.Again)
	}
	second.Again = 0
	if d := cmp.Diff(p.figures, second); d != "" {
		t.Errorf("the second replay: %s", d)
	}
	if n := len(s.orders(t, "")); n != before {
		t.Errorf("there are %d orders after the second replay, and were %d", n, before)
	}
	if !slices.Equal(left, rest()) {
		t.Error("the second replay changed the stock")
	}
	s.settles(t)
}

// ready asks a service whether it has all that it needs, and what it goes on without.
func (s *shop) ready(sv *service) bool {
	c, err := s.condition(sv)
	return err == nil && c.Status == "ready"
}

// condition is what /readyz says, as far as the tests read it.
type condition struct {
	code   int
	Status string
	Away   map[string]string
	Events map[string]struct {
		Outbox, Inbox struct {
			Waiting       int
			OldestSeconds float64
		}
		Parked int
	}
}

func (s *shop) condition(sv *service) (condition, error) {
	res, err := s.client.Get(sv.process.URL + "/readyz")
	if err != nil {
		return condition{}, err
	}
	defer res.Body.Close()
	c := condition{code: res.StatusCode}
	return c, json.NewDecoder(res.Body).Decode(&c)
}

// door is one address for all contexts, as a gateway is, for the command line, which knows one. It holds some orders back until
// they are let through.
type door struct {
	gates map[int]chan struct{} // by the number of the order that closes it when it comes
	let   chan struct{}
	came  atomic.Int64 // orders
}

// openDoor opens one for the command line, until the test ends.
func (s *shop) openDoor(t testing.TB, held ...int) *door {
	t.Helper()
	d := &door{gates: map[int]chan struct{}{}, let: make(chan struct{})}
	for _, n := range held {
		d.gates[n] = make(chan struct{})
	}
	proxy := &httputil.ReverseProxy{
		Transport: s.client.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			to, err := url.Parse(s.url(r.In.URL.Path))
			if err != nil {
				t.Error(err)
				return
			}
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/v1/orders" {
			if gate := d.gates[int(d.came.Add(1))]; gate != nil {
				close(gate)
				select {
				case <-d.let:
				case <-r.Context().Done():
				}
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.door = server.URL
	return d
}

// pass lets the order through that is held.
func (d *door) pass() { d.let <- struct{}{} }

// contexts are those that publish events, and consume them.
var contexts = []string{"orders", "inventory", "payments"}

// hears is which events a context acts on, as ARCHITECTURE.md has it.
var hears = map[string][]string{
	"orders": {
		"orderkeep.inventory.v1.StockReleased", "orderkeep.inventory.v1.StockCommitted", "orderkeep.inventory.v1.StockReturned",
		"orderkeep.payments.v1.PaymentVoided", "orderkeep.payments.v1.PaymentCaptured", "orderkeep.payments.v1.PaymentRefunded",
	},
	"inventory": {toldCancelled, "orderkeep.orders.v1.OrderFulfilled", "orderkeep.orders.v1.OrderReturned"},
	"payments":  {toldCancelled, "orderkeep.orders.v1.OrderFulfilled", "orderkeep.orders.v1.OrderReturned"},
}

// fact is an event, as far as order and loss go.
type fact struct{ source, subject, id, kind string }

// told is what the contexts have written in their outboxes, which no process has open any more. All of it has to be published.
func (s *shop) told(t *testing.T) []fact {
	t.Helper()
	var all []fact
	for _, context := range contexts {
		mine := s.facts(t, context, `SELECT '/`+context+`', subject, id, type FROM outbox ORDER BY seq`)
		published := s.facts(t, context, `SELECT '/`+context+`', subject, id, type FROM outbox WHERE position IS NOT NULL ORDER BY position`)
		if len(mine) == 0 || !slices.Equal(mine, published) {
			t.Errorf("%s has published %d of %d events, or not in their order", context, len(published), len(mine))
		}
		t.Logf("%s published %d events", context, len(published))
		all = append(all, mine...)
	}
	return all
}

// consumed holds what each context has consumed against what was told: all that it acts on, once, in the order of each subject.
func (s *shop) consumed(t *testing.T, told []fact) {
	t.Helper()
	for _, context := range contexts {
		wants := slices.DeleteFunc(slices.Clone(told), func(f fact) bool { return !slices.Contains(hears[context], f.kind) })
		done := s.facts(t, context, `SELECT source, subject, event_id, type FROM inbox WHERE state = 'done' AND consumer = '`+context+`' ORDER BY seq`)
		t.Logf("%s consumed %d events", context, len(done))
		same(t, context+" has consumed", wants, done)
	}
}

func (s *shop) facts(t *testing.T, context, query string) (all []fact) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.data, context+".db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var f fact
		if err := rows.Scan(&f.source, &f.subject, &f.id, &f.kind); err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// same fails the test unless got is want, subject by subject.
func same(t *testing.T, what string, want, got []fact) {
	t.Helper()
	bySubject := func(all []fact) map[string][]string {
		m := map[string][]string{}
		for _, f := range all {
			m[f.source+" "+f.subject] = append(m[f.source+" "+f.subject], f.kind+" "+f.id)
		}
		return m
	}
	if len(want) == 0 || len(want) != len(got) {
		t.Errorf("%s %d events, want %d", what, len(got), len(want))
	}
	wants, gots := bySubject(want), bySubject(got)
	told := 0
	for subject, events := range wants {
		if slices.Equal(events, gots[subject]) {
			continue
		}
		if told++; told <= 10 { // the rest is not read by anybody
			t.Errorf("%s of %s:\n%s", what, subject, cmp.Diff(events, gots[subject]))
		}
	}
}

// witness is a consumer that is no context and wants everything. A broker may deliver an event more than once.
type witness struct {
	bus *broker.Bus

	mu    sync.Mutex
	facts []fact
	seen  map[string]bool // by source and id
}

func newWitness(t testing.TB, url string) *witness {
	t.Helper()
	w := &witness{seen: map[string]bool{}}
	var err error
	if w.bus, err = broker.New(url, contexts, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, contract := range []protoreflect.FileDescriptor{ordersv1.File_orders_v1_orders_proto, inventoryv1.File_inventory_v1_inventory_proto, paymentsv1.File_payments_v1_payments_proto} {
		for i := range contract.Messages().Len() { // those that are no events are never told
			types = append(types, string(contract.Messages().Get(i).FullName()))
		}
	}
	if err := w.bus.Subscribe(outbox.Subscription{Name: "witness", Types: types, Receive: w.receive}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *witness) receive(_ context.Context, events []outbox.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		if key := e.Source + " " + e.ID; !w.seen[key] {
			w.seen[key] = true
			w.facts = append(w.facts, fact{e.Source, e.Subject, e.ID, e.Type})
		}
	}
	return nil
}

// join lets it listen, from the first event on that the broker has, until the test ends.
func (w *witness) join(t testing.TB) {
	t.Helper()
	w.bus.Start()
	t.Cleanup(w.bus.Close)
	stage.Eventually(t, "the broker lets the witness in", func() bool { return w.bus.Ready(t.Context()) == nil })
}

// has waits until it has heard as much as was told, and looks whether it is that.
func (w *witness) has(t *testing.T, told []fact) {
	t.Helper()
	var heard []fact
	stage.Eventually(t, "the witness has heard all that was told", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		heard = slices.Clone(w.facts)
		return len(heard) >= len(told)
	})
	same(t, "the witness has heard", told, heard)
}
