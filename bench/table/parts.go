package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/bench/programs"
)

// The series that rows are made of.
const (
	floor    = "floor: bare net/http, keeps nothing"
	one1     = "one process, SQLite, 1 SKU"
	one1000  = "one process, SQLite, 1,000 SKUs"
	nodePair = "Node.js pair, in memory"
	paid     = "paid orders"
	lines13  = "13-line orders"
	refusals = "refusals after sold out"
	byID     = "order by id"
	listPage = "order list page (50)"
	group64  = "SQLite alone, transactions of 64 orders"
	group1   = "SQLite alone, a transaction an order"

	alone     = "one process, in turn with the topologies"
	threeGRPC = "three processes, gRPC"
	threeREST = "three processes, REST"
	replicas  = "three over gRPC, two replicas of Inventory on PostgreSQL, 1,000 SKUs"
	replicas1 = "the same, 1 SKU"

	hotRow = "pgbench: UPDATE of one hot row, best of 1, 8, 32 clients"
	pg1    = "one process, PostgreSQL, 1 SKU"
	pg1000 = "one process, PostgreSQL, 1,000 SKUs"

	empty    = "one process, nothing stored"
	grown    = "one process, grown"
	perOrder = "files, KB an order"

	half     = "at half of the top rate: p99"
	events   = "events at half of the top rate: from the change to a consumer, p99"
	replayed = "replay at concurrency 64"
	onelined = "one-line orders, in turn with replay"
	started  = "start to /health 200"
	idleOne  = "idle memory, one process"
	idleInv  = "idle memory, one service"
	full     = "memory under full load"
)

// process measures the one process beside what HTTP, JSON and SQLite alone allow, and what a first version is.
func (b *bench) process() error {
	p, err := b.serve("one")
	if err != nil {
		return err
	}
	if err := stocked(p.URL); err != nil {
		return err
	}
	bare, err := b.other(b.bin("floor"), func(port int) []string { return []string{fmt.Sprintf("127.0.0.1:%d", port)} })
	if err != nil {
		return err
	}
	all := []named{
		{floor, orders(bare, 1, 1, false)}, {one1, orders(p.URL, 1, 1, false)}, {one1000, orders(p.URL, 1000, 1, false)},
		{paid, orders(p.URL, 1000, 1, true)}, {lines13, orders(p.URL, 1000, 13, false)}, {refusals, gone(p.URL)},
	}
	if node, err := b.node(); err != nil {
		b.missing[nodePair] = err.Error()
	} else {
		all = append(all, named{nodePair, orders(node, 1, 1, false)})
	}
	if _, err := b.shoot(one1000, orders(p.URL, 1000, 1, false), true); err != nil { // so that there is something to read
		return err
	}
	ids, err := latest(p.URL, 50)
	if err != nil {
		return err
	}
	all = append(all, named{byID, reads(p.URL, ids...)}, named{listPage, reads(p.URL, "/v1/orders?limit=50")})
	for _, x := range all {
		if x.url == p.URL {
			x.by = map[string]*programs.Program{"the process": p}
		}
	}
	if err := b.inTurn(all...); err != nil {
		return err
	}
	if mb := p.Resident() >> 20; mb > 0 {
		b.note(full, "MB", float64(mb))
	}
	if err := b.proven("one process", "one", nil, p); err != nil {
		return err
	}
	return b.groups()
}

