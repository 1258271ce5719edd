package httpd_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/httpd"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// serve runs a server on a free port until the test ends.
func serve(t testing.TB, o httpd.Options) (*httpd.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpd.New(o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// exchange sends raw bytes and reads the one answer to them.
func exchange(t *testing.T, addr string, send ...string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // a server that never answers fails the test, and does not hang it
	for _, s := range send {
		if _, err := io.WriteString(c, s); err != nil {
			break // the server has heard enough
		}
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res, string(b)
}

// echo answers with what it could read, or with the problem that it met.
func echo() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			httpd.WriteProblem(w, r, err)
			return
		}
		fmt.Fprintf(w, "%d", len(b))
	})
}

func orders(t testing.TB) map[string]http.Handler {
	s := contractServer(t, nil, io.Discard)
	return map[string]http.Handler{"/orders": s, "/v1/orders": s}
}

func TestCorrelation(t *testing.T) {
	t.Parallel()
	s := contractServer(t, nil, io.Discard)
	for given, kept := range map[string]bool{
		"shop-17": true, "": false, "with space": false, "tab\t": false, "é": false,
		strings.Repeat("x", 128): true, strings.Repeat("x", 129): false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/health", nil)
		if given != "" {
			r.Header.Set("X-Correlation-ID", given)
		}
		w, _ := do(s, r)
		got := w.Header().Get("X-Correlation-ID")
		if kept && got != given || !kept && (got == given || len(got) != 36) {
			t.Errorf("given %q, got %q", given, got)
		}
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	o := httpd.Options{
		Routes: orders(t), BodyLimit: 1000,
		Large: map[string]httpd.Large{"POST /v1/stock.csv": {BodyLimit: 5000, ReadTimeout: time.Minute}},
	}
	o.Routes["/v1/stock.csv"] = echo()
	_, addr := serve(t, o)
	head := "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	announced := func(path string, n int) []string {
		return []string{fmt.Sprintf(head+"Content-Length: %d\r\n\r\n", path, n), strings.Repeat(" ", n)}
	}
	chunked := func(path string, n int) []string {
		return []string{fmt.Sprintf(head+"Transfer-Encoding: chunked\r\n\r\n%x\r\n", path, n), strings.Repeat(" ", n), "\r\n0\r\n\r\n"}
	}
	for name, c := range map[string]struct {
		send   []string
		status int
		says   string
	}{
		"an announced body past it":    {announced("/orders", 1001), 413, "1000 bytes"},
		"a chunked body past it":       {chunked("/orders", 1001), 413, "1000 bytes"},
		"an announced body of it":      {announced("/orders", 1000), 400, "no body"},
		"a chunked body of it":         {chunked("/orders", 1000), 400, "no body"},
		"a file within its own":        {announced("/v1/stock.csv", 5000), 200, "5000"},
		"a file past its own":          {announced("/v1/stock.csv", 5001), 413, "5000 bytes"},
		"a huge body, refused unread":  {[]string{fmt.Sprintf(head+"Content-Length: %d\r\n\r\n", "/orders", 1<<40)}, 413, "1000 bytes"},
		"another path under the files": {announced("/v1/stock.csv/x", 1001), 413, "1000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, body := exchange(t, addr, c.send...)
			if res == nil || res.StatusCode != c.status || !strings.Contains(body, c.says) {
				t.Errorf("%v %s", res, body)
			}
			if c.status == 413 && !strings.Contains(body, `"error":"body_too_large"`) {
				t.Errorf("%s", body)
			}
		})
	}
}

