package test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/telemetry/window"
	"github.com/orderkeep/orderkeep/test/stage"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver takes spans by OTLP over HTTP, for a test to look at.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []exported
	text  bytes.Buffer // all that came, as it is on the wire
}

// exported is a span with the service that it is of.
type exported struct {
	service string
	*tracev1.Span
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	rc := &receiver{}
	rc.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := rc.take(r); err != nil {
			t.Error(err)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf") // an empty answer is an empty message: all was taken
	}))
	t.Cleanup(rc.Close)
	return rc
}

func (rc *receiver) take(r *http.Request) error {
	if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		return fmt.Errorf("%s %s %s is no export of traces", r.Method, r.URL.Path, r.Header.Get("Content-Type"))
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			return err
		}
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var export collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(text, &export); err != nil {
		return err
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.text.Write(text)
	for _, rs := range export.ResourceSpans {
		service := ""
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				rc.spans = append(rc.spans, exported{service, s})
			}
		}
	}
	return nil
}

// of returns the spans of a trace by their ids.
func (rc *receiver) of(trace string) map[string]exported {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	all := map[string]exported{}
	for _, s := range rc.spans {
		if fmt.Sprintf("%x", s.TraceId) == trace {
			all[fmt.Sprintf("%x", s.SpanId)] = s
		}
	}
	return all
}

// newCollector starts an OpenTelemetry Collector that passes on what it takes to rc, and all of it before it has ended. It returns where it takes it.
func newCollector(t *testing.T, rc *receiver) (*stage.Process, string) {
	t.Helper()
	dir := t.TempDir()
	if err := stage.Compile("collector", dir, "."); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`
receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:0"}}}}
exporters: {otlp_http: {endpoint: %q}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp_http]}}}`, rc.URL)
	p := stage.Spawn(t, stage.Launch{Path: filepath.Join(dir, "collector"), Args: []string{config}})
	select {
	case line := <-p.Log.Await("Starting HTTP server"): // on a port that it has by then
		return p, "http://" + line.Endpoint
	case <-p.Ended:
		t.Fatalf("the collector did not start:\n%s", p.Log)
	case <-time.After(stage.Patience):
		t.Fatalf("the collector does not say where it listens:\n%s", p.Log)
	}
	return nil, ""
}

// recording has a shop that is not started yet run with settings that say what is recorded, and where it goes.
func (s *shop) recording(settings ...string) {
	for _, sv := range s.services {
		sv.launch.Env = append(sv.launch.Env, settings...)
	}
}

// An order, placed and fulfilled by a storefront that records its own traces, is one trace at an OpenTelemetry Collector: all spans of the three
// services hang together, those after the broker too.
func TestAnOrderIsOneTraceAtACollector(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t)
	col, endpoint := newCollector(t, rc)
	s := split(t, "grpc", ownBroker(t))
	s.recording("OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint)
	s.start(t)
	s.stock(t, 5)
	const trace, storefront = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	headers := []string{"Traceparent", "00-" + trace + "-" + storefront + "-01", telemetry.Header, "shop-17"}
	a := s.do(t, http.MethodPost, "/v1/orders", paid(visa, one), headers...)
	want(t, a, http.StatusCreated, "")
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/fulfil", nil, headers...), http.StatusOK, "")
	s.settles(t)
	s.close(t) // which exports what is left
	if err := col.Stop(); err != nil {
		t.Fatalf("the collector does not end well: %v", err)
	}
	if refused := regexp.MustCompile(`"level":"(warn|error)".*`).FindAllString(col.Log.String(), -1); len(refused) > 0 {
		t.Errorf("the collector complains: %q", refused)
	}

	all := rc.of(trace)
	names := map[string][]string{} // by service
	consumed := map[string]bool{}
	for id, span := range all {
		names[span.service] = append(names[span.service], span.Name)
		above := fmt.Sprintf("%x", span.ParentSpanId)
		if _, ok := all[above]; !ok && above != storefront {
			t.Errorf("%s of %s (%s) hangs on nothing that came: %s", span.Name, span.service, id, above)
		}
		if strings.HasPrefix(span.Name, "consume ") {
			consumed[span.service] = true
			if len(span.Links) != 1 || fmt.Sprintf("%x", span.Links[0].SpanId) != above {
				t.Errorf("%s has no link over the broker: %v", span.Name, span.Links)
			}
			if all[above].service == span.service {
				t.Errorf("%s: its event comes out of the same service", span.Name)
			}
		}
	}
	for service, expected := range map[string][]string{
		"orders":    {"POST /v1/orders", "inventory/Reserve", "payments/Authorize", "orders write", "consume orderkeep.inventory.v1.StockCommitted", "consume orderkeep.payments.v1.PaymentCaptured"},
		"inventory": {"/orderkeep.inventory.v1.InventoryService/Reserve", "inventory write", "consume orderkeep.orders.v1.OrderFulfilled"},
		"payments":  {"/orderkeep.payments.v1.PaymentsService/Authorize", "payments write", "simulated/Authorize", "simulated/Capture", "consume orderkeep.orders.v1.OrderFulfilled"},
	} {
		for _, name := range expected {
			if !slices.Contains(names[service], name) {
				t.Errorf("%s has no span %q, but %q", service, name, names[service])
			}
		}
	}
	if len(consumed) != 3 {
		t.Errorf("only %v are seen to consume", slices.Collect(maps.Keys(consumed)))
	}
	// Batches and publishing are work for many orders: traces of their own that link to this one.
	linked := map[string]bool{}
	for _, span := range rc.spans {
		for _, l := range span.Links {
			if fmt.Sprintf("%x", l.TraceId) == trace && fmt.Sprintf("%x", span.TraceId) != trace {
				linked[span.service+" "+span.Name] = true
			}
		}
	}
	for _, name := range []string{"orders batch", "inventory batch", "payments batch", "orders publish", "inventory publish", "payments publish"} {
		if service, what, _ := strings.Cut(name, " "); !linked[service+" "+what] && !linked[service+" "+name] {
			t.Errorf("no span of %q links to the order's trace: %v", name, linked)
		}
	}
}

