package outbox

import (
	"container/heap"
	"time"
)

const (
	fillPage = 1024
	// lanesMost bounds what the inbox keeps of its backlog in memory: 65,536 rows are some 10 MiB. More wait on disk.
	lanesMost = 1 << 16
)

// lanes are the waiting rows by subject, each lane in order of arrival. They belong to the inbox's Run.
type lanes struct {
	bySubject map[string]*lane
	known     map[int64]struct{}
	idle      laneHeap // the lanes that nobody works on
	running   int
	last      int64 // the greatest seq seen
	filled    bool  // once
	more      bool  // is on disk than there was room for
}

type lane struct {
	subject string
	rows    []row // never empty while the lane exists
}

type row struct {
	seq  int64
	next time.Time // not to be tried before
}

// result is the end of one attempt at the first row of a lane.
type result struct {
	lane *lane
	over bool      // the row is done or parked
	next time.Time // otherwise, when to try again
}

func newLanes() *lanes { return &lanes{bySubject: map[string]*lane{}, known: map[int64]struct{}{}} }

func (l *lanes) room() bool { return len(l.known) < lanesMost }

// hungry reports that there is room again for much of what is on disk only.
func (l *lanes) hungry() bool { return l.more && len(l.known) <= lanesMost/2 }

func (l *lanes) add(seq int64, subject string, next time.Time) {
	if _, ok := l.known[seq]; ok {
		return
	}
	l.known[seq] = struct{}{}
	l.last = max(l.last, seq)
	if in, ok := l.bySubject[subject]; ok {
		in.rows = append(in.rows, row{seq, next})
		return
	}
	in := &lane{subject: subject, rows: []row{{seq, next}}}
	l.bySubject[subject] = in
	heap.Push(&l.idle, in)
}

// next takes the lane whose turn it is, or returns nil.
func (l *lanes) next(now time.Time) *lane {
	if at, ok := l.due(); !ok || at.After(now) {
		return nil
	}
	l.running++
	return heap.Pop(&l.idle).(*lane)
}

// due is when the next idle lane may be worked on.
func (l *lanes) due() (time.Time, bool) {
	if len(l.idle) == 0 {
		return time.Time{}, false
	}
	return l.idle[0].rows[0].next, true
}

func (l *lanes) finish(r result) {
	l.running--
	in := r.lane
	if r.over {
		delete(l.known, in.rows[0].seq)
		if in.rows = in.rows[1:]; len(in.rows) == 0 {
			delete(l.bySubject, in.subject)
			return
		}
	} else {
		in.rows[0].next = r.next
	}
	heap.Push(&l.idle, in)
}

// laneHeap has the lane first whose oldest row may be tried first; among equals, the row that arrived first.
type laneHeap []*lane

func (h laneHeap) Len() int { return len(h) }
func (h laneHeap) Less(i, j int) bool {
	a, b := h[i].rows[0], h[j].rows[0]
	if !a.next.Equal(b.next) {
		return a.next.Before(b.next)
	}
	return a.seq < b.seq
}
func (h laneHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *laneHeap) Push(x any)   { *h = append(*h, x.(*lane)) }
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}
