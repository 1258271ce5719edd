//go:build !faults

package lab

import "time"

// Point is a point at which the fault lab can kill the process.
func Point(string) {}

// Now is the time.
func Now() time.Time { return time.Now() }
