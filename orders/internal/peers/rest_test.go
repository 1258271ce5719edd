package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

func reservation(state string) string {
	return fmt.Sprintf(`{"reservationId":%q,"state":%q,"lines":[{"sku":"BOOK","qty":2}]}`, id, state)
}

func payment(status string) string {
	return fmt.Sprintf(`{"paymentId":"pay-1","orderId":%q,"status":%q,"currency":"GBP","authorizedMinor":2500,"capturedMinor":0,"voidedMinor":0,"refundedMinor":0,"provider":"simulated"}`, id, status)
}

const jsonType = "application/json"

func TestReserveOverREST(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		held   bool
		want   []order.Shortage
		code   string // of the error
		kind   fault.Kind
	}{
		"reserved":           {answer: says(200, jsonType, reservation("reserved")), held: true},
		"committed":          {answer: says(200, jsonType, reservation("committed")), held: true},
		"released":           {answer: refuses(409, "reservation_released")},
		"released, with 200": {answer: says(200, jsonType, reservation("released"))},
		"refused, with 200":  {answer: says(200, jsonType, reservation("refused")), code: "peer_unavailable", kind: fault.Unavailable},
		"out of stock": {answer: refuses(409, "out_of_stock", map[string]any{"sku": "BOOK", "requested": 2, "available": 1}),
			want: []order.Shortage{{SKU: "BOOK", Requested: 2, Available: 1}}},
		"unknown SKU": {answer: refuses(409, "unknown_sku", map[string]any{"sku": "BOOK", "requested": 2, "available": 0}),
			want: []order.Shortage{{SKU: "BOOK", Requested: 2, Unknown: true}}},
		"out of stock, without items": {answer: refuses(409, "out_of_stock", map[string]any{"field": "x"}), want: []order.Shortage{{SKU: "BOOK", Requested: 2}}},
		"another conflict":            {answer: refuses(409, "sku_locked"), code: "sku_locked", kind: fault.Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := serve(t, c.answer)
			held, short, err := w.stock(t).Reserve(t.Context(), asked(twoBooks...))
			if held != c.held || (err != nil) != (c.code != "") || err != nil && (fault.Of(err).Code != c.code || kindOf(err) != c.kind) {
				t.Errorf("held %v, err %v", held, err)
			}
			if d := cmp.Diff(c.want, short); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]string{"PUT /v1/reservations/" + string(id) + ` {"lines":[{"sku":"BOOK","qty":2}]}`}, w.requests()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAuthorizeOverREST(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   order.Authorization
		code   string
	}{
		"authorized":         {answer: says(200, jsonType, payment("authorized")), want: order.Authorization{Outcome: order.Authorized, PaymentID: "pay-1"}},
		"captured":           {answer: says(200, jsonType, payment("captured")), want: order.Authorization{Outcome: order.Authorized, PaymentID: "pay-1"}},
		"declined, with 200": {answer: says(200, jsonType, payment("declined")), code: "peer_unavailable"},
		"voided, with 200":   {answer: says(200, jsonType, payment("voided")), code: "peer_unavailable"},
		"unknown":            {answer: says(202, jsonType, payment("unknown")), want: order.Authorization{Outcome: order.Unknown, PaymentID: "pay-1"}},
		"declined":           {answer: refuses(402, "payment_declined", map[string]any{"field": "token", "detail": "lost_card"}), want: order.Authorization{Outcome: order.Declined, DeclineCode: "lost_card"}},
		"declined, no why":   {answer: refuses(402, "payment_declined"), want: order.Authorization{Outcome: order.Declined, DeclineCode: "declined"}},
		"voided":             {answer: refuses(409, "payment_voided"), want: order.Authorization{Outcome: order.Voided}},
		"a bad token":        {answer: refuses(400, "invalid_token"), code: "invalid_token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := serve(t, c.answer)
			got, err := w.cashier(t).Authorize(t.Context(), paidFor)
			if (err != nil) != (c.code != "") || err != nil && fault.Of(err).Code != c.code {
				t.Errorf("err %v", err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]string{"PUT /v1/payments/" + string(id) + ` {"amountMinor":2500,"currency":"GBP","provider":"simulated","token":"pm_card_visa"}`}, w.requests()); d != "" {
				t.Error(d)
			}
		})
	}
}

