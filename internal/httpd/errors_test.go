package httpd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/orders/v1/rest"
)

// handler answers a real contract: what decodes is placed, or fails as fail says.
type handler struct {
	rest.Handler
	fail error
}

func (h handler) PlaceOrder(_ context.Context, _ *rest.NewOrder, _ rest.PlaceOrderParams) (rest.PlaceOrderRes, error) {
	return nil, h.fail
}

func (h handler) PlacePlainOrder(context.Context, *rest.NewOrder, rest.PlacePlainOrderParams) (rest.PlacePlainOrderRes, error) {
	if h.fail != nil {
		return nil, h.fail
	}
	return &rest.PlacePlainOrderCreated{Response: rest.PlainOrder{OrderId: uuid.UUID{1}, Status: rest.OrderStatusConfirmed}}, nil
}

func (h handler) ListOrders(context.Context, rest.ListOrdersParams) (rest.ListOrdersRes, error) {
	return &rest.OrderPage{}, h.fail
}

func (h handler) GetOrder(context.Context, rest.GetOrderParams) (rest.GetOrderRes, error) {
	panic("the shelf fell over")
}

// contractServer serves the real contract of Orders with a handler that fails as told, and writes its log to log.
func contractServer(t testing.TB, fail error, log io.Writer) *httpd.Server {
	t.Helper()
	s, err := rest.NewServer(handler{fail: fail}, rest.WithErrorHandler(httpd.ErrorHandler), rest.WithNotFound(httpd.NotFound), rest.WithMethodNotAllowed(httpd.MethodNotAllowed))
	if err != nil {
		t.Fatal(err)
	}
	return httpd.New(httpd.Options{
		Routes: map[string]http.Handler{"/orders": s, "/v1/orders": s},
		Log:    telemetry.NewLogger(log, false, slog.LevelInfo),
	})
}

type problem struct {
	Type, Title, Detail, Error, OrderID, CorrelationID string
	Status                                             int
	Items                                              []map[string]any
}

func post(s http.Handler, path, contentType, body string) (*httptest.ResponseRecorder, problem) {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return do(s, r)
}

func do(s http.Handler, r *http.Request) (*httptest.ResponseRecorder, problem) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r.WithContext(telemetry.WithLogger(r.Context(), slog.New(slog.DiscardHandler))))
	var p problem
	_ = json.Unmarshal(w.Body.Bytes(), &p) // not every answer is one
	return w, p
}

