package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
)

type archiveCmd struct {
	Run    archiveRunCmd    `cmd:"" default:"withargs" help:"Move ended orders and delivered events out of the databases into files."`
	Verify archiveVerifyCmd `cmd:"" help:"Check the files of an archive against their manifests."`
	Show   archiveShowCmd   `cmd:"" help:"Show what an archive has of an order."`
}

type archiveRunCmd struct {
	Before      string `required:"" placeholder:"TIME" help:"What ended, or happened, before then: 2026-03-01, or a time as RFC 3339 writes it."`
	To          string `required:"" placeholder:"DIR" help:"Directory of the archive: a new one, or one that is to go on."`
	Yes         bool   `help:"Do it. Without it, say what would go."`
	InventoryAt string `name:"inventory-at" placeholder:"URL" help:"The server that answers REST for Inventory, if not --url."`
	PaymentsAt  string `name:"payments-at" placeholder:"URL" help:"The server that answers REST for Payments, likewise."`
	PartSize    int    `name:"part-size" default:"10000" hidden:"" help:"Orders in a part, or a tenth of its events."`
}

// archived is what came of it, and the document of --json.
type archived struct {
	Archive string           `json:"archive,omitempty"` // the id of the directory's
	Before  time.Time        `json:"before"`
	DryRun  bool             `json:"dryRun"`
	Parts   []string         `json:"parts"`   // that were written or finished
	Records map[string]int64 `json:"records"` // of orders that ended, by context: orders, reservations, payments
	Events  map[string]int64 `json:"events"`  // by the context that published them
	Handled map[string]int64 `json:"handled"` // events of others that a context need not remember any more
	Left    []archive.Left   `json:"left"`    // what ended and stays, and why
}

// keepers are the contexts in the order in which they give up their records: Orders decides, and the others follow.
var keepers = []string{"orders", "inventory", "payments"}

// archiver carries records from the servers into the files, and then has them removed.
type archiver struct {
	s      *session
	at     map[string]*client
	dir    *archive.Dir // nil in a dry run
	size   int          // of a part
	before time.Time
	result archived
}

func (c *archiveRunCmd) Run(s *session) error {
	before, err := time.Parse(time.RFC3339Nano, c.Before)
	if err != nil {
		if before, err = time.Parse(time.DateOnly, c.Before); err != nil {
			return usage("--before: %q is neither a day such as 2026-03-01 nor a time such as 2026-03-01T09:30:00Z", c.Before)
		}
	}
	if c.PartSize < 1 {
		return usage("--part-size: must be above 0")
	}
	a := &archiver{s: s, at: map[string]*client{}, size: c.PartSize, before: before.UTC(), result: archived{
		Before: before.UTC(), DryRun: !c.Yes, Parts: []string{}, Records: map[string]int64{}, Events: map[string]int64{}, Handled: map[string]int64{}, Left: []archive.Left{},
	}}
	for name, at := range map[string]string{"orders": "", "inventory": c.InventoryAt, "payments": c.PaymentsAt} {
		there := *s
		there.url = cmp.Or(at, s.url)
		if a.at[name], err = there.client(1, false); err != nil {
			return err
		}
	}
	if err := a.reach(); err != nil {
		return err
	}
	if c.Yes {
		if a.dir, err = archive.Open(c.To); err != nil {
			return err
		}
		defer a.dir.Close()
		a.result.Archive = a.dir.ID
	}
	if err := a.all(); err != nil {
		if a.dir != nil {
			return fmt.Errorf("%w\nnothing is lost: what has left the databases is in %s; run it again to go on", err, c.To)
		}
		return err
	}
	return a.print()
}

// reach asks every server for nothing, so that a wrong address or time is told before a file is made.
func (a *archiver) reach() error {
	for _, context := range keepers {
		if _, err := a.get(context, "/events", "", &archive.Page{}); err != nil {
			return err
		}
	}
	return nil
}

