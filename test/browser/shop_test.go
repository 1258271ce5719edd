package browser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"github.com/orderkeep/orderkeep/test/stage"
	"google.golang.org/protobuf/proto"
)

// shop is a running Orderkeep with something of everything in it.
type shop struct {
	t         *testing.T
	data      string
	console   string // where the console is
	api       map[string]string
	processes map[string]*stage.Process
	orders    map[string]string // ids by what became of them
}

// oneProcess is what "orderkeep serve" starts.
func oneProcess(t *testing.T) *shop {
	s := &shop{t: t, data: t.TempDir(), api: map[string]string{}, orders: map[string]string{}}
	p := stage.Start(t, stage.Launch{Path: program, Args: []string{"serve", "--data", s.data, "--listen", "127.0.0.1:0"}})
	s.console = p.URL
	for _, name := range []string{"orders", "inventory", "payments"} {
		s.api[name] = p.URL
	}
	return s
}

// split is each context as a process of its own, with a broker between them, and the console as another one.
func split(t *testing.T) *shop {
	s := &shop{t: t, data: t.TempDir(), api: map[string]string{}, orders: map[string]string{}, processes: map[string]*stage.Process{}}
	_, broker := stage.ServeBroker(t, program, t.TempDir(), "127.0.0.1:0")
	serve := func(name string, more ...string) {
		args := append([]string{"--data", s.data, "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--broker-url", broker}, more...)
		s.processes[name] = stage.Start(t, stage.Launch{Path: filepath.Join(filepath.Dir(program), name), Args: args})
		s.api[name] = s.processes[name].URL
	}
	serve("inventory")
	serve("payments")
	serve("orders", "--inventory-url", "grpc://"+s.processes["inventory"].GRPC, "--payments-url", "grpc://"+s.processes["payments"].GRPC)
	console := stage.Start(t, stage.Launch{Path: program, Args: []string{"serve", "--run", "console", "--data", t.TempDir(), "--listen", "127.0.0.1:0",
		"--orders-url", s.api["orders"], "--inventory-url", s.api["inventory"], "--payments-url", s.api["payments"],
		"--orders-db", "sqlite:" + s.data + "/orders.db", "--inventory-db", "sqlite:" + s.data + "/inventory.db", "--payments-db", "sqlite:" + s.data + "/payments.db",
		"--simulated-provider-db", "sqlite:" + s.data + "/simulated-provider.db"}})
	s.console = console.URL
	return s
}

// send asks a context, and fails the test unless the answer has the status.
func (s *shop) send(context, method, path, body string, status int) map[string]any {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.api[context]+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if strings.Contains(path, ".csv") {
		r.Header.Set("Content-Type", "text/csv")
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		s.t.Fatalf("%s %s: %d %s %v, want %d", method, path, res.StatusCode, text, err, status)
	}
	var v map[string]any
	_ = json.Unmarshal(text, &v) // an answer without a body has nothing to say
	return v
}

// fill makes orders of every kind.
func (s *shop) fill() *shop {
	s.t.Helper()
	var sheet bytes.Buffer
	sheet.WriteString("sku,title,on_hand,tracked\nBOOK-001,A book about books,40,true\nMUG-BLUE,Mug with a whale,6,true\nLAST-ONE,The last of its kind,1,true\nGIFT-WRAP,Wrapping,0,false\n")
	for i := range 30 {
		fmt.Fprintf(&sheet, "CARD-%03d,Postcard no. %d,%d,true\n", i, i, 100+i)
	}
	s.send("inventory", "POST", "/v1/stock.csv", sheet.String(), 200)
	place := func(name, items, token string, status int) {
		body := `{"items":[` + items + `],"currency":"GBP","customer":"` + name + `","payment":{"provider":"simulated","token":"` + token + `"}}`
		id, _ := s.send("orders", "POST", "/v1/orders", body, status)["orderId"].(string)
		s.orders[name] = id
	}
	const book = `{"sku":"BOOK-001","qty":2,"unitPrice":1250},{"sku":"GIFT-WRAP","qty":1,"unitPrice":150}`
	place("returned", book, "pm_card_visa", 201)
	place("cancelled", `{"sku":"MUG-BLUE","qty":1,"unitPrice":895}`, "pm_card_amex", 201)
	place("fulfilled", book, "pm_card_mastercard", 201)
	place("confirmed", `{"sku":"LAST-ONE","qty":1,"unitPrice":9900}`, "pm_card_visa", 201)
	place("refused", `{"sku":"LAST-ONE","qty":1,"unitPrice":9900}`, "pm_card_visa", 409)
	place("declined", book, "pm_card_chargeDeclinedInsufficientFunds", 402)
	place("pending", `{"sku":"CARD-001","qty":3,"unitPrice":120}`, "pm_simulated_down", 202)
	at := func(name, what string) string { return "/v1/orders/" + s.orders[name] + "/" + what }
	s.send("orders", "POST", at("fulfilled", "fulfil"), "", 200)
	s.send("orders", "POST", at("returned", "fulfil"), "", 200)
	s.send("orders", "POST", at("returned", "return")+"?actor=ann&reason=too+small", `{"reason":"too small"}`, 200)
	s.send("orders", "POST", at("cancelled", "cancel")+"?actor=ann&reason=ordered+twice", `{"reason":"ordered twice"}`, 200)
	s.park()
	return s
}

// park puts an event into Inventory's inbox that its consumer failed on.
func (s *shop) park() {
	s.t.Helper()
	data, err := proto.Marshal(&ordersv1.OrderCancelled{OrderId: s.orders["refused"], Reason: "the customer changed her mind"})
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = dbtest.Raw(s.t, "sqlite:"+s.data+"/inventory.db").Exec(`INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data, state, attempts, error)
		VALUES ('inventory', $1, '/orders', 'orderkeep.orders.v1.OrderCancelled', $2, $3, '', '', '', $4, 'parked', 10, 'release: the reservation was committed')`,
		uuid.NewString(), s.orders["refused"], time.Now().Add(-time.Hour).UnixMicro(), data)
	if err != nil {
		s.t.Fatal(err)
	}
}

// pages are all that the console has, by the names of their screenshots.
func (s *shop) pages() [][2]string {
	return [][2]string{
		{"now", "/console"}, {"orders", "/console/orders"}, {"order", "/console/orders/" + s.orders["returned"]}, {"order-pending", "/console/orders/" + s.orders["pending"]},
		{"order-rejected", "/console/orders/" + s.orders["declined"]}, {"stock", "/console/stock"}, {"item", "/console/stock?sku=BOOK-001"}, {"import", "/console/stock/import"},
		{"payments", "/console/payments"}, {"events", "/console/events"}, {"verify", "/console/verify"}, {"nothing-found", "/console/orders?find=nobody"}, {"no-such-page", "/console/nowhere"},
	}
}

// verify has the console run the proofs, and waits for what they say.
func (s *shop) verify() {
	s.t.Helper()
	res, err := http.Post(s.console+"/console/verify", "application/x-www-form-urlencoded", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	res.Body.Close()
	stage.Eventually(s.t, "the proofs are there", func() bool {
		res, err := http.Get(s.console + "/console/verify")
		if err != nil {
			s.t.Fatal(err)
		}
		defer res.Body.Close()
		page, err := io.ReadAll(res.Body)
		return err == nil && strings.Contains(string(page), `class="verdict`)
	})
}
