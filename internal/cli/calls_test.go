package cli

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/httpd"
)

type deadWire struct{}

func (deadWire) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("dead") }

// calling is a server that calls the other contexts, one of which does not answer.
func calling(t *testing.T) string {
	t.Helper()
	edges := call.NewEdges(call.Policies(), slog.New(slog.DiscardHandler), nil)
	inventory := edges.Target("inventory").Client(deadWire{})
	for range 10 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://inventory.invalid/reserve", nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := inventory.Do(r); err == nil {
			res.Body.Close()
		}
	}
	edges.Target("payments").Client(deadWire{})
	server := httptest.NewServer(httpd.New(httpd.Options{Calls: edges}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestCallsOutput(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"calls list":           {"calls", "list"},
		"calls reset":          {"calls", "reset", "inventory/POST /reserve", "payments"},
		"calls reset all":      {"calls", "reset"},
		"calls reset not used": {"calls", "reset", "payments", "inventory/Reserve"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, json := range []string{"", " json"} {
				args := append(args[:len(args):len(args)], "--url", calling(t))
				if json != "" {
					args = append(args, "--json")
				}
				r := do(t, nil, "", args...)
				golden(t, name+json, r)
				if json != "" {
					oneDocument(t, r.out)
				}
			}
		})
	}
}

// What is reset is closed at the server, and nothing else is.
func TestCallsResetReachesTheServer(t *testing.T) {
	t.Parallel()
	url := calling(t)
	for _, step := range []struct {
		reset string
		open  bool // then
	}{{"payments", true}, {"inventory", false}} {
		if r := do(t, nil, "", "calls", "reset", step.reset, "--url", url); r.code != exitOK {
			t.Fatalf("%+v", r)
		}
		if r := do(t, nil, "", "calls", "list", "--url", url); strings.Contains(r.out, "open") != step.open {
			t.Errorf("after the reset of %s:\n%s", step.reset, r.out)
		}
	}
}
