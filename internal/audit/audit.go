// Package audit proves the promises over the contexts' own records without knowing any of them: each context
// states, sorted by order id, what it holds for which order, and the rules compare the statements.
//
// It promises that a broken promise is reported with the ids to find it by, and that an order which only moves between
// two readings is not; that what is only on its way between the contexts is told apart from what is wrong; and that its
// memory does not grow with the number of orders. It refuses to judge records that are out of order or cannot be read: that
// is an error, not a verdict. It writes nothing.
package audit

import (
	"context"
	"time"
)

// What names what a claim says about its order. The list is closed.
type What int

const (
	OrderPending   What = iota // the order is on its way; Past says whether it is left lying
	OrderConfirmed             // the order stands; Amount is its total
	OrderOff                   // the order was rejected or cancelled: nothing may be held for it
	OrderFulfilled             // the order was handed over: its units have left, its money is taken; Amount is its total
	OrderReturned              // the order was handed over and came back, units and money; Amount is its total

	// OrderUnrecorded is about no order, but about all that are not known with ids from Order on and before Ref: they may be under
	// way since Since, and units held for them without an order.
	OrderUnrecorded

	UnitsHeld  // a live reservation owned by the order
	UnitsTaken // a reservation of the order whose units have left the shelf
	UnitsBack  // one whose units left and came back

	// The same of money, in our books and in the provider's own record; Amount is what is held, was taken, went back.
	MoneyHeld
	MoneyTaken
	MoneyBack
	ProviderHeld
	ProviderTaken
	ProviderBack
)

// Claim is one thing that one context says about one order.
type Claim struct {
	Order    string
	What     What
	Amount   int64 // minor units
	Currency string
	Ref      string // an id to find it by, such as the payment's
	Past     bool   // with OrderPending: nobody has driven it for longer than its lease allows, or nobody brings it to an end within Patience

	// With a state of an order that has ended: it was archived, and its units and its money in our books may have been too. What the provider
	// has stays, and still has to agree.
	Archived bool

	// With OrderPending: when it was placed. With a state of an order that other contexts act on by events and answer: when the order
	// came to it, and which answers it has. Until then what they hold is on its way, and not wrong. A zero Since is a state that
	// waits for nobody.
	Since       time.Time
	UnitsAnswer bool
	MoneyAnswer bool
}

// Violation is one broken promise, with the ids to find it by.
type Violation struct {
	Rule   string `json:"rule"`   // stable, such as on_hand_is_sum_of_movements
	Detail string `json:"detail"` // one line, with ids and numbers; the same at every reading

	// Since is when something that takes its time began: it is on its way, and broken only after Patience. Zero is broken at once.
	Since time.Time `json:"-"`
	// Repair is what puts it right, if that is safe whatever else happens meanwhile.
	Repair Repair `json:"-"`
	// Times is how many findings a line stands for that a source has summed up, and does not name; 0 is one, named in Detail.
	Times int64 `json:"-"`
}

// Repair is something that may be done about a violation without looking closer. The zero Repair is none.
type Repair struct {
	Do      Do
	Context string // whose contract does it
	Of      string // the id of the order or the event
	Unknown bool   // Orders knows of no order with this id
	After   string // with Unknown: the order before it, by id, that Orders knows; "" if there is none
}

// Do names what a repair does. The list is closed.
type Do string

// What may be repaired, and why it is safe also if the order comes alive again while it is done, and if it is done twice.
const (
	ReleaseUnits Do = "release_units" // it leaves a tombstone, which refuses a reservation that comes late
	VoidPayment  Do = "void_payment"  // likewise for an authorization
	RedriveEvent Do = "redrive_event" // each event acts once
	DriveOrder   Do = "drive_order"   // each step of an order is named by it, and only one driver ends it
)

// Waiting is what is on its way under one rule: not done yet, and not for so long that it would be wrong.
type Waiting struct {
	Rule          string `json:"rule"`
	Count         int64  `json:"count"`
	OldestSeconds int64  `json:"oldestSeconds"`
	Oldest        string `json:"oldest"` // as a violation's detail
}

// Patience is how long something may be on its way. It is longer than the consumer of an event tries before it parks it (a
// quarter of an hour at most) and than a restart, a failover or an upgrade takes.
const Patience = time.Hour

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
