package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/cli/demo"
	"github.com/orderkeep/orderkeep/internal/cli/sales"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
)

type demoCmd struct {
	Listen string `default:"127.0.0.1:0" placeholder:"HOST:PORT" help:"Address to answer on. Port 0 takes a free one."`
	Data   string `placeholder:"DIR" help:"Directory of the databases, kept afterwards. Default: a temporary one, removed at the end."`
	Exit   bool   `help:"End after the check instead of staying up."`
}

// demoResult is what --json prints.
type demoResult struct {
	URL    string                 `json:"url"`
	Data   string                 `json:"data"`
	Import *stockapi.ImportResult `json:"import"`
	Replay *summary               `json:"replay"`
	Verify audit.Report           `json:"verify"`
}

func (c *demoCmd) Run(s *session) (err error) {
	data := c.Data
	if data == "" {
		data, err = os.MkdirTemp("", "orderkeep-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(data)
	}
	// Nothing of the environment: a demo must never touch a shop's databases.
	cfg := own(node.Config{Listen: c.Listen, Data: data})

	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	address := make(chan string, 1)
	down := make(chan struct{})
	var downErr error // once down is closed
	go func() {
		defer close(down)
		// Only what is wrong: the demo tells its own story.
		log := telemetry.NewLogger(s.err, false, slog.LevelWarn)
		downErr = node.Run(ctx, cfg, s.contexts, log, func(addr string) { address <- addr })
	}()
	select {
	case addr := <-address:
		inside := *s
		inside.url, inside.ctx = "http://"+addr, ctx
		err = inside.demo(cfg, c.Exit)
	case <-down:
	}
	if err == nil && !c.Exit {
		<-down // by an interrupt, or a failure
	}
	stop()
	<-down // before its directory goes
	return errors.Join(err, downErr)
}

// demo runs the demo against a server that is up.
func (s *session) demo(cfg node.Config, exit bool) error {
	r, err := s.week(cfg)
	if err != nil {
		return err
	}
	if s.json {
		err = s.document(r)
	} else {
		err = s.tell(r, exit)
	}
	if err == nil && (!r.Verify.OK || r.Replay.Failed > 0) {
		err = errShown
	}
	return err
}

// week fills the shelves, sells for a week and checks.
func (s *session) week(cfg node.Config) (*demoResult, error) {
	fmt.Fprintf(s.err, "Orderkeep is up at %s, with its data in %s\n", s.url, cfg.Data)
	cl, err := s.client(1, true)
	if err != nil {
		return nil, err
	}
	r := &demoResult{URL: s.url, Data: cfg.Data}
	if r.Import, err = importStock(s, cl, bytes.NewReader(demo.Stock)); err != nil {
		return nil, err
	}
	fmt.Fprintf(s.err, "Stocked %s\n", plural(r.Import.Rows, "item"))
	week, err := sales.Read(bytes.NewReader(demo.Week))
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(s.err, "Replaying a real shop's week of March 2011: %s\n", plural(int64(len(week)), "invoice"))
	// One at a time, so that the figures are the same each time.
	if r.Replay, err = s.replay(week, 1, 0); err != nil {
		return nil, err
	}
	fmt.Fprintln(s.err, "Checking the promises on the databases")
	r.Verify, err = s.audit(cfg)
	return r, err
}

// tell prints the result, and what to try next if the server stays up.
func (s *session) tell(r *demoResult, exit bool) error {
	fmt.Fprintln(s.out)
	r.Replay.print(s.out)
	fmt.Fprintln(s.out)
	if err := printReport(s.out, r.Verify); err != nil {
		return err
	}
	if exit {
		return nil
	}
	me := self()
	fmt.Fprintf(s.out, `
Try next, in another terminal:

  # place an order
  curl -i %[1]s/v1/orders -H 'Content-Type: application/json' -H 'Idempotency-Key: my-first' \
    -d '{"items":[{"sku":"85123A","qty":1,"unitPrice":295}],"currency":"GBP","customer":"me","payment":{"provider":"simulated","token":"pm_card_visa"}}'

  # more than there is: 409 out_of_stock
  %[2]s --url %[1]s order place --item 85123A=100000@295 --currency GBP --token pm_card_visa

  # look around
  %[2]s --url %[1]s order list --limit 5
  %[2]s --url %[1]s stock get 85123A
  %[2]s verify --data %[3]s

  # see it
  %[1]s/console

  # read the API
  %[1]s/docs

Ctrl-C ends it.
`, r.URL, me, quoted(r.Data))
	return nil
}

// self is how the person at the terminal can call this program.
func self() string {
	exe, err := os.Executable()
	if err != nil {
		return "orderkeep"
	}
	// "go run" builds into a directory of its own and removes it.
	if strings.Contains(exe, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/orderkeep"
	}
	return quoted(exe)
}

// quoted makes a path one word of a shell.
func quoted(path string) string {
	if strings.ContainsAny(path, " \t\n'\"\\$&;()<>|*?[]#~`!{}") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
