package fault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestKindsKeepTheirMeaningOverTheWires(t *testing.T) {
	t.Parallel()
	for kind, want := range map[fault.Kind]struct {
		http int
		grpc codes.Code
	}{
		fault.Internal:    {500, codes.Internal},
		fault.Invalid:     {400, codes.InvalidArgument},
		fault.NotFound:    {404, codes.NotFound},
		fault.Conflict:    {409, codes.FailedPrecondition},
		fault.Unavailable: {503, codes.Unavailable},
		fault.Denied:      {403, codes.PermissionDenied},
	} {
		e := fault.New(kind, "some_code", "Some detail.")
		if e.HTTPStatus() != want.http {
			t.Errorf("%s: HTTP %d, want %d", kind, e.HTTPStatus(), want.http)
		}
		if got := fault.FromHTTP(want.http, "some_code", "Some detail."); got.Kind != kind || kind != fault.Internal && (got.Code != "some_code" || got.Detail != "Some detail.") {
			t.Errorf("%s over HTTP became %s %s: %s", kind, got.Kind, got.Code, got.Detail)
		}
		over := fault.ToGRPC(fmt.Errorf("reserve: %w", e))
		if status.Code(over) != want.grpc {
			t.Errorf("%s: gRPC %s, want %s", kind, status.Code(over), want.grpc)
		}
		if got := fault.Of(fault.FromGRPC(over)); got.Kind != kind || kind != fault.Internal && (got.Code != "some_code" || got.Detail != "Some detail.") {
			t.Errorf("%s over gRPC became %s %s: %s", kind, got.Kind, got.Code, got.Detail)
		}
	}
	if len(fault.Kinds()) != 6 {
		t.Error("a kind is not in this test's table")
	}
}

func TestSpecialCodesKeepTheirKindOverHTTP(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]struct {
		kind fault.Kind
		http int
	}{
		"payment_declined":       {fault.Conflict, 402},
		"method_not_allowed":     {fault.Invalid, 405},
		"not_acceptable":         {fault.Invalid, 406},
		"request_timeout":        {fault.Invalid, 408},
		"body_too_large":         {fault.Invalid, 413},
		"unsupported_media_type": {fault.Invalid, 415},
		"idempotency_key_reused": {fault.Invalid, 422},
		"invalid_csv":            {fault.Invalid, 422},
		"order_archived":         {fault.NotFound, 410},
		"cursor_expired":         {fault.NotFound, 410},
	} {
		e := fault.New(want.kind, code, "x")
		if e.HTTPStatus() != want.http {
			t.Errorf("%s is answered %d, want %d", code, e.HTTPStatus(), want.http)
		}
		if back := fault.FromHTTP(e.HTTPStatus(), code, "x"); back.Kind != want.kind || !errors.Is(back, e) {
			t.Errorf("%s came back as %s %s", code, back.Kind, back.Code)
		}
	}
}

func TestStatusesOfOthersHaveAKind(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]fault.Kind{
		401: fault.Denied, 410: fault.NotFound, 412: fault.Conflict, 418: fault.Invalid, 429: fault.Unavailable, 501: fault.Internal,
		502: fault.Unavailable, 504: fault.Unavailable, 302: fault.Internal,
	} {
		if got := fault.FromHTTP(code, "", "").Kind; got != want {
			t.Errorf("HTTP %d became %s, want %s", code, got, want)
		}
	}
	for code, want := range map[codes.Code]fault.Kind{
		codes.Unauthenticated: fault.Denied, codes.Aborted: fault.Conflict, codes.AlreadyExists: fault.Conflict, codes.OutOfRange: fault.Invalid,
		codes.ResourceExhausted: fault.Unavailable, codes.DeadlineExceeded: fault.Unavailable, codes.DataLoss: fault.Internal,
		codes.Unimplemented: fault.Unavailable, codes.Unknown: fault.Internal,
	} {
		if got := fault.KindOf(fault.FromGRPC(status.Error(code, "x"))); got != want {
			t.Errorf("gRPC %s became %s, want %s", code, got, want)
		}
	}
}

