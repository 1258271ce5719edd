// Package stock decides about stock: what can be reserved, released, committed, adjusted and imported.
//
// It owns the words (item, level, reservation, movement) and the rules, and no storage: a Room holds the rows that some
// decisions are about, decides one command after the other over them, and tells what changed. It promises that a
// tracked item never has less than nothing available, that a reservation holds all its lines or none, and that a
// repeated command changes nothing and gives the first answer. It refuses numbers that a JSON reader could not keep.
package stock

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/orderkeep/orderkeep/internal/fault"
)

// Default is the location that always exists.
const Default = "default"

const (
	// MaxUnits bounds on hand and reserved on both sides of zero: 2^53 − 1 is the greatest integer that every JSON
	// reader keeps exactly, and it leaves room to add and subtract without overflow.
	MaxUnits = 1<<53 - 1
	// MaxQty bounds one line, MaxLines the lines of one reservation; the contract names both.
	MaxQty   = math.MaxInt32
	MaxLines = 2000
	// MaxExpiry bounds how long a hold lives; the contract names it. A day is longer than any checkout, and short enough that what
	// nobody wants any more does not lie on the shelf for long.
	MaxExpiry = 24 * time.Hour

	maxSKU    = 128  // bytes, so that a SKU fits into a cursor and an index page
	maxTitle  = 1024 // bytes; a title is one line of text
	maxReason = 256  // characters, as the contract says
	maxActor  = 128
)

// Sentinels of this package, to be found with errors.Is.
var (
	ErrNotFound             = fault.New(fault.NotFound, "not_found", "There is no such item.")
	ErrNoReservation        = fault.New(fault.NotFound, "not_found", "There is no such reservation.")
	ErrReleased             = fault.New(fault.Conflict, "reservation_released", "The reservation was released. Reserve again under another id.")
	ErrExpired              = fault.New(fault.Conflict, "reservation_expired", "The hold has expired and its units are available again. Reserve again under another id.")
	ErrOtherKind            = fault.New(fault.Invalid, "reservation_of_other_kind", "The id is that of a reservation of another kind.")
	ErrRefused              = fault.New(fault.Conflict, "reservation_refused", "The reservation was refused, so it holds no units.")
	ErrCommitted            = fault.New(fault.Conflict, "reservation_committed", "The units have left the shelf. They come back when their order is returned.")
	ErrReturned             = fault.New(fault.Conflict, "reservation_returned", "The units left the shelf and came back. Nothing is held any more.")
	ErrNotCommitted         = fault.New(fault.Conflict, "reservation_not_committed", "The units have not left the shelf, so they cannot come back.")
	ErrInsufficient         = fault.New(fault.Conflict, "insufficient_stock", "There are not so many units available.")
	ErrStale                = fault.New(fault.Conflict, "stale_stock", "On hand is another number by now.")
	ErrOverflow             = fault.New(fault.Invalid, "quantity_overflow", "The number of units would pass 2^53 - 1.")
	ErrInvalidLines         = fault.New(fault.Invalid, "invalid_request", "The lines are not as they must be.")
	ErrInvalidExpiry        = fault.New(fault.Invalid, "invalid_request", "A hold expires in 1 to %d seconds.", int64(MaxExpiry/time.Second)).With(fault.Item{Field: "expiresIn"})
	ErrInvalidAdjustment    = fault.New(fault.Invalid, "invalid_request", "The adjustment is not as it must be.")
	ErrKeyReused            = fault.New(fault.Invalid, "idempotency_key_reused", "The idempotency key was used with another payload. Use a new key for a new attempt.")
	ErrInvalidKey           = fault.New(fault.Invalid, "invalid_idempotency_key", "An Idempotency-Key is 1 to 255 printable ASCII characters.")
	ErrInvalidReservationID = fault.New(fault.Invalid, "invalid_reservation_id", "A reservation id is a UUID.")
)

// Line asks for a number of units of one SKU.
type Line struct {
	SKU string
	Qty int64
}

// Shortage says why a SKU could not be reserved.
type Shortage struct {
	SKU       string
	Requested int64
	Available int64
	Unknown   bool // no item has this SKU
}

