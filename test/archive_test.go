package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/test/stage"
)

// filing is a shop that may archive what has just ended, and the archive.
type filing struct {
	*shop
	dir string
	// between sees each request of an archiver to a server, by its path, and lets it through by forward, which returns once it was answered.
	between func(n int, path string, forward func())
	door    *httptest.Server

	mu sync.Mutex
	n  int
}

func newFiling(t *testing.T, s *shop) *filing {
	t.Helper()
	for _, sv := range s.services {
		sv.launch.Env = append(sv.launch.Env, "ORDERKEEP_FOR_TESTS=true", "ORDERKEEP_KEEP=0s")
	}
	s.start(t)
	s.stock(t, 1_000_000)
	f := &filing{shop: s, dir: filepath.Join(t.TempDir(), "archive")}
	f.door = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.door.Close)
	return f
}

// serve passes a request on to the process of its context.
func (f *filing) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	forward := func() {
		context, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, archive.Path("")), "/")
		q, err := http.NewRequest(r.Method, f.of[context][0].now().URL+r.URL.RequestURI(), bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		q.Header.Set("Content-Type", r.Header.Get("Content-Type"))
		res, err := f.client.Do(q)
		if err != nil {
			panic(http.ErrAbortHandler) // the server is gone
		}
		defer res.Body.Close()
		w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body)
	}
	f.mu.Lock()
	f.n++
	n, between := f.n, f.between
	f.mu.Unlock()
	if between == nil {
		forward()
		return
	}
	between(n, r.URL.Path, forward)
}

// archiver is the command that archives into a directory what has ended now.
func (f *filing) archiver(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	args := []string{"archive", "--json", "--yes", "--before", time.Now().UTC().Format(time.RFC3339Nano), "--to", dir}
	return stage.Launch{Path: program, Args: args, Env: []string{"ORDERKEEP_URL=" + f.door.URL}}.Command(t)
}

// filed is what an archiver prints, as far as these tests read it.
type filed struct {
	Archive         string
	Parts           []string
	Records, Events map[string]int
	Left            []archive.Left
}