// other starts a program on a free port and waits until it answers there.
func (b *bench) other(path string, args func(port int) []string) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	p, err := programs.StartOther(path, args(port)...)
	if err != nil {
		return "", err
	}
	b.later(func() { _ = p.Stop() }) // it knows no better end than the signal
	url = fmt.Sprintf("http://127.0.0.1:%d", port)
	for range 200 {
		if res, err := http.Get(url + "/health"); err == nil {
			res.Body.Close()
			return url, nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	return "", fmt.Errorf("%s does not answer on %s", filepath.Base(path), url)
}

// node starts the Node.js pair and returns the address of its orders.
func (b *bench) node() (string, error) {
	path, err := exec.LookPath("node")
	if err != nil {
		return "", errors.New("there is no node here")
	}
	inventory, err := b.other(path, func(port int) []string { return []string{"bench/node/inventory.js", strconv.Itoa(port), "1000000000"} })
	if err != nil {
		return "", err
	}
	return b.other(path, func(port int) []string { return []string{"bench/node/orders.js", strconv.Itoa(port), inventory} })
}

// latest are the paths of the last orders.
func latest(url string, n int) ([]string, error) {
	res, err := http.Get(fmt.Sprintf("%s/v1/orders?limit=%d", url, n))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var page struct{ Orders []struct{ OrderID string } }
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil || len(page.Orders) == 0 {
		return nil, fmt.Errorf("no orders to read: %s, %w", res.Status, err)
	}
	var paths []string
	for _, o := range page.Orders {
		paths = append(paths, "/v1/orders/"+o.OrderID)
	}
	return paths, nil
}

// growth measures an empty database in turn with one that has grown, and what an order takes on disk.
func (b *bench) growth() error {
	out, err := programs.Output(b.ctx, nil, b.bin("orderkeep"), "bench", "load", "--json", "--data", b.at("grown"), "--orders", strconv.Itoa(b.orders), "--skus", strconv.Itoa(b.skus))
	if err != nil {
		return err
	}
	var loaded struct {
		From      int64
		PerSecond float64
	}
	if err := json.Unmarshal(out, &loaded); err != nil {
		return err
	}
	if loaded.From == 0 { // else it was there, or most of it
		b.note("loading, orders/s", "/s", loaded.PerSecond)
	}
	size, err := bytesIn(b.at("grown"))
	if err != nil {
		return err
	}
	b.note(perOrder, "KB", float64(size)/1024/float64(b.orders))
	fresh, err := b.serve("empty")
	if err != nil {
		return err
	}
	old, err := b.serve("grown")
	if err != nil {
		return err
	}
	for _, p := range []*programs.Program{fresh, old} {
		if err := stocked(p.URL); err != nil {
			return err
		}
	}
	if err := b.inTurn(
		named{empty, orders(fresh.URL, 1000, 1, false)}, named{grown, orders(old.URL, 1000, 1, false)},
		named{"list page (50), nothing stored", reads(fresh.URL, "/v1/orders?limit=50")}, named{"list page (50), grown", reads(old.URL, "/v1/orders?limit=50")},
	); err != nil {
		return err
	}
	return b.proven("grown", "grown", nil, old)
}

func bytesIn(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		i, err := e.Info()
		if err == nil {
			sum += i.Size()
		}
		return err
	})
	return sum, err
}

// latency measures what half of the top rate waits for, from when each order was due; and, in turn with it, how long the event of each takes to a
// consumer that hears of all of them, and what the orders wait for beside it.
func (b *bench) latency() error {
	p, err := b.serve("latency")
	if err != nil {
		return err
	}
	if err := stocked(p.URL); err != nil {
		return err
	}
	top := orders(p.URL, 1000, 1, false)
	if _, err := b.shoot("top", top, true); err != nil {
		return err
	}
	most, err := b.shoot("top", top, true)
	if err != nil {
		return err
	}
	at := orders(p.URL, 1000, 1, false)
	at.rate, at.number = most.PerSecond()/2, top.number
	name := fmt.Sprintf("open loop at %.0f/s, half of the top rate", at.rate)
	for range b.rounds {
		got, err := b.shoot(name, at, false)
		if err != nil {
			return err
		}
		b.note(half, "ms", got.Quantile(0.99).Seconds()*1e3)
		b.note("of it the generator's own lateness, p99", "ms", float64(got.Late.ValueAtQuantile(99))/1e3)
		ctx, stop := context.WithCancel(b.ctx)
		heard := make(chan heardOf, 1)
		go func() { heard <- listen(ctx, p.URL) }()
		got, err = b.shoot(name+", and a consumer of all events", at, false)
		stop()
		h := <-heard
		if err != nil {
			return err
		}
		if h.err != nil {
			return fmt.Errorf("listen to events: %w", h.err)
		}
		b.note(events, "ms", h.p99)
		b.note("at half of the top rate, and a consumer of all events on the same CPUs: p99", "ms", got.Quantile(0.99).Seconds()*1e3)
	}
	return b.proven("latency", "latency", nil, p)
}

// heardOf is what a consumer of events came to.
type heardOf struct {
	p99 float64 // ms
	err error
}

// listen reads the feed of Orders as a stream until ctx ends, and takes the age of each event when it comes. An event has the time of its change,
// which is before that change is durable: what is measured is longer than what is asked for.
func listen(ctx context.Context, url string) heardOf {
	after, err := end(url)
	if err != nil {
		return heardOf{err: err}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/events?after="+after, nil)
	if err != nil {
		return heardOf{err: err}
	}
	r.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return heardOf{err: err}
	}
	defer res.Body.Close()
	var ages []float64
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		now := time.Now()
		var e struct{ Time time.Time }
		if err := json.Unmarshal(data, &e); err != nil {
			if ctx.Err() != nil { // we have hung up in the middle of it
				break
			}
			return heardOf{err: err}
		}
		ages = append(ages, now.Sub(e.Time).Seconds()*1e3)
	}
	if err := lines.Err(); ctx.Err() == nil {
		return heardOf{err: fmt.Errorf("the stream ended: %w", errors.Join(err, io.ErrUnexpectedEOF))}
	}
	if len(ages) == 0 {
		return heardOf{err: errors.New("no event came")}
	}
	return heardOf{p99: quantile(ages, 0.99)}
}

