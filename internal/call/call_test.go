package call_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/porttest"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	check   = "/orderkeep.inventory.v1.InventoryService/Check"   // a read, attempted twice
	reserve = "/orderkeep.inventory.v1.InventoryService/Reserve" // attempted three times
	unknown = "/orderkeep.inventory.v1.InventoryService/Unknown" // not in the table: attempted once
)

// peer is a wire whose far end is a function.
type peer func(ctx context.Context, method string) error

func (p peer) Invoke(ctx context.Context, method string, _, _ any, _ ...grpc.CallOption) error {
	return fault.ToGRPC(p(ctx, method))
}

func (p peer) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams here")
}

func inventory(p peer) (*call.Target, grpc.ClientConnInterface) {
	t := call.New("inventory", slog.New(slog.DiscardHandler))
	return t, t.Conn(p)
}

var (
	errDown = fault.New(fault.Unavailable, "storage_unavailable", "The file is gone.")
	errSold = fault.New(fault.Conflict, "shelf_locked", "The shelf is locked.")
)

func TestRetries(t *testing.T) {
	t.Parallel()
	later := *errDown
	later.RetryAfter = time.Second
	for name, c := range map[string]struct {
		method string
		err    error
		sent   int
	}{
		"a repeatable call three times":          {reserve, errDown, 3},
		"another as often as its policy says":    {check, errDown, 2},
		"nothing that the table does not name":   {unknown, errDown, 1},
		"nothing that the peer refused":          {reserve, errSold, 1},
		"nothing that is wrong":                  {reserve, fault.New(fault.Invalid, "bad", "Bad."), 1},
		"nothing that failed inside of the peer": {reserve, errors.New("bug"), 1},
		"nobody sooner than told":                {reserve, &later, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				_, conn := inventory(func(context.Context, string) error { sent++; return c.err })
				err := conn.Invoke(t.Context(), c.method, nil, nil)
				if sent != c.sent {
					t.Errorf("sent %d times, want %d", sent, c.sent)
				}
				if want := fault.KindOf(c.err); fault.KindOf(err) != want {
					t.Errorf("err = %v, want %s", err, want)
				}
			})
		})
	}
	t.Run("until it works", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			sent := 0
			_, conn := inventory(func(context.Context, string) error {
				if sent++; sent < 3 {
					return errDown
				}
				return nil
			})
			start := time.Now()
			if err := conn.Invoke(t.Context(), reserve, nil, nil); err != nil || sent != 3 {
				t.Errorf("err = %v after %d", err, sent)
			}
			if waited := time.Since(start); waited <= 0 || waited > 150*time.Millisecond {
				t.Errorf("waited %v, want at most 50 ms and 100 ms", waited)
			}
		})
	})
	t.Run("not past the caller's deadline, and says what the peer said", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			_, conn := inventory(func(ctx context.Context, _ string) error {
				time.Sleep(30 * time.Millisecond)
				return errDown
			})
			ctx, cancel := context.WithTimeout(t.Context(), 31*time.Millisecond)
			defer cancel()
			err := conn.Invoke(ctx, reserve, nil, nil)
			if fault.KindOf(err) != fault.Unavailable {
				t.Errorf("err = %v", err)
			}
		})
	})
}

// With everybody failing at once, the budget keeps the repeats to a share.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const callers = 200
		var sent atomic.Int64
		var running sync.WaitGroup
		_, conn := inventory(func(context.Context, string) error {
			sent.Add(1)
			time.Sleep(10 * time.Millisecond)
			// A refusal for want of anything else would open the breaker before the budget is used up.
			return errDown
		})
		for range callers {
			running.Go(func() {
				if err := conn.Invoke(t.Context(), reserve, nil, nil); fault.KindOf(err) != fault.Unavailable {
					t.Errorf("err = %v", err)
				}
			})
		}
		running.Wait()
		if n := sent.Load(); n < callers || n > callers*3/2 {
			t.Errorf("%d callers sent %d", callers, n)
		}
	})
}