func TestSlowClients(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, httpd.Options{Routes: orders(t), HeaderTimeout: 50 * time.Millisecond, ReadTimeout: 150 * time.Millisecond})
	t.Run("a header that does not end is cut off", func(t *testing.T) {
		t.Parallel()
		res, text := exchange(t, addr, "POST /orders HTTP/1.1\r\nHost: x\r\n")
		if res != nil && res.StatusCode < 400 {
			t.Errorf("%v %s", res, text)
		}
	})
	t.Run("a body that does not come is a 408", func(t *testing.T) {
		t.Parallel()
		res, body := exchange(t, addr, "POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", `{"items":`)
		if res == nil || res.StatusCode != 408 || !strings.Contains(body, `"error":"request_timeout"`) || !res.Close {
			t.Errorf("%v %s", res, body)
		}
	})
	t.Run("a body that breaks off harms nobody", func(t *testing.T) {
		t.Parallel()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		c.Close()
		if res, body := exchange(t, addr, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"); res == nil || body != `{"status":"ok"}` {
			t.Errorf("%v %s", res, body)
		}
	})
	t.Run("a header past its bound is refused", func(t *testing.T) {
		t.Parallel()
		res, body := exchange(t, addr, "GET /health HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 80<<10)+"\r\n\r\n")
		if res == nil || res.StatusCode != 431 {
			t.Errorf("%v %s", res, body)
		}
	})
}

// A request that calls itself a stream has no more time to arrive than any other.
func TestAcceptingAStreamGivesABodyNoMoreTime(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, httpd.Options{Routes: orders(t), ReadTimeout: 150 * time.Millisecond})
	for _, method := range []string{"POST", "GET"} {
		res, body := exchange(t, addr, method+" /v1/orders HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", `{"items":`)
		if want := map[string]int{"POST": 408, "GET": 200}[method]; res == nil || res.StatusCode != want {
			t.Errorf("%s: %v %s", method, res, body)
		}
	}
}

// A drain ends streams, and lets every other request finish, whatever it accepts.
func TestAcceptingAStreamDoesNotCutAnOrderOff(t *testing.T) {
	t.Parallel()
	begun, cut := make(chan struct{}), make(chan bool, 1)
	s, addr := serve(t, httpd.Options{Routes: map[string]http.Handler{"/orders": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		for { // until the drain has begun, which closes the listener last
			c, err := net.Dial("tcp", r.Host)
			if err != nil {
				break
			}
			c.Close()
		}
		select {
		case <-r.Context().Done():
			cut <- true
		case <-time.After(100 * time.Millisecond): // far more than a context takes to say that it is over
			cut <- false
		}
	})}})
	answered := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+addr+"/orders", strings.NewReader("{}"))
		req.Header.Set("Accept", "text/event-stream")
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
		answered <- err
	}()
	<-begun
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if <-cut {
		t.Error("the order under way was cut off")
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestExact(t *testing.T) {
	t.Parallel()
	s := httpd.New(httpd.Options{Routes: map[string]http.Handler{"/v1/events": httpd.Exact("/v1/events", echo())}})
	for path, want := range map[string]int{"/v1/events": 200, "/v1/events?after=3": 200, "/v1/events/": 404, "/v1/events/x": 404} {
		if w, _ := do(s, httptest.NewRequest(http.MethodGet, path, nil)); w.Code != want {
			t.Errorf("GET %s = %d %s", path, w.Code, w.Body)
		}
	}
}

func TestPanicIsOneRequestsTrouble(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := contractServer(t, nil, &log)
	w, p := do(s, httptest.NewRequest(http.MethodGet, "/v1/orders/01900000-0000-7000-8000-000000000000", nil))
	if w.Code != 500 || p.Error != "internal" || p.CorrelationID == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if strings.Count(log.String(), "the shelf fell over") != 1 {
		t.Errorf("log:\n%s", log.String())
	}
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, httpd.Options{Routes: orders(t)})
	for _, path := range []string{"/health", "/v1/orders"} {
		res, err := http.Head("http://" + addr + path) //nolint:noctx // a test's own server
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 || len(b) != 0 || res.Header.Get("Content-Type") == "" {
			t.Errorf("HEAD %s = %d, %d bytes", path, res.StatusCode, len(b))
		}
	}
}

