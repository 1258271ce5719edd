package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/orderkeep/orderkeep/internal/archive"
)

type archiveVerifyCmd struct {
	Dir string `arg:"" help:"Directory of the archive."`
}

// checkedPart is one in the output.
type checkedPart struct {
	Part    string `json:"part"`
	Kind    string `json:"kind"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
	Left    int    `json:"left"`    // records that the databases kept, and that are out of date here
	State   string `json:"state"`   // done; removing, if the databases may have some of it still; torn, if it is not whole; or damaged
	Problem string `json:"problem"` // of a damaged one
}

func (c *archiveVerifyCmd) Run(s *session) error {
	d, err := archive.Look(c.Dir)
	if err != nil {
		return err
	}
	parts, torn, err := d.Parts()
	if err != nil {
		return err
	}
	all, ok := []checkedPart{}, true
	for _, p := range parts {
		x := checkedPart{Part: p.Name, Kind: p.Kind, State: "removing"}
		for _, f := range p.Files {
			x.Records += f.Records
			x.Bytes += f.Bytes
		}
		if p.Outcome != nil {
			x.State, x.Left = "done", len(p.Outcome.Left)
		}
		if _, err := p.Stamps(); err != nil {
			x.State, x.Problem, ok = "damaged", err.Error(), false
		}
		all = append(all, x)
	}
	for _, name := range torn {
		all = append(all, checkedPart{Part: name, State: "torn"})
	}
	if s.json {
		err = s.document(map[string]any{"ok": ok, "archive": d.ID, "parts": all})
	} else {
		err = printParts(s, all)
	}
	if err == nil && !ok {
		err = errShown
	}
	return err
}

func printParts(s *session, all []checkedPart) error {
	rows := make([][]string, len(all))
	for i, x := range all {
		rows[i] = []string{x.Part, commas(x.Records), commas(x.Bytes), commas(int64(x.Left)), x.State}
	}
	if err := table(s.out, []string{"PART", ">RECORDS", ">BYTES", ">LEFT", "STATE"}, rows); err != nil {
		return err
	}
	for _, x := range all {
		if x.Problem != "" {
			fmt.Fprintln(s.out, x.Problem)
		}
	}
	return nil
}

type archiveShowCmd struct {
	ID  string `arg:"" help:"The order's id."`
	Dir string `name:"from" required:"" placeholder:"DIR" help:"Directory of the archive."`
}

// errFound ends the reading of a file.
var errFound = errors.New("found")

// Run prints one document, with and without --json: the rows are what there is.
func (c *archiveShowCmd) Run(s *session) error {
	d, err := archive.Look(c.Dir)
	if err != nil {
		return err
	}
	parts, _, err := d.Parts()
	if err != nil {
		return err
	}
	found := map[string]json.RawMessage{}
	for _, p := range parts {
		for _, f := range p.Files {
			if p.Kind != archive.Orders || c.ID < f.First || c.ID > f.Last || p.LeftOf(f.Context, c.ID) || p.LeftOf("orders", c.ID) {
				continue
			}
			err := p.Each(f, func(id string, line []byte) error {
				if id != c.ID {
					return nil
				}
				found[f.Context] = line
				return errFound
			})
			if err != nil && !errors.Is(err, errFound) {
				return err
			}
		}
	}
	if len(found) == 0 {
		return fmt.Errorf("the archive in %s has no order %s", c.Dir, c.ID)
	}
	return s.document(found)
}
