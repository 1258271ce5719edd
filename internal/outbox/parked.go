package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/trail"
)

// ErrNotParked is NotFound: no event of this id is parked in this database.
var ErrNotParked = fault.New(fault.NotFound, "not_parked", "No parked event has this id.")

// Parked is an event that failed too often.
type Parked struct {
	Event
	Consumer string
	Attempts int
	Error    string // of the last attempt
}

// parkedMost is as many as a person looks at.
const parkedMost = 1000

// queryParked is as queryInbox for the same reasons.
const queryParked = `SELECT consumer, attempts, error, source, event_id, type, subject, time, correlation_id, causation_id, traceparent, data
	FROM inbox WHERE state <> 'done' AND state = 'parked' ORDER BY seq`

// Desk is where a person looks after the parked events of a context, on its database: beside the running inbox or
// without one.
type Desk struct{ db *db.DB }

// OpenDesk opens the database of a context that has been served before, by a program of this version.
func OpenDesk(ctx context.Context, url string, s db.Schema) (*Desk, error) {
	// Opening for writing would make a database that is not there, and migrate one that an older server may be using.
	look, err := db.OpenReadOnly(ctx, url, s)
	if err != nil {
		return nil, err
	}
	if err := look.Close(); err != nil {
		return nil, err
	}
	d, err := db.Open(ctx, url, s)
	if err != nil {
		return nil, err
	}
	return &Desk{d}, nil
}

// Close closes the database.
func (d *Desk) Close() error { return d.db.Close() }

// Parked lists the parked events, oldest first, no more than 1,000.
func (d *Desk) Parked(ctx context.Context) ([]Parked, error) { return parkedIn(ctx, d.db) }

func parkedIn(ctx context.Context, d *db.DB) ([]Parked, error) {
	rows, err := d.Query(ctx, queryParked)
	if err != nil {
		return nil, fmt.Errorf("list the parked events: %w", err)
	}
	defer rows.Close()
	var all []Parked
	for rows.Next() && len(all) < parkedMost {
		var p Parked
		if err := p.scan(rows, &p.Consumer, &p.Attempts, &p.Error, &p.Source); err != nil {
			return nil, fmt.Errorf("list the parked events: %w", err)
		}
		all = append(all, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the parked events: %w", err)
	}
	return all, nil
}

// Redrive makes a parked event wait again, as if it had just arrived and never failed; a running inbox finds it within a
// second. Its subject may have moved on meanwhile: the handler sees it after later events. It returns ErrNotParked for
// any other event.
func (d *Desk) Redrive(ctx context.Context, eventID string) error {
	return redrive(ctx, d.db.Write, eventID)
}

// redrive is one act of whoever ctx says does it by hand.
func redrive(ctx context.Context, write Writer, eventID string) error {
	err := write(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(`UPDATE inbox SET state = 'waiting', attempts = 0, next_at = 0, error = '' WHERE event_id = $1 AND state = 'parked'`, eventID)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotParked
		}
		return trail.Append(ctx, tx, eventID)
	})
	if err != nil {
		return fmt.Errorf("redrive %s: %w", eventID, err)
	}
	return nil
}

// Parked answers for the contexts' contracts: GET path lists the parked events, and POST path/{eventId}/redrive lets one be
// tried again, as Desk.Redrive does.
func (i *Inbox) Parked(path string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			i.list(w, r)
			return
		}
		id, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, path+"/"), "/redrive")
		if !ok || id == "" || strings.Contains(id, "/") {
			httpd.NotFound(w, r)
			return
		}
		if r.Method != http.MethodPost {
			httpd.MethodNotAllowed(w, r, http.MethodPost)
			return
		}
		q := r.URL.Query()
		actor, reason := q.Get("actor"), q.Get("reason")
		if len(actor) > maxActor || len(reason) > maxReason {
			httpd.WriteProblem(w, r, errLong)
			return
		}
		if err := redrive(trail.By(r.Context(), trail.RedriveEvent, actor, reason), i.write, id); err != nil {
			httpd.WriteProblem(w, r, err)
			return
		}
		poke(i.arrived)
		w.WriteHeader(http.StatusNoContent)
	})
}

// parkedEvent is a parked event as the contracts have it.
type parkedEvent struct {
	Consumer      string          `json:"consumer"`
	Attempts      int             `json:"attempts"`
	Error         string          `json:"error"`
	ID            string          `json:"id"`
	Source        string          `json:"source"`
	Type          string          `json:"type"`
	Subject       string          `json:"subject"`
	Time          time.Time       `json:"time"`
	CorrelationID string          `json:"correlationid,omitempty"`
	CausationID   string          `json:"causationid,omitempty"`
	Data          json.RawMessage `json:"data,omitempty"`
}

func (i *Inbox) list(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		httpd.MethodNotAllowed(w, r, "GET,HEAD")
		return
	}
	found, err := parkedIn(r.Context(), i.db)
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	all := make([]parkedEvent, len(found))
	for n, p := range found {
		all[n] = parkedEvent{
			Consumer: p.Consumer, Attempts: p.Attempts, Error: p.Error, ID: p.ID, Source: p.Source, Type: p.Type, Subject: p.Subject,
			Time: p.Time, CorrelationID: p.CorrelationID, CausationID: p.CausationID,
		}
		if data, err := dataJSON(p.Type, p.Event.Data); err == nil { // of a type from another version there is no JSON
			all[n].Data = data
		}
	}
	var body bytes.Buffer
	if err := encode(&body, map[string][]parkedEvent{"events": all}); err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body.Bytes()) // a client that is gone asks again
}

// The contracts' bounds of who and why, in bytes.
const maxActor, maxReason = 128, 1024

var errLong = fault.New(fault.Invalid, "invalid_request", "The actor has %d bytes at most, the reason %d.", maxActor, maxReason)
