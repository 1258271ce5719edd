package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// client asks the program. What is measured and what only waits have connections of their own.
type client struct {
	url            string
	measured, many *http.Client
}

func newClient(url string, many int) *client {
	transport := func(n int) *http.Client {
		return &http.Client{Transport: &http.Transport{MaxIdleConns: n, MaxIdleConnsPerHost: n}, Timeout: time.Minute}
	}
	return &client{url, transport(256), transport(many)}
}

func (c *client) stock() error {
	res, err := c.many.Post(c.url+"/v1/stock.csv", "text/csv", strings.NewReader("sku,title,on_hand,tracked\nBENCH,Bench,1000000000,true\n"))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("stock: %s", res.Status)
	}
	return nil
}

// ask returns the status of an answer, and how long to wait where it says so.
func ask(h *http.Client, method, url, body string) (status int, again time.Duration, err error) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := h.Do(r)
	if err != nil {
		return 0, 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return res.StatusCode, time.Duration(seconds) * time.Second, err
}

// times are those of the requests of one kind, from the instant that they were due: a client that is late does not hide it.
type times struct {
	took []time.Duration
	bad  int // answers that are no 2xx
}

type result struct{ orders, reads times }

// measure asks at a rate until an instant.
func (c *client) measure(rate int, until time.Time) result {
	over := make(chan struct{})
	timer := time.AfterFunc(time.Until(until), func() { close(over) })
	defer timer.Stop()
	return c.measureUntil(rate, over)
}

// measureUntil asks at a rate until a channel is closed.
func (c *client) measureUntil(rate int, over <-chan struct{}) result {
	var r result
	var mu sync.Mutex
	var asked sync.WaitGroup
	one := func(due time.Time, into *times, method, path, body string) {
		status, _, err := ask(c.measured, method, c.url+path, body)
		took := time.Since(due)
		mu.Lock()
		defer mu.Unlock()
		into.took = append(into.took, took)
		if err != nil || status/100 != 2 {
			into.bad++
		}
	}
	step := time.Second / time.Duration(rate)
	for due := time.Now(); ; due = due.Add(step) {
		select {
		case <-over:
			asked.Wait()
			return r
		case <-time.After(time.Until(due)):
		}
		asked.Go(func() { one(due, &r.orders, http.MethodPost, "/v1/orders", `{"items":[{"sku":"BENCH","qty":1}]}`) })
		asked.Go(func() { one(due, &r.reads, http.MethodGet, "/v1/stock/BENCH", "") })
	}
}

