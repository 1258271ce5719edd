package console

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
)

const (
	// mostLow is as many items that are about to run out as the first page shows: those with the fewest left of lookedLow.
	mostLow   = 8
	lookedLow = 1000
)

type nowPage struct {
	Charts     []chart
	Services   []service
	Links      []edgeSum
	Edges      []edgeOf
	Held       int // breakers that are not closed
	Split      bool
	Low        []stockapi.Stock
	MoreLow    bool
	LowTrouble *trouble
	FewLeft    int
	Who        string
}

// chart is one figure over time. It is drawn here, so that it is there without a script; a script makes it one to point at.
type chart struct {
	ID, Title, Unit string
	Series          []series
	From            string // when the first point is
	Empty           string // why there is nothing
}

type series struct {
	Name string
	Last string
	Path string // of the line, in a box of 300 by 60
	N    int    // for its colour
}

// service is one context on the map.
type service struct {
	Name, Status, Version string
	Where                 string
	Notes                 []string
	X, Y                  int
	Trouble               *trouble
	Lag                   *lag
}

type edgeOf struct {
	edge
	From string // the process
}

// edgeSum is all calls to one target, as an arrow of the map.
type edgeSum struct {
	Target          string
	Path            string
	X, Y            int
	Calls, Failures uint64
	Breaker         string
	Errors          string
}

// asks is the chart of each page, in its order: the title, the unit, and the beginning of the series' names.
var asks = []struct {
	id, title, unit string
	of              []string
}{
	{"orders", "Orders", "a second", []string{seriesConfirmed, seriesOthers}},
	{"latency", "Latency, 99 of 100", "ms", []string{seriesLatency}},
	{"refusals", "Refusals", "a second", []string{seriesRefused}},
	{"queue", "Writes in the queues", "at once", []string{seriesQueue}},
	{"outbox", "Lag of publishing", "s", []string{seriesOutbox}},
	{"inbox", "Lag of handling", "s", []string{seriesInbox}},
}

var missingFigures = map[string]string{
	"refusals": "No order was refused.", "latency": "No order came.", "orders": "No order has been counted yet.",
}

func (c *console) now(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*patience)
	defer cancel()
	p := nowPage{FewLeft: fewLeft, Who: c.guard.who(r)}
	var asking sync.WaitGroup
	asking.Go(func() {
		res, err := c.peers.stock.ListStock(ctx, stockapi.ListStockParams{AvailableAtMost: stockapi.NewOptInt64(fewLeft), Limit: stockapi.NewOptInt32(lookedLow)})
		page, bad := told[*stockapi.StockPage]("inventory", res, err)
		if p.LowTrouble = bad; bad == nil {
			p.Low = page.Items
			slices.SortStableFunc(p.Low, func(a, b stockapi.Stock) int { return int(a.Available - b.Available) })
			if p.MoreLow = len(p.Low) > mostLow; p.MoreLow {
				p.Low = p.Low[:mostLow]
			}
		}
	})
	latest, points := c.watch.look(ctx)
	asking.Wait()
	for _, a := range asks {
		p.Charts = append(p.Charts, drawChart(a.id, a.title, a.unit, a.of, points))
	}
	p.Split = len(latest) > 1
	p.Services, p.Edges = onMap(latest)
	p.Links = sums(p.Edges)
	for _, e := range p.Edges {
		if e.Breaker != "closed" {
			p.Held++
		}
	}
	c.show(w, r, http.StatusOK, "now", "Now", p)
}

