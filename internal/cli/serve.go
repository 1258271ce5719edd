package cli

import "github.com/orderkeep/orderkeep/internal/program"

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
