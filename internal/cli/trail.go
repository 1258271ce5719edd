package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/orderkeep/orderkeep/internal/trail"
)

// trailCmd works on the databases, as verify does.
type trailCmd struct {
	records
}

// act is one in the output.
type act struct {
	Context       string     `json:"context"` // that was changed
	At            time.Time  `json:"at"`
	Actor         string     `json:"actor"`
	What          trail.What `json:"what"`
	ID            string     `json:"id"` // of the order or the event
	Reason        string     `json:"reason"`
	CorrelationID string     `json:"correlationId"`
}

func (c *trailCmd) Run(s *session) error {
	all := []act{}
	cfg := c.config()
	for _, x := range s.contexts {
		if x.Client || cfg.Elsewhere(x.Name) {
			continue
		}
		found, err := trail.List(s.ctx, cfg.Database(x.Name), x.Schema)
		if err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
		for _, a := range found {
			all = append(all, act{x.Name, a.At, a.Actor, a.What, a.Subject, a.Reason, a.CorrelationID})
		}
	}
	slices.SortStableFunc(all, func(a, b act) int { return a.At.Compare(b.At) })
	if s.json {
		return s.document(map[string]any{"acts": all})
	}
	rows := make([][]string, len(all))
	for i, a := range all {
		rows[i] = []string{a.At.Format(time.RFC3339), a.Actor, string(a.What), a.Context, a.ID, a.Reason}
	}
	return table(s.out, []string{"AT", "WHO", "DID", "CONTEXT", "OF", "WHY"}, rows)
}