// end is the cursor of the last event of the feed.
func end(url string) (string, error) {
	after := ""
	for {
		res, err := http.Get(url + "/v1/events?limit=1000&after=" + after)
		if err != nil {
			return "", err
		}
		var page struct {
			Events []json.RawMessage
			Next   string
		}
		err = json.NewDecoder(res.Body).Decode(&page)
		res.Body.Close()
		if err != nil || len(page.Events) == 0 {
			return after, err
		}
		after = page.Next
	}
}

// replay runs a shop's past sales through a fresh process, in turn with orders of one line.
func (b *bench) replay() error {
	sales, stock := filepath.Join("internal", "cli", "demo", "week.csv.gz"), filepath.Join("internal", "cli", "demo", "stock.csv")
	if b.sales != "" {
		found, _ := filepath.Glob(filepath.Join(b.sales, "*.csv.gz")) // the pattern is right
		if len(found) == 0 {
			return fmt.Errorf("there is no *.csv.gz in %s", b.sales)
		}
		sales, stock = found[0], strings.TrimSuffix(found[0], ".csv.gz")+"_stock.csv"
	}
	for i := range b.rounds {
		data := fmt.Sprintf("replay%d", i)
		p, err := b.serve(data)
		if err != nil {
			return err
		}
		if out, err := exec.CommandContext(b.ctx, b.bin("orderkeep"), "--url", p.URL, "stock", "import", stock).CombinedOutput(); err != nil {
			return fmt.Errorf("import %s: %w: %s", stock, err, out)
		}
		out, err := exec.CommandContext(b.ctx, b.bin("orderkeep"), "--url", p.URL, "replay", sales, "--concurrency", "64", "--json").Output()
		var sum struct {
			OrdersPerSecond float64
			Failed          int
		}
		if err := errors.Join(err, json.Unmarshal(out, &sum)); err != nil || sum.Failed > 0 {
			return fmt.Errorf("replay: %w: %s", err, out)
		}
		b.note(replayed, "/s", sum.OrdersPerSecond)
		if err := stocked(p.URL); err != nil {
			return err
		}
		if _, err := b.shoot(onelined, orders(p.URL, 1000, 1, false), false); err != nil {
			return err
		}
		if err := b.proven(data, data, nil, p); err != nil {
			return err
		}
	}
	return nil
}

// footprint measures how fast the programs start, and what they take when nothing happens.
func (b *bench) footprint() error {
	// A file that the linker has just written lies in the page cache in large pieces, and counts for more than an installed one.
	for _, name := range []string{"orderkeep", "inventory"} {
		if out, err := exec.Command("cp", b.bin(name), b.bin(name+"-installed")).CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w: %s", err, out)
		}
	}
	for i := range 5 * b.rounds {
		began := time.Now()
		p, err := b.start(nil, "orderkeep-installed", "serve", "--data", b.at(fmt.Sprintf("start%d", i)), "--listen", "127.0.0.1:0")
		if err != nil {
			return err
		}
		res, err := http.Get(p.URL + "/health")
		if err != nil {
			return err
		}
		res.Body.Close()
		b.note(started, "ms", time.Since(began).Seconds()*1e3)
		if err := p.Stop(); err != nil {
			return err
		}
	}
	for i := range b.rounds {
		p, err := b.start(nil, "orderkeep-installed", "serve", "--data", b.at(fmt.Sprintf("idle%d", i)), "--listen", "127.0.0.1:0")
		if err != nil {
			return err
		}
		q, err := b.start(nil, "inventory-installed", "--data", b.at(fmt.Sprintf("idle-inventory%d", i)), "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0")
		if err != nil {
			return err
		}
		select {
		case <-b.ctx.Done():
			return b.ctx.Err()
		case <-time.After(max(2*time.Second, b.time)): // until what a start leaves behind is over
		}
		if p.Resident() == 0 {
			return errors.New("this system does not say what a program takes (it has no /proc)")
		}
		b.note(idleOne, "MB", float64(p.Resident())/(1<<20))
		b.note(idleInv, "MB", float64(q.Resident())/(1<<20))
		if err := errors.Join(p.Stop(), q.Stop()); err != nil {
			return err
		}
	}
	return nil
}
