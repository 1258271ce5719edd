//go:build !linux

package faults

import (
	"testing"
	"time"
)

// Disks are filled on Linux alone.
func smallDisk(testing.TB, string) bool { return false }

func (w *world) fullDisks(time.Duration) []fault { return nil }
