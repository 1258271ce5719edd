// Package order is the domain of Orders: what an order is, which states it goes through, and the saga that drives it to
// one end.
//
// It promises that an order which was begun reaches exactly one of confirmed and rejected, whatever crashes and however
// often it is driven, and that nothing is held for an order that was rejected. It knows neither SQL nor any wire:
// what it needs from outside it declares as Store, Stock and Cashier.
package order

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/card"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/money"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// ID names an order: a UUIDv7 with the time of its placement, so that ids sort by it and are found by it.
type ID string

// NewID makes an id of this moment.
func NewID() ID { return IDAt(lab.Now()) }

// IDAt makes an id of a time, to the microsecond. It is the order's own time and not the clock's, which a library would keep from
// going back: after the clock was set back ids and times would differ, and a list by time would miss orders.
func IDAt(at time.Time) ID {
	u, random := first(at), uuid.New()
	copy(u[8:], random[8:])
	return ID(u.String())
}

// Time is the time of which an id is, to the microsecond, or the zero time for an id that is of none.
func (id ID) Time() time.Time {
	u, err := uuid.Parse(string(id))
	if err != nil || u.Version() != 7 {
		return time.Time{}
	}
	head := binary.BigEndian.Uint64(u[:])
	ms, part := head>>16, head&0xfff
	return time.UnixMicro(int64(ms)*1000 + int64(part*1000+4095)/4096).UTC()
}

// lastID is above all ids.
const lastID ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"

// FirstID is the lowest of all ids of a time.
func FirstID(at time.Time) ID { return ID(first(at).String()) }

func first(at time.Time) uuid.UUID {
	us := max(0, at.UnixMicro())           // a time before 1970 has no id
	ms, part := us/1000, us%1000*4096/1000 // RFC 9562, 6.2, method 3: 12 bits of what is below the millisecond
	var u uuid.UUID
	binary.BigEndian.PutUint64(u[:], uint64(ms)<<16|7<<12|uint64(part))
	u[8] = 0x80 // the variant
	return u
}

// Line is one line of an order. Lines of one SKU stay apart here; Inventory sums them.
type Line struct {
	SKU            string
	Qty            int64 // units, 1 to 2^31-1
	UnitPriceMinor int64 // minor units of the order's currency
}

// Payment is how an order is paid.
type Payment struct {
	Provider string
	Token    telemetry.Secret // the provider's; never a card number
	ID       string           // of Payments, once authorized
}

// Lease says who drives a pending order and until when nobody else does. An order with no owner waits for recovery from
// Until on.
type Lease struct {
	Owner string
	Until time.Time
}

// Live reports whether somebody drives the order at now.
func (l Lease) Live(now time.Time) bool { return l.Owner != "" && now.Before(l.Until) }

// Order is an order with all that is known of it. Zero times mean "not yet".
type Order struct {
	ID            ID
	State         State
	Lines         []Line
	Currency      string // ISO 4217; may be empty when TotalMinor is 0
	TotalMinor    int64
	Customer      telemetry.Secret
	Payment       Payment
	Key           string // the idempotency key, or ""
	Payload       Hash   // of what was asked for under the key
	CorrelationID string

	Rejection    *Rejection // why, in Undoing and Rejected
	CancelReason string
	ReturnReason string

	PlacedAt     time.Time
	ReservedAt   time.Time
	AuthorizedAt time.Time
	DecidedAt    time.Time
	CancelledAt  time.Time
	FulfilledAt  time.Time
	ReturnedAt   time.Time

	// What Inventory and Payments said, and when it happened there.
	UnitsTakenAt time.Time // the units have left on hand
	MoneyTakenAt time.Time // the money is captured
	UnitsBackAt  time.Time // the units are released, or came back on hand
	MoneyBackAt  time.Time // the money is voided or refunded

	// Kept is what an Inventory that has no release has taken for the order, in words such as "2 BOOK-001, perhaps 1 PEN", or
	// empty. It stays taken there whatever becomes of the order, and nothing is heard of it.
	Kept string

	Lease    Lease
	Attempts int64 // how often recovery has taken it up
}

// Paid reports whether the order needs a payment.
func (o *Order) Paid() bool { return o.TotalMinor > 0 }

// Undone reports whether all that a cancelled or returned order held has been given back, as far as it can be.
func (o *Order) Undone() bool {
	return (o.Kept != "" || !o.UnitsBackAt.IsZero()) && (!o.Paid() || !o.MoneyBackAt.IsZero())
}

// Settlement is what became of the units and the money of a fulfilled order.
type Settlement string

const (
	SettlementPending Settlement = "pending" // Inventory or Payments has not answered yet
	SettlementDone    Settlement = "done"    // the units have left on hand, the money is captured
	SettlementFailed  Settlement = "failed"  // the payment was voided before it could be captured
)

