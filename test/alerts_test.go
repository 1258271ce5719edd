package test

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
	"go.yaml.in/yaml/v4"
)

// alert is one of deploy/prometheus/rules.yaml, as far as it is looked at.
type alert struct{ Alert, Expr string }

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	if err := yaml.Unmarshal([]byte(readFile(t, "../deploy/prometheus/rules.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("%d alerts", len(all))
	}
	return all
}

// queries are what the dashboard asks Prometheus for.
func queries(t *testing.T) (all []string) {
	t.Helper()
	var file struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(readFile(t, "../deploy/grafana/orderkeep.json")), &file); err != nil {
		t.Fatal(err)
	}
	for _, p := range file.Panels {
		for _, q := range p.Targets {
			all = append(all, q.Expr)
		}
	}
	if len(all) < 10 {
		t.Fatalf("%d queries", len(all))
	}
	return all
}

var figure = regexp.MustCompile(`\b(?:orderkeep|process|go)_[a-z0-9_]+`)

// figures is what a process answers to Prometheus.
func figures(t testing.TB, url string) string {
	t.Helper()
	res, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v, %d: %s", err, res.StatusCode, text)
	}
	return string(text)
}

// An alert on a figure that is not there never fires, and nobody sees that.
func TestAlertsAndDashboardAskForFiguresThatAreThere(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 5)
	want(t, s.place(t, "", paid(visa, one)), http.StatusCreated, "")
	there := map[string]bool{}
	note := func(text string) {
		for _, m := range regexp.MustCompile(`(?m)^([a-z0-9_]+)(?:\{[^}]*\})? `).FindAllStringSubmatch(text, -1) {
			there[m[1]] = true
		}
	}
	note(figures(t, s.process("orders").URL))
	watch := stage.Spawn(t, stage.Launch{Path: program, Args: []string{"verify", "--data", s.data, "--watch", "--metrics-listen", "127.0.0.1:0"}})
	watch.Expected = true // it ends as an audit does that was interrupted
	var url string
	stage.Eventually(t, "verify says where its figures are", func() bool {
		url = regexp.MustCompile(`http://[0-9.:]+`).FindString(watch.Log.String())
		return url != ""
	})
	note(figures(t, url))

	asked := queries(t)
	for _, a := range alerts(t) {
		asked = append(asked, a.Expr)
		if !strings.Contains(readFile(t, "../docs/operations.md"), "\n| `"+a.Alert+"` | ") {
			t.Errorf("docs/operations.md does not say what to do about %s", a.Alert)
		}
	}
	for _, q := range asked {
		names := figure.FindAllString(q, -1)
		if len(names) == 0 && !strings.HasPrefix(q, "up{") {
			t.Errorf("%s asks for nothing", q)
		}
		for _, name := range names {
			if !there[name] {
				t.Errorf("%s asks for %s, which nobody has", q, name)
			}
		}
	}
	s.close(t)
}

// Each alert has a test that fires it, and Prometheus finds that it does.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	t.Parallel()
	tests := readFile(t, "../deploy/prometheus/rules_test.yaml")
	for _, a := range alerts(t) {
		if !regexp.MustCompile(`- alertname: ` + a.Alert + `\n`).MatchString(tests) {
			t.Errorf("no test fires %s", a.Alert)
		}
	}
	promtool := stage.Need(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "rules.yaml"}, {"test", "rules", "rules_test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = filepath.Join("..", "deploy", "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
