package cli

import (
	"cmp"
	"time"

	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/program"
)

// defaults are the one-process form's: everything on one port, and no gRPC, because nobody else calls.
var defaults = program.Defaults{Listen: "127.0.0.1:3000"}

// selection says which of the program's contexts run here.
type selection struct {
	Contexts []string `name:"run" env:"ORDERKEEP_RUN" placeholder:"CONTEXT,..." help:"Contexts to run: orders, inventory, payments, and the console. Default: those that no URL says are elsewhere."`
}

type serveCmd struct {
	selection
	program.Serve
}

func (c *serveCmd) Run(s *program.Session) error {
	c.Config.Run = c.Contexts
	return c.Serve.Run(s)
}

type configCmd struct {
	selection
	program.Config
}

func (c *configCmd) Run(s *program.Session) error {
	c.Settings.Run = c.Contexts
	return c.Config.Run(s)
}

// own gives the settings of contexts that a command runs for itself the defaults of serve. Nothing of the environment is in them but what cfg has.
func own(cfg node.Config) node.Config {
	cfg.Listen = cmp.Or(cfg.Listen, defaults.Listen)
	cfg.BodyLimit, cfg.ReadTimeout, cfg.DrainTimeout, cfg.Keep = 1<<20, 30*time.Second, 30*time.Second, 720*time.Hour
	return cfg
}
