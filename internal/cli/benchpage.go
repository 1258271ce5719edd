package cli

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
)

//go:embed bench.html
var benchHTML string

// page writes the result as one file for a browser: figures, curves as SVG, and the same figures as tables. It has no script and asks for
// nothing from elsewhere.
func (r *benchResult) page(w io.Writer) error {
	t, err := template.New("bench").Funcs(template.FuncMap{
		"thousands": func(x float64) string { return commas(int64(x)) },
		"ms":        func(x float64) string { return fmt.Sprintf("%.2f", x) },
		"add":       func(a, b int) int { return a + b },
	}).Parse(benchHTML)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	charts := []template.HTML{}
	best := r.best()
	if len(r.Runs) > 1 {
		charts = append(charts, r.latencyByRate(), r.answeredByRate())
	}
	charts = append(charts, best.latencyByShare(), best.answeredBySecond())
	return t.Execute(w, struct {
		*benchResult
		Best   benchRun
		Charts []template.HTML
	}{r, best, charts})
}

// best is the measurement that stands for all: the highest rate that held, or else the first.
func (r *benchResult) best() benchRun {
	best := r.Runs[0]
	for _, x := range r.Runs {
		if x.Holds {
			best = x
		}
	}
	return best
}

// point is one of a curve.
type point struct{ x, y float64 }

// curve is a line of a chart, with its name.
type curve struct {
	name   string
	points []point
}

// chart is what a picture shows. The axes begin at 0; a logarithmic one at its lowest mark.
type chart struct {
	title, says string // says is the picture in words
	xName       string
	yName       string
	curves      []curve
	xMarks      []mark // nil: even ones
	logY        bool
}

// mark is a place on an axis.
type mark struct {
	at   float64
	text string
}

// The picture's size in its own units, and the room around the curves.
const (
	chartW, chartH          = 640.0, 300.0
	left, right, above, low = 70.0, 30.0, 34.0, 48.0
)

// svg draws a chart. Colours are the page's, by class.
func (c chart) svg() template.HTML {
	maxX, minY, maxY := 0.0, math.Inf(1), 0.0
	for _, k := range c.curves {
		for _, p := range k.points {
			maxX, minY, maxY = max(maxX, p.x), min(minY, p.y), max(maxY, p.y)
		}
	}
	maxX, maxY = max(maxX, 1e-9), max(maxY, 1e-9)
	yMarks := c.yMarks(minY, maxY)
	bottom, top := yMarks[0].at, max(maxY, yMarks[len(yMarks)-1].at)
	x := func(v float64) float64 { return left + v/maxX*(chartW-left-right) }
	y := func(v float64) float64 {
		share := (v - bottom) / (top - bottom)
		if c.logY {
			share = math.Log(max(v, bottom)/bottom) / math.Log(top/bottom)
		}
		return chartH - low - share*(chartH-above-low)
	}
	xMarks := c.xMarks
	if xMarks == nil {
		xMarks = even(maxX)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartW, chartH, template.HTMLEscapeString(c.title+". "+c.says))
	for _, m := range yMarks {
		fmt.Fprintf(&b, `<path class="grid" d="M%.1f %.1fH%.1f"/><text class="y" x="%.1f" y="%.1f">%s</text>`, left, y(m.at), chartW-right, left-6, y(m.at)+4, m.text)
	}
	for _, m := range xMarks {
		fmt.Fprintf(&b, `<text class="x" x="%.1f" y="%.1f">%s</text>`, x(m.at), chartH-low+18, m.text)
	}
	fmt.Fprintf(&b, `<text class="x" x="%.1f" y="%.1f">%s</text>`, (left+chartW-right)/2, chartH-6, template.HTMLEscapeString(c.xName))
	fmt.Fprintf(&b, `<text class="name" x="%.1f" y="%.1f">%s</text>`, left, above-12, template.HTMLEscapeString(c.yName))
	for i, k := range c.curves {
		fmt.Fprintf(&b, `<polyline class="c%d" points="`, i)
		for _, p := range k.points {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(p.x), y(p.y))
		}
		b.WriteString(`"/>`)
		if len(k.points) < 40 { // more of them hide the line
			for _, p := range k.points {
				fmt.Fprintf(&b, `<circle class="c%d" cx="%.1f" cy="%.1f" r="3"/>`, i, x(p.x), y(p.y))
			}
		}
		fmt.Fprintf(&b, `<text class="key c%d" x="%.1f" y="%.1f">%s</text>`, i, left+110+130*float64(i), above-12, template.HTMLEscapeString(k.name))
	}
	b.WriteString("</svg>")
	return template.HTML("<figure>" + b.String() + "<figcaption>" + template.HTMLEscapeString(c.title) + ". " + template.HTMLEscapeString(c.says) + "</figcaption></figure>")
}

