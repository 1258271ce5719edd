package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/trail"
)

// eventsCmd works on the databases, as verify does: beside a running server or without one.
type eventsCmd struct {
	Parked  parkedCmd  `cmd:"" help:"List the events whose consumer failed too often, with the error."`
	Redrive redriveCmd `cmd:"" help:"Let parked events be tried again, once what they failed on is repaired."`
}

// parkedEvent is one in the output.
type parkedEvent struct {
	Context       string    `json:"context"` // whose consumer failed
	EventID       string    `json:"eventId"`
	Type          string    `json:"type"`
	Source        string    `json:"source"`
	Subject       string    `json:"subject"`
	Time          time.Time `json:"time"`
	CorrelationID string    `json:"correlationId"`
	Attempts      int       `json:"attempts"`
	Error         string    `json:"error"` // of the last attempt
}

type parkedCmd struct {
	records
}

func (c *parkedCmd) Run(s *session) error {
	all := []parkedEvent{}
	err := c.desks(s, func(context string, d *outbox.Desk) error {
		found, err := parkedAt(s, context, d)
		all = append(all, found...)
		return err
	})
	if err != nil {
		return err
	}
	if s.json {
		return s.document(map[string]any{"parked": all})
	}
	rows := make([][]string, len(all))
	for i, p := range all {
		why, _, _ := strings.Cut(p.Error, "\n") // a panic brings its stack
		rows[i] = []string{p.Context, p.EventID, p.Type, p.Subject, strconv.Itoa(p.Attempts), why}
	}
	return table(s.out, []string{"CONTEXT", "EVENT", "TYPE", "SUBJECT", ">FAILED", "ERROR"}, rows)
}

func parkedAt(s *session, context string, d *outbox.Desk) ([]parkedEvent, error) {
	found, err := d.Parked(s.ctx)
	all := make([]parkedEvent, len(found))
	for i, p := range found {
		all[i] = parkedEvent{context, p.ID, p.Type, p.Source, p.Subject, p.Time, p.CorrelationID, p.Attempts, p.Error}
	}
	return all, err
}

type redriveCmd struct {
	records
	Events []string `arg:"" optional:"" name:"event" help:"Ids of parked events. One that several consumers have parked is tried again by all of them."`
	All    bool     `help:"All that are parked, no more than 1,000 of each context."`
}

// redriven is one in the output.
type redriven struct {
	Context string `json:"context"`
	EventID string `json:"eventId"`
}

func (c *redriveCmd) Run(s *session) error {
	if c.All == (len(c.Events) > 0) {
		return usage("name events, or give --all")
	}
	done := []redriven{}
	missing := map[string]bool{}
	for _, id := range c.Events {
		missing[id] = true
	}
	err := c.desks(s, func(context string, d *outbox.Desk) error {
		ids := c.Events
		if c.All {
			found, err := parkedAt(s, context, d)
			if err != nil {
				return err
			}
			for _, p := range found {
				ids = append(ids, p.EventID)
			}
		}
		for _, id := range ids {
			switch err := d.Redrive(trail.By(s.ctx, trail.RedriveEvent, operator(), "orderkeep events redrive"), id); {
			case err == nil:
				done = append(done, redriven{context, id})
				delete(missing, id)
			case !errors.Is(err, outbox.ErrNotParked):
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.json {
		err = s.document(map[string]any{"redriven": done})
	} else {
		rows := make([][]string, len(done))
		for i, r := range done {
			rows[i] = []string{r.Context, r.EventID}
		}
		err = table(s.out, []string{"CONTEXT", "EVENT"}, rows)
	}
	if err != nil {
		return err
	}
	for _, id := range c.Events {
		if missing[id] {
			fmt.Fprintf(s.err, "orderkeep: no parked event has the id %s\n", id)
			err = errShown
		}
	}
	return err
}

// desks opens the database of each context that is in reach, one after the other.
func (c *records) desks(s *session, f func(context string, d *outbox.Desk) error) error {
	cfg := c.config()
	for _, x := range s.contexts {
		if x.Client || cfg.Elsewhere(x.Name) {
			continue
		}
		d, err := outbox.OpenDesk(s.ctx, cfg.Database(x.Name), x.Schema)
		if err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
		if err := errors.Join(f(x.Name, d), d.Close()); err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
	}
	return nil
}
