package test

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/broker/brokertest"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/porttest"
	"github.com/orderkeep/orderkeep/internal/rate/ratetest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// topology is a way to run Orderkeep. The contexts' addresses, and where the data is, are the shop's to know.
type topology struct {
	name string
	has  feature
	// open starts it, with as many units of each SKU of the shelf on it, until the test ends.
	open func(t *testing.T, units int) *shop
}

// feature is what a topology has beyond the least.
type feature uint

const (
	ownInventory  feature = 1 << iota // Inventory is ours: it knows its SKUs, shows its stock and releases
	inventoryWire                     // there is a wire to Inventory, which can be cut
	paymentsWire                      // there is a wire to Payments
	ownProcesses                      // each context is a process of its own, which can be killed
	replicas                          // each context has two processes
	sharedLimits                      // which count a client's requests in one Redis
	crowds                            // many can come at once, as everywhere
	onlyCrowds                        // the row is for that alone: another one shows the rest of what it has
)

// Names for what several rows have.
const (
	whole = ownInventory | crowds
	apart = whole | inventoryWire | paymentsWire
)

// topologies is the table: each scenario runs on each row that has what it needs.
var topologies = []topology{
	{"one process", whole, oneProcess},
	{"every call over TCP and every command sent again", apart, everyCallOverTCP},
	{"three processes over gRPC", apart | ownProcesses, threeProcesses("grpc", ownBroker)},
	{"three processes over gRPC and RabbitMQ", apart | ownProcesses, threeProcesses("grpc", brokertest.RabbitMQ)},
	{"three processes over REST", apart | ownProcesses, threeProcesses("http", ownBroker)},
	{"a foreign Inventory", crowds | inventoryWire, foreignInventory},
	{"one process on PostgreSQL", whole, onPostgres(1)},
	{"two replicas of one process on PostgreSQL", whole | replicas, onPostgres(2)},
	{"two replicas of each service on PostgreSQL, NATS and Redis", apart | replicas | sharedLimits, twoOfEach(ownBroker)},
	{"two replicas of each service on PostgreSQL, RabbitMQ and Redis", apart | replicas | sharedLimits | onlyCrowds, twoOfEach(brokertest.RabbitMQ)},
}

// oneProcess is what "orderkeep serve" starts.
func oneProcess(t *testing.T, units int) *shop {
	s := newShop(t)
	s.add(stage.Launch{Path: program, Args: s.serve()}, "orders", "inventory", "payments")
	s.start(t)
	s.stock(t, units)
	return s
}

// onPostgres is that many processes with all contexts, on one PostgreSQL database for each context. They share nothing else, a
// data directory included, and a client's requests reach now the one and now the other.
func onPostgres(replicas int) func(t *testing.T, units int) *shop {
	return func(t *testing.T, units int) *shop {
		s := replicated(t, replicas)
		s.start(t)
		s.stock(t, units)
		return s
	}
}

// replicated is such a shop before its start.
func replicated(t *testing.T, replicas int) *shop {
	s := newShop(t)
	s.env = databases(t)
	for range replicas {
		s.add(stage.Launch{Path: program, Args: s.serve(), Env: s.env}, "orders", "inventory", "payments")
	}
	return s
}

// databases are the settings of a PostgreSQL database for each context.
func databases(t *testing.T) (env []string) {
	for _, setting := range []string{"ORDERS_DB", "INVENTORY_DB", "PAYMENTS_DB", "SIMULATED_PROVIDER_DB"} {
		env = append(env, setting+"="+dbtest.Postgres.New(t))
	}
	return env
}

// twoOfEach is two replicas of each context as the program of its own. Those of a context have its database in common, all have a
// broker and a Redis, and nobody a directory. Orders has a list of the others' replicas, each behind a wire of its own.
func twoOfEach(open func(testing.TB) string) func(*testing.T, int) *shop {
	return func(t *testing.T, units int) *shop {
		const each = 2
		s := newShop(t)
		s.env = databases(t)
		s.redis, _ = ratetest.Redis(t)
		s.inventoryWire, s.paymentsWire = stage.NewWires(t, each), stage.NewWires(t, each)
		peers := []string{"--inventory-url", "grpc://" + s.inventoryWire.Addrs(), "--payments-url", "grpc://" + s.paymentsWire.Addrs()}
		common := []string{"--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--broker-url", open(t),
			"--redis-url", s.redis, "--rate-limit", "1000000/s"} // counted, and never too many
		replica := func(context string, more ...string) *service {
			args := append(append([]string{"--data", t.TempDir()}, common...), more...)
			return s.add(stage.Launch{Path: filepath.Join(filepath.Dir(program), context), Args: args, Env: s.env}, context)
		}
		for range each {
			replica("orders", peers...)
		}
		for n := range each {
			replica("inventory").started = func(p *stage.Process) { s.inventoryWire[n].Lead(p.GRPC) }
			replica("payments").started = func(p *stage.Process) { s.paymentsWire[n].Lead(p.GRPC) }
		}
		s.start(t)
		s.stock(t, units)
		return s
	}
}

