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
	Topology   string
	Others     []replica // that are missing, and have not said what they run
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
	Drawn           bool   // there are lines; one reading is none
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
	X, Y                  int
	Replicas              []replica
	Ready                 int // of them, that answer
	Lag                   *lag
}

// replica is one process of a service.
type replica struct {
	Address, Status, Version string
	Where                    string
	Notes                    []string
	Trouble                  *trouble
}

// Health is the status in words, for one process or for several.
func (s service) Health() string {
	if len(s.Replicas) > 1 {
		return fmt.Sprintf("%d of %d ready", s.Ready, len(s.Replicas))
	}
	return s.Status
}

// edgeOf is one guarded call, over all processes that make it.
type edgeOf struct {
	edge
	Held []string // the processes whose breaker is like this, if the settings name them
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
	p.Topology = topology(latest)
	p.Services, p.Edges, p.Others = onMap(latest)
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
		s := series{Name: plain(name, of), N: n % 6}
		var path strings.Builder
		pen := "M"
		for i, pt := range points {
			v, ok := pt.value(name)
			if !ok {
				s.Last, pen = "–", "M"
				continue
			}
			s.Last = number(v)
			x := 300.0
			if len(points) > 1 {
				x = 300 * float64(i) / float64(len(points)-1)
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", pen, x, 58-54*v/max(top, 1e-9))
			if pen == "M" {
				path.WriteString("h0") // a dot, if it stands alone
			}
			pen = "L"
		}
		s.Path = path.String()
		ch.Series = append(ch.Series, s)
	}
	ch.Drawn = len(points) > 1
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
		Name   string     `json:"name"`
		Values []*float64 `json:"values"` // null where nothing was measured
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
			l := line{Name: plain(name, a.of), Values: make([]*float64, len(points))}
			for i, pt := range points {
				if v, ok := pt.value(name); ok {
					l.Values[i] = &v
				}
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

func onMap(latest []vitals) (all []service, edges []edgeOf, others []replica) {
	for _, name := range contexts {
		s := service{Name: name, X: places[name][0], Y: places[name][1]}
		for _, v := range latest {
			if slices.Contains(v.Contexts, name) {
				s.add(v)
			}
		}
		if len(s.Replicas) > 0 { // none before the first reading is over
			s.sum()
			all = append(all, s)
		}
	}
	for _, v := range latest {
		if len(v.Contexts) == 0 && v.Trouble != nil {
			others = append(others, replicaOf(v, ""))
		}
		for _, e := range v.Calls {
			i := slices.IndexFunc(edges, func(x edgeOf) bool { return x.Edge == e.Edge })
			if i < 0 {
				i = len(edges)
				edges = append(edges, edgeOf{edge: edge{Edge: e.Edge, Target: e.Target, Method: e.Method, Breaker: e.Breaker}})
			}
			edges[i].add(e, v.Address())
		}
	}
	// As the arrows are: what Orders calls, then what Payments calls.
	slices.SortStableFunc(edges, func(a, b edgeOf) int { return placeOf(a.Target) - placeOf(b.Target) })
	return all, edges, others
}

// placeOf is where the pages have a context, or what comes after all of them.
func placeOf(name string) int {
	if i := slices.Index(contexts, name); i >= 0 {
		return i
	}
	return len(contexts)
}

func replicaOf(v vitals, context string) replica {
	r := replica{Address: v.Address(), Status: v.Ready.Status, Version: v.Version, Where: v.where(context), Trouble: v.Trouble}
	if v.Trouble != nil {
		r.Status = "missing"
	}
	if why := v.Ready.NotReady[context]; why != "" {
		r.Notes = append(r.Notes, why)
	}
	for _, what := range slices.Sorted(maps.Keys(v.Ready.Away)) {
		r.Notes = append(r.Notes, "without its "+what+": "+v.Ready.Away[what])
	}
	if v.Closed != nil {
		r.Notes = append(r.Notes, "its calls are not shown: "+v.Closed.Detail)
	}
	return r
}

// where says what else is in the process of a context.
func (v vitals) where(context string) string {
	var others []string
	for _, name := range v.Contexts {
		if name != context {
			others = append(others, titleOf(name))
		}
	}
	if v.Here {
		others = append(others, "the console")
	}
	if len(others) == 0 {
		if v.Listed {
			return "" // its address says so
		}
		return "a process of its own"
	}
	return "one process with " + strings.Join(others, ", ")
}

func (s *service) add(v vitals) {
	s.Replicas = append(s.Replicas, replicaOf(v, s.Name))
	if l, ok := v.Ready.Events[s.Name]; ok { // replicas read it in one database
		s.Lag = &l
	}
}

// sum says how the replicas are together.
func (s *service) sum() {
	for _, r := range s.Replicas {
		if r.Status == "ready" || r.Status == "degraded" {
			s.Ready++
		}
		if s.Version == "" {
			s.Version = r.Version
		} else if r.Version != "" && r.Version != s.Version {
			s.Version = "several versions"
		}
	}
	s.Status = s.Replicas[0].Status
	for _, r := range s.Replicas {
		if r.Status != s.Status {
			s.Status = "degraded" // some do the work of all
		}
	}
	if s.Ready == 0 && s.Status == "degraded" {
		s.Status = "missing"
	}
}

// add counts the calls of a process. The worst breaker stands for all, and says where it is.
func (x *edgeOf) add(e edge, address string) {
	x.Calls += e.Calls
	x.Failures += e.Failures
	x.InFlight += e.InFlight
	if worse(e.Breaker, x.Breaker) {
		x.Breaker, x.Held = e.Breaker, nil
	}
	if e.Breaker == x.Breaker && e.Breaker != "closed" && address != "" {
		x.Held = append(x.Held, address)
	}
}

// worse compares breakers.
func worse(a, b string) bool { return a != b && (a == "open" || b == "closed" || b == "") }

// topology says in what form the services run.
func topology(latest []vitals) string {
	n, form := 0, "one process"
	for _, v := range latest {
		if len(v.Contexts) > 0 {
			n++
		}
		if k := len(v.Contexts); k > 0 && k < len(contexts) {
			form = "split"
		}
	}
	switch {
	case form == "one process" && n > 1:
		return count(int64(n)) + " replicas of one process"
	case form == "split" && n > len(contexts):
		return "split, " + count(int64(n)) + " processes"
	}
	return form
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
			if worse(e.Breaker, sum.Breaker) {
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

// resetBreakers closes the breakers of one edge, in every process that makes its calls.
func (c *console) resetBreakers(w http.ResponseWriter, r *http.Request) {
	who := c.actor(w, r)
	if who == "" {
		return
	}
	name := r.PostFormValue("edge")
	ctx, cancel := context.WithTimeout(r.Context(), patienceActs)
	defer cancel()
	processes := c.peers.processes()
	bad := make([]*trouble, len(processes))
	var asking sync.WaitGroup
	for i, p := range processes {
		asking.Go(func() {
			bad[i] = p.ask(ctx, http.MethodPost, "/internal/calls/reset", url.Values{"edge": {name}, "actor": {who}, "reason": {r.PostFormValue("reason")}}, nil)
		})
	}
	asking.Wait()
	if !slices.Contains(bad, nil) {
		said := max(0, slices.IndexFunc(bad, func(t *trouble) bool { return !t.Gone() })) // who answered knows more
		c.troubled(w, r, bad[said])
		return
	}
	back(w, r, "/console", "reset")
}
