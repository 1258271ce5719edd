package httpd

import (
	"net/http"
	"strings"
	"time"
)

// limit bounds what the handler will read of r's body, or answers and reports false where the header shows that it is
// too much.
func (s *Server) limit(w *answer, r *http.Request) bool {
	if r.ContentLength == 0 {
		return true
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		WriteProblem(w, r, errEncoded)
		return false
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
	if isJSON(r.Header.Get("Content-Type")) {
		r.Body = &jsonBody{ReadCloser: r.Body, length: r.ContentLength}
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
