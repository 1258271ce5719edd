// Package httpd is the edge of a process: it serves the contexts' REST contracts over HTTP, and is the only place where
// an error becomes an answer.
//
// It owns the problem documents (RFC 9457), the limits on what a client may send and how slowly, the correlation id of
// each request, and the pages that describe the contract. It promises that a handler's panic, a slow client or a
// huge body costs that one request and nothing else, and that the text of an internal error stays in the log. It
// refuses to know what the contracts are about.
package httpd

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-faster/jx"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

var (
	errNotFound         = fault.New(fault.NotFound, "not_found", "There is nothing at this path. GET /docs lists what there is.")
	errMethodNotAllowed = fault.New(fault.Invalid, "method_not_allowed", "This path does not take this method. The Allow header has those that it takes.")
)

// ProblemType is the URI that names a kind of problem: the "type" of its documents.
func ProblemType(code string) string { return "urn:orderkeep:problem:" + code }

// WriteProblem answers r with the problem document of err. An error that is no fault is answered as internal: its text goes
// to the log of r's context, once, here, and not to the client. A client that went away is told nothing.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	f := answerable(err)
	// The server ends the context of a request that does not arrive, too; that client is there and wants to know. So is one
	// whose own deadline has passed.
	if errors.Is(ctx.Err(), context.Canceled) && f.Kind != fault.Invalid {
		w.WriteHeader(statusClientGone)
		return
	}
	switch {
	case f.Kind == fault.Unavailable && f.Unwrap() != nil:
		telemetry.Logger(ctx).WarnContext(ctx, "request refused", "method", r.Method, "path", r.URL.Path, "error", err)
	case f.Kind == fault.Internal:
		telemetry.Logger(ctx).ErrorContext(ctx, "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		if f.Code != "internal" {
			// A peer or the storage named its own trouble; it is for the log, as any internal detail.
			f = fault.Of(errInternal)
		}
	}
	writeFault(w, r, f)
}

func writeFault(w http.ResponseWriter, r *http.Request, f *fault.Error) {
	status := f.HTTPStatus()
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if status == http.StatusRequestTimeout || status == http.StatusRequestEntityTooLarge {
		// The rest of the body is still on its way; this connection cannot be used again.
		h.Set("Connection", "close")
	}
	if f.Kind == fault.Unavailable {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfterSeconds()))
	}
	if f.Replayed {
		h.Set("Idempotent-Replayed", "true")
	}
	e := jx.GetEncoder()
	defer jx.PutEncoder(e)
	encodeProblem(e, f, status, telemetry.Correlation(r.Context()))
	h.Set("Content-Length", strconv.Itoa(len(e.Bytes())))
	w.WriteHeader(status)
	_, _ = w.Write(e.Bytes()) // a client that is gone by now misses nothing that could be repaired here
}

// statusClientGone is what the request log shows for a client that went away before the answer; nginx has made 499 its name.
const statusClientGone = 499

// NotFound answers that nothing is at r's path.
func NotFound(w http.ResponseWriter, r *http.Request) { WriteProblem(w, r, errNotFound) }

// MethodNotAllowed answers that r's path takes only the allowed methods, separated by commas. OPTIONS gets them as a
// success.
func MethodNotAllowed(w http.ResponseWriter, r *http.Request, allowed string) {
	w.Header().Set("Allow", strings.ReplaceAll(strings.ReplaceAll(allowed, " ", ""), ",", ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	WriteProblem(w, r, errMethodNotAllowed)
}

func encodeProblem(e *jx.Encoder, f *fault.Error, status int, correlation string) {
	e.ObjStart()
	str(e, "type", ProblemType(f.Code))
	str(e, "title", title(f.Code))
	e.FieldStart("status")
	e.Int(status)
	str(e, "detail", f.Detail)
	str(e, "error", f.Code)
	if len(f.Items) > 0 {
		e.FieldStart("items")
		e.ArrStart()
		for _, i := range f.Items {
			encodeItem(e, i)
		}
		e.ArrEnd()
	}
	if f.OrderID != "" {
		str(e, "orderId", f.OrderID)
	}
	if correlation != "" {
		str(e, "correlationId", correlation)
	}
	e.ObjEnd()
}

func encodeItem(e *jx.Encoder, i fault.Item) {
	e.ObjStart()
	if i.SKU != "" {
		str(e, "sku", i.SKU)
	}
	if i.Requested != 0 {
		// A shortage states both numbers: none available is the point of it.
		num(e, "requested", i.Requested)
		num(e, "available", i.Available)
	}
	if i.Row != 0 {
		num(e, "row", i.Row)
	}
	if i.Field != "" {
		str(e, "field", i.Field)
	}
	if i.Detail != "" {
		str(e, "detail", i.Detail)
	}
	e.ObjEnd()
}

func str(e *jx.Encoder, name, value string) {
	e.FieldStart(name)
	e.StrEscape(value)
}

func num(e *jx.Encoder, name string, value int64) {
	e.FieldStart(name)
	e.Int64(value)
}

// title makes a heading of a code: out_of_stock becomes "Out of stock".
func title(code string) string {
	t := strings.ReplaceAll(code, "_", " ")
	if t == "" {
		return t
	}
	return strings.ToUpper(t[:1]) + t[1:]
}
