package window

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"
)

// ErrCursor refuses an After that is no cursor.
var ErrCursor = errors.New("is not a cursor that this window gave")

// cursor is a place between two lines: a segment and an offset in it.
type cursor struct{ n, offset int64 }

func (c cursor) String() string { return fmt.Sprintf("%d.%d", c.n, c.offset) }

func parseCursor(s string) (c cursor, err error) {
	if _, err := fmt.Sscanf(s, "%d.%d", &c.n, &c.offset); err != nil || c.n < 0 || c.offset < 0 || c.String() != s {
		return c, ErrCursor
	}
	return c, nil
}

// Read returns what q selects. With Wait it returns when there is something, when the time is up, or when ctx ends. ErrCursor is about
// q.After; a cursor of what was deleted meanwhile goes on with the oldest that is there.
func (w *Window) Read(ctx context.Context, q Query) (Page, error) {
	if w == nil {
		return Page{Entries: []Entry{}, Next: cursor{}.String()}, nil
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	what := seek(q)
	if q.After == "" {
		return w.newest(what)
	}
	after, err := parseCursor(q.After)
	if err != nil {
		return Page{}, err
	}
	timeout := time.NewTimer(q.Wait)
	defer timeout.Stop()
	for {
		parts, next, open := w.look()
		p, err := w.following(what, after, parts)
		if err != nil || len(p.Entries) > 0 || q.Wait == 0 || !open {
			return p, err
		}
		if after, err = parseCursor(p.Next); err != nil {
			return p, err
		}
		select {
		case <-next:
		case <-timeout.C:
			return p, nil
		case <-ctx.Done():
			return p, nil
		}
	}
}

// look returns the segments as they are now, what closes when they change, and whether they ever will.
func (w *Window) look() ([]part, <-chan struct{}, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.parts), w.next, !w.closed
}

// following reads on from a cursor.
func (w *Window) following(q *sought, after cursor, parts []part) (Page, error) {
	p := Page{Oldest: oldest(parts), Next: after.String(), Entries: []Entry{}}
	for _, s := range parts {
		if s.n < after.n {
			continue
		}
		from := int64(0)
		if s.n == after.n {
			from = after.offset
		}
		text, err := w.text(s, from, nil)
		if err != nil {
			return p, err
		}
		for start, line := range q.lines(text) {
			if e := q.entry(line); e != nil {
				if len(p.Entries) == q.Limit {
					p.More = true
					p.Next = cursor{s.n, from + int64(start)}.String()
					return p, nil
				}
				p.Entries = append(p.Entries, *e)
			}
		}
		p.Next = cursor{s.n, from + int64(bytes.LastIndexByte(text, '\n')) + 1}.String() // what is after it is being written
	}
	return p, nil
}

// newest reads backwards from the end, a segment at a time.
func (w *Window) newest(q *sought) (Page, error) {
	parts, _, _ := w.look()
	p := Page{Oldest: oldest(parts), Next: cursor{}.String(), Entries: []Entry{}}
	if len(parts) > 0 {
		last := parts[len(parts)-1]
		p.Next = cursor{last.n, last.size}.String()
	}
	var space []byte
	for _, s := range slices.Backward(parts) {
		if len(p.Entries) > q.Limit {
			break
		}
		if s.last.Before(q.From) {
			break // and what is before it too
		}
		text, err := w.text(s, 0, space)
		if err != nil {
			return p, err
		}
		space = text
		var found []Entry
		for _, line := range q.lines(text) {
			if e := q.entry(line); e != nil {
				found = append(found, *e)
			}
		}
		p.Entries = append(found, p.Entries...)
	}
	if n := len(p.Entries) - q.Limit; n > 0 {
		p.More, p.Entries = true, p.Entries[n:]
	}
	return p, nil
}

// text is what a segment has from an offset on, in space if that is large enough; one that was deleted meanwhile has nothing.
func (w *Window) text(s part, from int64, space []byte) ([]byte, error) {
	if from >= s.size {
		return space[:0], nil
	}
	f, err := os.Open(w.path(s.n))
	if errors.Is(err, fs.ErrNotExist) {
		return space[:0], nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := slices.Grow(space[:0], int(s.size-from))[:s.size-from]
	n, err := f.ReadAt(text, from)
	if err != nil && !errors.Is(err, io.EOF) { // which is somebody's who has cut the file
		return nil, fmt.Errorf("read recent log lines and spans: %w", err)
	}
	return text[:n], nil
}

func oldest(parts []part) *time.Time {
	for _, p := range parts {
		if p.size > 0 {
			at := p.first.UTC()
			return &at
		}
	}
	return nil
}

// sought is a Query with what lines are told apart by without reading them as JSON.
type sought struct {
	Query
	all [][]byte // that are in a line
	any [][]byte // of which one is
}

func seek(q Query) *sought {
	s := &sought{Query: q}
	for _, id := range []string{q.Correlation, q.Trace} {
		if id != "" {
			s.all = append(s.all, inJSON(id))
		}
	}
	for _, t := range q.Text {
		s.any = append(s.any, inJSON(t))
	}
	return s
}

// inJSON is a text as it stands between quotes in a line.
func inJSON(text string) []byte {
	b, err := json.Marshal(text)
	if err != nil {
		return []byte(text)
	}
	return b[1 : len(b)-1]
}

// tail is as much of a text as lines are found by: of an id the end is what no other has, and few bytes are sought three times as fast as all.
const tail = 12

// lines yields the whole lines that q may select, with where they begin; what is after the last newline is torn, or is being written. Where a text
// is sought, it is looked for in all of them at once: hardly any line has it.
func (q *sought) lines(text []byte) iter.Seq2[int, []byte] {
	of := q.any
	if len(q.all) > 0 {
		of = q.all[:1]
	}
	return func(yield func(int, []byte) bool) {
		next := make([]int, len(of)) // where each text is next
		for i := range next {
			next[i] = -1
		}
		for at := 0; ; {
			hit := at
			if len(of) > 0 {
				hit = len(text)
				for i, t := range of {
					if t = t[max(0, len(t)-tail):]; next[i] < at {
						if next[i] = bytes.Index(text[at:], t); next[i] >= 0 {
							next[i] += at
						} else {
							next[i] = len(text)
						}
					}
					hit = min(hit, next[i])
				}
			}
			n := bytes.IndexByte(text[hit:], '\n')
			if n < 0 {
				return
			}
			start := at + bytes.LastIndexByte(text[at:hit], '\n') + 1
			if !yield(start, text[start:hit+n]) {
				return
			}
			at = hit + n + 1
		}
	}
}

// entry reads a line if q selects it, and returns nil if not.
func (q *sought) entry(line []byte) *Entry {
	in := func(t []byte) bool { return bytes.Contains(line, t) }
	for _, t := range q.all {
		if !in(t) {
			return nil
		}
	}
	if len(q.any) > 0 && !slices.ContainsFunc(q.any, in) {
		return nil
	}
	e := &Entry{}
	if err := json.Unmarshal(line, e); err != nil || !q.matches(e) { // torn by a crash, the one
		return nil
	}
	return e
}
