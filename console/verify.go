package console

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/orderkeep/orderkeep/internal/audit"
)

// mostShown bounds the violations of a page; the counts are of all.
const mostShown = 200

// proofs runs the audit, one at a time, and keeps what the last one found.
type proofs struct {
	audit func(context.Context) (audit.Report, error)

	mu      sync.Mutex
	running bool
	started time.Time
	ended   time.Time
	report  *audit.Report
	failed  string
}

type verifyPage struct {
	Can     bool // the records are within reach
	Running bool
	Started time.Time
	Ended   time.Time
	Took    time.Duration
	Report  *audit.Report
	Counts  []counted
	More    int
	Failed  string
	Who     string
}

type counted struct {
	Context string
	Counts  []figure
}

type figure struct {
	Name  string
	Value int64
}

// spaced is a name in camelCase as words.
func spaced(name string) string {
	var words strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			words.WriteByte(' ')
		}
		words.WriteRune(unicode.ToLower(r))
	}
	return words.String()
}

func (c *console) verify(w http.ResponseWriter, r *http.Request) {
	p := c.proofs
	p.mu.Lock()
	page := verifyPage{Can: p.audit != nil, Running: p.running, Started: p.started, Ended: p.ended, Took: p.ended.Sub(p.started), Report: p.report, Failed: p.failed, Who: c.guard.who(r)}
	p.mu.Unlock()
	if page.Report != nil {
		short := *page.Report
		if n := len(short.Violations); n > mostShown {
			page.More, short.Violations = n-mostShown, short.Violations[:mostShown]
		}
		page.Report = &short
		for _, name := range slices.SortedFunc(maps.Keys(short.Counts), func(a, b string) int { return placeOf(a) - placeOf(b) }) {
			one := counted{Context: name}
			for _, what := range slices.Sorted(maps.Keys(short.Counts[name])) {
				one.Counts = append(one.Counts, figure{spaced(what), short.Counts[name][what]})
			}
			page.Counts = append(page.Counts, one)
		}
	}
	c.show(w, r, http.StatusOK, "verify", "Verify", page)
}

// runVerify begins an audit, unless one runs: the page shows how it goes.
func (c *console) runVerify(w http.ResponseWriter, r *http.Request) {
	p := c.proofs
	p.mu.Lock()
	begin := p.audit != nil && !p.running
	if begin {
		p.running, p.started = true, time.Now()
	}
	p.mu.Unlock()
	if begin {
		c.log.InfoContext(r.Context(), "an audit was begun in the console", "actor", c.guard.who(r))
		c.working.Go(func() {
			report, err := p.audit(c.work)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.running, p.ended, p.failed, p.report = false, time.Now(), "", &report
			if err != nil {
				c.log.Warn("an audit begun in the console cannot read", "error", err)
				p.report, p.failed = nil, "The records cannot be read; the log of the console's process says why."
			}
		})
	}
	http.Redirect(w, r, "/console/verify", http.StatusSeeOther)
}