// eachREST makes every call of both peers, which all answer the same.
func eachREST(t *testing.T, answer http.HandlerFunc) (*web, map[string]func(context.Context) error) {
	t.Helper()
	w := serve(t, answer)
	s, c := w.stock(t), w.cashier(t)
	return w, map[string]func(context.Context) error{
		"reserve":   func(ctx context.Context) error { _, _, err := s.Reserve(ctx, asked(twoBooks...)); return err },
		"release":   func(ctx context.Context) error { return s.Release(ctx, id, "out_of_stock") },
		"authorize": func(ctx context.Context) error { _, err := c.Authorize(ctx, paidFor); return err },
		"void":      func(ctx context.Context) error { return c.Void(ctx, id, "out_of_stock") },
		"refund":    func(ctx context.Context) error { return c.Refund(ctx, id, "out_of_stock") },
	}
}

func TestErrorsKeepKindAndCodeOverREST(t *testing.T) {
	t.Parallel()
	for _, kind := range fault.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			sent := fault.New(kind, "a_code", "Because.")
			_, calls := eachREST(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "3")
				refuses(sent.HTTPStatus(), sent.Code)(w, r)
			})
			for name, do := range calls {
				got := fault.Of(do(t.Context()))
				if kind == fault.Internal {
					if got.Kind != fault.Internal || got.Detail == sent.Detail {
						t.Errorf("%s: %v", name, got)
					}
					continue
				}
				if got.Kind != kind || got.Code != "a_code" || got.Detail != "Because." {
					t.Errorf("%s: %v %v", name, got.Kind, got)
				}
				if kind == fault.Unavailable && got.RetryAfter != 3*time.Second {
					t.Errorf("%s: to come back after %v", name, got.RetryAfter)
				}
			}
		})
	}
}

// strange is what a peer, or something between us and it, may answer instead of its contract.
var strange = map[string]http.HandlerFunc{
	"garbage":                  says(200, jsonType, "\x00\xff{{{"),
	"an empty answer":          says(200, jsonType, ""),
	"an empty object":          says(200, jsonType, "{}"),
	"null":                     says(200, jsonType, "null"),
	"other JSON":               says(200, jsonType, `{"ok":true}`),
	"a page":                   says(200, "text/html", "<h1>Welcome</h1>"),
	"no media type":            says(200, "", reservation("reserved")),
	"a page with 500":          says(500, "text/html", "<h1>Oops</h1>"),
	"a page with 502":          says(502, "text/html", "<h1>Bad gateway</h1>"),
	"JSON with 500":            says(500, jsonType, `{"message":"oops"}`),
	"a problem that is none":   says(503, "application/problem+json", `{"title":"x"}`),
	"a problem that breaks":    says(409, "application/problem+json", `{"type":"x"`),
	"a redirect":               redirect,
	"a status of its own":      says(299, jsonType, reservation("reserved")),
	"half of an answer":        half,
	"a huge answer":            huge,
	"a broken connection":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"a state of the future":    says(200, jsonType, strings.Replace(reservation("reserved"), "reserved", "beamed", 1)),
	"a page with 404":          says(404, "text/html", "<h1>Nothing here</h1>"),
	"a page with 405":          says(405, "text/html", "<h1>Not so</h1>"),
	"a problem page with 404":  says(404, "application/problem+json", `<h1>`),
	"the first contract's 404": says(404, "text/plain", "404 page not found"),
}

func redirect(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/elsewhere" {
		panic("the redirect was followed: a command was repeated elsewhere")
	}
	http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
}

func half(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Content-Length", "500")
	_, _ = io.WriteString(w, reservation("reserved")[:20])
}

func huge(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", jsonType)
	_, _ = io.WriteString(w, `{"reservationId":"x","state":"reserved","lines":[`)
	for range 200 {
		if _, err := io.WriteString(w, strings.Repeat(`{"sku":"BOOK","qty":1},`, 1000)); err != nil {
			return
		}
	}
}

func TestAStrangeAnswerIsUnavailable(t *testing.T) {
	t.Parallel()
	for name, answer := range strange {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, calls := eachREST(t, answer)
			for call, do := range calls {
				err := do(t.Context())
				if kindOf(err) != fault.Unavailable {
					t.Errorf("%s: %v", call, err)
				}
				if f := fault.Of(err); f != nil && (strings.Contains(f.Detail, "<h1>") || f.Code == "") {
					t.Errorf("%s: code %q, detail %q", call, f.Code, f.Detail)
				}
			}
			for _, r := range w.requests() {
				if strings.Contains(r, "/elsewhere") {
					t.Errorf("followed: %s", r)
				}
			}
		})
	}
}

