// Package telemetrytest is what tests need to look at a log.
//
// It promises that a log may be read while other goroutines write it. It refuses to be part of the program.
package telemetrytest

import (
	"bytes"
	"strings"
	"sync"
)

// Log keeps what is written to it. The zero Log is empty; its methods may be called at once from many goroutines.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String is all that was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Count is how often the log says something.
func (l *Log) Count(what string) int { return strings.Count(l.String(), what) }
