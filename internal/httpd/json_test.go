package httpd_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/httpd"
	"pgregory.net/rapid"
)

func TestBodiesThatReadersUnderstandDifferently(t *testing.T) {
	t.Parallel()
	s := httpd.New(httpd.Options{Routes: map[string]http.Handler{"/x": echo()}})
	many := func(names int) string {
		var b strings.Builder
		for n := range names {
			fmt.Fprintf(&b, `"a%d":1,`, n)
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		body string
		says string // "" if it passes
	}{
		"no name twice":                      {`{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}`, ""},
		"a name twice":                       {`{"a":1,"b":2,"a":1}`, "The field a occurs twice"},
		"a name twice, deep inside":          {`{"a":[{"b":{"c":1,"c":2}}]}`, "The field c occurs twice"},
		"a name twice, once escaped":         {`{"a":1,"\u0061":2}`, "The field a occurs twice"},
		"names that differ in capitals":      {`{"a":1,"A":2}`, ""},
		"an empty name twice":                {`{"":1,"":2}`, "the same field twice"},
		"a name twice that must not be said": {`{"4242424242424242":1,"4242424242424242":2}`, "the same field twice"},
		"a name twice after many":            {`{` + many(60) + `"a3":1}`, "a3 occurs twice"},
		"more names than any contract has":   {`{` + many(100) + `"z":1}`, ""},
		"32 levels":                          {strings.Repeat("[", 32) + strings.Repeat("]", 32), ""},
		"33 levels":                          {strings.Repeat("[", 33) + strings.Repeat("]", 33), "32 levels"},
		"33 levels of objects":               {strings.Repeat(`{"a":`, 32) + "[]" + strings.Repeat("}", 32), "32 levels"},
		"no JSON":                            {`{"a":1,"a`, ""}, // the decoder says what is wrong
		"no JSON behind a repeated name":     {`{"a":1,"a":2,`, "The field a occurs twice"},
	} {
		for _, contentType := range []string{"application/json", "Application/JSON; charset=utf-8"} {
			w, p := post(s, "/x", contentType, c.body)
			if c.says == "" && w.Code != 200 || c.says != "" && (w.Code != 400 || p.Error != "invalid_request" || !strings.Contains(p.Detail, c.says)) {
				t.Errorf("%s as %s: %d %s", name, contentType, w.Code, w.Body)
			}
			if strings.Contains(w.Body.String(), "42424242") {
				t.Errorf("%s: the answer repeats it: %s", name, w.Body)
			}
		}
		if w, _ := post(s, "/x", "text/csv", c.body); w.Code != 200 {
			t.Errorf("%s as text/csv: %d %s", name, w.Code, w.Body)
		}
	}
}

// A body that passes reaches the handler as it was sent.
func TestABodyArrivesAsItWasSent(t *testing.T) {
	t.Parallel()
	var got string
	s := httpd.New(httpd.Options{Routes: map[string]http.Handler{"/x": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = string(b)
	})}})
	rapid.Check(t, func(t *rapid.T) {
		value, err := json.Marshal(rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.Int())).Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		if w, _ := post(s, "/x", "application/json", string(value)); w.Code != 200 || got != string(value) {
			t.Fatalf("sent %s, got %s: %d %s", value, got, w.Code, w.Body)
		}
	})
}

func TestEncodedBodiesAreRefused(t *testing.T) {
	t.Parallel()
	s := httpd.New(httpd.Options{Routes: map[string]http.Handler{"/x": echo()}})
	for encoding, want := range map[string]int{"gzip": 415, "br": 415, "Identity": 200, "": 200} {
		r := httptest.NewRequest(http.MethodPost, "/x", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Content-Encoding", encoding)
		if w, _ := do(s, r); w.Code != want {
			t.Errorf("%q: %d %s", encoding, w.Code, w.Body)
		}
	}
}

// FuzzBody sends anything to a real contract: every answer is a problem document or an order, and never 500.
func FuzzBody(f *testing.F) {
	for _, s := range []string{`{"items":[{"sku":"A","qty":1}]}`, `{"items":[{"sku":"A","qty":1,"qty":2}]}`, `[[[`, "{\"\xff\":1}", `{"items":[{"sku":"\ud800"}]}`, `{"items":1e999}`, `nul`, `{"items":{}}`, `{"":[],"":{}}`} {
		f.Add([]byte(s))
	}
	s := contractServer(f, nil, io.Discard)
	f.Fuzz(func(t *testing.T, body []byte) {
		w, p := post(s, "/orders", "application/json", string(body))
		if w.Code != 201 && (w.Code != 400 || p.Error != "invalid_request" || p.Detail == "") {
			t.Errorf("%q answered %d %s", body, w.Code, w.Body)
		}
		if w.Body.Len() > 10_000 {
			t.Errorf("%d bytes of answer", w.Body.Len())
		}
	})
}
