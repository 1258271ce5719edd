// Package cli is the command line: it runs the server, and it is a client of one like any other program, through the v1
// contracts.
//
// It promises: results go to standard output and everything else to standard error; --json prints one JSON document whose
// names do not change; the exit code is 0 when it was done, 1 when it was refused or failed or promises are broken, 2 when
// the command line is wrong. It knows no context: the program hands them in. docs/cli.md describes every command.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/program"
)

// Exit codes. They are part of the contract with scripts.
const (
	exitOK     = 0
	exitFailed = 1 // refused, failed, or promises are broken
	exitUsage  = 2
)

// grammar is the whole command line: nouns, verbs and flags.
type grammar struct {
	JSON bool   `name:"json" help:"Print the result as one JSON document."`
	URL  string `name:"url" env:"ORDERKEEP_URL" default:"http://127.0.0.1:3000" placeholder:"URL" help:"The server to talk to."`

	Serve  serveCmd  `cmd:"" help:"Run Orders, Inventory and Payments in this process."`
	Demo   demoCmd   `cmd:"" help:"Run a server with a real shop's week of sales, and leave it up to look at."`
	Order  orderCmd  `cmd:"" help:"Place, look up, list and cancel orders."`
	Stock  stockCmd  `cmd:"" help:"Import, export, look up and adjust stock."`
	Replay replayCmd `cmd:"" help:"Run a shop's past sales through a server."`
	Bench  benchCmd  `cmd:"" help:"Measure how a server bears orders, or fill it with them."`
	Verify verifyCmd `cmd:"" help:"Prove on the databases that no promise is broken."`
	Config configCmd `cmd:"" help:"Print the settings in force, with secrets masked."`

	Calls   callsCmd   `cmd:"" help:"List the calls that a server makes to others, and reset their circuit breakers."`
	Events  eventsCmd  `cmd:"" help:"List the events that consumers have set aside, and let them be tried again."`
	Logs    logsCmd    `cmd:"" help:"Show the recent log lines and spans of servers, merged by time."`
	Trail   trailCmd   `cmd:"" help:"List what people did to orders, stock and payments by hand: who, when, what and why."`
	Archive archiveCmd `cmd:"" help:"Move ended orders and delivered events out of the databases into files, and look at these."`
	Broker  brokerCmd  `cmd:"" help:"Run a broker that carries events between processes: NATS JetStream, for BROKER_URL=nats://127.0.0.1:4222."`

	Health  program.Health  `cmd:"" help:"Ask the server on this machine whether it is ready; exit 1 if it is not."`
	Version program.Version `cmd:"" help:"Print the program's version."`
}

// session is what a command works with.
type session struct {
	ctx      context.Context
	in       io.Reader
	out, err io.Writer
	contexts []node.Context
	json     bool
	url      string
}

// again is how long after the first signal a second one counts as the same: timeout(1) and some supervisors signal the
// process and then its group, which must not cut a drain short.
const again = 500 * time.Millisecond

// Main runs one command line, without the program's name, and returns the exit code. An interrupt or SIGTERM ends it
// promptly; a second one, half a second later or more, at once. The contexts are those that serve and verify work on.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, contexts []node.Context) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		time.Sleep(again)
		stop() // from here on a signal has its default effect
	})()
	return run(ctx, args, stdin, stdout, stderr, contexts)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, contexts []node.Context) int {
	var g grammar
	helped := false
	parser, err := kong.New(&g,
		kong.Name("orderkeep"),
		kong.Description("The order backend of a shop: it never sells stock that is not there, never loses an order, never charges twice."),
		defaults.Vars(),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "orderkeep: the command line's own grammar is wrong:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	if helped {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "orderkeep: %v\n", err)
		fmt.Fprintf(stderr, "See: orderkeep%s --help\n", command(err))
		return exitUsage
	}
	s := &session{ctx: ctx, in: stdin, out: stdout, err: stderr, contexts: contexts, json: g.JSON, url: g.URL}
	// The commands that every program of the suite has know their own form of the session.
	return s.report(parsed.Run(s, &program.Session{Ctx: ctx, Name: "orderkeep", Out: stdout, Err: stderr, JSON: g.JSON, Contexts: contexts, Parsed: parsed}))
}

// command names the command that a wrong command line meant, as far as it was understood.
func command(err error) string {
	var e *kong.ParseError
	if !errors.As(err, &e) || e.Context == nil || e.Context.Selected() == nil {
		return ""
	}
	words := ""
	for n := e.Context.Selected(); n != nil && n.Type == kong.CommandNode; n = n.Parent {
		words = " " + n.Name + words
	}
	return words
}

// usageError is a command line that is wrong in a way that the grammar cannot say.
type usageError struct{ error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errShown says that what there is to say has been said: only the exit code is left.
var errShown = program.ErrShown

// report shows what went wrong, if anything, and returns the exit code.
func (s *session) report(err error) int {
	var wrong usageError
	var p *problem
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errShown):
		return exitFailed
	case errors.As(err, &wrong):
		fmt.Fprintf(s.err, "orderkeep: %v\n", err)
		return exitUsage
	case errors.As(err, &p) && s.json:
		_ = s.document(json.RawMessage(p.document)) // exit 1 says enough if standard output is gone
		return exitFailed
	case errors.Is(err, context.Canceled) && s.ctx.Err() != nil:
		fmt.Fprintln(s.err, "orderkeep: interrupted")
		return exitFailed
	}
	fmt.Fprintf(s.err, "orderkeep: %v\n", err)
	return exitFailed
}
