package httpd

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"os"

	"github.com/ogen-go/ogen/ogenerrors"
	"github.com/ogen-go/ogen/validate"
	"github.com/orderkeep/orderkeep/internal/fault"
)

var (
	errInternal       = errors.New("internal")
	errBodyTooLarge   = fault.New(fault.Invalid, "body_too_large", "The body is too large.")
	errRequestTimeout = fault.New(fault.Invalid, "request_timeout", "The request did not arrive in time. Send it again, faster.")
	errMediaType      = fault.New(fault.Invalid, "unsupported_media_type", "The body's media type is not one that this path takes.")
	errEncoded        = errMediaType.Detailf("The body is compressed or otherwise encoded. Send it as it is, without a Content-Encoding.")
	errTwoKeys        = fault.New(fault.Invalid, "invalid_idempotency_key", "The request has two Idempotency-Key headers. Send one.")
	errInvalid        = fault.New(fault.Invalid, "invalid_request", "The request is not valid.")
	errDeadline       = fault.New(fault.Unavailable, "deadline_exceeded", "It took too long. Look at what has happened before repeating it without an Idempotency-Key.")
	errInterrupted    = fault.New(fault.Unavailable, "interrupted", "The request was interrupted on our side. Try again in a moment.")
)

// ErrorHandler answers what a generated server or its handler reported: a request that does not decode or does not
// validate with 400 and the fields by path, a body past the limit with 413, another media type with 415, a body that does
// not arrive with 408, and faults by their kind. No text repeats a value that was sent: it might be a card number.
func ErrorHandler(_ context.Context, w http.ResponseWriter, r *http.Request, err error) {
	if f := requestFault(r, err); f != nil {
		err = f
	}
	WriteProblem(w, r, err)
}

// requestFault says what is wrong with the request, or nil if it is not the request that is wrong.
func requestFault(r *http.Request, err error) error {
	if readFault(err) != nil {
		return nil
	}
	var (
		media   *validate.InvalidContentTypeError
		params  *ogenerrors.DecodeParamsError
		request *ogenerrors.DecodeRequestError
	)
	switch {
	case errors.As(err, &params):
		return paramsFault(params)
	case !errors.As(err, &request):
		return nil
	case errors.As(err, &media), !mediaTypeParses(r):
		return errMediaType.Detailf("Say in the Content-Type header what the body is: application/json, or text/csv for a path that ends in .csv.")
	case errors.Is(err, validate.ErrBodyRequired):
		return errInvalid.Detailf("The request has no body. Send a JSON object.")
	}
	return bodyFault(request)
}

func bodyTooLarge(limit int64) *fault.Error {
	return errBodyTooLarge.Detailf("The body is larger than %d bytes, the limit of this path. Send less at a time, or raise the limit where the server is started.", limit)
}

func mediaTypeParses(r *http.Request) bool {
	_, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil
}

// readFault returns the fault in err's chain, or that of a body that could not be read to its end, whoever read it; or nil.
func readFault(err error) *fault.Error {
	if f, ok := err.(*fault.Error); ok && f.Unwrap() == nil { //nolint:errorlint // most are, and a search through the chain costs two allocations
		return f
	}
	var (
		tooLarge *http.MaxBytesError
		known    *fault.Error
	)
	switch {
	case errors.As(err, &tooLarge):
		return bodyTooLarge(tooLarge.Limit)
	case errors.As(err, &known):
		return known
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errRequestTimeout
	}
	return nil
}

// answerable turns an error from below the edge into the fault to answer.
func answerable(err error) *fault.Error {
	switch known := readFault(err); {
	case known != nil:
		return known
	case errors.Is(err, context.DeadlineExceeded):
		return errDeadline.Because(err)
	case errors.Is(err, context.Canceled):
		// The client is still there, or WriteProblem would have stopped: something here gave up, as at a drain.
		return errInterrupted.Because(err)
	}
	return fault.Of(err)
}