func TestRefusesBadBodies(t *testing.T) {
	t.Parallel()
	s := contractServer(t, nil, io.Discard)
	lines := func(n int) string { return strings.TrimSuffix(strings.Repeat(`{"sku":"A","qty":1},`, n), ",") }
	for name, c := range map[string]struct {
		body  string
		says  string // within the detail
		field string // of the first item, if any
	}{
		"nothing at all":            {``, "no body", ""},
		"only space":                {"  \n", "no body", ""},
		"half an object":            {`{"items":[`, "ends too early", ""},
		"no JSON":                   {`{"items":[{"sku":A}]}`, "byte 18", ""},
		"a leading zero":            {`{"items":[{"sku":"A","qty":01}]}`, "not valid JSON", ""},
		"a trailing comma":          {`{"items":[{"sku":"A","qty":1,}]}`, "not valid JSON", ""},
		"something after it":        {`{"items":[{"sku":"A","qty":1}]} x`, "follows", ""},
		"two objects":               {`{"items":[{"sku":"A","qty":1}]}{}`, "follows", ""},
		"an array":                  {`[]`, "must be an object", ""},
		"null":                      {`null`, "must be an object", ""},
		"a string":                  {`"order"`, "must be an object", ""},
		"bytes that are not UTF-8":  {"{\"items\":[{\"sku\":\"\xff\",\"qty\":1}]}", "UTF-8", ""},
		"half a character":          {"{\"items\":[{\"sku\":\"\xc3", "UTF-8", ""},
		"no items":                  {`{}`, "required", "items"},
		"items null":                {`{"items":null}`, "array", "items"},
		"items an object":           {`{"items":{"sku":"A"}}`, "array", "items"},
		"items empty":               {`{"items":[]}`, "must not be empty", "items"},
		"2,001 lines":               {`{"items":[` + lines(2001) + `]}`, "at most 2000 elements", "items"},
		"a line that is a number":   {`{"items":[{"sku":"A","qty":1},7]}`, "must be an object", "items[1]"},
		"a line without qty":        {`{"items":[{"sku":"A","qty":1},{"sku":"B"}]}`, "is required", "items[1].qty"},
		"qty 0":                     {`{"items":[{"sku":"A","qty":0}]}`, "at least 1", "items[0].qty"},
		"qty negative":              {`{"items":[{"sku":"A","qty":1},{"sku":"A","qty":-7}]}`, "at least 1", "items[1].qty"},
		"qty past 2^31":             {`{"items":[{"sku":"A","qty":2147483648}]}`, "at most 2147483647", "items[0].qty"},
		"qty past 2^63":             {`{"items":[{"sku":"A","qty":1},{"sku":"A","qty":9223372036854775808}]}`, "too large", "items[1].qty"},
		"qty with a fraction":       {`{"items":[{"sku":"A","qty":1.5}]}`, "whole number", "items[0].qty"},
		"qty with an exponent":      {`{"items":[{"sku":"A","qty":1e3}]}`, "whole number", "items[0].qty"},
		"qty a string":              {`{"items":[{"sku":"A","qty":1},{"sku":"A","qty":"2"}]}`, "must not be a string", "items[1].qty"},
		"qty null":                  {`{"items":[{"sku":"A","qty":null}]}`, "must not be null", "items[0].qty"},
		"qty a boolean":             {`{"items":[{"sku":"A","qty":true}]}`, "must not be a boolean", "items[0].qty"},
		"sku empty":                 {`{"items":[{"sku":"","qty":1}]}`, "must not be empty", "items[0].sku"},
		"sku of 129 characters":     {`{"items":[{"sku":"` + strings.Repeat("é", 129) + `","qty":1}]}`, "at most 128 characters", "items[0].sku"},
		"unitPrice negative":        {`{"items":[{"sku":"A","qty":1,"unitPrice":-1}]}`, "at least 0", "items[0].unitPrice"},
		"unitPrice past 2^53":       {`{"items":[{"sku":"A","qty":1,"unitPrice":9007199254740992}]}`, "at most 9007199254740991", "items[0].unitPrice"},
		"an unknown field":          {`{"items":[{"sku":"A","qty":1}],"coupon":1}`, "not a field", "coupon"},
		"an unknown field in lines": {`{"items":[{"sku":"A","qty":1},{"sku":"A","qty":1,"note":"x"}]}`, "not a field", "items[1].note"},
		"payment without token":     {`{"items":[{"sku":"A","qty":1}],"payment":{"provider":"simulated"}}`, "is required", "payment.token"},
		"payment a string":          {`{"items":[{"sku":"A","qty":1}],"payment":"card"}`, "must be an object", "payment"},
		"customer too long":         {`{"items":[{"sku":"A","qty":1}],"customer":"` + strings.Repeat("x", 257) + `"}`, "at most 256", "customer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, p := post(s, "/orders", "application/json", c.body)
			if w.Code != 400 || p.Status != 400 || p.Error != "invalid_request" || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Fatalf("answered %d %s", w.Code, w.Body)
			}
			if !strings.Contains(p.Detail, c.says) {
				t.Errorf("detail %q does not say %q", p.Detail, c.says)
			}
			field := ""
			if len(p.Items) > 0 {
				field, _ = p.Items[0]["field"].(string)
			}
			if field != c.field {
				t.Errorf("field %q, want %q; %s", field, c.field, w.Body)
			}
		})
	}
}

func TestListsAllFieldsUpToABound(t *testing.T) {
	t.Parallel()
	s := contractServer(t, nil, io.Discard)
	_, p := post(s, "/orders", "application/json", `{"items":[{"sku":"","qty":0},{"sku":"B","qty":-1}]}`)
	var fields []string
	for _, i := range p.Items {
		fields = append(fields, i["field"].(string))
	}
	if d := cmp.Diff([]string{"items[0].sku", "items[0].qty", "items[1].qty"}, fields); d != "" {
		t.Error(d)
	}
	many := `{"items":[` + strings.TrimSuffix(strings.Repeat(`{"sku":"A","qty":0},`, 1500), ",") + `]}`
	if _, p := post(s, "/orders", "application/json", many); len(p.Items) != 20 || !strings.Contains(p.Detail, "1500 fields") {
		t.Errorf("%d items, %q", len(p.Items), p.Detail)
	}
}

