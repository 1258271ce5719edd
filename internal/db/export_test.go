package db

import "time"

// Delay is what a Batcher measures of how long its commands wait.
type Delay struct{ delay }

// Note counts a command that waited, at a time since the start.
func (d *Delay) Note(at, waited time.Duration) { d.note(at, waited) }

// Now is what they wait for at the least.
func (d *Delay) Now(at time.Duration) time.Duration { return d.now(at) }
