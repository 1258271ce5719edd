package httpd_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/orderkeep/orderkeep/internal/httpd"
	"pgregory.net/rapid"
)

// However a body arrives in pieces, it passes exactly if it is UTF-8.
func TestBodiesAreUTF8(t *testing.T) {
	t.Parallel()
	s := httpd.New(httpd.Options{Routes: map[string]http.Handler{"/x": echo()}})
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }),
			rapid.SliceOf(rapid.SampledFrom([]byte{'a', 0x80, 0xbf, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xed, 0xf0, 0x9f, 0x98, 0x80, 0xff})),
		).Draw(t, "body")
		var pieces io.Reader = bytes.NewReader(body)
		switch rapid.IntRange(0, 2).Draw(t, "pieces") {
		case 0:
			pieces = iotest.OneByteReader(pieces)
		case 1:
			pieces = iotest.HalfReader(iotest.DataErrReader(pieces))
		}
		r := httptest.NewRequest(http.MethodPost, "/x", pieces)
		r.Header.Set("Content-Type", "application/json")
		w, p := do(s, r)
		switch valid := utf8.Valid(body); {
		case valid && w.Code != 200:
			t.Fatalf("%q answered %d %s", body, w.Code, w.Body)
		case !valid && (w.Code != 400 || p.Error != "invalid_request"):
			t.Fatalf("%q answered %d %s", body, w.Code, w.Body)
		}
	})
}
