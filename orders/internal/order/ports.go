package order

import (
	"context"
	"time"
)

// Store keeps orders. Every method that changes something returns after it is on disk.
//
// Errors: Unavailable when the database is busy, full or away. An error leaves it open whether the change was made,
// except from Begin with a full queue.
type Store interface {
	// Begin records a new order in its state, Pending or Rejected, with its key and the event that its state calls for. If
	// the key was used before it returns that order instead, or ErrReused if its payload was another.
	Begin(ctx context.Context, o *Order) (existing *Order, err error)
	// Known is what Begin would return of a key that was used before, and nil of another, without recording anything and without waiting
	// for those who do.
	Known(ctx context.Context, o *Order) (existing *Order, err error)
	// Move changes o's state from the one that it has to m.To, with all that m says, and publishes the event that the
	// new state calls for. It reports false, and changes nothing, if the order has another state by now. From None it records the
	// order, which has no key, and reports false if there is one of its id.
	Move(ctx context.Context, o *Order, m Move) (bool, error)
	// Park ends o's lease and lets recovery take it up from a time on. It keeps since when o's units are held.
	Park(ctx context.Context, o *Order, from time.Time) error
	// Keep records o.Kept. No other method changes it.
	Keep(ctx context.Context, o *Order) error
	// Claim leases up to n live orders whose lease has run out, or that wait for recovery, to owner; also those whose lease
	// ends so late that it is from before the clock was set back.
	Claim(ctx context.Context, owner string, now, until time.Time, n int) ([]*Order, error)

	// SetLeave records a leave, or what became of one of its name.
	SetLeave(ctx context.Context, l Leave) error
	// Leaves returns all that are recorded.
	Leaves(ctx context.Context) ([]Leave, error)
	// EndLeave removes a leave, unless it was set anew meanwhile.
	EndLeave(ctx context.Context, l Leave) error
	// Missing says of which ids there is no order, also no archived one.
	Missing(ctx context.Context, ids []ID) ([]ID, error)
}

// Leave lets a process have units reserved for orders before it records them: reservations without an order may have ids of any
// time from Since until before Until.
type Leave struct {
	Name         string
	Since, Until time.Time
}

func (l Leave) covers(at time.Time) bool { return !at.Before(l.Since) && at.Before(l.Until) }

// Records looks orders up.
type Records interface {
	// Get returns ErrNotFound if there is no such order.
	Get(ctx context.Context, id ID) (*Order, error)
	// List returns a page of orders, newest first.
	List(ctx context.Context, f Filter) ([]*Order, error)
	// Notes returns what other contexts said about an order, oldest first.
	Notes(ctx context.Context, id ID) ([]Note, error)
}

// Move is a change of state with what comes with it.
type Move struct {
	To           State
	At           time.Time
	Rejection    *Rejection // to Undoing and Rejected
	PaymentID    string     // to Confirmed
	ReservedAt   time.Time  // when it was, if it was
	AuthorizedAt time.Time  // to Confirmed
	Reason       string     // to Cancelled and Returned: why, in the words of whoever did it
	FreeKey      bool       // the caller is told to try again: its key is to start anew
	Lease        Lease      // to Undoing: who goes on
}

// Filter selects orders. Zero fields select everything.
type Filter struct {
	States       []State
	Customer     string
	Correlation  string
	PlacedFrom   time.Time // inclusive
	PlacedBefore time.Time // exclusive
	Before       ID        // only orders placed before this one, exclusive: the cursor
	Limit        int
}

// Note is one thing that another context said about an order.
type Note struct {
	At     time.Time
	What   string // such as stock_released
	Detail string
}

// Answer says which of the things that Inventory and Payments do after the confirmation is done.
type Answer int

const (
	NoAnswer   Answer = iota
	UnitsTaken        // the units have left on hand
	MoneyTaken        // the money is captured
	UnitsBack         // the units are released, or came back on hand
	MoneyBack         // the money is voided or refunded
)

// Stock is Inventory as Orders needs it. Commands are named by the order; repeating one gives the first answer.
//
// Errors: Unavailable when Inventory cannot be reached or did not answer: whether it acted is not known.
type Stock interface {
	// Reserve holds all lines of o or none. Shortages say why not; held is false too after a Release. o.ReservedAt says
	// since when they are held, for an Inventory that does not remember it by the order. What one takes that has no release is
	// added to o.Kept, whatever the answer is.
	Reserve(ctx context.Context, o *Order) (held bool, shortages []Shortage, err error)
	// Release gives back what is held and not kept, and refuses a Reserve that arrives later.
	Release(ctx context.Context, id ID, reason string) error
	// Check says which lines could not be had at this instant, and changes nothing.
	Check(ctx context.Context, lines []Line) ([]Shortage, error)
}

// Lister is a Stock that can say what it holds, so that units are found whose order was never recorded.
type Lister interface {
	// Held returns live reservations of orders with ids between two, both exclusive, by id, and after which one to ask on; "" at the end.
	Held(ctx context.Context, after, before ID) (held []Holding, next ID, err error)
}

// Holding is a reservation that holds units for an order.
type Holding struct {
	ID            ID
	Lines         []Line // summed by SKU, without prices
	CorrelationID string
}

// Cashier is Payments as Orders needs it. Commands are named by the order; repeating one gives the first answer.
//
// Errors: Unavailable when Payments or its provider cannot say; Invalid when the payment can never be made as asked.
type Cashier interface {
	Authorize(ctx context.Context, o *Order) (Authorization, error)
	// Void gives back what is authorized, and refuses an Authorize that arrives later. What is captured is not its to give
	// back: ErrCaptured.
	Void(ctx context.Context, id ID, reason string) error
	// Refund gives back what is captured.
	Refund(ctx context.Context, id ID, reason string) error
}

// Authorization is the answer to Authorize.
type Authorization struct {
	Outcome     Outcome
	PaymentID   string
	DeclineCode string // with Declined
}

// Outcome is what became of an authorization.
type Outcome int

const (
	Unknown    Outcome = iota // not known yet: ask again
	Authorized                // the money is held
	Declined                  // the provider said no, for good
	Voided                    // it was given back, or refused because it was to be given back
)