// named are the series of a chart, in the order of their names.
func named(of []string, points []point) []string {
	found := map[string]bool{}
	for _, pt := range points {
		for name := range pt.Values {
			for _, prefix := range of {
				if strings.HasPrefix(name, prefix) {
					found[name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func drawChart(id, title, unit string, of []string, points []point) chart {
	ch := chart{ID: id, Title: title, Unit: unit, Empty: missingFigures[id]}
	names := named(of, points)
	if len(points) > 0 {
		ch.From = clock(points[0].At)[11:]
	}
	top := 0.0
	for _, pt := range points {
		for _, name := range names {
			top = max(top, pt.Values[name])
		}
	}
	for n, name := range names {
		s := series{Name: plain(name, of), N: n % 6, Last: "0"}
		var path strings.Builder
		for i, pt := range points {
			v := pt.Values[name]
			s.Last = number(v)
			x := 300.0
			if len(points) > 1 {
				x = 300 * float64(i) / float64(len(points)-1)
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[i == 0], x, 58-54*v/max(top, 1e-9))
		}
		s.Path = path.String()
		ch.Series = append(ch.Series, s)
	}
	if len(points) < 2 && ch.Empty != "" {
		ch.Empty = "The first figures come in a moment." // a rate takes two readings
	}
	if len(ch.Series) == 0 && ch.Empty == "" {
		ch.Empty = "The services do not say. Their figures are for this machine, and for the networks in --metrics-from."
	}
	return ch
}

// plain is a series' name without what its chart says already.
func plain(name string, of []string) string {
	for _, prefix := range of {
		if strings.HasSuffix(prefix, " ") {
			name = strings.TrimPrefix(name, prefix)
		}
	}
	return strings.TrimPrefix(strings.ReplaceAll(name, "_", " "), "orders ")
}

func number(v float64) string {
	switch {
	case v == 0 || math.Abs(v) >= 100:
		return count(int64(math.Round(v)))
	case math.Abs(v) >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// figures answers the charts' points to the script.
func (c *console) figures(w http.ResponseWriter, r *http.Request) {
	_, points := c.watch.look(r.Context())
	type line struct {
		Name   string    `json:"name"`
		Values []float64 `json:"values"`
	}
	type answer struct {
		Unit  string `json:"unit"`
		Lines []line `json:"lines"`
	}
	times := make([]int64, len(points))
	for i, pt := range points {
		times[i] = pt.At.Unix()
	}
	charts := map[string]answer{}
	for _, a := range asks {
		one := answer{Unit: a.unit, Lines: []line{}}
		for _, name := range named(a.of, points) {
			l := line{Name: plain(name, a.of), Values: make([]float64, len(points))}
			for i, pt := range points {
				l.Values[i] = pt.Values[name]
			}
			one.Lines = append(one.Lines, l)
		}
		charts[a.id] = one
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"times": times, "charts": charts}) // a client that is gone asks again
}

// places on the map, in a box of 960 by 226.
var places = map[string][2]int{"orders": {20, 90}, "inventory": {380, 16}, "payments": {380, 160}}

var arrows = map[string]edgeSum{
	"inventory": {Path: "M190 105 C290 105 280 43 376 43", X: 232, Y: 40},
	"payments":  {Path: "M190 130 C290 130 280 187 376 187", X: 232, Y: 194},
	"simulated": {Path: "M550 187 H776", X: 663, Y: 160},
}

func onMap(latest []vitals) (all []service, edges []edgeOf) {
	for _, v := range latest {
		where := "one process with the console"
		if !v.Here {
			where = "a process of its own"
		}
		for _, name := range v.Contexts {
			s := service{Name: name, Status: v.Ready.Status, Version: v.Version, Where: where, Trouble: v.Trouble, X: places[name][0], Y: places[name][1]}
			if v.Trouble != nil {
				s.Status = "missing"
			}
			if why := v.Ready.NotReady[name]; why != "" {
				s.Notes = append(s.Notes, why)
			}
			for what, why := range v.Ready.Away {
				s.Notes = append(s.Notes, "without its "+what+": "+why)
			}
			if v.Closed != nil {
				s.Notes = append(s.Notes, "its calls are not shown: "+v.Closed.Detail)
			}
			if l, ok := v.Ready.Events[name]; ok {
				s.Lag = &l
			}
			all = append(all, s)
		}
		from := v.Contexts[0]
		for _, e := range v.Calls {
			if e.Target == "simulated" || e.Target == "stripe" {
				from = "payments"
			}
			edges = append(edges, edgeOf{e, from})
		}
	}
	slices.SortFunc(all, func(a, b service) int { return slices.Index(contexts, a.Name) - slices.Index(contexts, b.Name) })
	return all, edges
}

// sums adds the edges up by target. The worst breaker stands for all.
func sums(edges []edgeOf) (all []edgeSum) {
	for _, target := range []string{"inventory", "payments", "simulated"} {
		sum := arrows[target]
		sum.Target, sum.Breaker = target, ""
		for _, e := range edges {
			if e.Target != target {
				continue
			}
			sum.Calls += e.Calls
			sum.Failures += e.Failures
			if sum.Breaker == "" || e.Breaker == "open" || e.Breaker == "half-open" && sum.Breaker == "closed" {
				sum.Breaker = e.Breaker
			}
		}
		if sum.Breaker != "" {
			sum.Errors = percent(sum.Failures, sum.Calls)
			all = append(all, sum)
		}
	}
	return all
}

// resetBreakers closes the breakers of one edge, in whichever process makes its calls.
func (c *console) resetBreakers(w http.ResponseWriter, r *http.Request) {
	who := c.actor(w, r)
	if who == "" {
		return
	}
	name := r.PostFormValue("edge")
	ctx, cancel := context.WithTimeout(r.Context(), patienceActs)
	defer cancel()
	var last *trouble
	for _, p := range c.peers.processes() {
		last = c.peers.ask(ctx, p.first(), http.MethodPost, "/internal/calls/reset", url.Values{"edge": {name}}, nil)
		if last == nil {
			c.log.InfoContext(ctx, "a circuit breaker was reset in the console", "edge", name, "actor", who, "reason", r.PostFormValue("reason"))
			back(w, r, "/console", "reset")
			return
		}
	}
	c.troubled(w, r, last)
}
