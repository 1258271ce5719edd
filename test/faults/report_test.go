package faults

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestReportIsOnePageThatNeedsNoOther(t *testing.T) {
	t.Parallel()
	r := Report{Seed: 7, Began: time.Now(), Faults: map[string]int{}, Points: map[string]int{"orders.begun": 0}, Orders: map[string]int{}}
	run := newRun("One <process>", "SQLite", 8)
	history, records := sound()
	records.Deaths = []string{"orders & co"}
	run.count("kill -9")
	run.judge(history, records)
	r.add(run)
	dir := filepath.Join(t.TempDir(), "new")
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`name="viewport"`, "1 violations", "make faults SEED=7", "kill -9", "orders.begun", "One &lt;process&gt;", "nobody_dies: orders &amp; co", "402 payment_declined", "rejected"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if away := regexp.MustCompile(`(src|href|url|import)\s*[=(]|https?://|<script`).FindString(string(text)); away != "" {
		t.Errorf("the page needs something else: %s", away)
	}
	if text, err = os.ReadFile(filepath.Join(dir, "report.json")); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil || back.Seed != 7 || back.Violations != 1 || back.Promises[len(back.Promises)-1].Violations != 1 || back.Orders["confirmed"] != 1 || back.Runs[0].Answers["201 Created"] != 8 || back.Runs[0].Unanswered != 5 {
		t.Errorf("%v: report.json is %+v", err, back)
	}
}

func TestSchedulesComeFromTheSeed(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) string {
		w := newWorld(t, newRun("", "", seed))
		for _, name := range []string{"a", "b", "c"} {
			w.nodes, w.edges = append(w.nodes, &node{name: name}), append(w.edges, &edge{name: name})
		}
		var all strings.Builder
		for _, s := range plan(w.chance(), time.Minute, []fault{w.kills(time.Second), w.weather(time.Second), w.clocks(time.Second, time.Hour)}) {
			all.WriteString(s.at.String() + s.kind + s.says + "\n")
		}
		return all.String()
	}
	one := draw(1)
	if again := draw(1); again != one {
		t.Error("a seed gives now one schedule and now another")
	}
	if one == draw(2) || strings.Count(one, "\n") != 180 {
		t.Errorf("two seeds give one schedule, or not the faults that were asked for:\n%s", one)
	}
}

// A promise whose violation no test has planted might never be found to be broken.
func TestEveryPromiseIsBrokenOnce(t *testing.T) {
	t.Parallel()
	planted := map[string]bool{}
	for _, c := range mistakes {
		planted[c.promise] = true
	}
	for _, p := range Promises() {
		if !planted[p.Name] {
			t.Errorf("no test breaks %s", p.Name)
		}
	}
}
