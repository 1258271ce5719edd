package faults

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Report is what the lab found, of all runs of one go.
type Report struct {
	Seed       uint64         `json:"seed"`
	Began      time.Time      `json:"began"`
	Seconds    float64        `json:"seconds"`
	Runs       []*Run         `json:"runs"`
	Faults     map[string]int `json:"faults"`     // by kind, over all runs
	Points     map[string]int `json:"points"`     // how often processes died at each named crash point, of all that the code names
	Orders     map[string]int `json:"orders"`     // by how they ended, over all runs
	Requests   int            `json:"requests"`   // of clients
	Unanswered int            `json:"unanswered"` // of these
	Events     int            `json:"events"`     // that were published
	Promises   []Verdict      `json:"promises"`
	Violations int            `json:"violations"`
}

// Run is one topology under one schedule of faults.
type Run struct {
	Name       string         `json:"name"`
	Topology   string         `json:"topology"`
	Seed       uint64         `json:"seed"`
	Seconds    float64        `json:"seconds"`
	Schedule   []string       `json:"schedule"` // what was to happen, by the seed
	Faults     map[string]int `json:"faults"`   // what did, by kind
	Points     map[string]int `json:"points"`
	Requests   int            `json:"requests"`
	Unanswered int            `json:"unanswered"`
	Answers    map[string]int `json:"answers"` // of requests to place an order, by status and code
	Orders     map[string]int `json:"orders"`  // by how they ended
	Holds      int            `json:"holds"`   // that were given, of no order
	Events     int            `json:"events"`
	Promises   []Verdict      `json:"promises"`
	Violations []Violation    `json:"violations"`

	mu   sync.Mutex
	over bool // what comes now is not counted
}

// Verdict is how a promise fared.
type Verdict struct {
	Name       string `json:"name"`
	Says       string `json:"says"`
	Violations int    `json:"violations"`
}

// newRun is one in which nothing has happened yet.
func newRun(name, topology string, seed uint64) *Run {
	return &Run{Name: name, Topology: topology, Seed: seed, Faults: map[string]int{}, Points: map[string]int{}, Answers: map[string]int{}, Orders: map[string]int{}}
}

// count notes a fault.
func (r *Run) count(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.Faults[kind]++
	}
}

// judge fills in what clients asked, what became of it, and what of that was wrong.
func (r *Run) judge(history []*Request, records Records) {
	for _, q := range history {
		r.Requests++
		if q.Status == 0 {
			r.Unanswered++
		}
		if q.Verb == Hold && q.Status == http.StatusOK {
			r.Holds++
		}
		if q.Verb != Place {
			continue
		}
		what := fmt.Sprint(q.Status)
		if q.Code != "" {
			what += " " + q.Code
		} else if q.Status == 0 {
			what = "no answer"
		} else if text := http.StatusText(q.Status); text != "" {
			what += " " + text
		}
		r.Answers[what]++
	}
	for _, o := range records.Orders {
		what := o.State
		if o.Reason != "" {
			what += " " + o.Reason
		}
		r.Orders[what]++
	}
	for _, facts := range records.Outbox {
		r.Events += len(facts)
	}
	r.Violations = Check(history, records)
	for _, p := range Promises() {
		v := Verdict{Name: p.Name, Says: p.Says}
		for _, found := range r.Violations {
			if found.Promise == p.Name {
				v.Violations++
			}
		}
		r.Promises = append(r.Promises, v)
	}
}

// add takes a run in.
func (r *Report) add(run *Run) {
	run.mu.Lock() // a copy that is sent late comes in between
	defer run.mu.Unlock()
	run.over = true
	r.Runs = append(r.Runs, run)
	for _, m := range []struct{ to, from map[string]int }{{r.Faults, run.Faults}, {r.Points, run.Points}, {r.Orders, run.Orders}} {
		for what, n := range m.from {
			m.to[what] += n
		}
	}
	if len(r.Promises) == 0 {
		r.Promises = make([]Verdict, len(Promises()))
	}
	for i, v := range run.Promises { // a run that broke off has none
		r.Promises[i] = Verdict{v.Name, v.Says, r.Promises[i].Violations + v.Violations}
	}
	r.Requests += run.Requests
	r.Unanswered += run.Unanswered
	r.Events += run.Events
	r.Violations += len(run.Violations)
}

//go:embed report.html
var page string

// Write writes the report into a directory: report.json, and report.html, which needs no other file.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "report.html"))
	if err != nil {
		return err
	}
	if err := r.page(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (r *Report) page(w io.Writer) error {
	return template.Must(template.New("report").Funcs(template.FuncMap{
		"sorted": func(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) },
		"sum": func(m map[string]int) (n int) {
			for _, v := range m {
				n += v
			}
			return n
		},
		"thousands": thousands,
	}).Parse(page)).Execute(w, r)
}

// thousands writes a number as people read it.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
