package trail

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/httpd"
)

// line is an act as the contracts have it.
type line struct {
	At            time.Time `json:"at"`
	Actor         string    `json:"actor"`
	What          What      `json:"what"`
	Subject       string    `json:"subject"`
	Reason        string    `json:"reason"`
	CorrelationID string    `json:"correlationId"`
}

// Handler answers GET path with the acts in the database d of a context: all of the last, or those about ?subject=.
func Handler(path string, d *db.DB) http.Handler {
	return httpd.Exact(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			httpd.MethodNotAllowed(w, r, "GET,HEAD")
			return
		}
		acts, err := read(r.Context(), d, r.URL.Query().Get("subject"))
		if err != nil {
			httpd.WriteProblem(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(map[string][]line{"acts": acts}) // a client that is gone asks again
	}))
}

func read(ctx context.Context, d *db.DB, subject string) ([]line, error) {
	all := []line{}
	err := d.Read(ctx, func(tx *sql.Tx) error {
		acts, err := list(ctx, tx, subject)
		all = make([]line, len(acts))
		for i, a := range acts {
			all[i] = line{a.At, a.Actor, a.What, a.Subject, a.Reason, a.CorrelationID}
		}
		return err
	})
	return all, err
}