// The share is one of all calls under way, also of those that go well.
func TestRetryBudgetCountsWhatGoesWell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const well, failing = 90, 9 // one less than opens the breaker
		type bad struct{}
		var repeats atomic.Int64
		var running sync.WaitGroup
		_, conn := inventory(func(ctx context.Context, _ string) error {
			if ctx.Value(bad{}) == nil {
				time.Sleep(2 * time.Second)
				return nil
			}
			if ctx.Value(bad{}).(*atomic.Int64).Add(1) == 1 {
				return errDown
			}
			repeats.Add(1)
			time.Sleep(time.Second) // all of them are under way at once
			return nil
		})
		for range well {
			running.Go(func() { _ = conn.Invoke(t.Context(), reserve, nil, nil) })
		}
		for range failing {
			running.Go(func() {
				if err := conn.Invoke(context.WithValue(t.Context(), bad{}, new(atomic.Int64)), reserve, nil, nil); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		if n := repeats.Load(); n != failing {
			t.Errorf("%d were repeated, want all %d", n, failing)
		}
	})
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	t.Run("end an attempt that hangs, as unavailable", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			_, conn := inventory(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
			err := conn.Invoke(t.Context(), unknown, nil, nil)
			if f := fault.Of(err); f.Kind != fault.Unavailable || f.Code != "deadline_exceeded" || f.Detail != "Inventory did not answer in time." {
				t.Errorf("err = %v", err)
			}
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	})
	t.Run("pass the caller's nearer deadline on", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			want, _ := ctx.Deadline()
			_, conn := inventory(func(ctx context.Context, _ string) error {
				if got, ok := ctx.Deadline(); !ok || !got.Equal(want) {
					t.Errorf("deadline %v, want %v", got, want)
				}
				return nil
			})
			if err := conn.Invoke(ctx, unknown, nil, nil); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("leave the caller's cancellation what it is", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			sent := 0
			_, conn := inventory(func(ctx context.Context, _ string) error { sent++; cancel(); <-ctx.Done(); return ctx.Err() })
			if err := conn.Invoke(ctx, reserve, nil, nil); !errors.Is(err, context.Canceled) || sent != 1 {
				t.Errorf("err = %v after %d", err, sent)
			}
			if err := conn.Invoke(ctx, reserve, nil, nil); !errors.Is(err, context.Canceled) || sent != 1 {
				t.Errorf("err = %v after %d", err, sent)
			}
		})
	})
}

