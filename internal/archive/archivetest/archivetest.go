// Package archivetest asks a context's keeper as the command line does, for tests of what the context keeps and lets go.
//
// It promises that what is asked goes through the keeper's handler, as it would over HTTP, with a clock that is far ahead. It refuses to go on after an answer that is a
// problem: the test fails.
package archivetest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
)

// Asker asks a keeper on which everything may go that happened before Before.
type Asker struct {
	Before time.Time

	t       testing.TB
	context string
	handler http.Handler
}

// New returns the asker of a keeper, whose clock it sets to after before.
func New(t testing.TB, k *archive.Keeper, before time.Time) Asker {
	k.Now = func() time.Time { return before.Add(time.Hour) }
	return Asker{before, t, k.Context, k.Handler()}
}

func (a Asker) ask(method, path string, body, document any) [][]byte {
	a.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	q := httptest.NewRequest(method, archive.Path(a.context)+path, bytes.NewReader(text))
	q.RemoteAddr, q.Host = "127.0.0.1:1", "localhost"
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, q)
	if w.Code != http.StatusOK {
		a.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	lines, err := archive.Read(w.Body, document)
	if err != nil {
		a.t.Fatal(err)
	}
	return lines
}

// Ended are the records of the orders that have ended before a time, in their order.
func (a Asker) Ended(before time.Time) (lines [][]byte) {
	a.t.Helper()
	for after, more := "", true; more; {
		var page archive.Page
		q := url.Values{"before": {before.Format(time.RFC3339Nano)}, "after": {after}}
		lines = append(lines, a.ask(http.MethodGet, "/ended?"+q.Encode(), nil, &page)...)
		after, more = page.Next, page.Next != ""
	}
	return lines
}

// Read are the records of orders, and what is said of those that may not go.
func (a Asker) Read(ids ...string) (lines [][]byte, held []archive.Left) {
	a.t.Helper()
	var page archive.Page
	lines = a.ask(http.MethodPost, "/read", archive.Ask{Before: a.Before, IDs: ids}, &page)
	return lines, page.Held
}

// Remove asks for records to be removed that are in an archive.
func (a Asker) Remove(id string, records ...archive.Stamp) (done archive.Removed) {
	a.t.Helper()
	a.ask(http.MethodPost, "/remove", archive.Removal{Archive: id, Before: a.Before, Records: records}, &done)
	return done
}

// Stamps are what records are called when they are to be removed.
func (a Asker) Stamps(lines [][]byte) (stamps []archive.Stamp) {
	a.t.Helper()
	for _, line := range lines {
		var r struct{ ID string }
		if err := json.Unmarshal(line, &r); err != nil {
			a.t.Fatal(err)
		}
		stamps = append(stamps, archive.Stamp{ID: r.ID, Sum: archive.SumOf(line)})
	}
	return stamps
}
