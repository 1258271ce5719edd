package main

import (
	"strings"
	"testing"
	"time"
)

func TestARatioIsOfMediansAndItsRangeOfRounds(t *testing.T) {
	t.Parallel()
	b := &bench{samples: map[string]*series{
		"a": {values: []float64{30, 10, 20}},
		"b": {values: []float64{100, 50, 40}},
	}}
	v, low, high, ok := b.value(row{of: "a", to: "b"})
	if !ok || v != 0.4 || low != 0.2 || high != 0.5 {
		t.Errorf("%v, %v to %v, %v; want 0.4, 0.2 to 0.5", v, low, high, ok)
	}
	if v, low, high, ok := b.value(row{of: "a"}); !ok || v != 20 || low != 10 || high != 30 {
		t.Errorf("%v, %v to %v, %v; want 20, 10 to 30", v, low, high, ok)
	}
	if _, _, _, ok := b.value(row{of: "a", to: "c"}); ok {
		t.Error("a ratio to what was not measured is a value")
	}
}

func TestTargetsAreReachedFromTheRightSide(t *testing.T) {
	t.Parallel()
	more, less := row{least: 0.3, aim: 0.5}, row{least: 10, aim: 5, atMost: true}
	for _, c := range []struct {
		r    row
		v    float64
		want string
	}{
		{more, 0.29, "**no**"}, {more, 0.3, "yes"}, {more, 0.5, "aim"},
		{less, 10.1, "**no**"}, {less, 10, "yes"}, {less, 5, "aim"},
		{row{least: 7}, 7, "yes"}, {row{}, 1, ""},
	} {
		if got := c.r.reached(c.v); got != c.want {
			t.Errorf("%g of %+v: %q, want %q", c.v, c.r, got, c.want)
		}
	}
}

// Each row of the table is there whatever was measured, with the reason if it was not.
func TestTheReportHasEveryRow(t *testing.T) {
	t.Parallel()
	b := &bench{
		samples: map[string]*series{floor: {values: []float64{10}}, one1: {values: []float64{4}}}, order: []string{floor, one1},
		missing: map[string]string{nodePair: "there is no node here", "postgres": "there is no PostgreSQL | here\nmore"}, verdict: []string{"one process: ok"},
	}
	text := b.report(time.Now())
	for _, want := range []string{
		"| one process, SQLite, 1 SKU / floor | 0.400 | 0.400 to 0.400 | 0.3 | 0.5 | yes |",
		"| one process, SQLite, 1 SKU / Node.js pair in memory | not measured: there is no node here |",
		"| PostgreSQL, one process, 1 SKU / pgbench | not measured: there is no PostgreSQL / here |",
		"- one process: ok",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	for _, r := range table {
		if !strings.Contains(text, "\n| "+r.what) {
			t.Errorf("the row %s is not there", r.what)
		}
	}
	for _, p := range partNames() {
		found := false
		for _, r := range table {
			found = found || r.part == p
		}
		if !found {
			t.Errorf("no row is of the part %s", p)
		}
	}
}