func breaker(target *call.Target, method string) string {
	for _, s := range target.States() {
		if s.Method == method {
			return s.Breaker
		}
	}
	return "none"
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	// down opens the breaker of a method with calls that fail a minute apart: slow traffic opens it too.
	down := func(t *testing.T, conn grpc.ClientConnInterface) {
		t.Helper()
		for range 10 {
			time.Sleep(time.Minute)
			if err := conn.Invoke(t.Context(), unknown, nil, nil); fault.Of(err).Code != "storage_unavailable" {
				t.Fatalf("err = %v", err)
			}
		}
	}
	t.Run("has counted no call within the last seconds when there was none", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			target, conn := inventory(func(context.Context, string) error { return nil })
			counted := func() (n uint) {
				for _, s := range target.States() {
					n += s.Calls
				}
				return n
			}
			for range 3 {
				if err := conn.Invoke(t.Context(), reserve, nil, nil); err != nil {
					t.Fatal(err)
				}
			}
			if n := counted(); n != 3 {
				t.Errorf("%d calls were counted, want 3", n)
			}
			time.Sleep(time.Minute)
			if n := counted(); n != 0 {
				t.Errorf("a minute later %d calls are of the last 10 seconds", n)
			}
		})
	})
	t.Run("opens after ten failures in a row, refuses, and closes when the peer is back", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			sent, fail := 0, error(errDown)
			target, conn := inventory(func(context.Context, string) error { sent++; return fail })
			down(t, conn)
			if s := breaker(target, unknown); s != "open" {
				t.Fatalf("breaker %s", s)
			}
			err := conn.Invoke(t.Context(), unknown, nil, nil)
			if f := fault.Of(err); sent != 10 || f.Kind != fault.Unavailable || f.Code != "inventory_unavailable" || f.RetryAfter <= 0 || f.RetryAfter > 1200*time.Millisecond {
				t.Errorf("sent %d, err = %v", sent, err)
			}
			if s := breaker(target, check); s != "closed" {
				t.Errorf("another method's breaker is %s", s)
			}
			// Its own refusals do not keep it open.
			for range 12 {
				time.Sleep(100 * time.Millisecond)
				_ = conn.Invoke(t.Context(), unknown, nil, nil)
			}
			if sent != 11 {
				t.Errorf("%d probes in 1.2 s", sent-10)
			}
			fail = nil
			time.Sleep(2 * time.Second)
			if err := conn.Invoke(t.Context(), unknown, nil, nil); err != nil || breaker(target, unknown) != "closed" {
				t.Errorf("err = %v, breaker %s", err, breaker(target, unknown))
			}
		})
	})
	t.Run("counts the calls that one replica's death ends together as one", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			const onIt = 100
			cut := fault.New(fault.Unavailable, "unavailable", "The connection was cut.")
			var sent atomic.Int64
			death := make(chan struct{})
			target, conn := inventory(func(context.Context, string) error {
				if sent.Add(1) > onIt {
					return nil // from another replica
				}
				<-death
				return cut
			})
			var failed atomic.Int64
			var underWay sync.WaitGroup
			for range onIt {
				underWay.Go(func() {
					if fault.Of(conn.Invoke(t.Context(), unknown, nil, nil)).Code == "inventory_unavailable" {
						failed.Add(1)
					}
				})
			}
			synctest.Wait()
			close(death)
			underWay.Wait()
			if failed.Load() != onIt || breaker(target, unknown) != "closed" {
				t.Errorf("%d of %d have failed, breaker %s", failed.Load(), onIt, breaker(target, unknown))
			}
			if err := conn.Invoke(t.Context(), unknown, nil, nil); err != nil {
				t.Errorf("the next call: %v", err)
			}
			// What fails after that does so anew.
			sent.Store(0)
			for range 10 {
				_ = conn.Invoke(t.Context(), unknown, nil, nil)
			}
			if s := breaker(target, unknown); s != "open" {
				t.Errorf("breaker %s after ten more", s)
			}
		})
	})
	t.Run("opens when half of many calls fail", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			sent := 0
			target, conn := inventory(func(context.Context, string) error {
				if sent++; sent%2 == 0 {
					return errDown
				}
				return nil
			})
			for range 39 {
				_ = conn.Invoke(t.Context(), unknown, nil, nil)
			}
			if s := breaker(target, unknown); s != "closed" {
				t.Fatalf("breaker %s after 39", s)
			}
			_ = conn.Invoke(t.Context(), unknown, nil, nil)
			if s := breaker(target, unknown); s != "open" {
				t.Errorf("breaker %s after 40", s)
			}
		})
	})
	t.Run("does not count what the peer understood and refused, nor its bugs, nor the caller's leaving", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var fail error
			target, conn := inventory(func(context.Context, string) error { return fail })
			for _, fail = range []error{errSold, fault.New(fault.Invalid, "bad", "Bad."), fault.New(fault.NotFound, "not_found", "No."), errors.New("bug"), context.Canceled} {
				for range 100 {
					ctx, cancel := context.WithCancel(t.Context())
					if errors.Is(fail, context.Canceled) {
						cancel()
					}
					_ = conn.Invoke(ctx, unknown, nil, nil)
					cancel()
				}
				if s := breaker(target, unknown); s != "closed" {
					t.Errorf("breaker %s after %v", s, fail)
				}
			}
		})
	})
	t.Run("counts a hanging peer, but not a caller who gave it no time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			target, conn := inventory(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
			hang := func(d time.Duration) {
				for range 10 {
					ctx, cancel := context.WithTimeout(t.Context(), d)
					_ = conn.Invoke(ctx, unknown, nil, nil)
					cancel()
				}
			}
			if hang(time.Second); breaker(target, unknown) != "closed" {
				t.Error("a second is not enough to judge by")
			}
			if hang(3 * time.Second); breaker(target, unknown) != "open" {
				t.Error("three seconds are")
			}
		})
	})
	t.Run("is not stuck when a probe's caller leaves", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			leave := false
			fail := error(errDown)
			target, conn := inventory(func(attempt context.Context, _ string) error {
				if leave {
					cancel()
					<-attempt.Done()
					return attempt.Err()
				}
				return fail
			})
			down(t, conn)
			time.Sleep(2 * time.Second)
			leave = true
			_ = conn.Invoke(ctx, unknown, nil, nil)
			leave, fail = false, nil
			time.Sleep(2 * time.Second)
			if err := conn.Invoke(t.Context(), unknown, nil, nil); err != nil || breaker(target, unknown) != "closed" {
				t.Errorf("err = %v, breaker %s", err, breaker(target, unknown))
			}
		})
	})
}

func TestBulkhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := telemetry.NewMetrics()
		target := call.NewEdges(call.Policies(), slog.New(slog.DiscardHandler), m).Target("inventory")
		conn := target.Conn(peer(func(context.Context, string) error { <-release; return nil }))
		var running sync.WaitGroup
		for range 256 {
			running.Go(func() {
				if err := conn.Invoke(t.Context(), unknown, nil, nil); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if err := conn.Invoke(t.Context(), unknown, nil, nil); fault.Of(err).Code != "inventory_unavailable" {
			t.Errorf("the 257th got %v", err)
		}
		figures(t, m, `orderkeep_calls_in_flight{target="inventory",method="Unknown"} 256`, `orderkeep_call_attempts_total{target="inventory",method="Unknown",result="too_many"} 1`)
		close(release)
		running.Wait()
		if err := conn.Invoke(t.Context(), unknown, nil, nil); err != nil || breaker(target, unknown) != "closed" {
			t.Errorf("afterwards %v, breaker %s", err, breaker(target, unknown))
		}
	})
}

func TestCarriesTheCorrelationID(t *testing.T) {
	t.Parallel()
	var got []string
	_, conn := inventory(func(ctx context.Context, _ string) error {
		md, _ := metadata.FromOutgoingContext(ctx)
		got = md.Get("x-correlation-id")
		return nil
	})
	if err := conn.Invoke(telemetry.WithCorrelation(t.Context(), "c-1"), reserve, nil, nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"c-1"}, got); d != "" {
		t.Error(d)
	}
}

// A peer that is not there is told apart from one that answers, and its address stays in the log.
func TestPeerThatIsNotThere(t *testing.T) {
	t.Parallel()
	addr := porttest.Addr(t)
	target := call.New("inventory", slog.New(slog.DiscardHandler))
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = inventoryv1.NewInventoryServiceClient(target.Conn(conn)).Check(t.Context(), &inventoryv1.CheckRequest{})
	f := fault.Of(err)
	if f.Code != "inventory_unavailable" || f.Kind != fault.Unavailable || strings.Contains(f.Detail, "127.0.0.1") {
		t.Errorf("gRPC: %v", err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/reserve", strings.NewReader("{}"))
	res, err := target.Client(&http.Transport{}).Do(req)
	if err == nil {
		res.Body.Close()
	}
	if f := fault.Of(err); f.Code != "inventory_unavailable" || f.Kind != fault.Unavailable {
		t.Errorf("REST: %v", err)
	}
}

func TestREST(t *testing.T) {
	t.Parallel()
	type seen struct{ method, body, correlation string }
	setup := func(t *testing.T, answers ...int) (*call.Target, *http.Client, string, *[]seen) {
		t.Helper()
		var all []seen
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			all = append(all, seen{r.Method, string(b), r.Header.Get(telemetry.Header)})
			code := answers[min(len(all), len(answers))-1]
			if code == 429 {
				w.Header().Set("Retry-After", "1")
				code = 503
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "answer "+http.StatusText(code))
		}))
		t.Cleanup(s.Close)
		target := call.New("inventory", slog.New(slog.DiscardHandler))
		return target, target.Client(s.Client().Transport), s.URL, &all
	}
	send := func(t *testing.T, c *http.Client, method, url string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(telemetry.WithCorrelation(t.Context(), "c-1"), method, url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	t.Run("repeats a command that is named by its path, body and all", func(t *testing.T) {
		t.Parallel()
		_, c, url, all := setup(t, 503, 502, 200)
		if code, body := send(t, c, "PUT", url+"/v1/reservations/o-1"); code != 200 || body != "answer OK" {
			t.Errorf("%d %s", code, body)
		}
		one := seen{"PUT", "{}", "c-1"}
		if d := cmp.Diff([]seen{one, one, one}, *all, cmp.AllowUnexported(seen{})); d != "" {
			t.Error(d)
		}
	})
	for name, c := range map[string]struct {
		method, path string
		answer, sent int
	}{
		"sends what a foreign peer would do twice once": {"POST", "/reserve", 503, 1},
		"gives the last answer when all fail":           {"PUT", "/v1/reservations/o-1", 503, 3},
		"repeats no refusal":                            {"PUT", "/v1/reservations/o-1", 409, 1},
		"repeats nothing before it may":                 {"PUT", "/v1/reservations/o-1", 429, 1},
		"repeats nothing that is not in the table":      {"PUT", "/v1/reservations/o-1/more", 503, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, client, url, all := setup(t, c.answer)
			want := c.answer
			if want == 429 {
				want = 503
			}
			if code, _ := send(t, client, c.method, url+c.path); code != want || len(*all) != c.sent {
				t.Errorf("%d after %d", code, len(*all))
			}
		})
	}
	t.Run("has one breaker for all ids", func(t *testing.T) {
		t.Parallel()
		target, c, url, _ := setup(t, 503)
		for _, id := range []string{"a", "b", "c", "d"} { // three attempts each
			req, _ := http.NewRequestWithContext(t.Context(), "PUT", url+"/v1/reservations/"+id, strings.NewReader("{}"))
			if res, err := c.Do(req); err == nil {
				res.Body.Close()
			}
		}
		if s := breaker(target, "PUT /v1/reservations/{reservationId}"); s != "open" {
			t.Errorf("breaker %s", s)
		}
	})
}

