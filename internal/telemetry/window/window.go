// Package window keeps the recent log lines and finished spans of one process on its disk, within a size and an age, so that what
// happened can be looked up where it happened, without another program.
//
// It promises: an entry that Append returned from survives the end of the process, by whatever cause; what a crash of the machine tears is
// left out when it is read; the files take no more than the size, and what is older than the age, and an eighth of that, is deleted. It is
// no record: what may not be lost is in the databases.
//
// The entries are lines of JSON in segments, files that are named by a number that only grows. An eighth of the size or of the age
// fills one; the oldest is deleted when the next begins.
package window

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
)

const (
	// segments is how many files share the size and the age: one is lost at a time.
	segments = 8
	// tidyEvery is how often what is too old is looked for.
	tidyEvery = time.Minute
	// replicas is how many processes of the same contexts may share a data directory.
	replicas = 64
	suffix   = ".jsonl"
)

// Window is the window of one process. It is safe for concurrent use. A nil *Window keeps nothing.
type Window struct {
	dir  string
	size int64
	age  time.Duration
	lock *flock.Flock
	now  func() time.Time
	log  *slog.Logger // of this package's own trouble; not one that writes here

	mu      sync.Mutex
	parts   []part // oldest first; the last is written to
	file    *os.File
	next    chan struct{} // closed when there is more to read
	failing bool
	closed  bool

	dropped atomic.Uint64
	end     chan struct{}
}

// part is one segment.
type part struct {
	n     int64
	size  int64
	first time.Time // when it was begun
	last  time.Time // when it was last written to
}

// Open opens the window of a process of that name (its contexts') under the directory, or makes it. A second process of that name gets one of its own
// beside it.
func Open(directory, name string, size int64, age time.Duration, log *slog.Logger) (*Window, error) {
	w := &Window{size: size, age: age, now: time.Now, log: log, next: make(chan struct{}), end: make(chan struct{})}
	for i := 1; w.lock == nil; i++ {
		w.dir = filepath.Join(directory, name)
		if i > 1 {
			w.dir += "-" + strconv.Itoa(i)
		}
		if err := os.MkdirAll(w.dir, 0o700); err != nil {
			return nil, fmt.Errorf("make a directory for recent log lines and spans: %w", err)
		}
		lock := flock.New(filepath.Join(w.dir, "lock"))
		ok, err := lock.TryLock()
		if err != nil {
			return nil, fmt.Errorf("lock the recent log lines and spans: %w", err)
		}
		if ok {
			w.lock = lock
		} else if i == replicas {
			return nil, fmt.Errorf("%d processes keep their log lines in %s already: give some of them another --data", replicas, directory)
		}
	}
	if err := w.find(); err != nil {
		return nil, errors.Join(err, w.lock.Close())
	}
	go w.tidy()
	return w, nil
}

// find looks for the segments of earlier processes, and begins one.
func (w *Window) find() error {
	files, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		n, err := strconv.ParseInt(strings.TrimSuffix(f.Name(), suffix), 10, 64)
		if err != nil || f.Name() != segment(n) {
			continue
		}
		info, err := f.Info()
		if err != nil {
			return err
		}
		w.parts = append(w.parts, part{n: n, size: info.Size(), first: begun(w.path(n), info.ModTime()), last: info.ModTime()})
	}
	slices.SortFunc(w.parts, func(a, b part) int { return int(a.n - b.n) })
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rotate()
}

// begun is the time of the first entry of a segment, or other if it has none.
func begun(path string, other time.Time) time.Time {
	f, err := os.Open(path)
	if err != nil {
		return other
	}
	defer f.Close()
	var e Entry
	if err := json.NewDecoder(f).Decode(&e); err != nil {
		return other
	}
	return e.At
}

func segment(n int64) string { return fmt.Sprintf("%012d%s", n, suffix) }

func (w *Window) path(n int64) string { return filepath.Join(w.dir, segment(n)) }

// rotate begins a segment, and deletes what there is no room for. The caller has the lock.
func (w *Window) rotate() error {
	if w.file != nil {
		_ = w.file.Close() // each line has been written already
		w.file = nil
	}
	n := int64(1)
	if len(w.parts) > 0 {
		n = w.parts[len(w.parts)-1].n + 1
	}
	f, err := os.OpenFile(w.path(n), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	now := w.now()
	w.file = f
	w.parts = append(w.parts, part{n: n, first: now, last: now})
	return w.expire()
}

// expire deletes the oldest segments, as long as they leave no room for a full one, or are too old. The caller has the lock.
func (w *Window) expire() error {
	total := w.size / segments
	for _, p := range w.parts[:len(w.parts)-1] {
		total += p.size
	}
	for len(w.parts) > 1 && (total > w.size || w.now().Sub(w.parts[0].last) > w.age) {
		if err := os.Remove(w.path(w.parts[0].n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		total -= w.parts[0].size
		w.parts = w.parts[1:]
	}
	return nil
}

// tidy deletes what is too old while nothing is written.
func (w *Window) tidy() {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	for {
		select {
		case <-w.end:
			return
		case <-t.C:
			w.mu.Lock()
			if !w.closed {
				w.note(w.turn(0))
			}
			w.mu.Unlock()
		}
	}
}

// turn makes sure that n bytes more fit the current segment, which is not too old. The caller has the lock.
func (w *Window) turn(n int64) error {
	if w.file == nil {
		return w.rotate() // the last attempt failed
	}
	last := w.parts[len(w.parts)-1]
	if last.size > 0 && (last.size+n > w.size/segments || w.now().Sub(last.first) > w.age/segments) {
		return w.rotate()
	}
	return w.expire()
}

// Append keeps an entry. One that cannot be written is dropped and counted: nobody's work ends for it.
func (w *Window) Append(e Entry) {
	if w == nil {
		return
	}
	line, err := json.Marshal(e)
	if err != nil {
		e.Attrs = map[string]any{"unreadable": err.Error()}
		if line, err = json.Marshal(e); err != nil {
			w.dropped.Add(1)
			return
		}
	}
	line = append(line, '\n')
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || int64(len(line)) > w.size/segments {
		w.dropped.Add(1)
		return
	}
	err = w.turn(int64(len(line)))
	if err == nil {
		var n int
		n, err = w.file.Write(line)
		last := &w.parts[len(w.parts)-1]
		last.size += int64(n)
		last.last = w.now()
		if err != nil && n > 0 {
			err = errors.Join(err, w.rotate()) // half a line is the end of its segment
		}
	}
	if w.note(err); err != nil {
		w.dropped.Add(1)
		return
	}
	close(w.next)
	w.next = make(chan struct{})
}

// note logs an outage once when it begins. The caller has the lock.
func (w *Window) note(err error) {
	if err != nil && !w.failing {
		w.log.Warn("recent log lines and spans cannot be kept; what comes meanwhile is in the log alone", "error", err)
	}
	w.failing = err != nil
}

// Dropped is how many entries could not be kept since the start.
func (w *Window) Dropped() uint64 {
	if w == nil {
		return 0
	}
	return w.dropped.Load()
}

// Size is how many bytes are kept.
func (w *Window) Size() int64 {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	total := int64(0)
	for _, p := range w.parts {
		total += p.size
	}
	return total
}

// Close ends it. What is appended later is dropped.
func (w *Window) Close() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	close(w.end)
	close(w.next)
	var err error
	if w.file != nil {
		err = w.file.Close()
	}
	return errors.Join(err, w.lock.Close())
}
