package stage

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"sync"
)

// Entry is a line of the log as far as the tests read it.
type Entry struct {
	Level, Msg, Address, GRPC, Endpoint string
}

// Journal keeps what a process writes.
type Journal struct {
	mu      sync.Mutex
	text    bytes.Buffer
	entries []Entry
	waiting map[string][]chan Entry // by message
}

// NewJournal makes an empty one.
func NewJournal() *Journal { return &Journal{waiting: map[string][]chan Entry{}} }

// Read takes lines until the writer is gone.
func (j *Journal) Read(r io.Reader) {
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadBytes('\n')
		j.add(line)
		if err != nil {
			return
		}
	}
}

func (j *Journal) add(line []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Write(line)
	var e Entry
	if json.Unmarshal(line, &e) != nil {
		return // not of the log: a panic, say
	}
	j.entries = append(j.entries, e)
	for _, c := range j.waiting[e.Msg] {
		c <- e
	}
	delete(j.waiting, e.Msg)
}

// Await returns the first line with the message, once it is there.
func (j *Journal) Await(msg string) <-chan Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := make(chan Entry, 1)
	if i := slices.IndexFunc(j.entries, func(e Entry) bool { return e.Msg == msg }); i >= 0 {
		c <- j.entries[i]
		return c
	}
	j.waiting[msg] = append(j.waiting[msg], c)
	return c
}

// Errors returns how many lines tell of errors.
func (j *Journal) Errors() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.entries {
		if e.Level == "ERROR" {
			n++
		}
	}
	return n
}

func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// Tail is the end of it, for a reader of a failure.
func (j *Journal) Tail() string {
	const enough = 8 << 10
	s := j.String()
	if len(s) > enough {
		s = "...\n" + s[len(s)-enough:]
	}
	return s
}