// atProvider is how many orders are at the provider now.
func (c *client) atProvider() (n int64, err error) {
	res, err := c.measured.Get(c.url + "/internal/calls")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var edges struct {
		Calls []struct {
			Edge     string
			InFlight int64
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&edges); err != nil {
		return 0, fmt.Errorf("/internal/calls: %w", err)
	}
	for _, e := range edges.Calls {
		if e.Edge == "simulated/Authorize" {
			return e.InFlight, nil
		}
	}
	return 0, errors.New("/internal/calls has no simulated/Authorize")
}

// settled waits until all orders that are on their way are at the provider, so that they do nothing but wait, and returns how many
// those are. An order that was turned away comes again, and counts as soon as it is in.
func (c *client) settled(f *filling) (int64, error) {
	for ; ; time.Sleep(20 * time.Millisecond) {
		n, err := c.atProvider()
		if err != nil {
			return 0, err
		}
		switch {
		case f.answered.Load() > 0:
			return 0, fmt.Errorf("the first order came back before the last was at the provider: %d are, a slower provider (-slow) or fewer orders (-n) leave time for them", n)
		case n > 0 && n == f.open.Load():
			return n, nil
		}
	}
}

// idle waits until nothing of the orders is left to do: no event waits to be told or handled.
func (c *client) idle() error {
	for ; ; time.Sleep(50 * time.Millisecond) {
		res, err := c.measured.Get(c.url + "/readyz")
		if err != nil {
			return err
		}
		var state struct {
			Events map[string]struct{ Outbox, Inbox struct{ Waiting int64 } }
		}
		err = json.NewDecoder(res.Body).Decode(&state)
		res.Body.Close()
		if err != nil {
			return fmt.Errorf("/readyz: %w", err)
		}
		var waiting int64
		for _, e := range state.Events {
			waiting += e.Outbox.Waiting + e.Inbox.Waiting
		}
		if waiting == 0 {
			return nil
		}
	}
}

// filling are the paid orders on their way.
type filling struct {
	placed         chan struct{} // closed when all have been placed
	wait           sync.WaitGroup
	open, answered atomic.Int64 // not answered yet; answered, other than that they should come again

	mu  sync.Mutex
	got map[string]int
}

// fill places paid orders at a pace, each once, unless it is told to come back.
func fill(c *client, o options) *filling {
	f := &filling{placed: make(chan struct{}), got: map[string]int{}}
	f.open.Store(int64(o.orders))
	body := fmt.Sprintf(`{"items":[{"sku":"BENCH","qty":1,"unitPrice":100}],"currency":"EUR","payment":{"provider":"simulated","token":"pm_simulated_slow_%v"}}`, o.slow)
	one := func() {
		for {
			status, again, err := ask(c.many, http.MethodPost, c.url+"/v1/orders", body)
			if err == nil && status == http.StatusServiceUnavailable {
				f.note("503")
				time.Sleep(again)
				continue
			}
			if err != nil {
				f.note(err.Error())
			} else {
				f.note(strconv.Itoa(status))
			}
			f.open.Add(-1)
			f.answered.Add(1)
			return
		}
	}
	f.wait.Go(func() {
		step := time.Second / time.Duration(o.pace)
		due := time.Now()
		for range o.orders {
			time.Sleep(time.Until(due))
			due = due.Add(step)
			f.wait.Go(one)
		}
		close(f.placed)
	})
	return f
}

func (f *filling) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got[what]++
}

func (f *filling) answers() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(f.got)) {
		all = append(all, fmt.Sprintf("%d x %s", f.got[what], what))
	}
	return strings.Join(all, ", ")
}

// together are the results of several times as one.
func together(all []result) (r result) {
	for _, x := range all {
		r.orders.took = append(r.orders.took, x.orders.took...)
		r.reads.took = append(r.reads.took, x.reads.took...)
		r.orders.bad += x.orders.bad
		r.reads.bad += x.reads.bad
	}
	return r
}

func orders(r result) times { return r.orders }
func reads(r result) times  { return r.reads }

// each lists the 99th percentiles of several times, by which one sees what the machine's noise is.
func each(all []result, of func(result) times) (s string) {
	for _, r := range all {
		s += fmt.Sprintf(" %.2f", ms(at(of(r), 0.99)))
	}
	return s
}

type row struct {
	name string
	result
}

func table(rows []row) {
	fmt.Printf("%-20s %8s %9s %9s %5s %8s %9s %9s %5s\n", "", "orders", "p50 ms", "p99 ms", "bad", "reads", "p50 ms", "p99 ms", "bad")
	for _, r := range rows {
		fmt.Printf("%-20s %8d %9.2f %9.2f %5d %8d %9.2f %9.2f %5d\n", r.name,
			len(r.orders.took), ms(at(r.orders, 0.5)), ms(at(r.orders, 0.99)), r.orders.bad,
			len(r.reads.took), ms(at(r.reads, 0.5)), ms(at(r.reads, 0.99)), r.reads.bad)
	}
}

// at is the quantile of the times, by the nearest rank.
func at(t times, q float64) time.Duration {
	if len(t.took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t.took))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// ratio is that of the medians of the times' 99th percentiles: a halt of the machine makes one time slow, and not the ratio.
func ratio(a, b []result, of func(result) times) float64 {
	return float64(median(a, of)) / float64(max(1, median(b, of)))
}

func median(all []result, of func(result) times) time.Duration {
	each := make([]time.Duration, len(all))
	for i, r := range all {
		each[i] = at(of(r), 0.99)
	}
	slices.Sort(each)
	return (each[(len(each)-1)/2] + each[len(each)/2]) / 2
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