// Level is how many units of one SKU there are at one location.
type Level struct {
	Location string
	OnHand   int64
	Reserved int64
}

// Available is how many units can be promised. Only an item that is not tracked can have less than none.
func (l Level) Available() int64 { return l.OnHand - l.Reserved }

// Item is a SKU with its stock at each location, in order of location.
type Item struct {
	SKU     string
	Title   string
	Tracked bool // an item that is not tracked can always be reserved
	Levels  []Level
}

// OnHand is the sum over all locations.
func (i Item) OnHand() (n int64) {
	for _, l := range i.Levels {
		n += l.OnHand
	}
	return n
}

// Reserved is the sum over all locations.
func (i Item) Reserved() (n int64) {
	for _, l := range i.Levels {
		n += l.Reserved
	}
	return n
}

// Available is the sum over all locations.
func (i Item) Available() int64 { return i.OnHand() - i.Reserved() }

// State is where a reservation is in its life.
type State string

// The states of a reservation. Released is also the tombstone of one that was released before it was made.
const (
	Reserved  State = "reserved"
	Refused   State = "refused"
	Released  State = "released"
	Committed State = "committed"
	Returned  State = "returned"
)

// Movement says why on hand changed.
type Movement struct {
	Seq           int64 // its place among all movements; set by the store
	ID            string
	SKU           string
	Location      string
	Delta         int64
	OnHand        int64 // after it
	Reason        string
	Actor         string
	OrderID       string
	CorrelationID string
	At            time.Time
}

// Sum checks lines that came from outside and returns one line for each SKU, by SKU. Two lines that share a SKU
// compete for the same units, so they are one demand.
func Sum(lines []Line) ([]Line, error) {
	if len(lines) == 0 {
		return nil, ErrInvalidLines.Detailf("There are no lines: name at least one SKU and its quantity.")
	}
	if len(lines) > MaxLines {
		return nil, ErrInvalidLines.Detailf("There are %d lines, and at most %d are taken.", len(lines), MaxLines)
	}
	sum := make([]Line, 0, len(lines))
	for i, l := range lines {
		if problem := badSKU(l.SKU); problem != "" {
			return nil, ErrInvalidLines.Detailf("lines[%d].sku %s.", i, problem).With(fault.Item{Field: fmt.Sprintf("lines[%d].sku", i), Detail: problem})
		}
		if l.Qty < 1 || l.Qty > MaxQty {
			return nil, ErrInvalidLines.Detailf("lines[%d].qty is %d, and must be between 1 and %d.", i, l.Qty, MaxQty).With(fault.Item{SKU: l.SKU, Requested: l.Qty, Field: fmt.Sprintf("lines[%d].qty", i)})
		}
		sum = append(sum, l)
	}
	slices.SortStableFunc(sum, func(a, b Line) int { return strings.Compare(a.SKU, b.SKU) })
	last := 0
	for _, l := range sum[1:] {
		if l.SKU == sum[last].SKU {
			sum[last].Qty += l.Qty // 2,000 lines of 2^31 stay below MaxUnits
			continue
		}
		last++
		sum[last] = l
	}
	return sum[:last+1], nil
}

// CheckKey refuses an idempotency key that is not 1 to 255 printable ASCII characters.
func CheckKey(key string) error {
	if key == "" || len(key) > 255 {
		return ErrInvalidKey
	}
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' {
			return ErrInvalidKey
		}
	}
	return nil
}

// badSKU says what is wrong with a SKU, or "". It takes what Orders takes: an item with a SKU that looks like another's, or
// like none, could be put on the shelf and never ordered. A test in test/ holds the two together.
func badSKU(sku string) string {
	if problem := badText(sku, 1, maxSKU); problem != "" {
		return problem
	}
	for _, r := range sku {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return fmt.Sprintf("has U+%04X, which is no printable character", r)
		}
	}
	return ""
}

// badText says what is wrong with a line of text of min to max bytes, or "".
func badText(s string, min, max int) string {
	switch {
	case len(s) < min:
		return "is empty"
	case len(s) > max:
		return fmt.Sprintf("is longer than %d bytes", max)
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "has a control character"
	}
	return ""
}
