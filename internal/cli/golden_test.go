package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/node"
)

var update = flag.Bool("update", false, "write the golden files anew")

// result is what a command line did.
type result struct {
	code        int
	out, errout string
}

// do runs one command line in this process.
func do(t *testing.T, contexts []node.Context, stdin string, args ...string) result {
	t.Helper()
	var out, errout bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &out, &errout, contexts)
	return result{code, out.String(), errout.String()}
}

// variable is what differs from run to run in an output.
var variable = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://SERVER"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{10}[a-f0-9]{2}`), "UUID"},
	{regexp.MustCompile(`("(?:seconds|ordersPerSecond|p50Ms|p99Ms)": )[0-9.e-]+`), "${1}0"},
	{regexp.MustCompile(`[\d.]+ s, \d+ orders a second, p50 [\d.]+ ms, p99 [\d.]+ ms`), "0 s, 0 orders a second, p50 0 ms, p99 0 ms"},
	{regexp.MustCompile(`go1\.[0-9.a-z]+( \w+/\w+)?`), "GO"},
}

// orderIDs are the shop's own, and do not differ.
var orderIDs = regexp.MustCompile(`00000000-0000-7000-8000-`)

// golden compares an output with its file.
func golden(t *testing.T, name string, r result) {
	t.Helper()
	var b strings.Builder
	b.WriteString("exit " + string(rune('0'+r.code)) + "\n--- stdout\n" + r.out + "--- stderr\n" + r.errout)
	got := orderIDs.ReplaceAllString(b.String(), "ORDER-")
	for _, v := range variable {
		got = v.pattern.ReplaceAllString(got, v.by)
	}
	path := filepath.Join("testdata", strings.ReplaceAll(name, " ", "_")+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs; if it should, run go test ./internal/cli -update:\n%s", path, d)
	}
}

// stocked is a shop with a few items and orders.
func stocked(t *testing.T) (*shop, string) {
	t.Helper()
	s := newShop()
	s.add("BOOK-001", "A book", 5, true)
	s.add("LAMP/é 2", "A lamp, with a shade", 1, true)
	s.add("POST", "Postage", 0, false)
	url := s.serve(t)
	for _, args := range [][]string{
		{"order", "place", "--item", "BOOK-001=2@1299", "--item", "POST=1@300", "--currency", "GBP", "--customer", "ada", "--token", "pm_card_visa"},
		{"order", "place", "--item", "BOOK-001=1"},
	} {
		if r := do(t, nil, "", append(args, "--url", url)...); r.code != 0 {
			t.Fatalf("%v: %+v", args, r)
		}
	}
	return s, url
}

const first = "00000000-0000-7000-8000-000000000001"

// Every command's output, as text and as JSON, good and refused.
func TestOutput(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args   string // separated by "|" where there are spaces
		stdin  string
		before string // a command whose output is another case's
	}{
		"order place":              {args: "order place --item BOOK-001=1@1299 --currency GBP --customer ada --token pm_card_visa"},
		"order place out of stock": {args: "order place --item BOOK-001=1 --item BOOK-001=2 --item LAMP/é|2=5"},
		"order place unknown sku":  {args: "order place --item NONE=1"},
		"order place declined":     {args: "order place --item BOOK-001=1@1 --currency GBP --token pm_card_chargeDeclined"},
		"order place pending":      {args: "order place --item BOOK-001=1 --key slow"},
		"order place file":         {args: "order place --file -", stdin: `{"items":[{"sku":"POST","qty":3}]}`},
		"order place bad file":     {args: "order place --file -", stdin: `{"items":[{"sku":"POST","qty":3}],"color":"red"}`},
		"order get":                {args: "order get " + first},
		"order get not there":      {args: "order get 00000000-0000-7000-8000-000000000009"},
		"order list":               {args: "order list"},
		"order list more":          {args: "order list --limit 1"},
		"order list none":          {args: "order list --customer nobody"},
		"order cancel":             {args: "order cancel " + first + " --reason changed|my|mind"},
		"order fulfil":             {args: "order fulfil " + first},
		"order fulfil not there":   {args: "order fulfil 00000000-0000-7000-8000-000000000009"},
		"order return":             {before: "order fulfil " + first, args: "order return " + first + " --reason too|small"},
		"order return too early":   {args: "order return " + first + " --reason too|small"},
		"order timeline":           {args: "order timeline " + first},
		"stock get":                {args: "stock get LAMP/é|2"},
		"stock get not there":      {args: "stock get book-001"},
		"stock list":               {args: "stock list"},
		"stock list more":          {args: "stock list --limit 2"},
		"stock list rest":          {args: "stock list --cursor 2"},
		"stock adjust":             {args: "stock adjust BOOK-001 --delta -2 --reason broken"},
		"stock adjust absolute":    {args: "stock adjust BOOK-001 --on-hand 9 --expect 5 --reason counted"},
		"stock adjust stale":       {args: "stock adjust BOOK-001 --on-hand 9 --expect 4 --reason counted"},
		"stock adjust too much":    {args: "stock adjust BOOK-001 --delta=-3 --reason broken"},
		"stock import":             {args: "stock import -", stdin: "sku,title,on_hand,tracked\nNEW,New,3,true\nBOOK-001,A book,9,true\nPOST,Postage,0,false\n"},
		"stock import bad":         {args: "stock import -", stdin: "sku,title,on_hand,tracked\nNEW,New,three,true\nBOOK-001,A book,9\n"},
		"stock export":             {args: "stock export"},
		"replay":                   {args: "replay - --concurrency 1", stdin: sample},
		"replay bad":               {args: "replay -", stdin: strings.ReplaceAll(sample, "12.99", "free")},
		"version":                  {args: "version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, json := range []bool{false, true} {
				s, url := stocked(t)
				s.pending["slow"] = 1
				if c.before != "" {
					if r := do(t, nil, "", append(strings.Fields(c.before), "--url", url)...); r.code != 0 {
						t.Fatalf("%s: %+v", c.before, r)
					}
				}
				args := []string{"--url", url}
				for _, a := range strings.Fields(c.args) {
					args = append(args, strings.ReplaceAll(a, "|", " "))
				}
				file := name
				if json {
					args, file = append(args, "--json"), name+" json"
				}
				r := do(t, nil, c.stdin, args...)
				golden(t, file, r)
				if json && r.out != "" && !strings.HasPrefix(name, "stock export") {
					oneDocument(t, r.out)
				}
			}
		})
	}
}

