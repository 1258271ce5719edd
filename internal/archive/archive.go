// Package archive moves orders that have ended, and events that were delivered, out of the contexts' databases into files.
//
// Each context has a Keeper, which reads what may go and removes it; a Dir has the files; and whoever runs an archive, the command
// line, carries records from the one to the other. It promises that a row is removed only if its record has been read back from
// a file that was synced: what is to go is named by the SHA-256 of that record, and a Keeper removes what has the same one at that instant
// and nothing else. So a crash, a full disk or an order that changes meanwhile leaves a record in both places, and never in none;
// running it again goes on. It refuses what a context still needs: an order that has not ended for as long as the server keeps it, an order with an
// event on its way, units that are reserved, money that is held.
package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
)

// Errors of a Keeper.
var (
	ErrTooRecent = fault.New(fault.Invalid, "before_too_recent", "")
	errRequest   = fault.New(fault.Invalid, "invalid_request", "")
)

// Rules are what a server allows.
type Rules struct {
	// Keep is how long everything stays at least: an order after its end, and with it its idempotency key, and an event after it happened.
	Keep time.Duration
	// From are the networks, besides this machine, that may archive.
	From []netip.Prefix
}

func (r Rules) check(before, now time.Time) error {
	if latest := now.Add(-r.Keep); before.After(latest) {
		return ErrTooRecent.Detailf("before must be %s or earlier: this server keeps orders, their idempotency keys and events for %s (--keep).",
			latest.UTC().Truncate(time.Second).Format(time.RFC3339), r.Keep)
	}
	return nil
}

// Stamp names one record in a file.
type Stamp struct {
	ID  string `json:"id"`  // the order's id, or the event's cursor
	Sum string `json:"sum"` // SHA-256 of the record's line, without the line feed, in hexadecimal digits
}

// Left is a record that stays in a database, and why.
type Left struct {
	Context string `json:"context"`
	ID      string `json:"id"`
	Why     string `json:"why"`
}

// SumOf is the sum of a record's line.
func SumOf(line []byte) string {
	s := sha256.Sum256(line)
	return hex.EncodeToString(s[:])
}

// idOf is what a record's line says it is about: the id of an order, or the cursor of an event.
func idOf(line []byte, name string) (string, error) {
	var r map[string]json.RawMessage
	if err := json.Unmarshal(line, &r); err != nil {
		return "", err
	}
	var id string
	err := json.Unmarshal(r[name], &id)
	return id, err
}

// Path is where a process answers for a context's Keeper.
func Path(context string) string { return "/internal/archive/" + context }

// What goes over the wire: a JSON document, or for records a line with what is about them, and then theirs, a line each.
type (
	// Page is about the records after it.
	Page struct {
		Next    string    `json:"next,omitempty"`    // where to go on; "" after the last
		Held    []Left    `json:"held,omitempty"`    // asked for, and not to go
		Waiting time.Time `json:"waiting,omitzero"`  // of events: when the oldest happened that is not published
		Records int       `json:"records,omitempty"` // that follow
	}
	// Ask asks for the records of orders.
	Ask struct {
		Before time.Time `json:"before"`
		IDs    []string  `json:"ids"`
	}
	// Removal asks for records to be removed that are in an archive.
	Removal struct {
		Archive string    `json:"archive"` // whose files have them
		Before  time.Time `json:"before"`
		Records []Stamp   `json:"records"`
	}
	// Removed says what became of that. Who is in neither list was asked for in vain, which is no error: an earlier attempt was there.
	Removed struct {
		Removed int64  `json:"removed"`
		Left    []Left `json:"left,omitempty"`
	}
	// Sweep asks for what an inbox is done with to be removed, from a row on.
	Sweep struct {
		Before time.Time `json:"before"`
		After  int64     `json:"after"`
	}
	// Swept says how many went and where to go on.
	Swept struct {
		Removed int64 `json:"removed"`
		Next    int64 `json:"next"`
		More    bool  `json:"more"`
	}
)