func TestInternalTextNeverLeaves(t *testing.T) {
	t.Parallel()
	const secret = "dial tcp 10.1.2.3: password=hunter2"
	cause := errors.New(secret)
	declined := fault.New(fault.Conflict, "payment_declined", "The card was declined.").Because(cause)
	for name, err := range map[string]error{
		"an error that is no fault":        fmt.Errorf("read: %w", cause),
		"a fault's cause":                  declined,
		"a wrapped fault":                  fmt.Errorf("%s: %w", secret, declined),
		"a peer's internal error":          fault.FromGRPC(status.Error(codes.Internal, secret)),
		"a peer's unknown error":           fault.FromGRPC(status.Error(codes.Unknown, secret)),
		"a peer's internal error on HTTP":  fault.FromHTTP(http.StatusInternalServerError, "internal", secret),
		"a cancellation with some context": fmt.Errorf("%s: %w", secret, context.Canceled),
		"a deadline with some context":     fmt.Errorf("%s: %w", secret, context.DeadlineExceeded),
	} {
		if text := status.Convert(fault.ToGRPC(err)).String(); strings.Contains(text, secret) {
			t.Errorf("%s leaves over gRPC: %s", name, text)
		}
		if detail := fault.Of(err).Detail; strings.Contains(detail, secret) {
			t.Errorf("%s leaves as a detail: %s", name, detail)
		}
		if !strings.Contains(err.Error(), secret) {
			t.Errorf("%s does not reach the log: %v", name, err)
		}
	}
}

func TestCallersThatWentAwayAreNotOurFailure(t *testing.T) {
	t.Parallel()
	if got := status.Code(fault.ToGRPC(fmt.Errorf("reserve: %w", context.Canceled))); got != codes.Canceled {
		t.Errorf("a cancellation is sent as %s", got)
	}
	if got := status.Code(fault.ToGRPC(fmt.Errorf("reserve: %w", context.DeadlineExceeded))); got != codes.DeadlineExceeded {
		t.Errorf("a deadline is sent as %s", got)
	}
	if err := fault.FromGRPC(status.Error(codes.Canceled, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancellation comes back as %v", err)
	}
	for name, err := range map[string]error{
		"the peer's": fault.FromGRPC(status.Error(codes.DeadlineExceeded, "x")), "our own": fault.FromGRPC(context.DeadlineExceeded),
	} {
		if f := fault.Of(err); f.Kind != fault.Unavailable || f.Code != "deadline_exceeded" {
			t.Errorf("%s deadline comes back as %s %s", name, f.Kind, f.Code)
		}
	}
	// The deadline of a call that we made ourselves: the fault that was made of it says more.
	unknown := fault.New(fault.Unavailable, "payment_outcome_unknown", "x").Because(context.DeadlineExceeded)
	if got := fault.Of(fault.FromGRPC(fault.ToGRPC(unknown))); got.Code != "payment_outcome_unknown" {
		t.Errorf("a fault because of a deadline became %s", got.Code)
	}
	if fault.ToGRPC(nil) != nil || fault.FromGRPC(nil) != nil || fault.Of(nil) != nil {
		t.Error("no error became one")
	}
}

func TestRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	e := fault.New(fault.Unavailable, "busy", "x")
	for after, want := range map[time.Duration]int{0: 1, time.Millisecond: 1, time.Second: 1, 1500 * time.Millisecond: 2, time.Minute: 60} {
		e.RetryAfter = after
		if e.RetryAfterSeconds() != want {
			t.Errorf("%s is %d seconds, want %d", after, e.RetryAfterSeconds(), want)
		}
		if got := fault.Of(fault.FromGRPC(fault.ToGRPC(e))).RetryAfter; got != after {
			t.Errorf("%s over gRPC became %s", after, got)
		}
	}
}

func TestCopiesOfASentinelAreFoundAndLeaveItAlone(t *testing.T) {
	t.Parallel()
	sentinel := fault.New(fault.Conflict, "out_of_stock", "Not enough of %s.", "it")
	cause := errors.New("cause")
	c := sentinel.With(fault.Item{SKU: "A"}).Detailf("Not enough of %d.", 2).Because(cause)
	if !errors.Is(fmt.Errorf("place: %w", c), sentinel) || !errors.Is(c, cause) {
		t.Error("a copy is not found as its sentinel or its cause")
	}
	if errors.Is(c, fault.New(fault.Conflict, "other", "")) {
		t.Error("a copy is taken for another sentinel")
	}
	if sentinel.Items != nil || sentinel.Detail != "Not enough of it." || sentinel.Unwrap() != nil {
		t.Errorf("the sentinel has changed: %+v", sentinel)
	}
	if got := c.Error(); got != "out_of_stock: Not enough of 2: cause" {
		t.Errorf("it says %q", got)
	}
	if c.Detail != "Not enough of 2." || len(c.Items) != 1 {
		t.Errorf("the copy is %+v", c)
	}
}
