package cli

import (
	"log/slog"

	"github.com/orderkeep/orderkeep/internal/natsd"
	"github.com/orderkeep/orderkeep/internal/program"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// brokerCmd runs what BROKER_URL names, for a shop that has split and wants nothing else to install.
type brokerCmd struct {
	Data   string `env:"ORDERKEEP_BROKER_DATA" default:"orderkeep-broker" placeholder:"DIR" help:"Directory of the events. Made if it is not there; belongs to one broker at a time."`
	Listen string `env:"ORDERKEEP_BROKER_LISTEN" default:"127.0.0.1:4222" placeholder:"HOST:PORT" help:"Address to answer on. Port 0 takes a free one. There is no TLS and no authentication: name another host than the loopback only inside a private network."`
}

func (c *brokerCmd) Run(s *session) error {
	return natsd.Run(s.ctx, c.Data, c.Listen, telemetry.NewLogger(s.err, !program.Terminal(s.err), slog.LevelInfo), nil)
}
