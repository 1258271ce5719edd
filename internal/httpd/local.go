package httpd

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
)

var (
	errNotLocal = fault.New(fault.Denied, "not_local", "")
	errActor    = fault.New(fault.Invalid, "invalid_actor", "An actor has %d characters at most, and a reason %d. Nothing was reset.", maxActor, maxReason)
	errNotNoted = fault.New(fault.Unavailable, "not_noted", "The breakers are reset, but it could not be written to the trail who did it. Reset them again once the database is back, if it is to stand there.")
)

// marks are what a proxy says of whom it asks for.
var marks = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"}

// Near refuses what is for the operator to anybody but a program on this machine or in one of the networks. There is no authentication
// yet: the address of the connection is all there is to go by. A proxy on this machine has that address too, and so has a page in a
// browser on it, so that what bears the marks of either is refused.
func Near(r *http.Request, networks ...netip.Prefix) *fault.Error {
	for _, mark := range marks {
		if r.Header[mark] != nil {
			return errNotLocal.Detailf("This path is not answered through a proxy, and the header %s says that this is one.", mark)
		}
	}
	if http.NewCrossOriginProtection().Check(r) != nil {
		return errNotLocal.Detailf("This path is not answered to the page of another site.")
	}
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	from := at.Addr().Unmap()
	switch {
	case err == nil && slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(from) }):
	case err != nil || !from.IsLoopback():
		return errNotLocal.Detailf("This path is answered to this machine only: ask on it, by 127.0.0.1 or [::1].")
	case !namesLoopback(r.Host):
		// A proxy has passed on the name that it was asked by, or a page has made a name of its own point here.
		return errNotLocal.Detailf("This path is not answered under this name: ask by localhost, 127.0.0.1 or [::1].")
	}
	return nil
}

// namesLoopback reports whether the Host of a request can mean this machine only.
func namesLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]") // without a port
	}
	a, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// metrics answers the figures of the process to this machine and to the networks that may read them.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if f := Near(r, s.o.MetricsFrom...); f != nil {
		WriteProblem(w, r, f)
		return
	}
	var text bytes.Buffer
	if err := s.o.Metrics.Write(&text); err != nil {
		WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	write(w, http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", text.Bytes())
}

// calls shows the guarded calls to this machine, and lets them be reset.
func (s *Server) calls(w http.ResponseWriter, r *http.Request, path string) {
	if f := Near(r); f != nil {
		WriteProblem(w, r, f)
		return
	}
	method := map[string]string{"/internal/calls": http.MethodGet, "/internal/calls/reset": http.MethodPost}[path]
	if r.Method != method {
		MethodNotAllowed(w, r, map[string]string{http.MethodGet: "GET,HEAD", http.MethodPost: "POST"}[method])
		return
	}
	var answer any
	if method == http.MethodPost {
		reset, err := s.reset(r)
		if err != nil {
			WriteProblem(w, r, err)
			return
		}
		answer = map[string][]string{"reset": reset}
	} else {
		answer = map[string][]call.State{"calls": append([]call.State{}, s.o.Calls.States()...)}
	}
	text, err := json.Marshal(answer)
	if err != nil {
		WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	write(w, http.StatusOK, "application/json", text)
}

// Bounds of who somebody is and why they do something, in characters: those of the contracts.
const (
	maxActor  = 128
	maxReason = 1024
)

// reset resets breakers, and notes who does it if they say so.
func (s *Server) reset(r *http.Request) ([]string, error) {
	q := r.URL.Query()
	actor, reason := q.Get("actor"), q.Get("reason")
	if utf8.RuneCountInString(actor) > maxActor || utf8.RuneCountInString(reason) > maxReason {
		return nil, errActor
	}
	reset, err := s.o.Calls.Reset(q["edge"]...)
	if err != nil {
		return nil, err
	}
	s.o.Log.InfoContext(r.Context(), "circuit breakers reset by hand", "edges", reset)
	if actor == "" || s.o.Note == nil {
		return reset, nil
	}
	if err := s.o.Note(r.Context(), actor, reason, strings.Join(q["edge"], " ")); err != nil {
		return nil, errNotNoted.Because(err)
	}
	return reset, nil
}
