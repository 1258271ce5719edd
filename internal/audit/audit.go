// Package audit proves the promises over the contexts' own records without knowing any of them: each context
// states, sorted by order id, what it holds for which order, and the rules compare the statements.
//
// It promises that a broken promise is reported with the ids to find it by, and that an order which only moves between
// two readings is not; and that its memory does not grow with the number of orders. It refuses to judge records that are out of
// order or cannot be read: that is an error, not a verdict. It writes nothing.
package audit

import "context"

// What names what a claim says about its order. The list is closed.
type What int

const (
	OrderPending   What = iota // the order is on its way; Past says whether its lease has run out
	OrderConfirmed             // the order stands; Amount is its total
	OrderOff                   // the order was rejected or cancelled: nothing may be held for it
	UnitsHeld                  // a live reservation owned by the order
	UnitsTaken                 // a reservation of the order whose units have left the shelf
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
	// States lists what its claims can be about. Rules that compare contexts are left out where one of them is not read.
	States() []What
	// Check proves what concerns the context alone, and returns what it counted under stable names.
	Check(ctx context.Context) (counts map[string]int64, violations []Violation, err error)
	// Claims calls yield for each claim in order of Claim.Order. A false from yield stops it.
	Claims(ctx context.Context, yield func(Claim) bool) error
	Close() error
}