// kept asks a service for what it has kept.
func kept(t testing.TB, sv *service, q window.Query) window.Page {
	t.Helper()
	res, err := http.Get(sv.now().URL + "/internal/window?" + q.Values().Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v, %d: %s", err, res.StatusCode, text)
	}
	var p window.Page
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// Whatever an order leaves in any of three processes has the id that it was asked for under: the answer, the log, the spans, the order, the payment's
// and the stock's events and what they lead to. Nothing is sampled; that the provider was away is why it is recorded.
func TestOneIDIsInAllThatAnOrderLeaves(t *testing.T) {
	t.Parallel()
	const id = "till-4/2026-03-01"
	s := split(t, "grpc", ownBroker(t))
	s.recording("OTEL_TRACES_SAMPLER=parentbased_always_off")
	s.start(t)
	s.stock(t, 5)
	a := s.do(t, http.MethodPost, "/v1/orders", paid("pm_simulated_down_1s", one), telemetry.Header, id)
	want(t, a, http.StatusAccepted, "")
	if got := a.header.Get(telemetry.Header); got != id {
		t.Errorf("the answer has %q", got)
	}
	if end := s.ends(t, a.OrderID); end.Status != "confirmed" {
		t.Errorf("it ends as %v", end)
	}
	if o := s.get(t, "/v1/orders/"+a.OrderID); o.CorrelationID != id {
		t.Errorf("the order has another: %s", o.text)
	}
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/fulfil", nil, telemetry.Header, id), http.StatusOK, "")
	s.settles(t)

	for _, c := range []string{"orders", "inventory", "payments"} {
		sv := s.of[c][0]
		feed := map[string]string{"orders": "/v1/events", "inventory": "/v1/events/inventory", "payments": "/v1/events/payments"}[c]
		told := 0
		for _, e := range s.feed(t, feed) {
			if e.Subject == a.OrderID {
				told++
				if e.CorrelationID != id {
					t.Errorf("%s tells %+v", feed, e)
				}
			}
		}
		if told == 0 {
			t.Errorf("%s tells nothing of the order", feed)
		}
		all := kept(t, sv, window.Query{Correlation: id, Limit: window.MaxLimit})
		if all.Service != c {
			t.Errorf("%s calls itself %q", c, all.Service)
		}
		spans := 0
		for _, e := range all.Entries {
			if e.Service != c || e.TraceID != telemetry.TraceID(id).String() {
				t.Errorf("%s has kept %+v", c, e)
			}
			if e.Kind == window.Span {
				spans++
			}
		}
		if spans == 0 {
			t.Errorf("%s has kept no span of it: %+v", c, all)
		}
		if missed := kept(t, sv, window.Query{Text: []string{a.OrderID}, Limit: window.MaxLimit}); slices.ContainsFunc(missed.Entries, func(e window.Entry) bool {
			return e.Kind == window.Log && e.CorrelationID != id
		}) {
			t.Errorf("%s has lines about the order under another id: %+v", c, missed.Entries)
		}
	}
	// The story in order, as one who asks at three in the morning gets it: asked, refused by the provider, waited for, recovered.
	var story []window.Entry
	for _, sv := range s.services {
		story = append(story, kept(t, sv, window.Query{Correlation: id, Limit: window.MaxLimit}).Entries...)
	}
	slices.SortStableFunc(story, func(a, b window.Entry) int { return a.At.Compare(b.At) })
	follows(t, story,
		func(e window.Entry) bool { return e.Service == "orders" && e.Name == "POST /v1/orders" },
		func(e window.Entry) bool {
			return e.Service == "payments" && e.Name == "simulated/Authorize" && e.Error != ""
		},
		func(e window.Entry) bool { return e.Service == "orders" && e.Message == "order waits for recovery" },
		func(e window.Entry) bool { return e.Service == "orders" && e.Name == "recover order" && e.Error == "" },
		func(e window.Entry) bool {
			return e.Service == "payments" && e.Name == "simulated/Authorize" && e.Error == ""
		},
		func(e window.Entry) bool { return e.Service == "orders" && e.Message == "order recovered" },
	)
	s.verify(t)
	s.close(t)
}

// follows fails unless entries that are as the steps say follow each other.
func follows(t testing.TB, story []window.Entry, steps ...func(window.Entry) bool) {
	t.Helper()
	at := 0
	for n, is := range steps {
		i := slices.IndexFunc(story[at:], is)
		if i < 0 {
			text, _ := json.MarshalIndent(story, "", " ")
			t.Fatalf("step %d of the story does not follow:\n%s", n+1, text)
		}
		at += i + 1
	}
}
