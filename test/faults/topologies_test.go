package faults

import (
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/rate/ratetest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// oneProcess is what "orderkeep serve" starts.
func oneProcess(t testing.TB, r *Run) *world {
	w := newWorld(t, r)
	data := t.TempDir()
	if smallDisk(t, data) {
		w.disk = data
	}
	w.urls = sqlite(data)
	w.verify = []string{"ORDERKEEP_DATA=" + data}
	door := w.newEdge("client to orders")
	w.doors, w.stock = []*edge{door}, door
	w.add("orderkeep", stage.Launch{Path: program, Args: []string{"serve", "--data", data, "--listen", "127.0.0.1:0"}}, func(p *stage.Process) {
		door.wire.Lead(host(p.URL))
	})
	w.up()
	w.layIn()
	return w
}

// replicas of Orders: two orchestrators, who may drive one order when a lease has run out.
const replicas = 2

// split is each context as the program of its own, and two of Orders, on PostgreSQL, a broker and Redis. Every way between them is an
// edge; commands to Inventory and Payments, and events, are sent more than once, late and out of order.
func split(t testing.TB, r *Run, with string) *world {
	w := newWorld(t, r)
	b := brokers[with](w)
	pg := dbtest.OwnPostgres(t)
	for _, name := range databases {
		w.urls[name] = pg.New(t)
		w.verify = append(w.verify, settingOf(name)+"="+w.urls[name])
	}
	redis, stopRedis := ratetest.Redis(t)
	w.servers = append(w.servers, &server{name: "PostgreSQL", restart: func(down time.Duration) {
		pg.Stop(t)
		pause(t.Context(), down)
		pg.Start(t)
	}}, b.server, &server{name: "Redis", restart: func(down time.Duration) {
		stopRedis()
		pause(t.Context(), down)
		stopRedis = ratetest.Restart(t, redis)
	}})

	back := map[string]*stage.Wire{"inventory": stage.NewWire(t), "payments": stage.NewWire(t)}
	rough := map[string]string{}
	for _, context := range []string{"inventory", "payments"} {
		rough[context] = w.roughWay(back[context].Addr())
	}
	lay := func(name, to string) *edge { // to what keeps its address
		e := w.newEdge(name)
		e.wire.Lead(to)
		return e
	}
	own := func(name, context string, more ...string) {
		base := lay(name+" to PostgreSQL", pg.Socket())
		env := []string{settingOf(context) + "=" + through(w.urls[context], base)}
		if context == "payments" {
			w.bank = lay("payments to the provider", pg.Socket())
			env = append(env, settingOf("simulated-provider")+"="+through(w.urls["simulated-provider"], w.bank))
		}
		door := w.newEdge("client to " + name)
		args := append([]string{"--data", t.TempDir(), "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0",
			"--broker-url", b.through(w.newEdge(name + " to the broker")), "--redis-url", "redis://" + lay(name+" to Redis", host(redis)).addr(), "--rate-limit", "1000000/s"}, more...)
		w.add(name, stage.Launch{Path: filepath.Join(filepath.Dir(program), context), Args: args, Env: env}, func(p *stage.Process) {
			door.wire.Lead(host(p.URL))
			if wire := back[context]; wire != nil {
				wire.Lead(p.GRPC)
			}
		})
		switch context {
		case "orders":
			w.doors = append(w.doors, door)
		case "inventory":
			w.stock = door
		}
	}
	for _, name := range []string{"orders-1", "orders-2"}[:replicas] {
		own(name, "orders", "--inventory-url", "grpc://"+lay(name+" to inventory", rough["inventory"]).addr(),
			"--payments-url", "grpc://"+lay(name+" to payments", rough["payments"]).addr())
	}
	own("inventory", "inventory")
	own("payments", "payments")
	w.up()
	w.layIn()
	b.repeat()
	return w
}

// settingOf names a database's URL.
func settingOf(database string) string {
	return strings.ToUpper(strings.ReplaceAll(database, "-", "_")) + "_DB"
}

// through is the URL of a PostgreSQL database by an edge.
func through(raw string, e *edge) string {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err) // the test server's own
	}
	u.Host, u.RawQuery = e.addr(), "sslmode=disable"
	return u.String()
}

// host is the HOST:PORT of a URL.
func host(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	return rest
}
