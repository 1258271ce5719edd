package test

import (
	"bufio"
	"errors"
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSheetWithBadRowsChangesNothing(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 5)
	before, _, _ := s.cli(t, "", "stock", "export")
	sheet := "sku,title,on_hand,tracked\nNEW-1,New,1,true\n" + book + ",A book,-1,true\nNEW-2,New,2,perhaps\nNEW-3,New,3,true\n"
	out, log, code := s.cli(t, sheet, "stock", "import", "-")
	if code != 1 || out != "" {
		t.Errorf("it exits with %d and prints %q", code, out)
	}
	for _, w := range []string{"invalid_csv", "row 3", "row 4"} {
		if !strings.Contains(log, w) {
			t.Errorf("it does not say %q: %s", w, log)
		}
	}
	if after, _, _ := s.cli(t, "", "stock", "export"); after != before {
		t.Errorf("the stock was\n%s\nand is\n%s", before, after)
	}
	s.verify(t)
	s.close(t)
}

// What is no SKU to Orders is none to Inventory, or it could be put on the shelf and never be ordered.
func TestOrdersAndInventoryAgreeWhatASKUIs(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 5)
	for _, sku := range []string{
		"A", "a b", " A ", "A/1", "\"A\"", "ß", "本-1", "e\u0301", "€", "\U0001F4D6", strings.Repeat("x", 128), strings.Repeat("ß", 64),
		"\t", "A\u0085", "A\u00a0B", "A\u00ad", "A\u200bB", "A\u2028B", "A\u202eB", "A\u3000B", "\ufeffA", "A\ufffd", "A\ufffe", "A\ue000", "A\x7f",
		strings.Repeat("x", 129), strings.Repeat("ß", 65),
	} {
		ordered := s.do(t, http.MethodPost, "/v1/orders", order{Items: []line{{SKU: sku, Qty: 1}}})
		reserved := s.do(t, http.MethodPost, "/reserve", line{SKU: sku, Qty: 1})
		_, log, code := s.cli(t, "sku,title,on_hand,tracked\n\""+strings.ReplaceAll(sku, `"`, `""`)+"\",x,1,true\n", "stock", "import", "-")
		switch {
		case ordered.status == http.StatusConflict && reserved.status == http.StatusConflict && code == 0:
		case ordered.status == http.StatusBadRequest && reserved.status == http.StatusBadRequest && code == 1 && strings.Contains(log, "row 2"):
		default:
			t.Errorf("%q: Orders says %v, Inventory %v, the import %d %s", sku, ordered, reserved, code, log)
		}
		if sold := s.do(t, http.MethodPost, "/v1/orders", order{Items: []line{{SKU: sku, Qty: 1}}}); code == 0 && sold.status != http.StatusCreated {
			t.Errorf("%q is on the shelf, and an order of it gives %v", sku, sold)
		}
	}
	s.verify(t)
	s.close(t)
}

// Clients that send slowly, or break off, keep nobody else waiting and leave nothing behind.
func TestSlowClientsAreShownOut(t *testing.T) {
	t.Parallel()
	const crawlers = 100
	s := newShop(t)
	s.add(stage.Launch{Path: program, Args: s.serve("--read-timeout", "500ms")}, "orders", "inventory", "payments")
	s.start(t)
	s.stock(t, 5)
	head := "POST /v1/orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
	for name, c := range map[string]struct {
		sent   string
		answer int // 0: the connection is closed without
	}{
		"half a header": {"POST /v1/orders HTTP/1.1\r\nHo", 0},
		"half a body":   {head + "Content-Length: 66\r\n\r\n" + `{"items":[{"sku":"BOOK-001",`, http.StatusRequestTimeout},
		"half a chunk":  {head + "Transfer-Encoding: chunked\r\n\r\n40\r\n" + `{"items":[{"sku":"BOOK-001","qty":1}]`, http.StatusRequestTimeout},
	} {
		conns := make([]net.Conn, crawlers)
		for i := range conns {
			conns[i] = s.dial(t)
			if _, err := io.WriteString(conns[i], c.sent); err != nil {
				t.Fatal(err)
			}
		}
		want(t, s.place(t, name, order{Items: []line{{SKU: book, Qty: 1}}}), http.StatusCreated, "")
		for _, conn := range conns {
			r := bufio.NewReader(conn)
			res, err := http.ReadResponse(r, nil)
			switch {
			case c.answer == 0:
				if err == nil && res.StatusCode != http.StatusRequestTimeout && res.StatusCode != http.StatusBadRequest {
					t.Errorf("%s is answered %s", name, res.Status)
				}
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("%s is waited for without end", name)
				}
			case err != nil || res.StatusCode != c.answer || res.Header.Get("Content-Type") != "application/problem+json":
				t.Fatalf("%s is answered %+v, %v, want a problem of %d", name, res, err, c.answer)
			}
			if _, err := io.Copy(io.Discard, r); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after %s the connection stays open", name)
			}
		}
	}
	if n := len(s.orders(t, "")); n != 3 {
		t.Errorf("there are %d orders, want the 3 of the others", n)
	}
	s.verify(t)
	s.close(t)
}