// The table names every method of the contracts that contexts call each other by, and documents them.
func TestTable(t *testing.T) {
	t.Parallel()
	rows := map[string]call.Policy{}
	for _, p := range call.Policies() {
		if _, twice := rows[p.Method]; twice {
			t.Errorf("%s is in the table twice", p.Method)
		}
		rows[p.Method] = p
	}
	for target, file := range map[string]protoreflect.FileDescriptor{"inventory": inventoryv1.File_inventory_v1_inventory_proto, "payments": paymentsv1.File_payments_v1_payments_proto} {
		service := file.Services().Get(0)
		for i := range service.Methods().Len() {
			method := "/" + string(service.FullName()) + "/" + string(service.Methods().Get(i).Name())
			if rows[method].Target != target {
				t.Errorf("the table lacks %s of %s", method, target)
			}
		}
	}
	page, err := os.ReadFile("../../docs/resilience.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), call.Document()) {
		t.Errorf("docs/resilience.md and the code do not agree; the table is now:\n\n%s", call.Document())
	}
}

type echo struct {
	inventoryv1.UnimplementedInventoryServiceServer
}

func (echo) Reserve(context.Context, *inventoryv1.ReserveRequest) (*inventoryv1.ReserveResponse, error) {
	return &inventoryv1.ReserveResponse{}, nil
}

// BenchmarkCall measures what the policy adds to a call that goes well.
func BenchmarkCall(b *testing.B) {
	channel := &inprocgrpc.Channel{}
	inventoryv1.RegisterInventoryServiceServer(channel, echo{})
	nothing := peer(func(context.Context, string) error { return nil })
	target := call.New("inventory", slog.New(slog.DiscardHandler))
	for name, conn := range map[string]grpc.ClientConnInterface{
		"nothing/bare": nothing, "nothing/policy": target.Conn(nothing), "inproc/bare": channel, "inproc/policy": target.Conn(channel),
	} {
		b.Run(name, func(b *testing.B) {
			ctx := telemetry.WithCorrelation(b.Context(), "c-1")
			req, res := &inventoryv1.ReserveRequest{}, &inventoryv1.ReserveResponse{}
			b.ReportAllocs()
			for b.Loop() {
				if err := conn.Invoke(ctx, reserve, req, res); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
