package httpd

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"github.com/go-faster/jx"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// Condition is how a process is, as /readyz tells it.
type Condition struct {
	NotReady map[string]error // what it cannot work without and has not, by name
	Away     map[string]error // what it goes on without, by name
	Events   map[string]any   // by context, how far behind its events are, as JSON has it
	ForTests bool             // what it keeps may be thrown away
}

// ready says how this process is, for reasons of its own: not of other services, or two that wait for each other would never
// start. What it goes on without makes it degraded and no less ready: all replicas would be taken out of service at once for a
// broker that no order needs.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	var c Condition
	if s.o.Ready != nil {
		c = s.o.Ready(r.Context())
	}
	status, code := "ready", http.StatusOK
	switch {
	case s.draining.Load():
		status, code = "draining", http.StatusServiceUnavailable
	case len(c.NotReady) > 0:
		status, code = "not_ready", http.StatusServiceUnavailable
	case len(c.Away) > 0:
		status = "degraded"
	}
	e := &jx.Encoder{}
	e.ObjStart()
	str(e, "status", status)
	if c.ForTests {
		e.FieldStart("forTests")
		e.Bool(true)
	}
	reasons(e, "notReady", c.NotReady, func(name string, err error) string {
		s.o.Log.WarnContext(r.Context(), "not ready", "context", name, "error", err)
		return answerable(err).Detail
	})
	// Whoever misses it has logged that it is away, once: probes come every few seconds.
	reasons(e, "away", c.Away, func(_ string, err error) string { return fault.Of(err).Detail })
	s.breakers(e)
	if len(c.Events) > 0 {
		b, err := json.Marshal(c.Events)
		if err != nil {
			WriteProblem(w, r, err)
			return
		}
		e.FieldStart("events")
		e.Raw(b)
	}
	e.ObjEnd()
	if code != http.StatusOK {
		w.Header().Set("Retry-After", "1")
	}
	write(w, code, "application/json", e.Bytes())
}

// reasons writes an object of names and sentences, if there is one.
func reasons(e *jx.Encoder, field string, broken map[string]error, sentence func(string, error) string) {
	if len(broken) == 0 {
		return
	}
	e.FieldStart(field)
	e.ObjStart()
	for _, name := range slices.Sorted(maps.Keys(broken)) {
		str(e, name, sentence(name, broken[name]))
	}
	e.ObjEnd()
}

// breakers lists the calls that are held back. They make nobody unready: what needs no peer is answered as ever.
func (s *Server) breakers(e *jx.Encoder) {
	open := slices.DeleteFunc(s.o.Calls.States(), func(c call.State) bool { return c.Breaker == "closed" })
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