// Settlement says how far a fulfilled order is settled.
func (o *Order) Settlement() Settlement {
	switch {
	case o.Paid() && o.MoneyTakenAt.IsZero() && !o.MoneyBackAt.IsZero():
		return SettlementFailed
	case o.Kept == "" && o.UnitsTakenAt.IsZero() || o.Paid() && o.MoneyTakenAt.IsZero():
		return SettlementPending
	}
	return SettlementDone
}

// Rejection says why an order was not served.
type Rejection struct {
	Kind      fault.Kind
	Code      string // stable: out_of_stock, unknown_sku, payment_declined, payment_timeout, inventory_timeout, ...
	Detail    string
	Shortages []Shortage
}

// Shortage says why a SKU could not be had.
type Shortage struct {
	SKU       string
	Requested int64
	Available int64
	Unknown   bool // no item has this SKU
}

// Hash is the SHA-256 of a placement's payload.
type Hash [sha256.Size]byte

// Limits of a placement. 2,000 lines are nearly twice the largest order of a year of a wholesaler's sales; quantities fit
// into 32 bits for the sake of other languages' clients, totals into 53 for JavaScript's.
const (
	MaxLines    = 2000
	MaxQty      = 1<<31 - 1
	MaxTotal    = 1<<53 - 1
	maxSKU      = 128
	maxCustomer = 256
	maxReason   = 256
	maxKey      = 255
	maxToken    = 255
)

// Placement is what a caller asks for.
type Placement struct {
	Key           string
	Lines         []Line
	LineCurrency  []string // of each line, "" where it names none; may be nil
	Currency      string
	Customer      telemetry.Secret
	Provider      string
	Token         telemetry.Secret
	CorrelationID string
}

// Errors of a placement, all Invalid: they say what to change.
var (
	ErrEmpty           = fault.New(fault.Invalid, "empty_order", "An order needs at least one item.")
	ErrTooManyLines    = fault.New(fault.Invalid, "too_many_items", "An order has at most %d items. Split it.", MaxLines)
	ErrBadLine         = fault.New(fault.Invalid, "invalid_item", "")
	ErrTotal           = fault.New(fault.Invalid, "total_too_large", "The total is above %d minor units. Split the order.", int64(MaxTotal))
	ErrCurrency        = fault.New(fault.Invalid, "invalid_currency", "")
	ErrMixedCurrencies = fault.New(fault.Invalid, "mixed_currencies", "An order has one currency. Split it by currency.")
	ErrCustomer        = fault.New(fault.Invalid, "invalid_customer", "The customer is at most %d characters of printable text.", maxCustomer)
	ErrReason          = fault.New(fault.Invalid, "invalid_reason", "A reason is at most %d characters of printable text on one line.", maxReason)
	ErrCardInText      = fault.New(fault.Invalid, "card_number_refused", "The text holds a card number. Leave it out; card numbers are not accepted here.")
	ErrPayment         = fault.New(fault.Invalid, "payment_required", "The total is above 0: say how it is paid, with payment.provider and payment.token.")
	ErrToken           = fault.New(fault.Invalid, "invalid_token", "A payment token is 1 to %d characters of printable ASCII without spaces.", maxToken)
	ErrCard            = fault.New(fault.Invalid, "card_number_refused", "The token is a card number. Send the provider's token for the card instead; card numbers are not accepted here.")
	ErrKey             = fault.New(fault.Invalid, "invalid_idempotency_key", "An Idempotency-Key is 1 to %d printable ASCII characters.", maxKey)
)

// Errors about the state of things.
var (
	ErrNotFound   = fault.New(fault.NotFound, "not_found", "There is no such order.")
	ErrArchived   = fault.New(fault.NotFound, "order_archived", "")
	ErrReused     = fault.New(fault.Conflict, "idempotency_key_reused", "This Idempotency-Key was used for another order. Repeat a request exactly, or use a new key.")
	ErrInFlight   = fault.New(fault.Conflict, "idempotency_key_in_flight", "The first request under this Idempotency-Key has not been answered yet. Repeat it in a moment.")
	ErrFinal      = fault.New(fault.Conflict, "not_cancellable", "")
	ErrNotReady   = fault.New(fault.Conflict, "not_fulfillable", "")
	ErrNotOut     = fault.New(fault.Conflict, "not_returnable", "")
	ErrOverloaded = fault.New(fault.Unavailable, "overloaded", "More orders come in than can be taken in time; this one was not taken. Repeat it after as long as Retry-After says, under the same Idempotency-Key if it has one.")
	// ErrInterrupted is of an order that somebody took for left behind before it was recorded.
	ErrInterrupted = fault.New(fault.Unavailable, "order_interrupted", "The order was interrupted before it was recorded; it was not taken, and nothing is held. Repeat it.")
	ErrNoStock     = fault.New(fault.Unavailable, "inventory_unavailable", "Stock cannot be reserved at the moment; the order was not taken. Repeat it, under the same Idempotency-Key if it has one.")
)

