package program

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// Settings are those of a process that serves.
type Settings struct {
	node.Config
	LogFormat string     `env:"ORDERKEEP_LOG_FORMAT" enum:"auto,text,json" default:"auto" placeholder:"FORMAT" help:"text, json, or auto: text on a terminal and json elsewhere."`
	LogLevel  slog.Level `env:"ORDERKEEP_LOG_LEVEL" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error."`
}

func (c *Settings) log(w io.Writer) *slog.Logger {
	json := c.LogFormat == "json" || c.LogFormat == "auto" && !Terminal(w)
	return telemetry.NewLogger(w, json, c.LogLevel)
}

// Serve runs contexts until SIGTERM.
type Serve struct {
	Settings
}

// Run is kong's: it runs the command.
func (c *Serve) Run(s *Session) error {
	return node.Run(s.Ctx, c.Config, s.Contexts, c.log(s.Err), nil)
}

// Version prints which program this is.
type Version struct{}

// Run is kong's: it runs the command.
func (Version) Run(s *Session) error {
	b := node.Version()
	if s.JSON {
		return Document(s.Out, b)
	}
	commit := ""
	if b.Commit != "" {
		commit = ", commit " + b.Commit
		if b.Dirty {
			commit += " with changes"
		}
	}
	_, err := fmt.Fprintf(s.Out, "%s %s%s, %s %s/%s\n", s.Name, b.Version, commit, b.Go, runtime.GOOS, runtime.GOARCH)
	return err
}
