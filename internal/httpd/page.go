package httpd

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// healthy is the first contract's answer, byte for byte.
const healthy = `{"status":"ok"}`

// page answers what belongs to the process and to no context.
func (s *Server) page(w *answer, r *http.Request) {
	switch path := r.URL.Path; path {
	case "/health", "/livez", "/readyz", "/openapi.yaml", "/docs", "/metrics":
		if r.Method != http.MethodGet { // HEAD is a GET by now
			MethodNotAllowed(w, r, "GET,HEAD")
			return
		}
		s.show(w, r, path)
	case "/internal/calls", "/internal/calls/reset":
		s.calls(w, r, path)
	case "/internal/window":
		s.window(w, r)
	case "/":
		if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
			w.Header().Set("Location", "/docs")
			w.WriteHeader(http.StatusFound)
			return
		}
		NotFound(w, r)
	default:
		if versioned.MatchString(path) {
			// For a caller that wants another version, or another service.
			WriteProblem(w, r, errNotFound.Detailf("There is nothing at this path. This server answers %s; GET /docs lists all.", s.answers()))
			return
		}
		NotFound(w, r)
	}
}

// versioned paths belong to the contracts.
var versioned = regexp.MustCompile(`^/v\d+/`)

func (s *Server) answers() string {
	var paths []string
	for _, p := range s.prefixes {
		if versioned.MatchString(p.path) {
			paths = append(paths, p.path)
		}
	}
	slices.Sort(paths)
	return strings.Join(paths, ", ")
}

func (s *Server) show(w http.ResponseWriter, r *http.Request, path string) {
	switch path {
	case "/health", "/livez":
		write(w, http.StatusOK, "application/json", []byte(healthy))
	case "/readyz":
		s.ready(w, r)
	case "/metrics":
		s.metrics(w, r)
	case "/openapi.yaml":
		doc, err := s.pages.contract()
		if err != nil {
			WriteProblem(w, r, err)
			return
		}
		write(w, http.StatusOK, "application/yaml", doc)
	case "/docs":
		page, err := s.pages.docs()
		if err != nil {
			WriteProblem(w, r, err)
			return
		}
		w.Header().Set("Content-Security-Policy", docsPolicy())
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		write(w, http.StatusOK, "text/html; charset=utf-8", page)
	}
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone misses nothing
}