// everyCallOverTCP is one process whose contexts call each other over gRPC, through wires that can be cut and a repeater.
func everyCallOverTCP(t *testing.T, units int) *shop {
	s := newShop(t)
	back := stage.NewWire(t) // to the process, which comes back at another port
	r := repeater(t, back.Addr())
	s.inventoryWire, s.paymentsWire = stage.NewWires(t, 1), stage.NewWires(t, 1)
	s.inventoryWire[0].Lead(r)
	s.paymentsWire[0].Lead(r)
	s.add(stage.Launch{Path: program, Args: s.serve("--run", "orders,inventory,payments", "--grpc-listen", "127.0.0.1:0",
		"--inventory-url", "grpc://"+s.inventoryWire.Addrs(), "--payments-url", "grpc://"+s.paymentsWire.Addrs())}, "orders", "inventory", "payments").
		started = func(p *stage.Process) { back.Lead(p.GRPC) }
	s.start(t)
	s.stock(t, units)
	return s
}

// threeProcesses is each context as the program of its own, on one data directory; Orders calls the others through wires that
// can be cut, and events go through a broker.
func threeProcesses(scheme string, open func(testing.TB) string) func(*testing.T, int) *shop {
	return func(t *testing.T, units int) *shop {
		s := split(t, scheme, open(t))
		s.start(t)
		s.stock(t, units)
		return s
	}
}

// split is such a shop before its start.
func split(t *testing.T, scheme, broker string) *shop {
	s := newShop(t)
	s.inventoryWire, s.paymentsWire = stage.NewWires(t, 1), stage.NewWires(t, 1)
	own := func(context string, more ...string) *service {
		args := append([]string{"--data", s.data, "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--broker-url", broker}, more...)
		return s.add(stage.Launch{Path: filepath.Join(filepath.Dir(program), context), Args: args}, context)
	}
	// Orders first: it starts without the others, and ends before them.
	own("orders", "--inventory-url", scheme+"://"+s.inventoryWire.Addrs(), "--payments-url", scheme+"://"+s.paymentsWire.Addrs())
	reach := func(w *stage.Wire, sv *service) {
		sv.started = func(p *stage.Process) {
			if scheme == "grpc" {
				w.Lead(p.GRPC)
				return
			}
			w.Lead(strings.TrimPrefix(p.URL, "http://"))
		}
	}
	reach(s.inventoryWire[0], own("inventory"))
	reach(s.paymentsWire[0], own("payments"))
	return s
}

// ownBroker starts "orderkeep broker", which outlives the shop, and returns its URL.
func ownBroker(t testing.TB) string {
	t.Helper()
	_, url := stage.ServeBroker(t, program, t.TempDir(), "127.0.0.1:0")
	return url
}

// foreignInventory is Orders and Payments with somebody else's Inventory behind them, which knows POST /reserve and nothing
// else, and has the units of any SKU that it is asked for.
func foreignInventory(t *testing.T, units int) *shop {
	s := newShop(t)
	s.inventoryWire = stage.NewWires(t, 1)
	s.inventoryWire[0].Lead(foreign(t, "inventory.js", strconv.Itoa(units)))
	s.env = []string{"INVENTORY_URL=http://" + s.inventoryWire.Addrs()}
	s.add(stage.Launch{Path: program, Args: s.serve(), Env: s.env}, "orders", "payments")
	s.start(t)
	return s
}

// foreign starts one of the Node.js programs of bench/node and returns its address. They take a port and do not say when
// they listen.
func foreign(t *testing.T, script, arg string) string {
	t.Helper()
	node := stage.Need(t, "node")
	addr := porttest.Addr(t)
	_, port, _ := net.SplitHostPort(addr)
	p := stage.Spawn(t, stage.Launch{Path: node, Args: []string{"../bench/node/" + script, port, arg}, Dir: "."})
	t.Cleanup(p.Kill) // it has no better end
	if !p.Answers(addr) {
		t.Fatalf("%s does not start", script)
	}
	return addr
}

// plays reports whether a scenario is for the topology.
func (top topology) plays(sc scenario) bool {
	return top.has&sc.needs == sc.needs && (top.has&onlyCrowds == 0 || sc.needs&crowds != 0)
}

// TestScenarios is the matrix.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios {
		t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			for _, top := range topologies {
				if !top.plays(sc) {
					continue
				}
				t.Run(top.name, func(t *testing.T) {
					t.Parallel()
					s := top.open(t, sc.units)
					sc.play(t, s)
					s.verify(t)
					s.discreet(t)
					s.close(t)
				})
			}
		})
	}
}

func TestEveryScenarioRunsSomewhere(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios {
		ran := 0
		for _, top := range topologies {
			if top.plays(sc) {
				ran++
			}
		}
		if ran == 0 {
			t.Errorf("no topology has what %q needs: it proves nothing", sc.name)
		}
	}
}