// A buyer who hangs up after having asked gets the order all the same.
func TestBuyerWhoHangsUpHasAnOrder(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 5)
	body := `{"items":[{"sku":"BOOK-001","qty":2,"unitPrice":5}],"currency":"GBP","payment":{"provider":"simulated","token":"pm_simulated_slow_100ms"}}`
	conn := s.dial(t)
	if _, err := fmt.Fprintf(conn, "POST /v1/orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	var orders []listed
	stage.Eventually(t, "the order is under way", func() bool {
		orders = s.orders(t, "")
		return len(orders) > 0
	})
	conn.Close()
	if end := s.ends(t, orders[0].OrderID); end.Status != "confirmed" {
		t.Errorf("it ends as %v", end)
	}
	s.hasAvailable(t, book, 3)
	s.verify(t)
	s.close(t)
}

// dial connects to the shop. Reads end after a time that is far above what the server is told to wait.
func (s *shop) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.process("orders").URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // the default is 30 s
		t.Fatal(err)
	}
	return c
}

// smallDisk runs its arguments with a file system of 12 MiB, of its own, at the directory $0. It needs no rights where the
// kernel lets everybody have namespaces.
const smallDisk = `mount -t tmpfs -o size=12m tmpfs "$0" && exec "$@"`

// TestFullDiskLosesNothing fills the disk under a running shop, and makes room again.
func TestFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("a small disk needs unshare(1); files that may not grow are tested everywhere")
	}
	s := newShop(t)
	apart := []string{"--user", "--map-root-user", "--mount", "sh", "-c", smallDisk, s.data}
	if out, err := exec.Command(unshare, append(apart, "true")...).CombinedOutput(); err != nil {
		t.Skipf("this machine gives no file systems of one's own (%v: %s); files that may not grow are tested everywhere", err, out)
	}
	s.add(stage.Launch{Path: unshare, Args: append(append(apart, program), s.serve()...)}, "orders", "inventory", "payments")
	s.start(t)
	pid := strconv.Itoa(s.process("orders").Cmd.Process.Pid)
	ballast := fmt.Sprintf("/proc/%s/root%s/ballast", pid, s.data) // the disk is seen through the process that has it
	losesNothing(t, s, "disk_full", func() { fill(t, ballast) }, func() error { return os.Remove(ballast) },
		stage.Launch{Path: "nsenter", Args: []string{"--target", pid, "--user", "--preserve-credentials", "--mount", program, "verify", "--data", s.data}})
}

// losesNothing sells while no write goes through any more, after stop, for which orders are refused with a code, and then, after
// resume, again.
func losesNothing(t *testing.T, s *shop, code string, stop func(), resume func() error, verify stage.Launch) {
	t.Helper()
	s.stock(t, 1_000_000)
	confirmed := map[string]string{} // key -> order
	n := 0
	next := func() (string, answer) {
		n++
		key := fmt.Sprintf("order-%d", n)
		a := s.place(t, key, paid(visa, line{book, 1, 100}, line{record, 1, 100}))
		if a.status == http.StatusCreated {
			confirmed[key] = a.OrderID
		}
		return key, a
	}
	for range 20 {
		_, a := next()
		want(t, a, http.StatusCreated, "")
	}
	stop()
	codes := map[string]int{}
	var denied []string
	stage.Eventually(t, "writes are refused with "+code, func() bool {
		key, a := next()
		switch a.status {
		case http.StatusCreated, http.StatusAccepted:
		case http.StatusServiceUnavailable:
			codes[a.Error]++
			denied = append(denied, key)
			if a.header.Get("Retry-After") == "" {
				t.Errorf("it does not say when to come back: %v", a)
			}
		default:
			t.Fatalf("where no write goes through an order gets %v", a)
		}
		return codes[code] > 20
	})
	for _, id := range confirmed { // what was answered can be read
		if o := s.get(t, "/v1/orders/"+id); o.Status != "confirmed" {
			t.Errorf("where no write goes through: %v", o)
		}
	}
	if err := resume(); err != nil {
		t.Fatal(err)
	}
	for _, key := range denied {
		stage.Eventually(t, "orders are taken again without a restart", func() bool {
			a := s.place(t, key, paid(visa, line{book, 1, 100}, line{record, 1, 100}))
			confirmed[key] = a.OrderID
			return a.status == http.StatusCreated
		})
	}
	stage.Eventually(t, "no order is pending", func() bool { return len(s.newest(t, 1, "status=pending")) == 0 })
	live := map[string]bool{}
	for _, o := range s.orders(t, "status=confirmed") {
		live[o.OrderID] = true
	}
	for key, id := range confirmed {
		if !live[id] {
			t.Errorf("the order %s of %s was answered 201 and is not there", id, key)
		}
	}
	s.hasAvailable(t, book, 1_000_000-len(live))
	if out, log, code := verify.Run(t, ""); code != 0 {
		t.Errorf("verify exits with %d:\n%s%s", code, out, log)
	}
	if err := s.process("orders").Stop(); err != nil { // it did have errors to complain about
		t.Errorf("it does not end well: %v", err)
	}
	t.Logf("refused where no write goes through: %v", codes)
}

// fill writes until there is no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 { // down to the last byte
		for {
			if _, err = f.Write(make([]byte, size)); err != nil {
				break
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fill the disk: %v", err)
		}
	}
}