// A card number may stand anywhere in a request that goes wrong. No answer and no log line may repeat it.
func TestNeverRepeatsWhatWasSent(t *testing.T) {
	t.Parallel()
	const secret = "4242424242424242"
	var log bytes.Buffer
	s := contractServer(t, nil, &log)
	item := `{"items":[{"sku":"A","qty":1}],`
	for _, body := range []string{
		item + `"payment":{"provider":"simulated","token":` + secret + `}}`,
		item + `"payment":{"provider":"simulated","token":[` + secret + `]}}`,
		item + `"payment":{"provider":"` + strings.Repeat(secret, 5) + `","token":"x"}}`,
		item + `"payment":{"provider":"simulated","token":"` + strings.Repeat(secret, 20) + `"}}`,
		item + `"payment":"` + secret + `"}`,
		item + `"payment":{"provider":"simulated","token":"t","` + secret + `":1}}`,
		item + `"` + secret + `":1}`,
		item + `"card_` + secret + `":1}`,
		item + `"payment":` + secret + `}`,
		`{"items":[{"sku":"` + strings.Repeat(secret, 9) + `","qty":1}]}`,
		`{"items":[{"sku":"A","qty":` + secret + `}]}`,
		`{"items":[{"sku":"A","qty":-` + secret + `}]}`,
		`{"items":[{"sku":"A","qty":` + secret + `.5}]}`,
		`{"items":[{"sku":"A","qty":"` + secret + `"}]}`,
		`{"items":[{"sku":"A","qty":` + secret + secret + `}]}`,
		`{"items":[{"sku":"A","unitPrice":-` + secret + `,"qty":1}]}`,
		secret, `"` + secret + `"`, `{` + secret, `{"a":` + secret + `x`, `[` + secret + `]`,
		item[:len(item)-1] + `}` + secret,
	} {
		w, p := post(s, "/orders", "application/json", body)
		if w.Code != 400 {
			t.Errorf("%s answered %d %s", body, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("the answer to %s repeats it: %s", body, w.Body)
		}
		if p.Detail == "" {
			t.Errorf("the answer to %s says nothing: %s", body, w.Body)
		}
	}
	for _, path := range []string{
		"/v1/orders?limit=" + secret, "/v1/orders?status=" + secret, "/v1/orders?placedFrom=" + secret,
		"/v1/orders?customer=" + strings.Repeat(secret, 20), "/v1/orders/" + secret, "/" + secret,
	} {
		if w, _ := do(s, httptest.NewRequest(http.MethodGet, path, nil)); strings.Contains(w.Body.String(), secret) || w.Code < 400 {
			t.Errorf("the answer to %s: %d %s", path, w.Code, w.Body)
		}
	}
	if w, _ := post(s, "/orders", secret, "{}"); strings.Contains(w.Body.String(), secret) {
		t.Errorf("the answer to a content type repeats it: %s", w.Body)
	}
	if strings.Contains(log.String(), secret) {
		t.Errorf("the log repeats it:\n%s", log.String())
	}
}

func TestRefusesBadParameters(t *testing.T) {
	t.Parallel()
	s := contractServer(t, nil, io.Discard)
	for path, c := range map[string]struct{ field, says string }{
		"/v1/orders?limit=0":                            {"limit", "at least 1"},
		"/v1/orders?limit=1001":                         {"limit", "at most 1000"},
		"/v1/orders?limit=1&limit=2":                    {"limit", "given once"},
		"/v1/orders?limit=ten":                          {"limit", "whole number"},
		"/v1/orders?limit=99999999999":                  {"limit", "too large"},
		"/v1/orders?status=lost":                        {"status", "not one of the values"},
		"/v1/orders?placedFrom=yesterday":               {"placedFrom", "must be a time"},
		"/v1/orders?customer=":                          {"customer", "empty"},
		"/v1/orders?cursor=" + strings.Repeat("x", 300): {"cursor", "at most 256"},
		"/v1/orders/nothing":                            {"orderId", "UUID"},
	} {
		w, p := do(s, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != 400 || p.Error != "invalid_request" || len(p.Items) != 1 || p.Items[0]["field"] != c.field || !strings.Contains(p.Detail, c.field) || !strings.Contains(p.Detail, c.says) {
			t.Errorf("GET %.60s = %d %s", path, w.Code, w.Body)
		}
	}
}

func TestRefusesOtherMediaTypesMethodsAndPaths(t *testing.T) {
	t.Parallel()
	s := contractServer(t, nil, io.Discard)
	for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "application/xml", ";;", ""} {
		if w, p := post(s, "/orders", ct, `{"items":[{"sku":"A","qty":1}]}`); w.Code != 415 || p.Error != "unsupported_media_type" {
			t.Errorf("Content-Type %q answered %d %s", ct, w.Code, w.Body)
		}
	}
	if w, _ := post(s, "/orders", "application/json; charset=utf-8", `{"items":[{"sku":"A","qty":1}]}`); w.Code != 201 {
		t.Errorf("a charset answered %d %s", w.Code, w.Body)
	}
	for _, c := range []struct {
		method, path, allow string
		status              int
	}{
		{"GET", "/orders", "POST", 405}, {"DELETE", "/v1/orders", "GET, POST", 405}, {"OPTIONS", "/v1/orders", "GET, POST", 204},
		{"POST", "/health", "GET, HEAD", 405}, {"PUT", "/docs", "GET, HEAD", 405}, {"OPTIONS", "/health", "GET, HEAD", 204},
	} {
		w, p := do(s, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || w.Header().Get("Allow") != c.allow || c.status == 405 && p.Error != "method_not_allowed" {
			t.Errorf("%s %s = %d Allow %q %s", c.method, c.path, w.Code, w.Header().Get("Allow"), w.Body)
		}
	}
	for _, path := range []string{"/", "/nothing", "/ordersx", "/orders/", "/orders/x", "/v1", "/v1/ordersx", "/health/", "//orders", "/v1/orders/x/y/z"} {
		if w, p := do(s, httptest.NewRequest(http.MethodGet, path, nil)); w.Code != 404 || p.Error != "not_found" {
			t.Errorf("GET %s = %d %s", path, w.Code, w.Body)
		}
	}
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/v1/orders/\xff"}, Header: http.Header{}}
	if w, p := do(s, r); w.Code != 400 || p.Error != "invalid_request" {
		t.Errorf("a path that is not UTF-8 = %d %s", w.Code, w.Body)
	}
}

func TestAnswersFaults(t *testing.T) {
	t.Parallel()
	const order = `{"items":[{"sku":"A","qty":1}]}`
	t.Run("with their items and what to do", func(t *testing.T) {
		t.Parallel()
		f := fault.New(fault.Conflict, "out_of_stock", "Not enough stock.").With(fault.Item{SKU: "A", Requested: 2})
		f.OrderID, f.Replayed = "o-1", true
		w, p := post(contractServer(t, f, io.Discard), "/orders", "application/json", order)
		want := problem{
			Type: "urn:orderkeep:problem:out_of_stock", Title: "Out of stock", Status: 409, Detail: "Not enough stock.", Error: "out_of_stock", OrderID: "o-1",
			CorrelationID: w.Header().Get("X-Correlation-ID"), Items: []map[string]any{{"sku": "A", "requested": 2.0, "available": 0.0}},
		}
		if d := cmp.Diff(want, p); d != "" {
			t.Error(d)
		}
		if w.Header().Get("Idempotent-Replayed") != "true" || p.CorrelationID == "" {
			t.Errorf("headers %v", w.Header())
		}
	})
	t.Run("with when to come back", func(t *testing.T) {
		t.Parallel()
		f := fault.New(fault.Unavailable, "inventory_unavailable", "Away.")
		f.RetryAfter = 1500 * time.Millisecond
		if w, p := post(contractServer(t, f, io.Discard), "/v1/orders", "application/json", order); w.Code != 503 || w.Header().Get("Retry-After") != "2" || p.Error != "inventory_unavailable" {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
	})
	t.Run("without an internal error's text, which is logged once", func(t *testing.T) {
		t.Parallel()
		for _, err := range []error{errors.New("secret table"), fault.New(fault.Internal, "not_a_database", "secret table")} {
			var log bytes.Buffer
			s := contractServer(t, err, &log)
			r := httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(order))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Correlation-ID", "c-7")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r.WithContext(telemetry.WithLogger(t.Context(), telemetry.NewLogger(&log, false, slog.LevelInfo))))
			if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), `"error":"internal"`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if strings.Count(log.String(), "secret table") != 1 || !strings.Contains(log.String(), "correlationId=c-7") {
				t.Errorf("log:\n%s", log.String())
			}
		}
	})
	t.Run("of our own deadline as a 503", func(t *testing.T) {
		t.Parallel()
		for _, err := range []error{context.DeadlineExceeded, context.Canceled} {
			if w, _ := post(contractServer(t, err, io.Discard), "/orders", "application/json", order); w.Code != 503 {
				t.Errorf("%v = %d %s", err, w.Code, w.Body)
			}
		}
	})
	t.Run("to nobody when the client is gone", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/orders", strings.NewReader(order))
		r.Header.Set("Content-Type", "application/json")
		if w, _ := do(contractServer(t, ctx.Err(), io.Discard), r); w.Body.Len() != 0 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
