package program

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"
	"github.com/orderkeep/orderkeep/internal/broker"
)

// Config prints the settings in force.
type Config struct {
	Settings
}

// set is one setting in force.
type set struct {
	Name   string `json:"name"`          // of the flag
	Env    string `json:"env,omitempty"` // of the environment variable, if it has one
	Value  string `json:"value"`         // a URL without its password
	Source string `json:"source"`        // flag, environment or default
}

// Run is kong's: it prints what is in force and then, if that cannot work, why.
func (c *Config) Run(s *Session) error {
	all := []set{}
	for _, f := range s.Parsed.Flags() {
		if f.Name == "help" || f.Name == "json" {
			continue
		}
		all = append(all, c.inForce(s.Parsed, f))
	}
	if err := show(s, all); err != nil {
		return err
	}
	if err := c.Check(s.Contexts); err != nil {
		return fmt.Errorf("serve would not start:\n%w", err)
	}
	return nil
}

func show(s *Session, all []set) error {
	if s.JSON {
		return Document(s.Out, map[string]any{"settings": all})
	}
	out := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "SETTING\tVALUE\tFROM\tENVIRONMENT")
	for _, x := range all {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", x.Name, x.Value, x.Source, x.Env)
	}
	return out.Flush()
}

// inForce says what a flag is set to, and by whom.
func (c *Config) inForce(parsed *kong.Context, f *kong.Flag) set {
	x := set{Name: f.Name, Value: fmt.Sprint(f.Target.Interface()), Source: "default"}
	if list, ok := f.Target.Interface().([]string); ok {
		x.Value = strings.Join(list, ",")
	}
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
	if f.Name == "broker-url" {
		x.Value = broker.Masked(x.Value) // it may have several hosts, which no URL of net/url has
	} else if strings.Contains(x.Value, "://") {
		x.Value = Masked(x.Value)
	}
	return x
}

// Masked returns a URL without its password, wherever it stands.
func Masked(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	q := u.Query()
	for name := range q {
		if strings.Contains(strings.ToLower(name), "password") {
			q.Set(name, "xxxxx")
			u.RawQuery = q.Encode()
		}
	}
	return u.Redacted()
}
