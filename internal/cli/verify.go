package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/node"
)

// databases are the settings that say where the contexts' databases are.
type databases struct {
	Data        string `env:"ORDERKEEP_DATA" default:"orderkeep-data" placeholder:"DIR" help:"Directory of the databases, the same as for serve."`
	OrdersDB    string `env:"ORDERS_DB" placeholder:"URL" help:"Database of Orders. Default: sqlite:DIR/orders.db."`
	InventoryDB string `env:"INVENTORY_DB" placeholder:"URL" help:"Database of Inventory. Default: sqlite:DIR/inventory.db."`
	PaymentsDB  string `env:"PAYMENTS_DB" placeholder:"URL" help:"Database of Payments. Default: sqlite:DIR/payments.db."`
	ProviderDB  string `name:"simulated-provider-db" env:"SIMULATED_PROVIDER_DB" placeholder:"URL" help:"Record of the simulated provider. Default: sqlite:DIR/simulated-provider.db."`
}

func (c *databases) config() node.Config {
	return node.Config{Data: c.Data, OrdersDB: c.OrdersDB, InventoryDB: c.InventoryDB, PaymentsDB: c.PaymentsDB, ProviderDB: c.ProviderDB}
}

// records are those, and which of them are out of reach.
type records struct {
	databases

	InventoryURL string `env:"INVENTORY_URL" placeholder:"URL" help:"Where Inventory is, if serve was told so: its records are then left out, unless its database is named."`
	PaymentsURL  string `env:"PAYMENTS_URL" placeholder:"URL" help:"Where Payments is, likewise."`
}

func (c *records) config() node.Config {
	cfg := c.databases.config()
	cfg.InventoryURL, cfg.PaymentsURL = c.InventoryURL, c.PaymentsURL
	return cfg
}

type verifyCmd struct {
	records
	watching
	repairing
}

func (c *verifyCmd) Run(s *session) error {
	if err := errors.Join(c.watching.check(s.json), c.repairing.check(c.Watch)); err != nil {
		return err
	}
	if c.Watch {
		return s.watch(&c.watching, c.config())
	}
	report, err := s.audit(c.config())
	if err != nil {
		return err
	}
	if c.Repair {
		return s.repair(&c.repairing, report)
	}
	if s.json {
		err = s.document(report)
	} else {
		err = printReport(s.out, report)
	}
	if err == nil && !report.OK {
		err = errShown
	}
	return err
}

// audit proves the promises on the databases that cfg names, beside a running server or without one. The rules that need
// a context which is elsewhere are left out.
func (s *session) audit(cfg node.Config) (audit.Report, error) {
	return node.Audit(s.ctx, cfg, s.contexts)
}

func printReport(w io.Writer, r audit.Report) error {
	var rows [][]string
	for _, context := range slices.Sorted(maps.Keys(r.Counts)) {
		for _, name := range slices.Sorted(maps.Keys(r.Counts[context])) {
			rows = append(rows, []string{context, name, commas(r.Counts[context][name])})
		}
	}
	if err := table(w, []string{"CONTEXT", "COUNTED", ">NUMBER"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if len(r.OnItsWay) > 0 {
		rows = rows[:0]
		for _, x := range r.OnItsWay {
			rows = append(rows, []string{x.Rule, commas(x.Count), (time.Duration(x.OldestSeconds) * time.Second).String(), x.Oldest})
		}
		if err := table(w, []string{"ON ITS WAY", ">NUMBER", ">OLDEST", "WHICH IS"}, rows); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, v := range r.Violations {
		fmt.Fprintln(w, v.Rule, v.Detail)
	}
	if r.OK {
		verdict := "ok: every promise is kept"
		if len(r.OnItsWay) > 0 {
			verdict = "ok: no promise is broken; what is on its way has not taken too long"
		}
		fmt.Fprintln(w, verdict)
		return nil
	}
	_, err := fmt.Fprintf(w, "%s; docs/cli.md says for each rule what it means and what to do\n", plural(int64(len(r.Violations)), "violation"))
	return err
}
