package fault

import (
	"context"
	"errors"
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

// statusOf holds the codes whose HTTP status says more than their kind's.
var statusOf = map[string]int{
	"payment_declined":         http.StatusPaymentRequired,
	"method_not_allowed":       http.StatusMethodNotAllowed,
	"request_timeout":          http.StatusRequestTimeout,
	"body_too_large":           http.StatusRequestEntityTooLarge,
	"unsupported_media_type":   http.StatusUnsupportedMediaType,
	"idempotency_key_reused":   http.StatusUnprocessableEntity,
	"invalid_csv":              http.StatusUnprocessableEntity,
	"not_acceptable":           http.StatusNotAcceptable,
	"provider_outcome_unknown": http.StatusServiceUnavailable,
}

// HTTPStatus returns the status that e is answered with.
func (e *Error) HTTPStatus() int {
	if s, ok := statusOf[e.Code]; ok {
		return s
	}
	for _, w := range wire {
		if w.kind == e.Kind {
			return w.http
		}
	}
	return http.StatusInternalServerError
}

// FromHTTP makes the fault that a peer answered as status with a code and a detail.
func FromHTTP(statusCode int, code, detail string) *Error {
	kind := Internal
	for _, w := range wire {
		if w.http == statusCode {
			kind = w.kind
		}
	}
	if special, ok := statusOf[code]; ok && special == statusCode {
		kind = Invalid
		if code == "payment_declined" {
			kind = Conflict
		}
		if statusCode == http.StatusServiceUnavailable {
			kind = Unavailable
		}
	} else if kind == Internal {
		switch {
		case statusCode == http.StatusTooManyRequests || statusCode == http.StatusBadGateway || statusCode == http.StatusGatewayTimeout:
			kind = Unavailable
		case statusCode >= 400 && statusCode < 500:
			kind = Invalid
		}
	}
	return &Error{Kind: kind, Code: code, Detail: detail}
}

const errorDomain = "orderkeep"

// ToGRPC turns any error into a gRPC status that carries the fault's code. The detail of an internal
// error stays here.
func ToGRPC(err error) error {
	if err == nil {
		return nil
	}
	// A caller that went away or ran out of time is told so, not that we failed.
	if errors.Is(err, context.Canceled) {
		return status.Error(codes.Canceled, "the caller went away")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return status.Error(codes.DeadlineExceeded, "the deadline passed")
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
// the peer acted is not known. The caller's own cancellation stays context.Canceled.
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
			return New(Unavailable, "deadline_exceeded", "the peer did not answer in time").Because(err)
		}
		return Of(err)
	}
	if s.Code() == codes.Canceled {
		return context.Canceled
	}
	e := &Error{Kind: Internal, Code: "internal", Detail: s.Message(), cause: err}
	for _, w := range wire {
		if w.grpc == s.Code() {
			e.Kind, e.Code = w.kind, w.kind.String()
		}
	}
	if s.Code() == codes.DeadlineExceeded {
		e.Kind, e.Code = Unavailable, "deadline_exceeded"
	}
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

// RetryAfterSeconds is what a Retry-After header says: whole seconds, at least one.
func (e *Error) RetryAfterSeconds() int {
	return max(1, int((e.RetryAfter+time.Second-1)/time.Second))
}