func (a *archiver) all() error {
	if a.dir != nil {
		if err := a.resume(); err != nil {
			return err
		}
	}
	if err := a.orders(); err != nil {
		return err
	}
	waiting := a.before
	for _, context := range keepers {
		oldest, err := a.events(context)
		if err != nil {
			return err
		}
		if !oldest.IsZero() && oldest.Before(waiting) {
			waiting = oldest // it may be sent again, and has to be known for what it is
		}
	}
	if a.dir == nil {
		return nil
	}
	for _, context := range keepers {
		if err := a.forget(context, waiting); err != nil {
			return err
		}
	}
	return nil
}

// resume finishes what an earlier run has begun.
func (a *archiver) resume() error {
	parts, torn, err := a.dir.Parts()
	if err != nil {
		return err
	}
	for _, name := range torn {
		if err := a.dir.Discard(name); err != nil { // nothing of it was removed anywhere
			return err
		}
	}
	for _, p := range parts {
		if p.Outcome == nil {
			if err := a.finish(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// orders moves the orders out that are over, a part at a time.
func (a *archiver) orders() error {
	after := ""
	for more := true; more; {
		b := &batch{a: a, kind: archive.Orders}
		for more && b.n < a.size {
			var page archive.Page
			lines, err := a.get("orders", "/ended", after, &page)
			if err == nil {
				err = a.withOthers(lines, b.add)
			}
			if err != nil {
				return errors.Join(err, b.abandon())
			}
			after, more = page.Next, page.Next != ""
		}
		if err := b.end(); err != nil {
			return err
		}
	}
	return nil
}

// withOthers adds the records of orders, and those that Inventory and Payments have of them. Where one of these does not let go of an order, it stays
// everywhere.
func (a *archiver) withOthers(lines [][]byte, add func(context string, line []byte) error) error {
	if len(lines) == 0 {
		return nil
	}
	ids, err := idsOf(lines)
	if err != nil {
		return err
	}
	records := map[string][][]byte{"orders": lines}
	held := map[string]bool{}
	for _, context := range keepers[1:] {
		var page archive.Page
		if records[context], err = a.post(context, "/read", archive.Ask{Before: a.before, IDs: ids}, &page); err != nil {
			return err
		}
		for _, l := range page.Held {
			held[l.ID] = true
			a.result.Left = append(a.result.Left, l)
		}
	}
	for _, context := range keepers {
		its, err := idsOf(records[context])
		if err != nil {
			return err
		}
		for i, id := range its {
			if held[id] {
				continue
			}
			if err := add(context, records[context][i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func idsOf(lines [][]byte) ([]string, error) {
	ids := make([]string, len(lines))
	for i, l := range lines {
		var r struct{ ID string }
		if err := json.Unmarshal(l, &r); err != nil {
			return nil, err
		}
		ids[i] = r.ID
	}
	return ids, nil
}

// events moves out what a feed begins with. It returns when the oldest event happened that the context has not published.
func (a *archiver) events(context string) (waiting time.Time, err error) {
	after := ""
	for more := true; more; {
		b := &batch{a: a, kind: archive.Events}
		for more && b.n < 10*a.size {
			var page archive.Page
			lines, err := a.get(context, "/events", after, &page)
			for _, l := range lines {
				err = errors.Join(err, b.add(context, l))
			}
			if err != nil {
				return waiting, errors.Join(err, b.abandon())
			}
			after, more, waiting = page.Next, page.Next != "", page.Waiting
		}
		if err := b.end(); err != nil {
			return waiting, err
		}
	}
	return waiting, nil
}

// forget removes from an inbox what nobody sends again.
func (a *archiver) forget(context string, before time.Time) error {
	for q := (archive.Sweep{Before: before}); ; {
		var swept archive.Swept
		if _, err := a.post(context, "/inbox/remove", q, &swept); err != nil {
			return err
		}
		a.result.Handled[context] += swept.Removed
		if !swept.More {
			return nil
		}
		q.After = swept.Next
	}
}

// batch is what becomes a part. In a dry run it is only counted.
type batch struct {
	a    *archiver
	kind string
	n    int // orders, or events
	to   *archive.Writer
}

func (b *batch) add(context string, line []byte) error {
	counted := b.a.result.Events
	if b.kind == archive.Orders {
		counted = b.a.result.Records
	}
	counted[context]++
	if b.kind == archive.Events || context == "orders" {
		b.n++
	}
	if b.a.dir == nil {
		return nil
	}
	if b.to == nil {
		var err error
		if b.to, err = b.a.dir.New(b.kind, b.a.before); err != nil {
			return err
		}
	}
	return b.to.Add(context, line)
}

func (b *batch) abandon() error {
	if b.to == nil {
		return nil
	}
	return b.to.Abandon()
}

// end seals the part, and has its records removed.
func (b *batch) end() error {
	if b.to == nil {
		return nil
	}
	p, err := b.to.Seal()
	if err != nil {
		return errors.Join(err, b.abandon())
	}
	return b.a.finish(p)
}

// removeAtOnce is how many records one request has removed, in one transaction that live orders wait for.
const removeAtOnce = 100

// finish reads a part back, and has each record removed that the files have: from Orders first, which remembers that the order is in the
// archive, and then from the others what belongs to the orders that went.
func (a *archiver) finish(p *archive.Part) error {
	stamps, err := p.Stamps()
	if err != nil {
		return err
	}
	path, stays := "/remove", map[string]bool{}
	if p.Kind == archive.Events {
		path = "/events/remove"
	}
	var left []archive.Left
	for _, context := range keepers {
		its := slices.DeleteFunc(stamps[context], func(s archive.Stamp) bool { return stays[s.ID] })
		for some := range slices.Chunk(its, removeAtOnce) {
			var done archive.Removed
			if _, err := a.post(context, path, archive.Removal{Archive: p.Archive, Before: p.Before, Records: some}, &done); err != nil {
				return err
			}
			for _, l := range done.Left {
				if context == "orders" {
					stays[l.ID] = true
				}
				left = append(left, l)
			}
		}
	}
	a.result.Parts = append(a.result.Parts, p.Name)
	a.result.Left = append(a.result.Left, left...)
	return p.Done(left)
}

func (a *archiver) get(context, path, after string, document any) ([][]byte, error) {
	q := url.Values{"before": {a.before.Format(time.RFC3339Nano)}}
	if after != "" {
		q.Set("after", after)
	}
	return a.ask(http.MethodGet, context, path+"?"+q.Encode(), nil, document)
}

func (a *archiver) post(context, path string, body, document any) ([][]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return a.ask(http.MethodPost, context, path, bytes.NewReader(text), document)
}

func (a *archiver) ask(method, context, path string, body io.Reader, document any) ([][]byte, error) {
	c := a.at[context]
	r, err := http.NewRequestWithContext(a.s.ctx, method, c.url+archive.Path(context)+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		err := readProblem(res)
		if res.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("%s does not answer for %s: name the server that does (%s): %w", c.url, context, map[string]string{"orders": "--url", "inventory": "--inventory-at", "payments": "--payments-at"}[context], err)
		}
		return nil, c.explain(err)
	}
	lines, err := archive.Read(res.Body, document)
	return lines, c.explain(err)
}

func (a *archiver) print() error {
	r := a.result
	if a.s.json {
		return a.s.document(r)
	}
	var rows [][]string
	for i, what := range []string{"orders", "reservations", "payments"} {
		rows = append(rows, []string{what, commas(r.Records[keepers[i]])})
	}
	for _, context := range keepers {
		rows = append(rows, []string{"events of " + context, commas(r.Events[context])})
	}
	for _, context := range slices.Sorted(maps.Keys(r.Handled)) {
		rows = append(rows, []string{"handled by " + context + ", forgotten", commas(r.Handled[context])})
	}
	if err := table(a.s.out, []string{"MOVED OUT", ">NUMBER"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(a.s.out)
	for _, l := range r.Left {
		fmt.Fprintf(a.s.out, "left in %s: %s: %s\n", l.Context, l.ID, l.Why)
	}
	if r.DryRun {
		_, err := fmt.Fprintln(a.s.out, "nothing was moved: this is what --yes would move")
		return err
	}
	_, err := fmt.Fprintf(a.s.out, "%s in %s\n", plural(int64(len(r.Parts)), "part"), a.dir.Path)
	return err
}
