package httpd

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-faster/jx"
	"github.com/orderkeep/orderkeep/internal/call"
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

// ready says by name what is not ready, for reasons of this process: not of others, or two that wait for each other
// would never start.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	broken := map[string]error{}
	if s.o.Ready != nil {
		for name, err := range s.o.Ready(r.Context()) {
			if err != nil {
				broken[name] = err
			}
		}
	}
	status, code := "ready", http.StatusOK
	switch {
	case s.draining.Load():
		status, code = "draining", http.StatusServiceUnavailable
	case len(broken) > 0:
		status, code = "not_ready", http.StatusServiceUnavailable
	}
	e := &jx.Encoder{}
	e.ObjStart()
	str(e, "status", status)
	if len(broken) > 0 {
		e.FieldStart("notReady")
		e.ObjStart()
		for _, name := range slices.Sorted(maps.Keys(broken)) {
			s.o.Log.WarnContext(r.Context(), "not ready", "context", name, "error", broken[name])
			str(e, name, answerable(broken[name]).Detail)
		}
		e.ObjEnd()
	}
	s.breakers(e)
	e.ObjEnd()
	if code != http.StatusOK {
		w.Header().Set("Retry-After", "1")
	}
	write(w, code, "application/json", e.Bytes())
}

// breakers lists the calls that are held back. They make nobody unready: what needs no peer is answered as ever.
func (s *Server) breakers(e *jx.Encoder) {
	if s.o.Calls == nil {
		return
	}
	open := slices.DeleteFunc(s.o.Calls(), func(c call.State) bool { return c.Breaker == "closed" })
	if len(open) == 0 {
		return
	}
	e.FieldStart("breakers")
	e.ArrStart()
	for _, c := range open {
		e.ObjStart()
		str(e, "target", c.Target)
		str(e, "method", c.Method)
		str(e, "breaker", c.Breaker)
		e.ObjEnd()
	}
	e.ArrEnd()
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone misses nothing
}
