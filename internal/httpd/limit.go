package httpd

import (
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// limit bounds what the handler will read of r's body, or answers and reports false where the header shows that it is
// too much.
func (s *Server) limit(w *answer, r *http.Request) bool {
	if r.ContentLength == 0 {
		return true
	}
	limit := s.o.BodyLimit
	if len(s.o.Large) > 0 {
		if large, ok := s.large(r); ok {
			limit = large.BodyLimit
			c := http.NewResponseController(w.ResponseWriter)
			now := time.Now()
			// A connection that has no deadlines is a test's.
			_ = c.SetReadDeadline(now.Add(large.ReadTimeout))
			_ = c.SetWriteDeadline(now.Add(large.ReadTimeout + s.o.WriteTimeout))
		}
	}
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		WriteProblem(w, r, bodyTooLarge(limit))
		return false
	}
	if r.ContentLength < 0 {
		// The server itself holds a body to its announced length; only an unannounced one needs counting.
		r.Body = http.MaxBytesReader(w.ResponseWriter, r.Body, limit)
	}
	if ct := r.Header.Get("Content-Type"); strings.HasPrefix(ct, "application/json") {
		r.Body = &utf8Body{ReadCloser: r.Body}
	}
	return true
}

func (s *Server) large(r *http.Request) (Large, bool) {
	for route, large := range s.o.Large {
		if method, path, _ := strings.Cut(route, " "); method == r.Method && path == r.URL.Path {
			return large, true
		}
	}
	return Large{}, false
}

// utf8Body is a body that must be UTF-8, as JSON must. What is not would be stored in one place and refused in another.
type utf8Body struct {
	io.ReadCloser
	part [utf8.UTFMax]byte // the beginning of a character whose rest is not read yet
	n    int
}

func (t *utf8Body) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if !t.valid(p[:n]) || err == io.EOF && t.n > 0 {
		return 0, errNotUTF8
	}
	return n, err
}

func (t *utf8Body) valid(p []byte) bool {
	for t.n > 0 && len(p) > 0 {
		t.part[t.n] = p[0]
		t.n++
		p = p[1:]
		switch {
		case utf8.Valid(t.part[:t.n]):
			t.n = 0
		case utf8.FullRune(t.part[:t.n]):
			return false
		}
	}
	end := len(p)
	for i := 1; i < utf8.UTFMax && i <= len(p); i++ {
		if c := p[len(p)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(p[len(p)-i:]) {
				end = len(p) - i
				t.n = copy(t.part[:], p[end:])
			}
			break
		}
	}
	return utf8.Valid(p[:end])
}
