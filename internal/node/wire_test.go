package node_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// A context that has an address is called there, and not opened here.
func TestPeerElsewhereOverGRPC(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	far := grpc.NewServer()
	inventoryv1.RegisterInventoryServiceServer(far, stock{check: func(ctx context.Context, _ *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		if id := metadata.ValueFromIncomingContext(ctx, "x-correlation-id"); len(id) != 1 || id[0] != "c-9" {
			t.Errorf("correlation %v", id)
		}
		return nil, fault.ToGRPC(errShelf)
	}})
	go func() { _ = far.Serve(l) }()
	t.Cleanup(far.Stop)

	j := &journal{}
	orders, here := shop(j, nil)
	cfg := config(t)
	cfg.InventoryURL, cfg.BrokerURL = "grpc://"+l.Addr().String(), nobody
	start(t, cfg, orders.context(), here.context())
	if got := strings.Join(j.all(), ", "); got != "open orders" {
		t.Errorf("%s", got)
	}
	client := inventoryv1.NewInventoryServiceClient(orders.env.Peers["inventory"].Conn)
	if _, err := client.Check(telemetry.WithCorrelation(t.Context(), "c-9"), &inventoryv1.CheckRequest{}); !errors.Is(err, errShelf) {
		t.Errorf("err = %v", err)
	}
}

func TestPeerElsewhereOverREST(t *testing.T) {
	t.Parallel()
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path+" "+r.Header.Get("X-Correlation-ID"))
	}))
	t.Cleanup(far.Close)
	orders, _ := shop(&journal{}, nil)
	cfg := config(t)
	cfg.InventoryURL = far.URL
	start(t, cfg, orders.context())
	p := orders.env.Peers["inventory"]
	if p.Conn != nil || p.URL != far.URL {
		t.Fatalf("peer %+v", p)
	}
	req, _ := http.NewRequestWithContext(telemetry.WithCorrelation(t.Context(), "c-9"), http.MethodPost, p.URL+"/reserve", strings.NewReader("{}"))
	res, err := p.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "/reserve c-9" {
		t.Errorf("got %s", b)
	}
}

func TestAddressOfAContextThatRunsHereIsItsWire(t *testing.T) {
	t.Parallel()
	far := startInventory(t, func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		return nil, errShelf
	})
	orders, here := shop(&journal{}, func(context.Context, *inventoryv1.CheckRequest) (*inventoryv1.CheckResponse, error) {
		t.Error("the call did not leave the process")
		return &inventoryv1.CheckResponse{}, nil
	})
	cfg := config(t)
	cfg.Run, cfg.InventoryURL = []string{"orders", "inventory"}, "grpc://"+far.grpc
	start(t, cfg, orders.context(), here.context())
	if _, err := inventoryv1.NewInventoryServiceClient(orders.env.Peers["inventory"].Conn).Check(t.Context(), &inventoryv1.CheckRequest{}); !errors.Is(err, errShelf) {
		t.Errorf("err = %v", err)
	}
}

