package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/bench/programs"
	"github.com/orderkeep/orderkeep/internal/load"
)

// series are the figures of one thing, one a round.
type series struct {
	unit     string
	values   []float64
	p50, p99 []float64 // ms, of rates
	unserved int64
	outcomes map[string]int64 // of what was not served
}

func (b *bench) series(name, unit string) *series {
	s, ok := b.samples[name]
	if !ok {
		s = &series{unit: unit, outcomes: map[string]int64{}}
		b.samples[name] = s
		b.order = append(b.order, name)
	}
	return s
}

// note adds a figure to a series.
func (b *bench) note(name, unit string, v float64) {
	s := b.series(name, unit)
	s.values = append(s.values, v)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// shots are requests of one kind.
type shots struct {
	url    string
	want   int // the status of an answer that is wanted
	next   func(n uint64, buf []byte) []byte
	judge  func(body []byte) bool       // nil: the status says all
	rate   float64                      // 0: a closed loop
	number uint64                       // of the next request
	by     map[string]*programs.Program // who answers, by name: their CPU is counted
}

// shoot measures once, and adds the rate to a series, unless it only warms up.
func (b *bench) shoot(name string, s *shots, warm bool) (*load.Result, error) {
	r := load.Run{
		URL: s.url, Connections: b.connections, Duration: b.time, Rate: s.rate, First: s.number, Next: s.next,
		Judge: func(_ uint64, status int, body []byte) (string, bool) {
			if status != s.want || s.judge != nil && !s.judge(body) {
				return fmt.Sprintf("status %d", status), false
			}
			return "", true
		},
	}
	if warm {
		r.Duration = b.time / 4
	}
	before := map[string]time.Duration{}
	for who, p := range s.by {
		before[who] = p.CPU()
	}
	got, err := r.Do(b.ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	used := map[string]time.Duration{}
	for who, p := range s.by {
		used[who] = p.CPU() - before[who]
	}
	if err := b.ctx.Err(); err != nil {
		return nil, err
	}
	s.number += uint64(got.Served+got.Unserved) + uint64(b.connections)
	if got.Served == 0 {
		return nil, fmt.Errorf("%s: no answer was the one that is wanted: %v %v", name, got.Outcomes, got.Errors)
	}
	if warm {
		return got, nil
	}
	k := b.series(name, "/s")
	k.values = append(k.values, got.PerSecond())
	k.p50, k.p99 = append(k.p50, got.Quantile(0.5).Seconds()*1e3), append(k.p99, got.Quantile(0.99).Seconds()*1e3)
	k.unserved += got.Unserved
	for outcome, n := range got.Outcomes {
		if outcome != "" {
			k.outcomes[outcome] += n
		}
	}
	for _, who := range slices.Sorted(maps.Keys(used)) {
		if used[who] > 0 {
			b.note(name+": CPU of "+who+" for one", "µs", float64(used[who]/time.Microsecond)/float64(got.Served))
		}
	}
	return got, nil
}

// named is a series to measure.
type named struct {
	name string
	*shots
}

// inTurn measures all in each round, one after the other.
func (b *bench) inTurn(all ...named) error {
	for _, s := range all {
		if _, err := b.shoot(s.name, s.shots, true); err != nil {
			return err
		}
	}
	for range b.rounds {
		for _, s := range all {
			if _, err := b.shoot(s.name, s.shots, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// stocked is the SKUs BENCH-0000 to BENCH-0999 with a billion units each, and BENCH-GONE with none.
func stocked(url string) error {
	var csv strings.Builder
	csv.WriteString("sku,title,on_hand,tracked\nBENCH-GONE,Bench,0,true\n")
	for i := range 1000 {
		fmt.Fprintf(&csv, "BENCH-%04d,Bench,1000000000,true\n", i)
	}
	res, err := http.Post(url+"/v1/stock.csv", "text/csv", strings.NewReader(csv.String()))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New("stock: " + res.Status)
	}
	return nil
}

// orders are orders of some lines, each of one unit, that go through some SKUs in turn. A price makes them paid orders.
func orders(url string, skus, lines int, paid bool) *shots {
	return &shots{url: url, want: http.StatusCreated, next: func(n uint64, buf []byte) []byte {
		body := append(make([]byte, 0, 1024), `{"items":[`...)
		for i := range lines {
			if i > 0 {
				body = append(body, ',')
			}
			body = fmt.Appendf(body, `{"sku":"BENCH-%04d","qty":1`, (n*uint64(lines)+uint64(i))%uint64(skus))
			if paid {
				body = append(body, `,"unitPrice":100`...)
			}
			body = append(body, '}')
		}
		body = append(body, ']')
		if paid {
			body = append(body, `,"currency":"EUR","payment":{"provider":"simulated","token":"pm_card_visa"}`...)
		}
		return load.AppendRequest(buf, http.MethodPost, host(url), "/orders", "", append(body, '}'))
	}}
}

// gone are orders for what is sold out.
func gone(url string) *shots {
	return &shots{
		url: url, want: http.StatusConflict, judge: func(body []byte) bool { return strings.Contains(string(body), `"out_of_stock"`) },
		next: func(_ uint64, buf []byte) []byte {
			return load.AppendRequest(buf, http.MethodPost, host(url), "/orders", "", []byte(`{"items":[{"sku":"BENCH-GONE","qty":1}]}`))
		},
	}
}

// reads are GETs of paths in turn.
func reads(url string, paths ...string) *shots {
	return &shots{url: url, want: http.StatusOK, next: func(n uint64, buf []byte) []byte {
		return load.AppendRequest(buf, http.MethodGet, host(url), paths[n%uint64(len(paths))], "", nil)
	}}
}

func host(url string) string { return strings.TrimPrefix(url, "http://") }
