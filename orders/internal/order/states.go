package order

import "fmt"

// State is where an order stands. The values are stored.
type State string

const (
	None      State = ""          // not recorded yet
	Pending   State = "pending"   // begun; the saga is on its way to confirmed
	Undoing   State = "undoing"   // it will not be served; what it holds is being given back
	Confirmed State = "confirmed" // stock held, money authorized: it will be served
	Rejected  State = "rejected"  // it will not be served, and nothing is held for it
	Cancelled State = "cancelled" // it was confirmed and is off; events give back what it held
	Fulfilled State = "fulfilled" // it was handed over; by events its units leave on hand and its money is captured
	Returned  State = "returned"  // it was fulfilled and came back; events put its units back and refund its money
)

// Live reports whether the saga still has work to do.
func (s State) Live() bool { return s == Pending || s == Undoing }

// Status is the state as callers see it: that a pending order is on its way back is our affair.
func (s State) Status() string {
	if s == Undoing {
		return string(Pending)
	}
	return string(s)
}

// Step is one change of state.
type Step struct {
	From State // None when there was no order
	Name string
	To   State
}

// Steps is the state machine: all changes that there are. docs/order-states.md shows it as a picture; a test
// compares the two.
var Steps = []Step{
	{None, "begin", Pending},
	{None, "record", Confirmed},  // reserved first: see ahead.go
	{None, "refuse", Rejected},   // sold out, known before anything was held or said by Inventory when it was asked first
	{None, "take back", Undoing}, // reserved first, or perhaps, and it will not be served
	{Pending, "confirm", Confirmed},
	{Pending, "reject", Rejected}, // Inventory refused: nothing is held
	{Pending, "give up", Undoing}, // declined, too late, cancelled, or Inventory did not answer
	{Undoing, "undone", Rejected},
	{Confirmed, "cancel", Cancelled},
	{Confirmed, "fulfil", Fulfilled},
	{Fulfilled, "return", Returned},
}

// Allowed reports whether the machine has a step between two states.
func Allowed(from, to State) bool {
	for _, s := range Steps {
		if s.From == from && s.To == to {
			return true
		}
	}
	return false
}

// ParseStatus returns the states that a caller means by a status.
func ParseStatus(status string) ([]State, error) {
	switch State(status) {
	case Pending:
		return []State{Pending, Undoing}, nil
	case Confirmed, Rejected, Cancelled, Fulfilled, Returned:
		return []State{State(status)}, nil
	}
	return nil, fmt.Errorf("unknown status %q", status)
}
