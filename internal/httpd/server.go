package httpd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/rate"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/telemetry/window"
	"go.opentelemetry.io/otel/attribute"
)

// Options say what a Server answers and how much it bears. Limits left zero take the defaults named beside them.
type Options struct {
	// Routes maps a path prefix, such as "/v1/orders", to its handler. A prefix matches whole path segments; the
	// longest one wins.
	Routes map[string]http.Handler
	// Tracers, by the prefixes of Routes, record what is asked of these.
	Tracers map[string]*telemetry.Tracer
	// Contracts are the OpenAPI documents of what Routes answer.
	Contracts [][]byte
	// Ready says how the process is; nil is always well.
	Ready func(context.Context) Condition
	// Calls are the guarded calls of the process: /readyz shows those whose breaker is not closed, /internal/calls shows
	// all and lets them be reset.
	Calls *call.Edges
	// Note writes into a trail who has reset which calls, and why; nil does not.
	Note func(ctx context.Context, actor, reason, calls string) error
	// Metrics are what GET /metrics answers. Nil is as good as none of ours.
	Metrics *telemetry.Metrics
	// MetricsFrom are the networks, besides this machine, that may read them.
	MetricsFrom []netip.Prefix
	// Window is what GET /internal/window answers, and WindowFrom the networks, besides this machine, that may read it.
	Window     *window.Window
	WindowFrom []netip.Prefix
	// Service names the process there, and TraceURL where traces are looked up.
	Service, TraceURL string
	// Rate bounds how often one client may ask for what Routes answer; nil does not.
	Rate *rate.Limiter
	// Clients says who a client is, for Rate.
	Clients Clients
	Log     *slog.Logger

	BodyLimit     int64         // of a request's body; 1 MiB
	HeaderTimeout time.Duration // for a request's header to arrive; 5 s
	ReadTimeout   time.Duration // for the whole request to arrive; 30 s
	WriteTimeout  time.Duration // for a client to take an answer, or a part of one that streams; 60 s
	IdleTimeout   time.Duration // that a connection may wait for its next request; 120 s
	// Large are the routes whose bodies may be larger and slower, by method and path, such as "POST /v1/stock.csv".
	Large map[string]Large
}

// Large is the limits of one route that takes files.
type Large struct {
	BodyLimit   int64
	ReadTimeout time.Duration
}

// maxHeader bounds a request's header. The longest one in use has a URL of two kilobytes and a token of four.
const maxHeader = 64 << 10

// Server answers HTTP for one process. Make it with New.
type Server struct {
	o        Options
	prefixes []prefix
	pages    *pages
	http     *http.Server
	draining atomic.Bool
	drain    context.CancelFunc // ends the streams, which would never end by themselves
	drained  context.Context
}

type prefix struct {
	path    string
	handler http.Handler
	tracer  *telemetry.Tracer
}

// New makes a server that is not serving yet.
func New(o Options) *Server {
	o.BodyLimit = cmp.Or(o.BodyLimit, 1<<20)
	o.HeaderTimeout = cmp.Or(o.HeaderTimeout, 5*time.Second)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 30*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 60*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 120*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, pages: &pages{contracts: o.Contracts}}
	for p, h := range o.Routes {
		s.prefixes = append(s.prefixes, prefix{strings.TrimSuffix(p, "/"), h, o.Tracers[p]})
	}
	slices.SortFunc(s.prefixes, func(a, b prefix) int {
		return cmp.Or(cmp.Compare(len(b.path), len(a.path)), cmp.Compare(a.path, b.path))
	})
	s.drained, s.drain = context.WithCancel(context.Background())
	// The logger rides on the connections' context: no request pays for it.
	base := telemetry.WithLogger(context.Background(), o.Log)
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: min(o.HeaderTimeout, o.ReadTimeout),
		ReadTimeout:       o.ReadTimeout,
		WriteTimeout:      o.ReadTimeout + o.WriteTimeout, // counted from the header's arrival
		IdleTimeout:       o.IdleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), // clients that break off, mostly
	}
	return s
}

// Serve answers on l until Drain. It returns nil after a Drain.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// Drain takes no more requests, ends the streams, and waits until the requests under way are answered, but no longer than ctx;
// then it cuts them off.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	s.drain()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close() // cutting off is all that is left to do
		return fmt.Errorf("requests were still under way when the time to drain was up: %w", err)
	}
	return nil
}

// ServeHTTP answers one request: it gives it its correlation id and limits, and routes it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := correlation(r)
	method := r.Method
	a := &answer{ResponseWriter: w, every: s.o.WriteTimeout, id: [1]string{id}}
	w.Header()[correlationHeader] = a.id[:]
	p := s.prefix(r.URL.Path)
	ctx, op := p.tracer.Enter(r.Context(), id, r.Header.Get(telemetry.TraceHeader), telemetry.Server)
	// WithContext copies the request, so that what is changed below is not seen by the server: it still knows a HEAD.
	r = r.WithContext(ctx)
	if method == http.MethodHead {
		r.Method = http.MethodGet
	}
	start := time.Time{}
	debugging := s.o.Log.Enabled(r.Context(), slog.LevelDebug)
	if debugging {
		start = time.Now()
	}
	defer p.tell(&op, a, r, method)
	defer s.recover(a, r)
	s.route(a, r, p)
	if debugging || a.status >= 500 {
		s.log(a, r, method, start)
	}
}