func TestCorrelationCrossesOverREST(t *testing.T) {
	t.Parallel()
	w, calls := eachREST(t, refuses(400, "seen"))
	for _, do := range calls {
		_ = do(telemetry.WithCorrelation(t.Context(), "shop-17"))
	}
	if len(w.header) != len(calls) {
		t.Errorf("%d requests", len(w.header))
	}
	for i, h := range w.header {
		if got := h.Values("X-Correlation-ID"); len(got) != 1 || got[0] != "shop-17" {
			t.Errorf("%s: correlation %q", w.asked[i], got)
		}
	}
}

func TestAPeerThatHangsCostsNoMoreThanTheDeadlineOverREST(t *testing.T) {
	t.Parallel()
	hung := make(chan struct{}, 10)
	_, calls := eachREST(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // the deadline crosses as the end of the connection
		hung <- struct{}{}
	})
	for name, do := range calls {
		if got := fault.Of(do(soon(t))); got == nil || got.Kind != fault.Unavailable || got.Code != "deadline_exceeded" {
			t.Errorf("%s: %v", name, got)
		}
		<-hung
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := do(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("%s after its caller went away: %v", name, err)
		}
	}
}

func TestAPeerThatIsNotThereIsUnavailable(t *testing.T) {
	t.Parallel()
	w := serve(t, says(200, jsonType, "{}"))
	w.url = "http://127.0.0.1:1" // nothing listens on port 1
	if _, _, err := w.stock(t).Reserve(t.Context(), asked(twoBooks...)); fault.Of(err).Code != "inventory_unavailable" {
		t.Errorf("reserve: %v", err)
	}
	if err := w.cashier(t).Void(t.Context(), id, "x"); fault.Of(err).Code != "payments_unavailable" {
		t.Errorf("void: %v", err)
	}
}

func TestUndoingOverREST(t *testing.T) {
	t.Parallel()
	w := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		says(200, jsonType, payment("voided"))(w, r)
	})
	if err := w.stock(t).Release(t.Context(), id, "payment_declined"); err != nil {
		t.Error(err)
	}
	if err := w.cashier(t).Void(t.Context(), id, "payment_timeout"); err != nil {
		t.Error(err)
	}
	if err := w.cashier(t).Refund(t.Context(), id, "payment_timeout"); err != nil {
		t.Error(err)
	}
	if short, err := w.stock(t).Check(t.Context(), twoBooks); short != nil || err != nil {
		t.Errorf("check: %v %v", short, err)
	}
	want := []string{"DELETE /v1/reservations/" + string(id), "POST /v1/payments/" + string(id) + "/void", "POST /v1/payments/" + string(id) + "/refund"}
	if d := cmp.Diff(want, w.requests()); d != "" {
		t.Error(d)
	}
}

// FuzzAnswer lets a peer answer anything. It never makes a panic, and only an answer of the contract holds units or money.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{reservation("reserved"), reservation("released"), payment("authorized"), `{"error":"not_found"}`, `{"error":"out_of_stock"}`, "{}", "\xff", ""} {
		for _, status := range []int{200, 404, 409, 500} {
			f.Add(status, s, true)
			f.Add(status, s, false)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string, problem bool) {
		if status < 200 || status > 599 {
			t.Skip("no status of an answer")
		}
		contentType := jsonType
		if problem {
			contentType = "application/problem+json"
		}
		answer := says(status, contentType, body)
		w := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if status == 204 || status == 304 {
				w.WriteHeader(status)
				return
			}
			answer(w, r)
		})
		held, short, err := w.stock(t).Reserve(t.Context(), asked(twoBooks...))
		asked := w.requests()
		plain := strings.HasPrefix(asked[len(asked)-1], "POST /reserve")
		if held && (len(short) > 0 || err != nil || status/100 != 2 && !plain || !plain && !strings.Contains(body, "ed")) {
			t.Errorf("%d %q: held, short %v, err %v", status, body, short, err)
		}
		if a, err := w.cashier(t).Authorize(t.Context(), paidFor); err == nil && a.Outcome == order.Authorized && (status != 200 || problem) {
			t.Errorf("%d %q: authorized", status, body)
		}
	})
}
