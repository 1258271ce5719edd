package call_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry/telemetrytest"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"
)

// refusedAsStranger checks that asking a peer of another contract is clear, cheap and no sign of sickness.
func refusedAsStranger(t *testing.T, target *call.Target, log *telemetrytest.Log, method string, sent func() int, ask func() error) {
	t.Helper()
	const calls = 30 // past all that opens a breaker
	for range calls {
		f := fault.Of(ask())
		if f.Kind != fault.Unavailable || f.Code != "contract_mismatch" || f.HTTPStatus() != http.StatusServiceUnavailable || !strings.HasPrefix(f.Detail, "Inventory does not speak") {
			t.Fatalf("err = %s %s: %s", f.Kind, f.Code, f.Detail)
		}
	}
	if sent() != calls {
		t.Errorf("asked %d times for %d calls: asking again finds the same peer", sent(), calls)
	}
	if b := breaker(target, method); b != "closed" {
		t.Errorf("the breaker is %s: the peer is well", b)
	}
	if n := strings.Count(log.String(), "speaks another contract"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log)
	}
	for _, version := range []string{method, "v9"} {
		if !strings.Contains(log.String(), version) {
			t.Errorf("the log does not name %s:\n%s", version, log)
		}
	}
}

func TestPeerOfAnotherContractOverGRPC(t *testing.T) {
	t.Parallel()
	log := &telemetrytest.Log{}
	target := call.New("inventory", slog.New(slog.NewTextHandler(log, nil)))
	sent, mended := 0, false
	conn := target.Conn(stranger(func(method string) error {
		sent++
		if mended {
			return nil
		}
		return status.Errorf(codes.Unimplemented, "%s is not spoken here; spoken are orderkeep.inventory.v9.InventoryService", method)
	}))
	ask := func() error { return conn.Invoke(t.Context(), reserve, nil, nil) }
	refusedAsStranger(t, target, log, reserve, func() int { return sent }, ask)

	mended = true
	if err := ask(); err != nil {
		t.Errorf("once the peer speaks it: %v", err)
	}
	mended = false
	_ = ask()
	if n := strings.Count(log.String(), "speaks another contract"); n != 2 {
		t.Errorf("the second time was logged %d times in all, want 2", n)
	}
}

// stranger is a peer that answers with statuses as they are.
type stranger func(method string) error

func (s stranger) Invoke(_ context.Context, method string, _, _ any, _ ...grpc.CallOption) error {
	return s(method)
}

func (s stranger) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams here")
}

func TestPeerOfAnotherContractOverREST(t *testing.T) {
	t.Parallel()
	log := &telemetrytest.Log{}
	target := call.New("inventory", slog.New(slog.NewTextHandler(log, nil)))
	sent := 0
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent++
		switch r.URL.Path {
		case "/v1/stock/A": // a thing that is not there is not a contract that is not there
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":"not_found"}`)
		case "/v1/reservations/foreign":
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":"not_found","detail":"This server answers /v9/reservations."}`)
		}
	}))
	t.Cleanup(far.Close)
	client := target.Client(http.DefaultTransport)
	send := func(method, path string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, far.URL+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err == nil {
			res.Body.Close()
		}
		return res, err
	}
	refusedAsStranger(t, target, log, "PUT /v1/reservations/{reservationId}", func() int { return sent }, func() error {
		_, err := send(http.MethodPut, "/v1/reservations/1")
		return err
	})
	for _, path := range []string{"GET /v1/stock/A", "PUT /v1/reservations/foreign", "POST /v1/unknown"} {
		method, path, _ := strings.Cut(path, " ")
		if res, err := send(method, path); err != nil || res.StatusCode != http.StatusNotFound {
			t.Errorf("%s %s = %v, %v: what it means is its caller's to say", method, path, res, err)
		}
	}
}

func TestRESTCarriesTheDeadline(t *testing.T) {
	t.Parallel()
	var got string
	far := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get(call.TimeoutHeader) }))
	t.Cleanup(far.Close)
	client := call.New("inventory", slog.New(slog.DiscardHandler)).Client(http.DefaultTransport)
	for name, c := range map[string]struct{ callers, most time.Duration }{
		"the caller's":                    {300 * time.Millisecond, 300 * time.Millisecond},
		"the attempt's, where it is less": {time.Hour, 5 * time.Second},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), c.callers)
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, far.URL+"/v1/reservations/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		cancel()
		if d, err := call.ParseTimeout(got); err != nil || d > c.most || d < c.most/2 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestTimeoutIsReadAsWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(int64(time.Microsecond), int64(27*time.Hour)).Draw(t, "d"))
		got, err := call.ParseTimeout(call.FormatTimeout(d))
		if err != nil || got > d || d-got > time.Millisecond {
			t.Fatalf("%v is written %s and read %v, %v", d, call.FormatTimeout(d), got, err)
		}
	})
	for text, want := range map[string]time.Duration{"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "500m": 500 * time.Millisecond, "7u": 7 * time.Microsecond, "99999999n": 99999999} {
		if got, err := call.ParseTimeout(text); err != nil || got != want {
			t.Errorf("%s is read %v, %v", text, got, err)
		}
	}
	if got, err := call.ParseTimeout("99999999H"); err != nil || got <= 0 {
		t.Errorf("eight digits of hours are read %v, %v", got, err)
	}
	for _, text := range []string{"", "1", "S", "1s", "-1S", "1.5S", "123456789S", "1 S", "+1S"} {
		if got, err := call.ParseTimeout(text); err == nil {
			t.Errorf("%q is read %v", text, got)
		} else if text != "" && strings.Contains(err.Error(), text+" ") {
			t.Errorf("the error repeats what was sent: %v", err)
		}
	}
	if got := call.FormatTimeout(-time.Second); got != "1u" {
		t.Errorf("a deadline that has passed is written %s", got)
	}
}
