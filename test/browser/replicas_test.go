package browser

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// replicated is two processes of Orders and of Inventory and one of Payments on PostgreSQL, and a console that all of them are named to. It
// returns the names as the command line takes them too.
func replicated(t *testing.T) (s *shop, replicas map[string][]*stage.Process, named string) {
	s = &shop{t: t, api: map[string]string{}, orders: map[string]string{}}
	_, broker := stage.ServeBroker(t, program, t.TempDir(), "127.0.0.1:0")
	env := []string{"OTEL_TRACES_SAMPLER=always_on"} // an order that meets no trouble leaves spans too
	for _, setting := range []string{"ORDERS_DB", "INVENTORY_DB", "PAYMENTS_DB", "SIMULATED_PROVIDER_DB"} {
		env = append(env, setting+"="+dbtest.Postgres.New(t))
	}
	replicas = map[string][]*stage.Process{}
	var addresses []string
	serve := func(name string, more ...string) {
		args := append([]string{"--data", t.TempDir(), "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--broker-url", broker}, more...)
		p := stage.Start(t, stage.Launch{Path: filepath.Join(filepath.Dir(program), name), Args: args, Env: env})
		replicas[name] = append(replicas[name], p)
		addresses = append(addresses, p.URL)
		s.api[name] = p.URL
	}
	serve("inventory")
	serve("inventory")
	serve("payments")
	peers := []string{"--inventory-url", "grpc://" + replicas["inventory"][0].GRPC + "," + replicas["inventory"][1].GRPC, "--payments-url", "grpc://" + replicas["payments"][0].GRPC}
	serve("orders", peers...)
	serve("orders", peers...)
	named = strings.Join(addresses, ",")
	console := stage.Start(t, stage.Launch{Path: program, Args: []string{"serve", "--run", "console", "--data", t.TempDir(), "--listen", "127.0.0.1:0",
		"--orders-url", s.api["orders"], "--inventory-url", s.api["inventory"], "--payments-url", s.api["payments"]}, Env: append(env, "ORDERKEEP_PROCESSES="+named)})
	s.console = console.URL
	return s, replicas, named
}

func address(p *stage.Process) string { return strings.TrimPrefix(p.URL, "http://") }

// All replicas are on the map and in an order's timeline, in the console as on the command line; one that is down is named.
func TestPagesHaveAllReplicas(t *testing.T) {
	t.Parallel()
	s, replicas, named := replicated(t)
	s.send("inventory", "POST", "/v1/stock.csv", "sku,title,on_hand,tracked\nBOOK-001,A book,3000,true\n", 200)
	b := open(t, desk)
	part := func(path, part string) (text string) {
		t.Helper()
		b.run(t, chromedp.Navigate(s.console+path), chromedp.Text(part, &text))
		return text
	}
	text := func(path string) string { return part(path, "main") }
	// Orders calls the replicas of Inventory in turn, as soon as it has found both.
	told := map[string]bool{}
	var last string
	stage.Eventually(t, "the pages of orders tell of both replicas of Inventory", func() bool {
		const body = `{"items":[{"sku":"BOOK-001","qty":1,"unitPrice":1250}],"currency":"GBP","payment":{"provider":"simulated","token":"pm_card_visa"}}`
		last = s.send("orders", "POST", "/v1/orders", body, 201)["orderId"].(string)
		page := part("/console/orders/"+last, ".story")
		for _, p := range replicas["inventory"] {
			if at := address(p); strings.Contains(page, " at "+at) {
				told[at] = true
			}
		}
		return len(told) == 2
	})
	for _, want := range []string{"Inventory\n2 of 2 ready", "Orders\n2 of 2 ready", "split, 5 processes", address(replicas["orders"][0]), address(replicas["orders"][1])} {
		if page := text("/console"); !strings.Contains(page, want) {
			t.Errorf("the first page does not say %q:\n%s", want, page)
		}
	}
	for _, w := range []window{desk, night, phone} {
		open(t, w).look(t, s.console+"/console", "replicas-"+w.name+"-now")
	}

	down := replicas["inventory"][0]
	if err := down.Stop(); err != nil {
		t.Fatal(err)
	}
	stage.Eventually(t, "the map says that one of two is down", func() bool { return strings.Contains(text("/console"), "Inventory\n1 of 2 ready") })
	if page := text("/console"); !strings.Contains(page, address(down)+" missing") || !strings.Contains(page, "It does not answer") {
		t.Errorf("the first page does not say which replica is missing:\n%s", page)
	}
	if page := text("/console/orders/" + last); !strings.Contains(page, address(down)+" cannot be shown") || !strings.Contains(page, "PaymentsService/Authorize") {
		t.Errorf("the order's page does not say whose log lines are not there, or nothing else:\n%s", page)
	}
	for _, w := range []window{desk, phone} {
		small := open(t, w)
		small.look(t, s.console+"/console", "replica-away-"+w.name+"-now")
		small.look(t, s.console+"/console/orders/"+last, "replica-away-"+w.name+"-order")
	}

	// The command line reads the same setting.
	out, notes, code := stage.Launch{Path: program, Args: []string{"order", "timeline", last, "--url", s.api["orders"], "--json"}, Env: []string{"ORDERKEEP_PROCESSES=" + named}}.Run(t, "")
	var timeline struct {
		Entries []struct{ Kind, Service string }
	}
	if err := json.Unmarshal([]byte(out), &timeline); code != 0 || err != nil || !strings.Contains(notes, down.URL) {
		t.Fatalf("exit code %d, %v, %s", code, err, notes)
	}
	kept := map[string]bool{}
	for _, e := range timeline.Entries {
		if e.Kind == "span" {
			kept[e.Service] = true
		}
	}
	if !kept["orders"] || !kept["payments"] {
		t.Errorf("the command line has spans of %v", kept)
	}
}
