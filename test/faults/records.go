package faults

// Records is what is left in the databases of a run that has come to rest, in all contexts and at the provider.
type Records struct {
	Opening      map[string]int // on hand at first, by SKU, of those that are tracked
	Orders       map[string]Order
	Items        map[string]Item // by SKU, of those that are tracked
	Reservations map[string]Reservation
	Payments     map[string]Payment
	Charges      []Charge
	Outbox       map[string][]Fact     // by context, in the order in which they were written
	Inbox        map[string][]Received // by consumer, in the order in which they came
	Audit        Audit
	Deaths       []string // processes that ended, or panicked, and nobody had ended them
	Restless     []string // what did not come to rest
}

// Order is a row of Orders.
type Order struct {
	State, Customer, Key, Reason string
	Total                        int // minor units
	Lines                        []Line
}

// Item is a tracked SKU on the shelf.
type Item struct{ OnHand, Reserved, Moved int } // Moved is the sum of its movements

// Reservation is an order's, or a hold of no order.
type Reservation struct {
	State string
	Lines map[string]int // units by SKU
	Hold  bool
	Late  bool // expired for so long that it should have been released
}

// Payment is an order's money as Payments has it, in minor units.
type Payment struct {
	Status                               string
	Authorized, Captured, Voided, Repaid int
}

// Charge is money as the provider has it.
type Charge struct {
	Order, State                         string
	Authorized, Captured, Voided, Repaid int
}

// Fact is an event in the outbox of its publisher. Position is its place in the feed, 0 until it is published.
type Fact struct {
	Source, Subject, ID, Type string
	Position                  int64
}

// Received is an event in a consumer's inbox.
type Received struct {
	Fact
	State string // waiting, done or parked
}

// Audit is what orderkeep verify says.
type Audit struct {
	OK         bool        `json:"ok"`
	OnItsWay   []AuditLine `json:"onItsWay"`
	Violations []AuditLine `json:"violations"`
}

// AuditLine is a finding of it.
type AuditLine struct {
	Rule   string `json:"rule"`
	Detail string `json:"detail"`
	Count  int    `json:"count"`
	Oldest string `json:"oldest"`
}

// Hears is which events a context acts on, as ARCHITECTURE.md has it.
func Hears(context string) []string {
	const of = "orderkeep."
	if context == "orders" {
		return []string{
			of + "inventory.v1.StockReleased", of + "inventory.v1.StockCommitted", of + "inventory.v1.StockReturned",
			of + "payments.v1.PaymentVoided", of + "payments.v1.PaymentCaptured", of + "payments.v1.PaymentRefunded",
		}
	}
	return []string{of + "orders.v1.OrderCancelled", of + "orders.v1.OrderFulfilled", of + "orders.v1.OrderReturned"}
}
