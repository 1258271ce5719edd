package db

import (
	"time"

	"modernc.org/sqlite"
)

// Delay is what a Batcher measures of how long its commands wait.
type Delay struct{ delay }

// Note counts a command that waited, at a time since the start.
func (d *Delay) Note(at, waited time.Duration) { d.note(at, waited) }

// Now is what they wait for at the least.
func (d *Delay) Now(at time.Duration) time.Duration { return d.now(at) }

// OnCommit has SQLite call hook in the middle of each commit of d. If it returns another number than 0, the commit fails.
func (d *DB) OnCommit(hook func() int32) error {
	tx := <-d.gate
	defer func() { d.gate <- tx }()
	return tx.conn.Raw(func(conn any) error {
		conn.(sqlite.HookRegisterer).RegisterCommitHook(hook)
		return nil
	})
}
