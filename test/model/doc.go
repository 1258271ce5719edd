// Package model drives the real contexts, all in one process and in one bubble of testing/synctest, through random histories with
// faults at every port between them, and holds them against a simple model of a shop.
//
// It promises that a history is repeatable: what is drawn is all that differs between two runs, and time passes only when
// everybody waits. It comes in through the doors of the contexts, as a process does, and refuses to look behind them: what
// became of a history it learns from answers, and from the audit.
package model
