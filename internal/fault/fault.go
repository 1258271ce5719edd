// Package fault names what can go wrong, in a closed list of kinds that keep their meaning across every wire.
//
// A domain declares its sentinels with a kind and a stable code; the edges turn them into HTTP and gRPC by the one
// table in wire.go, and back. What is not a fault is internal: its text is logged and never leaves the process.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind says what the caller can do about an error. The list is closed.
type Kind int

const (
	Internal    Kind = iota // our mistake; nothing that the caller can do
	Invalid                 // the request is wrong and will stay wrong
	NotFound                // the thing named does not exist
	Conflict                // the request is right, the state of things is against it
	Unavailable             // try again later
	Denied                  // the caller may not do it
)

var kindNames = [...]string{"internal", "invalid", "not_found", "conflict", "unavailable", "denied"}

func (k Kind) String() string { return kindNames[k] }

// Kinds lists all kinds, for tests that must cover them.
func Kinds() []Kind { return []Kind{Internal, Invalid, NotFound, Conflict, Unavailable, Denied} }

// Item is one line, row or field that an error is about. Unset fields are left out on the wire.
type Item struct {
	SKU       string
	Requested int64
	Available int64
	Row       int64  // of a file; the header is row 1
	Field     string // a path such as items[2].qty
	Detail    string
}

// Error is an error with a kind, a stable code for programs and a sentence for people.
type Error struct {
	Kind       Kind
	Code       string // stable, such as out_of_stock
	Detail     string // says what to do; safe to show to the caller
	Items      []Item
	RetryAfter time.Duration // with Unavailable; zero means one second
	OrderID    string        // the order that it is about, if any
	Replayed   bool          // the stored answer of an earlier attempt under the same idempotency key

	cause error
}

// New makes an error of a kind with a stable code; detail is formatted as fmt.Sprintf does.
func New(kind Kind, code, detail string, args ...any) *Error {
	if len(args) > 0 {
		detail = fmt.Sprintf(detail, args...)
	}
	return &Error{Kind: kind, Code: code, Detail: detail}
}

// Because returns a copy of e that wraps cause. The cause is for logs: it does not reach the caller.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// With returns a copy of e about the items.
func (e *Error) With(items ...Item) *Error {
	c := *e
	c.Items = items
	return &c
}

// Detailf returns a copy of e with another sentence.
func (e *Error) Detailf(detail string, args ...any) *Error {
	c := *e
	c.Detail = fmt.Sprintf(detail, args...)
	return &c
}

func (e *Error) Error() string {
	if e.cause != nil {
		return e.Code + ": " + strings.TrimSuffix(e.Detail, ".") + ": " + e.cause.Error()
	}
	return e.Code + ": " + e.Detail
}

func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is a fault with the same code, so that errors.Is finds sentinels through copies.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Of returns the fault in err's chain. Any other error becomes an internal fault that wraps it.
// Of(nil) is nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Code: "internal", Detail: "Something went wrong on our side. The log has it under this request's correlation id.", cause: err}
}

// KindOf is Of(err).Kind.
func KindOf(err error) Kind { return Of(err).Kind }
