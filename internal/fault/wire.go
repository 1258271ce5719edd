package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// wire is the one table between kinds and the wires, used in both directions.
var wire = []struct {
	kind Kind
	http int
	grpc codes.Code
}{
	{Internal, http.StatusInternalServerError, codes.Internal},
	{Invalid, http.StatusBadRequest, codes.InvalidArgument},
	{NotFound, http.StatusNotFound, codes.NotFound},
	{Conflict, http.StatusConflict, codes.FailedPrecondition},
	{Unavailable, http.StatusServiceUnavailable, codes.Unavailable},
	{Denied, http.StatusForbidden, codes.PermissionDenied},
}

// special holds the codes whose HTTP status says more than their kind's; also used in both directions.
var special = []struct {
	code string
	kind Kind
	http int
}{
	{"payment_declined", Conflict, http.StatusPaymentRequired},
	{"method_not_allowed", Invalid, http.StatusMethodNotAllowed},
	{"not_acceptable", Invalid, http.StatusNotAcceptable},
	{"request_timeout", Invalid, http.StatusRequestTimeout},
	{"body_too_large", Invalid, http.StatusRequestEntityTooLarge},
	{"unsupported_media_type", Invalid, http.StatusUnsupportedMediaType},
	{"idempotency_key_reused", Invalid, http.StatusUnprocessableEntity},
	{"invalid_csv", Invalid, http.StatusUnprocessableEntity},
	{"rate_limited", Unavailable, http.StatusTooManyRequests},
	{"order_archived", NotFound, http.StatusGone},
	{"cursor_expired", NotFound, http.StatusGone},
}

// foreign holds what we never answer, and a peer or a proxy in front of it may.
var foreign = []struct {
	kind Kind
	http int
	grpc codes.Code
}{
	{Denied, http.StatusUnauthorized, codes.Unauthenticated},
	{NotFound, http.StatusGone, codes.NotFound},
	{Conflict, http.StatusPreconditionFailed, codes.Aborted},
	{Conflict, http.StatusConflict, codes.AlreadyExists},
	{Unavailable, http.StatusTooManyRequests, codes.ResourceExhausted},
	{Unavailable, http.StatusBadGateway, codes.Unavailable},
	{Unavailable, http.StatusGatewayTimeout, codes.DeadlineExceeded},
	{Invalid, http.StatusRequestedRangeNotSatisfiable, codes.OutOfRange},
}

// HTTPStatus returns the status that e is answered with.
func (e *Error) HTTPStatus() int {
	for _, s := range special {
		if s.code == e.Code {
			return s.http
		}
	}
	for _, w := range wire {
		if w.kind == e.Kind {
			return w.http
		}
	}
	return http.StatusInternalServerError
}

// FromHTTP makes the fault that a peer answered as status with a code and a detail. The code is kept as it is, empty
// too. A status that is in no table has the kind of its class. Of an internal error the detail is kept for the log only.
func FromHTTP(statusCode int, code, detail string) *Error {
	kind := kindOfHTTP(statusCode)
	if kind == Internal {
		return Of(fmt.Errorf("the peer answered %d %s: %s", statusCode, code, detail))
	}
	return &Error{Kind: kind, Code: code, Detail: detail}
}

func kindOfHTTP(statusCode int) Kind {
	for _, w := range wire {
		if w.http == statusCode {
			return w.kind
		}
	}
	for _, s := range special {
		if s.http == statusCode {
			return s.kind
		}
	}
	for _, f := range foreign {
		if f.http == statusCode {
			return f.kind
		}
	}
	if statusCode >= 400 && statusCode < 500 {
		return Invalid
	}
	return Internal
}

func kindOfGRPC(c codes.Code) Kind {
	for _, w := range wire {
		if w.grpc == c {
			return w.kind
		}
	}
	for _, f := range foreign {
		if f.grpc == c {
			return f.kind
		}
	}
	return Internal
}

const errorDomain = "orderkeep"

// ToGRPC turns any error into a gRPC status that carries the fault's code. The detail of an internal
// error stays here.
func ToGRPC(err error) error {
	if err == nil {
		return nil
	}
	var known *Error
	if !errors.As(err, &known) {
		// A caller that went away or ran out of time is told so, not that we failed. A fault with such a cause is about
		// another deadline: that of a call of our own.
		if errors.Is(err, context.Canceled) {
			return status.Error(codes.Canceled, "the caller went away")
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return status.Error(codes.DeadlineExceeded, "the deadline passed")
		}
	}
	e := Of(err)
	c := codes.Internal
	for _, w := range wire {
		if w.kind == e.Kind {
			c = w.grpc
		}
	}
	s := status.New(c, e.Detail)
	if d, derr := s.WithDetails(&errdetails.ErrorInfo{Reason: e.Code, Domain: errorDomain}); derr == nil {
		s = d
	}
	if e.RetryAfter > 0 {
		if d, derr := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)}); derr == nil {
			s = d
		}
	}
	return s.Err()
}

// FromGRPC turns what a gRPC client returned into a fault. A deadline or a broken connection is Unavailable: whether
// the peer acted is not known. A peer that does not know the method is ErrContract. The caller's own cancellation stays context.Canceled. Of an internal error the peer's
// text is kept for the log only.
func FromGRPC(err error) error {
	if err == nil {
		return nil
	}
	var f *Error
	if errors.As(err, &f) || errors.Is(err, context.Canceled) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		if errors.Is(err, context.DeadlineExceeded) {
			return errDeadline.Because(err)
		}
		return Of(err)
	}
	switch s.Code() {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return errDeadline.Because(err)
	case codes.Unimplemented:
		return ErrContract.Because(err)
	}
	kind := kindOfGRPC(s.Code())
	if kind == Internal {
		return Of(err)
	}
	e := &Error{Kind: kind, Code: kind.String(), Detail: s.Message(), cause: err}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain == errorDomain {
				e.Code = d.Reason
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.RetryDelay.AsDuration()
		}
	}
	return e
}

var errDeadline = New(Unavailable, "deadline_exceeded", "The peer did not answer in time.")

// ErrContract says that a peer does not speak the contract that it was asked in, such as one of another major version:
// it has not acted. It is Unavailable, because another deployment mends it and the request is right.
var ErrContract = &Error{
	Kind: Unavailable, Code: "contract_mismatch", Detail: "The peer does not speak this version of the contract.",
	RetryAfter: 30 * time.Second, // deploying takes at least that; it also keeps callers from asking again at once
}

// RetryAfterSeconds is what a Retry-After header says: whole seconds, at least one.
func (e *Error) RetryAfterSeconds() int {
	return max(1, int((e.RetryAfter+time.Second-1)/time.Second))
}