func TestRootLeadsPeopleToTheDocs(t *testing.T) {
	t.Parallel()
	s := contractServer(t, nil, io.Discard)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept", "text/html,*/*")
	if w, _ := do(s, r); w.Code != 302 || w.Header().Get("Location") != "/docs" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// stream sends a part each time it is told to, until its request ends.
type stream struct {
	parts chan string
	ended chan struct{}
}

func (s stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer close(s.ended)
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	for {
		w.(http.Flusher).Flush()
		select {
		case p := <-s.parts:
			if _, err := io.WriteString(w, p+"\n"); err != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, o httpd.Options) (*httpd.Server, stream, *bufio.Reader) {
		t.Helper()
		f := stream{make(chan string), make(chan struct{})}
		o.Routes = map[string]http.Handler{"/v1/events": f}
		s, addr := serve(t, o)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v1/events", nil)
		req.Header.Set("Accept", "text/event-stream")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return s, f, bufio.NewReader(res.Body)
	}
	t.Run("outlive the times of a request and an answer", func(t *testing.T) {
		t.Parallel()
		const short = 30 * time.Millisecond
		_, f, body := open(t, httpd.Options{HeaderTimeout: short, ReadTimeout: short, WriteTimeout: short})
		for i := range 3 {
			<-time.After(3 * short) // longer than each of the times, which is what is tested
			want := fmt.Sprintf("part %d\n", i)
			select {
			case f.parts <- want[:len(want)-1]:
			case <-f.ended:
				t.Fatal("the stream was ended")
			}
			if got, err := body.ReadString('\n'); err != nil || got != want {
				t.Fatalf("got %q, %v", got, err)
			}
		}
	})
	t.Run("end at a drain", func(t *testing.T) {
		t.Parallel()
		s, f, body := open(t, httpd.Options{})
		if err := s.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-f.ended
		if _, err := body.ReadString('\n'); err != io.EOF {
			t.Errorf("the client saw %v", err)
		}
	})
}

func TestReadyzWhileDraining(t *testing.T) {
	t.Parallel()
	s := httpd.New(httpd.Options{})
	if w, _ := do(s, httptest.NewRequest(http.MethodGet, "/readyz", nil)); w.Code != 200 {
		t.Errorf("before: %d %s", w.Code, w.Body)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, _ := do(s, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	var got struct{ Status string }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 503 || got.Status != "draining" {
		t.Errorf("after: %d %s", w.Code, w.Body)
	}
}

func TestRequestLog(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log bytes.Buffer
	locked := writer(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return log.Write(p) })
	for level, want := range map[slog.Level]int{slog.LevelInfo: 0, slog.LevelDebug: 1} {
		log.Reset()
		s := httpd.New(httpd.Options{Log: telemetry.NewLogger(locked, false, level)})
		do(s, httptest.NewRequest(http.MethodGet, "/health", nil))
		if got := strings.Count(log.String(), "msg=request"); got != want {
			t.Errorf("at %s a success makes %d lines, want %d", level, got, want)
		}
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// quiet is an answer that costs nothing, so that the edge itself is measured.
type quiet struct{ h http.Header }

func (q quiet) Header() http.Header         { return q.h }
func (q quiet) Write(p []byte) (int, error) { return len(p), nil }
func (q quiet) WriteHeader(int)             {}

// BenchmarkEdge measures what the edge adds to a handler that does nothing.
func BenchmarkEdge(b *testing.B) {
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusCreated) })
	routes := map[string]http.Handler{}
	for _, p := range []string{"/orders", "/v1/orders", "/v1/events", "/v1/events/inventory", "/v1/events/payments", "/v1/stock", "/v1/stock.csv", "/v1/reservations", "/reserve", "/v1/payments"} {
		routes[p] = bare
	}
	s := httpd.New(httpd.Options{Routes: routes, Log: telemetry.NewLogger(io.Discard, false, slog.LevelInfo)})
	body := `{"items":[{"sku":"BOOK-001","qty":1}]}`
	for name, h := range map[string]http.Handler{"bare": bare, "edge": s} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			w := quiet{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}