// Contexts that are named run here, whatever their address: it says by which wire they are called.
func TestRunNamesTheContexts(t *testing.T) {
	t.Parallel()
	contexts := func(j *journal) []node.Context {
		return []node.Context{
			(&fake{name: "orders", peers: []string{"inventory"}, journal: j}).context(),
			(&fake{name: "inventory", journal: j}).context(), (&fake{name: "payments", journal: j}).context(),
		}
	}
	for name, c := range map[string]struct {
		run     []string
		address string
		want    string
	}{
		"all by default":                          {nil, "", "inventory orders payments"},
		"not those that are elsewhere":            {nil, "grpc://stock:3101", "orders payments"},
		"those named":                             {[]string{"inventory", "payments"}, "", "inventory payments"},
		"those named though they have an address": {[]string{"orders", "inventory"}, "grpc://127.0.0.1:9", "inventory orders"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := &journal{}
			cfg := config(t)
			cfg.Run, cfg.InventoryURL, cfg.BrokerURL = c.run, c.address, nobody
			n := start(t, cfg, contexts(j)...)
			got := strings.ReplaceAll(strings.Join(slices.Sorted(slices.Values(j.all())), " "), "open ", "")
			if got != c.want {
				t.Errorf("%s run, want %s", got, c.want)
			}
			if err := n.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOneDataDirectoryHoldsContextsOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	for _, name := range []string{"orders", "inventory", "payments"} {
		start(t, cfg, (&fake{name: name, journal: &journal{}}).context())
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	orders := (&fake{name: "orders", peers: []string{"inventory"}, journal: &journal{}}).context()
	valid := config(t)
	valid.InventoryURL, valid.BrokerURL = "grpc://stock:3001", nobody
	if err := valid.Check([]node.Context{orders}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*node.Config)
		want   string // empty: it is right
	}{
		"a context that the program lacks":    {func(c *node.Config) { c.Run = []string{"orders", "warehouse"} }, `--run: there is no context "warehouse"; this program has orders`},
		"an address with a password":          {func(c *node.Config) { c.InventoryURL = "http://me:secret@stock:3001" }, "INVENTORY_URL: must have nothing but"},
		"an address without a port":           {func(c *node.Config) { c.InventoryURL = "grpc://stock" }, "INVENTORY_URL: needs a port"},
		"an address with another scheme":      {func(c *node.Config) { c.InventoryURL = "stock:3001" }, "INVENTORY_URL: must begin with"},
		"an address without a host":           {func(c *node.Config) { c.InventoryURL = "http:///x" }, "INVENTORY_URL: names no host"},
		"a gRPC address with a path":          {func(c *node.Config) { c.InventoryURL = "grpc://stock:3001/x" }, "INVENTORY_URL: has a path"},
		"no address of a peer":                {func(c *node.Config) { c.InventoryURL = "" }, "INVENTORY_URL: orders calls inventory"},
		"several addresses":                   {func(c *node.Config) { c.InventoryURL = "grpc://stock-1:3101,stock-2:3101,[::1]:3101" }, ""},
		"several addresses, one without port": {func(c *node.Config) { c.InventoryURL = "grpc://stock-1:3101,stock-2" }, "INVENTORY_URL: needs a port"},
		"several addresses, one empty":        {func(c *node.Config) { c.InventoryURL = "grpc://stock-1:3101," }, "INVENTORY_URL: names no host"},
		"several addresses, one with a path":  {func(c *node.Config) { c.InventoryURL = "grpc://stock-1:3101/x,stock-2:3101" }, "INVENTORY_URL: has a path"},
		"several addresses over REST":         {func(c *node.Config) { c.InventoryURL = "http://stock-1:3001,stock-2:3001" }, "INVENTORY_URL: names several hosts, and http takes one"},
		"a database that is a path":           {func(c *node.Config) { c.OrdersDB = "/var/orders.db" }, "ORDERS_DB: is not a URL"},
		"a port past 65535":                   {func(c *node.Config) { c.Listen = "127.0.0.1:65536" }, "--listen"},
		"a gRPC address without a broker":     {func(c *node.Config) { c.BrokerURL = "" }, "BROKER_URL: inventory is in another process (INVENTORY_URL)"},
		"a REST address without a broker":     {func(c *node.Config) { c.InventoryURL, c.BrokerURL = "http://stock:3001", "" }, ""},
		"a broker that is none":               {func(c *node.Config) { c.BrokerURL = "redis://me:secret@host" }, "BROKER_URL: must begin with"},
		"a broker without a host":             {func(c *node.Config) { c.BrokerURL = "nats://me:secret@" }, "BROKER_URL: names no host"},
		"an address of a REST peer with path": {func(c *node.Config) { c.InventoryURL = "https://shop/stock" }, ""},
	} {
		cfg := valid
		c.change(&cfg)
		err := cfg.Check([]node.Context{orders})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	payments := (&fake{name: "payments", journal: &journal{}}).context()
	const server = "postgres://payments:secret@db.example/payments"
	for name, c := range map[string]struct {
		payments, provider string
		right              bool
	}{
		"both in files":                          {"", "", true},
		"both on a server":                       {server, "postgres://provider:secret@db.example/provider", true},
		"Payments alone on a server":             {server, "", false},
		"the provider's file named all the same": {server, "sqlite:/provider.db", true},
	} {
		cfg := config(t)
		cfg.PaymentsDB, cfg.ProviderDB = c.payments, c.provider
		err := cfg.Check([]node.Context{payments})
		if (err == nil) != c.right || err != nil && (!strings.HasPrefix(err.Error(), "SIMULATED_PROVIDER_DB: payments may have several processes") || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	here := valid
	here.Run, here.BrokerURL = []string{"orders", "inventory"}, ""
	if err := here.Check([]node.Context{orders, (&fake{name: "inventory", journal: &journal{}}).context()}); err != nil {
		t.Errorf("a context in this process that is called over gRPC needs no broker: %v", err)
	}
	if got := valid.Database("orders"); got != "sqlite:"+valid.Data+"/orders.db" {
		t.Errorf("the default database is %s", got)
	}
	valid.OrdersDB = "sqlite:/elsewhere.db"
	if got := valid.Database("orders"); got != "sqlite:/elsewhere.db" {
		t.Errorf("the database set is %s", got)
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]node.Bytes{"0": 0, "65536": 65536, "10B": 10, "512KiB": 512 << 10, "1MiB": 1 << 20, "3GiB": 3 << 30} {
		var got node.Bytes
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s reads as %d, %v", text, got, err)
		}
		var again node.Bytes
		if err := again.UnmarshalText([]byte(want.String())); err != nil || again != want {
			t.Errorf("%d is written as %s", want, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "1MB", "9223372036854775807GiB", "x"} {
		var got node.Bytes
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q reads as %d", text, got)
		}
	}
}