// archive archives, and fails the test unless that works.
func (f *filing) archive(t *testing.T) (r filed) {
	t.Helper()
	cmd := f.archiver(t, f.dir)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("archive: %v\n%s%s", err, out, log.String())
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// sold places one order of each end, and returns their ids; the last one stays confirmed.
func (f *filing) sold(t *testing.T, key string) (ended []string, confirmed string) {
	t.Helper()
	move := func(id, to string) {
		want(t, f.do(t, http.MethodPost, "/v1/orders/"+id+"/"+to, nil), http.StatusOK, "")
	}
	place := func(key string, o order) string {
		a := f.place(t, key, o)
		want(t, a, http.StatusCreated, "")
		return a.OrderID
	}
	fulfilled, returned, cancelled, free := place(key, paid(visa, one)), place("", paid(visa, one, line{record, 2, 500})), place("", paid(visa, one)), place("", order{Items: []line{{wrapping, 1, 0}}})
	move(fulfilled, "fulfil")
	move(returned, "fulfil")
	move(returned, "return")
	move(cancelled, "cancel")
	move(free, "fulfil")
	declined := f.place(t, key+"-declined", paid("pm_card_chargeDeclined", one))
	want(t, declined, http.StatusPaymentRequired, "payment_declined")
	f.settles(t)
	return []string{fulfilled, returned, cancelled, free, declined.OrderID}, place("", paid(visa, one))
}

// inFiles counts how often the archives have the records of orders and events, by context and id. What the databases kept is not counted.
func (f *filing) inFiles(t *testing.T, dirs ...string) (orders, events map[string]map[string]int) {
	t.Helper()
	orders, events = map[string]map[string]int{}, map[string]map[string]int{}
	for _, dir := range dirs {
		d, err := archive.Look(dir)
		if os.IsNotExist(err) || err != nil && strings.Contains(err.Error(), "is no archive") {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		parts, _, err := d.Parts()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			into := map[string]map[string]map[string]int{archive.Orders: orders, archive.Events: events}[p.Kind]
			for _, file := range p.Files {
				if into[file.Context] == nil {
					into[file.Context] = map[string]int{}
				}
				err := p.Each(file, func(id string, _ []byte) error {
					if !p.LeftOf("orders", id) && !p.LeftOf(file.Context, id) {
						into[file.Context][id]++
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return orders, events
}

// account fails the test unless each of the orders is in the archives once and in no database any more.
func (f *filing) account(t *testing.T, ended []string, dirs ...string) {
	t.Helper()
	orders, events := f.inFiles(t, dirs...)
	for _, id := range ended {
		if n := orders["orders"][id]; n != 1 {
			t.Errorf("order %s is %d times in the archive", id, n)
		}
		want(t, f.get(t, "/v1/orders/"+id), http.StatusGone, "order_archived")
		want(t, f.get(t, "/v1/reservations/"+id), http.StatusNotFound, "not_found")
		want(t, f.get(t, "/v1/payments/"+id), http.StatusNotFound, "payment_not_found")
	}
	// Of the five ends, all have a reservation, and all but the free one a payment.
	if r, p := len(orders["inventory"]), len(orders["payments"]); r != len(ended) || p != len(ended)*4/5 {
		t.Errorf("%d reservations and %d payments are in the archive, of %d orders", r, p, len(ended))
	}
	for context, path := range map[string]string{"orders": "/v1/events", "inventory": "/v1/events/inventory", "payments": "/v1/events/payments"} {
		left := f.feed(t, path)
		if len(left) == 0 {
			t.Fatalf("the feed of %s is empty: its positions would begin anew", context)
		}
		first, err := strconv.Atoi(left[0].Cursor)
		if err != nil || len(events[context]) != first-1 {
			t.Errorf("%s: %d events are in the archive, and the feed begins with %s", context, len(events[context]), left[0].Cursor)
		}
		for n := 1; n < first; n++ {
			if times := events[context][strconv.Itoa(n)]; times != 1 {
				t.Errorf("%s: event %d is %d times in the archive", context, n, times)
			}
		}
		want(t, f.get(t, path+"?after=0"), http.StatusGone, "cursor_expired")
	}
}

// neverGone fails the test if an order is neither in its database nor in a part that is whole.
func (f *filing) neverGone(t *testing.T, ids []string) {
	t.Helper()
	orders, _ := f.inFiles(t, f.dir)
	for _, id := range ids {
		if a := f.get(t, "/v1/orders/"+id); a.status != http.StatusOK && orders["orders"][id] == 0 {
			t.Errorf("order %s is in neither place: %v", id, a)
		}
	}
}

// TestArchiveIsKilledAtEachStep kills the archiver, and in another shop the server, at each request between the two: before the server has it, and when
// it has acted on it and not been heard. Each time the promises hold at once, no order is gone, and the next run goes on.
func TestArchiveIsKilledAtEachStep(t *testing.T) {
	t.Parallel()
	for name, serverDies := range map[string]bool{"archiver": false, "server": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.add(stage.Launch{Path: program, Args: s.serve()}, "orders", "inventory", "payments")
			f := newFiling(t, s)
			var ended []string
			for step, more := 1, true; more; step++ {
				for _, late := range []bool{false, true} {
					some, _ := f.sold(t, fmt.Sprintf("step-%d-%v", step, late))
					ended = append(ended, some...)
					cmd := f.archiver(t, f.dir)
					hit := false
					f.n, f.between = 0, func(n int, _ string, forward func()) {
						if n == step && late {
							forward()
						}
						if n != step {
							forward()
							return
						}
						hit = true
						if serverDies {
							f.process("orders").Kill()
						} else {
							_ = cmd.Process.Kill()
						}
						panic(http.ErrAbortHandler)
					}
					err := cmd.Run()
					f.between = nil
					if more = hit; !hit {
						if err != nil {
							t.Fatal(err)
						}
						break
					}
					if err == nil && !late {
						t.Errorf("step %d: it was cut off, and says that it has ended well", step)
					}
					s.client.CloseIdleConnections()
					s.start(t)
					f.neverGone(t, ended)
					s.verify(t)
					f.archive(t)
				}
				if t.Failed() {
					t.Fatalf("step %d", step)
				}
			}
			f.account(t, ended, f.dir)
			if out, log, code := s.cli(t, "", "archive", "verify", f.dir); code != 0 {
				t.Errorf("archive verify exits with %d: %s%s", code, out, log)
			}
			s.verify(t)
			s.close(t)
		})
	}
}

// besides is a shop that archives, in each way of running that has files or a wire of its own.
func besides(t *testing.T, test func(t *testing.T, f *filing)) {
	t.Helper()
	for name, open := range map[string]func(t *testing.T) *shop{
		"one process": func(t *testing.T) *shop {
			s := newShop(t)
			s.add(stage.Launch{Path: program, Args: s.serve()}, "orders", "inventory", "payments")
			return s
		},
		"one process on PostgreSQL": func(t *testing.T) *shop { return replicated(t, 1) },
		"three processes over gRPC": func(t *testing.T) *shop { return split(t, "grpc", ownBroker(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiling(t, open(t))
			test(t, f)
			f.verify(t)
			f.close(t)
		})
	}
}

// TestArchiveWhileOrdersFlow archives again and again what has just ended, while buyers go on with the same orders.
func TestArchiveWhileOrdersFlow(t *testing.T) {
	t.Parallel()
	besides(t, func(t *testing.T, f *filing) {
		var mu sync.Mutex
		var placed []string
		stop := make(chan struct{})
		var buyers sync.WaitGroup
		for b := range 6 {
			buyers.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					a, err := f.try(http.MethodPost, "/v1/orders", paid(visa, one), "Idempotency-Key", fmt.Sprintf("flow-%d-%d", b, n))
					if err != nil || a.status != http.StatusCreated {
						t.Errorf("an order is not taken: %v, %v", a, err)
						return
					}
					mu.Lock()
					placed = append(placed, a.OrderID)
					mu.Unlock()
					for _, move := range [][]string{{"cancel"}, {"fulfil"}, {"fulfil", "return"}, nil}[n%4] {
						a, err := f.try(http.MethodPost, "/v1/orders/"+a.OrderID+"/"+move, nil)
						if err != nil || a.status != http.StatusOK && a.Error != "order_archived" {
							t.Errorf("%s: %v, %v", move, a, err)
						}
					}
				}
			})
		}
		gone := 0
		for range 4 {
			gone += f.archive(t).Records["orders"]
		}
		close(stop)
		buyers.Wait()
		f.settles(t)
		gone += f.archive(t).Records["orders"]
		if gone == 0 {
			t.Error("nothing was archived: the test does not test what it says")
		}
		orders, _ := f.inFiles(t, f.dir)
		for _, id := range placed {
			there := 0
			if a := f.get(t, "/v1/orders/"+id); a.status == http.StatusOK {
				there = 1
			}
			if orders["orders"][id]+there != 1 {
				t.Errorf("order %s is %d times in the archive and %d times in the database", id, orders["orders"][id], there)
			}
		}
	})
}

// TestArchiveKeepsWhatChanges lets an order come back when it is in the file already and not removed yet.
func TestArchiveKeepsWhatChanges(t *testing.T) {
	t.Parallel()
	besides(t, func(t *testing.T, f *filing) {
		ended, confirmed := f.sold(t, "a")
		back := ended[0]
		f.between = func(_ int, path string, forward func()) {
			if path == archive.Path("orders")+"/remove" {
				want(t, f.do(t, http.MethodPost, "/v1/orders/"+back+"/return", nil), http.StatusOK, "")
			}
			forward()
		}
		r := f.archive(t)
		f.between = nil
		if len(r.Left) != 1 || r.Left[0].ID != back {
			t.Fatalf("left are %v, want the order that came back", r.Left)
		}
		if a := f.get(t, "/v1/orders/"+back); a.Status != "returned" {
			t.Errorf("it is %v", a)
		}
		f.settles(t)
		if r = f.archive(t); len(r.Left) != 0 || r.Records["orders"] != 1 {
			t.Errorf("the next run: %+v", r)
		}
		f.account(t, ended, f.dir)
		want(t, f.get(t, "/v1/orders/"+confirmed), http.StatusOK, "")
		out, log, code := f.cli(t, "", "archive", "show", back, "--from", f.dir)
		if code != 0 || !strings.Contains(out, `"state": "returned"`) || strings.Contains(out, `"state": "fulfilled"`) {
			t.Errorf("archive show exits with %d: %s%s", code, out, log)
		}
		// Its key is free again once it is archived: the promise is --keep, which is nothing here.
		if a := f.place(t, "a", paid(visa, one)); a.status != http.StatusCreated || a.replayed() || a.OrderID == back {
			t.Errorf("under the key of an archived order: %v", a)
		}
	})
}

// TestArchiveRemovesNothingThatItCannotProve damages a file, takes the room on the disk, and lets two archive at once.
func TestArchiveRemovesNothingThatItCannotProve(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.add(stage.Launch{Path: program, Args: s.serve()}, "orders", "inventory", "payments")
	f := newFiling(t, s)
	ended, _ := f.sold(t, "a")
	allThere := func(because string) {
		t.Helper()
		for _, id := range ended {
			if a := f.get(t, "/v1/orders/"+id); a.status != http.StatusOK {
				t.Errorf("%s, and order %s is gone: %v", because, id, a)
			}
		}
	}
	fails := func(cmd *exec.Cmd, says string) {
		t.Helper()
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), says) {
			t.Errorf("archive ends with %v, want %q in\n%s", err, says, out)
		}
	}

	full := f.archiver(t, f.dir)
	// Files of half a kilobyte at most: the archive's name fits, the orders do not.
	full = exec.Command("sh", append([]string{"-c", `ulimit -f 1; exec "$0" "$@"`, full.Path}, full.Args[1:]...)...)
	full.Env = append(os.Environ(), "ORDERKEEP_URL="+f.door.URL)
	if out, err := full.CombinedOutput(); err == nil {
		t.Errorf("it archives without room: %s", out)
	}
	allThere("the disk was full")

	// One that ends right before it has the first order removed; then a bit of its file is lost.
	cut := f.archiver(t, f.dir)
	f.between = func(_ int, path string, forward func()) {
		if path == archive.Path("orders")+"/remove" {
			_ = cut.Process.Kill()
			panic(http.ErrAbortHandler)
		}
		forward()
	}
	_ = cut.Run() // it was killed
	f.between = nil
	files, err := filepath.Glob(filepath.Join(f.dir, "*", "payments.jsonl.gz"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v; want the part", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(text)
	damaged[len(damaged)-1] ^= 1
	if err := os.WriteFile(files[0], damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	fails(f.archiver(t, f.dir), "is not as its manifest says")
	allThere("the file was damaged")
	if out, _, code := s.cli(t, "", "archive", "verify", f.dir); code != 1 || !strings.Contains(out, "damaged") {
		t.Errorf("archive verify of a damaged file exits with %d: %s", code, out)
	}
	if err := os.WriteFile(files[0], text, 0o600); err != nil {
		t.Fatal(err)
	}

	// While one has read everything, others come: into the same directory, and into another, which is faster.
	other := filepath.Join(t.TempDir(), "other")
	once := false
	f.between = func(_ int, path string, forward func()) {
		if path == archive.Path("orders")+"/remove" && !once {
			once = true
			fails(f.archiver(t, f.dir), "somebody archives into")
			if out, err := f.archiver(t, other).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
		forward()
	}
	if r := f.archive(t); len(r.Left) != len(ended) || !strings.Contains(r.Left[0].Why, "another archive") {
		t.Errorf("the slower one: %+v", r)
	}
	f.between = nil
	f.account(t, ended, f.dir, other)

	for _, tc := range []struct {
		says string
		args []string
	}{
		{"neither a day", []string{"--before", "yesterday", "--to", f.dir}},
		{"before_too_recent", []string{"--before", "2100-01-01", "--to", f.dir}},
		{"is not empty, and no archive", []string{"--before", "2026-01-01", "--to", s.data, "--yes"}},
		{"--inventory-at", []string{"--before", "2026-01-01", "--to", f.dir, "--inventory-at", s.process("orders").URL + "/elsewhere"}},
	} {
		if out, log, code := s.cli(t, "", append([]string{"archive"}, tc.args...)...); code == 0 || !strings.Contains(log, tc.says) {
			t.Errorf("archive %v exits with %d, want %q: %s%s", tc.args, code, tc.says, out, log)
		}
	}
	s.verify(t)
	s.close(t)
}

// A server that says nothing else keeps orders and keys for thirty days.
func TestArchiveTakesNothingYoung(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 10)
	a := s.place(t, "key", order{Items: []line{{wrapping, 1, 0}}})
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/fulfil", nil), http.StatusOK, "")
	s.settles(t)
	dir := filepath.Join(t.TempDir(), "archive")
	young := time.Now().Add(-719 * time.Hour).UTC().Format(time.RFC3339)
	if out, log, code := s.cli(t, "", "archive", "--before", young, "--to", dir, "--yes"); code != 1 || !strings.Contains(log, "before_too_recent") {
		t.Errorf("archive exits with %d: %s%s", code, out, log)
	}
	old := time.Now().Add(-721 * time.Hour).UTC().Format(time.RFC3339)
	if out, log, code := s.cli(t, "", "archive", "--before", old, "--to", dir, "--yes"); code != 0 || !strings.Contains(out, "orders") {
		t.Errorf("archive exits with %d: %s%s", code, out, log)
	}
	if again := s.place(t, "key", order{Items: []line{{wrapping, 1, 0}}}); again.OrderID != a.OrderID || !again.replayed() {
		t.Errorf("the key gives %v, want order %s", again, a.OrderID)
	}
	s.close(t)
}
