package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// settings are those of a process that serves.
type settings struct {
	node.Config
	LogFormat string     `env:"ORDERKEEP_LOG_FORMAT" enum:"auto,text,json" default:"auto" placeholder:"FORMAT" help:"text, json, or auto: text on a terminal and json elsewhere."`
	LogLevel  slog.Level `env:"ORDERKEEP_LOG_LEVEL" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error."`
}

func (c *settings) log(w io.Writer) *slog.Logger {
	json := c.LogFormat == "json" || c.LogFormat == "auto" && !terminal(w)
	return telemetry.NewLogger(w, json, c.LogLevel)
}

type serveCmd struct {
	settings
}

func (c *serveCmd) Run(s *session) error {
	return node.Run(s.ctx, c.Config, s.contexts, c.log(s.err), nil)
}

type configCmd struct {
	settings
}

// set is one setting in force.
type set struct {
	Name   string `json:"name"`          // of the flag
	Env    string `json:"env,omitempty"` // of the environment variable, if it has one
	Value  string `json:"value"`         // a URL without its password
	Source string `json:"source"`        // flag, environment or default
}

// Run prints what is in force and then, if that cannot work, why.
func (c *configCmd) Run(s *session) error {
	all := []set{}
	for _, f := range s.parsed.Flags() {
		if f.Name == "help" || f.Name == "json" {
			continue
		}
		all = append(all, c.inForce(s.parsed, f))
	}
	var err error
	if s.json {
		err = s.document(map[string]any{"settings": all})
	} else {
		rows := make([][]string, len(all))
		for i, x := range all {
			rows[i] = []string{x.Name, x.Value, x.Source, x.Env}
		}
		err = table(s.out, []string{"SETTING", "VALUE", "FROM", "ENVIRONMENT"}, rows)
	}
	if err != nil {
		return err
	}
	if err := c.Check(s.contexts); err != nil {
		return fmt.Errorf("serve would not start:\n%w", err)
	}
	return nil
}

// inForce says what a flag is set to, and by whom.
func (c *configCmd) inForce(parsed *kong.Context, f *kong.Flag) set {
	x := set{Name: f.Name, Value: fmt.Sprint(f.Target.Interface()), Source: "default"}
	if len(f.Envs) > 0 {
		x.Env = f.Envs[0]
	}
	for _, p := range parsed.Path {
		if p.Flag == f {
			x.Source = "flag"
		}
	}
	if x.Source == "default" && x.Env != "" {
		if _, ok := os.LookupEnv(x.Env); ok {
			x.Source = "environment"
		}
	}
	if context, ok := strings.CutSuffix(f.Name, "-db"); ok {
		x.Value = c.Database(context)
	}
	if strings.Contains(x.Value, "://") {
		x.Value = masked(x.Value)
	}
	return x
}

type versionCmd struct{}

func (versionCmd) Run(s *session) error {
	b := node.Version()
	if s.json {
		return s.document(b)
	}
	commit := ""
	if b.Commit != "" {
		commit = ", commit " + b.Commit
		if b.Dirty {
			commit += " with changes"
		}
	}
	fmt.Fprintf(s.out, "orderkeep %s%s, %s %s/%s\n", b.Version, commit, b.Go, runtime.GOOS, runtime.GOARCH)
	return nil
}
