// Package audit proves the promises over the contexts' own records without knowing any of them: each context
// states, sorted by order id, what it holds for which order, and the rules compare the statements.
//
// It promises that a broken promise is reported with the ids to find it by, and that an order which only moves between
// two readings is not; and that its memory does not grow with the number of orders. It refuses to judge records that are out of
// order or cannot be read: that is an error, not a verdict. It writes nothing.
package audit

import (
	"context"
	"fmt"
)

// What names what a claim says about its order. The list is closed.
type What int

const (
	OrderPending   What = iota // the order is on its way; Past says whether its lease has run out
	OrderConfirmed             // the order stands; Amount is its total
	OrderOff                   // the order was rejected or cancelled: nothing may be held for it
	UnitsHeld                  // a live reservation owned by the order
	MoneyHeld                  // an authorization or capture in our books
	ProviderHeld               // an authorization or capture in the provider's own record
)

// Claim is one thing that one context says about one order.
type Claim struct {
	Order    string
	What     What
	Amount   int64 // minor units, for OrderConfirmed, MoneyHeld and ProviderHeld
	Currency string
	Ref      string // an id to find it by, such as the payment's
	Past     bool   // with OrderPending: nobody has driven it for longer than its lease allows
	Undoing  bool   // with OrderOff: giving back is still on its way, by an event not yet consumed
}

// Violation is one broken promise, with the ids to find it by.
type Violation struct {
	Rule   string `json:"rule"`   // stable, such as on_hand_is_sum_of_movements
	Detail string `json:"detail"` // one line, with ids and numbers
}

// Source is one context as an audit sees it. It reads one snapshot.
type Source interface {
	// Name is the context's.
	Name() string
	// Check proves what concerns the context alone, and returns what it counted under stable names.
	Check(ctx context.Context) (counts map[string]int64, violations []Violation, err error)
	// Claims calls yield for each claim in order of Claim.Order. A false from yield stops it.
	Claims(ctx context.Context, yield func(Claim) bool) error
	Close() error
}

// Undelivered states what a context has not told others or not yet taken in: events that wait are a violation when they
// stay, parked ones always are.
func Undelivered(context string, outbox, inbox, parked int64) []Violation {
	var v []Violation
	add := func(rule, what string, n int64) {
		if n > 0 {
			v = append(v, Violation{Rule: rule, Detail: fmt.Sprintf("%s: %d %s", context, n, what)})
		}
	}
	add("outbox_drained", "events are not published", outbox)
	add("inbox_drained", "events are not consumed", inbox)
	add("nothing_parked", "events are parked", parked)
	return v
}