// ErrCaptured is Payments' word for a Void that comes after a capture.
var ErrCaptured = fault.New(fault.Conflict, "already_captured", "The payment is captured; it can be refunded.")

// New checks a placement and makes the pending order that it asks for.
func New(p Placement, now time.Time) (*Order, error) {
	if p.Key != "" && !validKey(p.Key) {
		return nil, ErrKey
	}
	total, err := checkLines(p)
	if err != nil {
		return nil, err
	}
	if p.Currency != "" && !money.ValidCurrency(p.Currency) {
		return nil, ErrCurrency.Detailf("currency is not a code of ISO 4217, such as GBP.")
	}
	if total > 0 && p.Currency == "" {
		return nil, ErrCurrency.Detailf("The total is above 0: say in which currency, with an ISO 4217 code such as GBP.")
	}
	for _, c := range p.LineCurrency {
		if c != "" && c != p.Currency {
			return nil, ErrMixedCurrencies
		}
	}
	if utf8.RuneCountInString(string(p.Customer)) > maxCustomer || !printable(string(p.Customer)) {
		return nil, ErrCustomer
	}
	if card.LooksLikeNumber(string(p.Customer)) {
		return nil, ErrCardInText
	}
	if err := checkPayment(p, total); err != nil {
		return nil, err
	}
	o := &Order{
		ID: IDAt(now), State: Pending, Lines: p.Lines, Currency: p.Currency, TotalMinor: total, Customer: p.Customer,
		Key: p.Key, CorrelationID: p.CorrelationID, PlacedAt: now,
	}
	if total > 0 {
		o.Payment = Payment{Provider: p.Provider, Token: p.Token}
	}
	if p.Key != "" {
		o.Payload = p.hash()
	}
	return o, nil
}

func checkLines(p Placement) (total int64, err error) {
	switch {
	case len(p.Lines) == 0:
		return 0, ErrEmpty
	case len(p.Lines) > MaxLines:
		return 0, ErrTooManyLines
	}
	for i, l := range p.Lines {
		switch {
		case l.SKU == "" || len(l.SKU) > maxSKU || !printable(l.SKU):
			return 0, ErrBadLine.Detailf("items[%d].sku is 1 to %d bytes of printable text.", i, maxSKU)
		case l.Qty < 1 || l.Qty > MaxQty:
			return 0, ErrBadLine.Detailf("items[%d].qty is a whole number from 1 to %d.", i, MaxQty)
		case l.UnitPriceMinor < 0:
			return 0, ErrBadLine.Detailf("items[%d].unitPrice is a whole number of minor units, 0 or more.", i)
		}
		sum, ok := money.Mul(l.UnitPriceMinor, l.Qty)
		if ok {
			total, ok = money.Add(total, sum)
		}
		if !ok || total > MaxTotal {
			return 0, ErrTotal
		}
	}
	return total, nil
}

func checkPayment(p Placement, total int64) error {
	// Looked at even when nothing is to be paid: a card number must not be let in by a free order.
	if card.LooksLikeNumber(string(p.Token)) || card.LooksLikeNumber(p.Provider) {
		return ErrCard
	}
	if total > 0 && (p.Provider == "" || p.Token == "") {
		return ErrPayment
	}
	if len(p.Token) > maxToken || !graphic(string(p.Token)) || !graphic(p.Provider) {
		return ErrToken
	}
	return nil
}

// hash covers everything that a repeat under the key must say again. Each part is preceded by its length, so that no
// two payloads run into one.
func (p Placement) hash() Hash {
	h := sha256.New()
	num := func(n int64) { h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
	str := func(s string) {
		num(int64(len(s)))
		h.Write([]byte(s))
	}
	num(int64(len(p.Lines)))
	for _, l := range p.Lines {
		str(l.SKU)
		num(l.Qty)
		num(l.UnitPriceMinor)
	}
	str(p.Currency)
	str(string(p.Customer))
	str(p.Provider)
	str(string(p.Token))
	return Hash(h.Sum(nil))
}

// checkReason looks at the words with which somebody cancels or returns an order: they go into rows, events and timelines.
func checkReason(reason string) error {
	switch {
	case utf8.RuneCountInString(reason) > maxReason || !printable(reason):
		return ErrReason
	case card.LooksLikeNumber(reason):
		return ErrCardInText
	}
	return nil
}

func validKey(key string) bool {
	if len(key) > maxKey {
		return false
	}
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

func graphic(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

func printable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