// oneDocument fails unless text is exactly one JSON object.
func oneDocument(t *testing.T, text string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Errorf("not a JSON object: %v\n%s", err, text)
	}
	if d.More() {
		t.Errorf("more than one JSON document:\n%s", text)
	}
}

// source is a context for verify.
type source struct {
	name   string
	counts map[string]int64
	broken []audit.Violation
	claims []audit.Claim
}

func (s source) Name() string { return s.name }

func (s source) States() []audit.What {
	return map[string][]audit.What{"orders": {audit.OrderPending, audit.OrderConfirmed, audit.OrderOff, audit.OrderFulfilled, audit.OrderReturned}, "payments": {audit.MoneyHeld, audit.ProviderHeld}}[s.name]
}
func (s source) Check(context.Context) (map[string]int64, []audit.Violation, error) {
	return s.counts, s.broken, nil
}
func (s source) Claims(_ context.Context, yield func(audit.Claim) bool) error {
	for _, c := range s.claims {
		if !yield(c) {
			break
		}
	}
	return nil
}
func (s source) Close() error { return nil }

func inspected(sources ...source) []node.Context {
	var contexts []node.Context
	for _, s := range sources {
		contexts = append(contexts, node.Context{Name: s.name, Inspect: func(context.Context, string, string) (audit.Source, error) { return s, nil }})
	}
	return contexts
}

func TestVerifyOutput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, verifyOutput) // the pauses of the audit cost nothing there
}

func verifyOutput(t *testing.T) {
	orders := source{name: "orders", counts: map[string]int64{"confirmed": 11233, "rejected": 1744}, claims: []audit.Claim{
		{Order: "o1", What: audit.OrderConfirmed, Amount: 500, Currency: "GBP"}, {Order: "o2", What: audit.OrderOff},
	}}
	good := source{name: "payments", counts: map[string]int64{"authorized": 1}, claims: []audit.Claim{
		{Order: "o1", What: audit.MoneyHeld, Amount: 500, Currency: "GBP", Ref: "p1"}, {Order: "o1", What: audit.ProviderHeld, Amount: 500, Currency: "GBP", Ref: "p1"},
	}}
	bad := good
	bad.broken = []audit.Violation{{Rule: "outbox_drained", Detail: "event e1 has waited since noon"}}
	bad.claims = append(bad.claims[:1:1], audit.Claim{Order: "o2", What: audit.MoneyHeld, Amount: 500, Currency: "GBP", Ref: "p2"})

	slow := orders
	slow.claims = append(slow.claims[:1:1], audit.Claim{Order: "o2", What: audit.OrderOff, Since: time.Now().Add(-125 * time.Second), UnitsAnswer: true})
	late := good
	late.broken = []audit.Violation{{Rule: "inbox_drained", Detail: "event e1 is not consumed by payments", Since: time.Now().Add(-125 * time.Second)}, {Rule: "inbox_drained", Detail: "and 1499 more", Since: time.Now(), Times: 1499}}

	for _, json := range []string{"", " json"} {
		args := []string{"verify"}
		if json != "" {
			args = append(args, "--json")
		}
		golden(t, "verify ok"+json, do(t, inspected(orders, good), "", args...))
		golden(t, "verify on its way"+json, do(t, inspected(slow, late), "", args...))
		golden(t, "verify violations"+json, do(t, inspected(orders, bad), "", args...))
	}
}

func TestConfigOutput(t *testing.T) {
	t.Parallel()
	args := []string{"config", "--listen", "127.0.0.1:3999", "--orders-db", "postgres://keeper:secret@db/orders?password=secret"}
	golden(t, "config", do(t, nil, "", args...))
	golden(t, "config json", do(t, nil, "", append(args, "--json")...))
	if r := do(t, nil, "", args...); strings.Contains(r.out+r.errout, "secret") {
		t.Errorf("a secret is shown: %+v", r)
	}
}
