// Package program is the command line of a program that serves contexts: it runs them, asks whether they are well, and prints
// their settings and version.
//
// It promises that every program of the suite has the same settings under the same names, with defaults of its own where
// they must differ, and that the exit code is 0 when it was done, 1 when it failed, 2 when the command line is wrong. It
// knows no context and no contract: what a command line does as a client is internal/cli's.
package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
	"github.com/orderkeep/orderkeep/internal/node"
	"golang.org/x/term"
)

// Defaults are the settings whose defaults differ between programs. Empty ones are unset.
type Defaults struct {
	Listen, GRPCListen        string
	InventoryURL, PaymentsURL string
}

// Vars gives the grammar of Settings the defaults of a program.
func (d Defaults) Vars() kong.Vars {
	return kong.Vars{"listen": d.Listen, "grpc_listen": d.GRPCListen, "inventory_url": d.InventoryURL, "payments_url": d.PaymentsURL}
}

// Session is what a command works with.
type Session struct {
	Ctx      context.Context
	Name     string // of the program
	Out, Err io.Writer
	JSON     bool
	Contexts []node.Context // that the program has
	Parsed   *kong.Context
}

// grammar is the command line of a program that only serves.
type grammar struct {
	JSON bool `name:"json" help:"Print the result as one JSON document."`

	Serve   Serve   `cmd:"" default:"withargs" help:"Answer until SIGTERM; this is what happens without a command."`
	Health  Health  `cmd:"" help:"Ask the running program whether it is ready; exit 1 if it is not."`
	Config  Config  `cmd:"" help:"Print the settings in force, with secrets masked."`
	Version Version `cmd:"" help:"Print the program's version; so does --version."`
}

// Main runs the command line of a program that serves the contexts and does nothing else, and returns the exit code. name
// and about are for its help.
func Main(name, about string, d Defaults, args []string, stdout, stderr io.Writer, contexts ...node.Context) int {
	node.Tune()
	if len(args) == 1 && args[0] == "--version" {
		args = []string{"version"}
	}
	var g grammar
	helped := false
	parser, err := kong.New(&g, kong.Name(name), kong.Description(about), d.Vars(), kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}))
	if err != nil {
		fmt.Fprintf(stderr, "%s: the command line's own grammar is wrong: %v\n", name, err)
		return 1
	}
	parsed, err := parser.Parse(args)
	if helped {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\nSee: %[1]s --help\n", name, err)
		return 2
	}
	// An address of a context here, in an environment that all programs share, is for the others.
	for _, c := range contexts {
		g.Serve.Config.Run = append(g.Serve.Config.Run, c.Name)
		g.Config.Settings.Run = append(g.Config.Settings.Run, c.Name)
	}
	s := &Session{Ctx: context.Background(), Name: name, Out: stdout, Err: stderr, JSON: g.JSON, Contexts: contexts, Parsed: parsed}
	if err := parsed.Run(s); err != nil {
		if !errors.Is(err, ErrShown) {
			fmt.Fprintf(stderr, "%s: %v\n", name, err)
		}
		return 1
	}
	return 0
}

// ErrShown says that what there is to say has been said: only the exit code is left.
var ErrShown = errors.New("shown")

// Document prints v as the one JSON document of a command, indented for eyes.
func Document(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // this is no web page
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// Terminal reports whether w is one, so that what is for eyes only can be left out elsewhere.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