// correlationHeader is the header's canonical form, to set it without a search.
var correlationHeader = http.CanonicalHeaderKey(telemetry.Header)

func correlation(r *http.Request) string {
	if v := r.Header[correlationHeader]; len(v) == 1 && telemetry.ValidCorrelation(v[0]) {
		return v[0]
	}
	return telemetry.NewCorrelation()
}

// elsewhere is where no route leads: to the pages.
var elsewhere = &prefix{}

// prefix returns the route that a path leads to.
func (s *Server) prefix(path string) *prefix {
	for i := range s.prefixes {
		p := &s.prefixes[i]
		if len(path) >= len(p.path) && path[:len(p.path)] == p.path && (len(path) == len(p.path) || path[len(p.path)] == '/') {
			return p
		}
	}
	return elsewhere
}

var errAnswered = errors.New("answered with 5xx")

// tell ends what a request was.
func (p *prefix) tell(op *telemetry.Op, a *answer, r *http.Request, method string) {
	var err error
	if a.status >= 500 {
		err = errAnswered
	}
	if a.stream && !op.Recorded() || !op.Kept(err) { // a stream lasts, and is not slow
		return
	}
	if err != nil {
		err = errors.New(http.StatusText(a.status))
	}
	op.Name = method + " " + p.path
	op.End(err, attribute.String("http.request.method", method), attribute.String("url.path", r.URL.Path), attribute.Int("http.response.status_code", a.status))
}

func (s *Server) log(a *answer, r *http.Request, method string, start time.Time) {
	level := slog.LevelDebug
	switch {
	case a.status == http.StatusServiceUnavailable:
		level = slog.LevelInfo
	case a.status >= 500:
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("method", method), slog.String("path", r.URL.Path), slog.Int("status", a.status)}
	if !start.IsZero() {
		attrs = append(attrs, slog.Duration("took", time.Since(start)))
	}
	s.o.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// recover makes a handler's panic one request's trouble.
func (s *Server) recover(a *answer, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it the same way
		panic(p)
	}
	s.o.Log.ErrorContext(r.Context(), "handler panicked", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if a.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is out; the client must not take it for a whole one
	}
	a.Header().Set("Connection", "close")
	writeFault(a, r, fault.Of(errInternal)) // it is logged already
}

func (s *Server) route(w *answer, r *http.Request, p *prefix) {
	path := r.URL.Path
	if !utf8.ValidString(path) {
		WriteProblem(w, r, errInvalid.Detailf("The path is not UTF-8."))
		return
	}
	if !validQuery(r.URL.RawQuery) {
		WriteProblem(w, r, errInvalid.Detailf("The query is not well-formed: separate its parameters by &, and write other characters than letters, digits and -._~ as %% and two hexadecimal digits."))
		return
	}
	if len(r.Header["Idempotency-Key"]) > 1 {
		// The contracts know one, and to choose one of two is to give the other a second effect.
		WriteProblem(w, r, errTwoKeys)
		return
	}
	if p.handler == nil {
		s.page(w, r)
		return
	}
	if s.admit(w, r) && s.limit(w, r) {
		s.within(p.handler, w, r)
	}
}

// validQuery reports whether all of a query can be read. The readers below leave out what they cannot read, so that a filter
// or a cursor with a typing error would answer something else than was asked for.
func validQuery(query string) bool {
	if query == "" {
		return true
	}
	values, err := url.ParseQuery(query)
	for _, vs := range values {
		for _, v := range vs {
			if !utf8.ValidString(v) {
				return false
			}
		}
	}
	return err == nil
}

// Exact answers path with h, and what lies below it with not_found: a route is a prefix, and a page that is one thing has
// nothing below it.
func Exact(path string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// within handles r for as long as its caller waits.
func (s *Server) within(h http.Handler, w *answer, r *http.Request) {
	v := r.Header[call.TimeoutHeader]
	if v == nil {
		s.handle(h, w, r)
		return
	}
	d, err := call.ParseTimeout(v[0])
	if err != nil {
		WriteProblem(w, r, errInvalid.Detailf("The header %s %s.", call.TimeoutHeader, err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	s.handle(h, w, r.WithContext(ctx))
}

func (s *Server) handle(h http.Handler, w *answer, r *http.Request) {
	// Only a GET without a body can be a stream: for another request to call itself one would be a way around the time
	// that it has to arrive, and out of the drain's patience.
	if r.Method == http.MethodGet && r.ContentLength == 0 && strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		// A stream has no end of its own: it is cut at a drain, and each part of it has the time of a whole answer.
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.drained, cancel)()
		w.parts, w.stream = 1, true
		// The time for the request to arrive would end the stream; a connection that has none is a test's.
		_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Time{})
		h.ServeHTTP(w, r.WithContext(ctx))
		return
	}
	h.ServeHTTP(w, r)
}

// answer notes what was answered, and gives each part of an answer in parts its own time: a client that takes a long file
// slowly but steadily gets all of it.
type answer struct {
	http.ResponseWriter
	status int
	parts  int           // written so far; the first has the server's time, and its cost is saved
	every  time.Duration // time for each of the others
	stream bool
	id     [1]string // the correlation id, as the header has it
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 || a.status < 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.parts++; a.parts > 1 {
		// An answer that cannot have a deadline is a test's recorder.
		_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Now().Add(a.every))
	}
	return a.ResponseWriter.Write(p)
}

// Flush sends what is written so far, for streams.
func (a *answer) Flush() {
	if f, ok := a.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap lets http.ResponseController find the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
