package main

import (
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

// measure asks at a rate for a time, or until a channel is closed.
func (c *client) measure(rate int, d time.Duration, until <-chan struct{}) result {
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
	if until == nil {
		done := make(chan struct{})
		time.AfterFunc(d, func() { close(done) })
		until = done
	}
	step := time.Second / time.Duration(rate)
	for due := time.Now(); ; due = due.Add(step) {
		select {
		case <-until:
			asked.Wait()
			return r
		case <-time.After(time.Until(due)):
		}
		asked.Go(func() { one(due, &r.orders, http.MethodPost, "/v1/orders", `{"items":[{"sku":"BENCH","qty":1}]}`) })
		asked.Go(func() { one(due, &r.reads, http.MethodGet, "/v1/stock/BENCH", "") })
	}
}

// filling are the paid orders on their way.
type filling struct {
	full, thins chan struct{} // closed when all are in flight, and when the first have been answered after that
	wait        sync.WaitGroup
	now, most   atomic.Int64

	mu  sync.Mutex
	got map[string]int
}

// fill places paid orders at a pace, each once, unless it is told to come back.
func fill(c *client, o options) *filling {
	f := &filling{full: make(chan struct{}), thins: make(chan struct{}), got: map[string]int{}}
	thin := sync.OnceFunc(func() { close(f.thins) })
	body := fmt.Sprintf(`{"items":[{"sku":"BENCH","qty":1,"unitPrice":100}],"currency":"EUR","payment":{"provider":"simulated","token":"pm_simulated_slow_%v"}}`, o.slow)
	var all atomic.Bool
	one := func() {
		for {
			if n := f.now.Add(1); n > f.most.Load() {
				f.most.Store(n)
			}
			status, again, err := ask(c.many, http.MethodPost, c.url+"/v1/orders", body)
			f.now.Add(-1)
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
			if all.Load() {
				thin()
			}
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
		all.Store(true)
		close(f.full)
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

func ratio(a, b times) float64 { return float64(at(a, 0.99)) / float64(max(1, at(b, 0.99))) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