// even are round marks from 0 to a value that is most.
func even(most float64) []mark {
	step := math.Pow(10, math.Floor(math.Log10(most)))
	for _, finer := range []float64{1, 0.5, 0.2} {
		if most/(step*finer) >= 3 {
			step *= finer
			break
		}
	}
	var all []mark
	for v := 0.0; v <= most*1.001; v += step {
		all = append(all, mark{v, figure(v)})
	}
	return all
}

// figure writes a number of any size in few characters.
func figure(v float64) string {
	if v >= 1000 {
		return commas(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func (c chart) yMarks(least, most float64) []mark {
	if !c.logY {
		return even(most)
	}
	var all []mark
	for v := math.Pow(10, math.Floor(math.Log10(max(least, 0.001)))); ; v *= 10 {
		all = append(all, mark{v, figure(v)})
		if v >= most {
			return all
		}
	}
}

// open are the measurements at a rate.
func (r *benchResult) open() []benchRun {
	var all []benchRun
	for _, x := range r.Runs {
		if x.Offered > 0 {
			all = append(all, x)
		}
	}
	return all
}

func (r *benchResult) latencyByRate() template.HTML {
	c := chart{
		title: "Latency by rate", says: "From when an order was due to its answer, at each rate that was tried; the table has the figures.",
		xName: "orders due a second", yName: "ms", logY: true, curves: []curve{{name: "p50"}, {name: "p99"}, {name: "bound"}},
	}
	for _, x := range r.open() {
		c.curves[0].points = append(c.curves[0].points, point{x.Offered, max(x.P50Ms, 0.001)})
		c.curves[1].points = append(c.curves[1].points, point{x.Offered, max(x.P99Ms, 0.001)})
		c.curves[2].points = append(c.curves[2].points, point{x.Offered, r.Top.BoundMs})
	}
	return c.svg()
}

func (r *benchResult) answeredByRate() template.HTML {
	c := chart{
		title: "Orders answered by orders due", says: "Where the lower line leaves the upper one, the server does not keep up.",
		xName: "orders due a second", yName: "orders/s", curves: []curve{{name: "due"}, {name: "answered"}},
	}
	for _, x := range r.open() {
		c.curves[0].points = append(c.curves[0].points, point{x.Offered, x.Offered})
		c.curves[1].points = append(c.curves[1].points, point{x.Offered, x.PerSecond})
	}
	return c.svg()
}

// latencyByShare has each further nine of the share at the same distance.
func (x benchRun) latencyByShare() template.HTML {
	c := chart{
		title: "Latency by share of the orders", says: fmt.Sprintf("Half within %.2f ms, 99 of 100 within %.2f ms, 999 of 1,000 within %.2f ms, all within %.2f ms.", x.P50Ms, x.P99Ms, x.P999Ms, x.MaxMs),
		xName: "share of the orders, percent", yName: "ms", logY: true, curves: []curve{{name: x.name()}},
		xMarks: []mark{{0, "0"}, {1, "90"}, {2, "99"}, {3, "99.9"}, {4, "99.99"}},
	}
	nines := 4.0
	if n := x.latency.Latency.TotalCount(); n > 0 {
		nines = min(nines, math.Log10(float64(n))) // beyond that it is one order's latency
	}
	for at := 0.0; at <= nines; at += 0.1 {
		share := 1 - math.Pow(10, -at)
		c.curves[0].points = append(c.curves[0].points, point{at, max(ms(x.latency.Quantile(share)), 0.001)})
	}
	c.xMarks = c.xMarks[:1+int(nines)]
	return c.svg()
}

func (x benchRun) answeredBySecond() template.HTML {
	c := chart{
		title: "Orders answered in each second", says: fmt.Sprintf("On average %s a second.", commas(int64(x.PerSecond))),
		xName: "seconds", yName: "orders/s", curves: []curve{{name: x.name()}},
	}
	for i, n := range x.EachSec[:max(1, len(x.EachSec)-1)] { // the last is no whole one
		c.curves[0].points = append(c.curves[0].points, point{float64(i + 1), float64(n)})
	}
	return c.svg()
}

func (x benchRun) name() string {
	if x.Offered == 0 {
		return "closed loop"
	}
	return "at " + commas(int64(x.Offered)) + "/s"
}
