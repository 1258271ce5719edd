package browser

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
)

// submit sends a form of the console as a browser does, follows where it leads, and returns the page there.
func (s *shop) submit(c *http.Client, path string, kind string, body io.Reader) (status int, page string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.console+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	res, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// What people do in the console is done by the context that it is about, once, and is in its trail, in one process and split.
func TestActionsAreDoneAndInTheTrail(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *shop{"one process": oneProcess, "split": split} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t).fill()
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			c := &http.Client{Jar: jar}
			form := func(path string, pairs ...string) (int, string) {
				v := url.Values{}
				for i := 0; i < len(pairs); i += 2 {
					v.Set(pairs[i], pairs[i+1])
				}
				return s.submit(c, path, "application/x-www-form-urlencoded", strings.NewReader(v.Encode()))
			}
			want := func(what string, status int, page string, wantStatus int, text string) {
				t.Helper()
				if status != wantStatus || !strings.Contains(page, text) {
					t.Errorf("%s: %d, want %d and %q in\n%s", what, status, wantStatus, text, page)
				}
			}
			at := func(name string) string { return "/console/orders/" + s.orders[name] }

			status, page := form("/console/stock", "sku", "MUG-BLUE", "location", "default", "expected", "99", "onHand", "12", "reason", "counted", "actor", "ann")
			want("stock that has changed meanwhile", status, page, 409, "Inventory did not do it")
			status, page = form("/console/stock", "sku", "MUG-BLUE", "location", "default", "expected", "6", "onHand", "12", "reason", "counted", "actor", "ann")
			want("stock", status, page, 200, "The stock was adjusted.")
			status, page = form(at("confirmed"), "what", "cancel", "reason", "twice", "actor", "ann")
			want("a cancellation", status, page, 200, "cancel order by ann")
			status, page = form(at("confirmed"), "what", "fulfil", "reason", "x", "actor", "ann")
			want("a fulfilment that is too late", status, page, 409, "Orders did not do it")
			status, page = form(at("declined"), "what", "void", "reason", "to be sure", "actor", "ann")
			want("a void", status, page, 200, "The payment was voided.")
			status, page = form(at("declined"), "what", "release", "reason", "to be sure", "actor", "ann")
			want("a release", status, page, 200, "The units were released.")

			parked := s.send("inventory", "GET", "/v1/events/inventory/parked", "", 200)["events"].([]any)[0].(map[string]any)["id"].(string)
			status, page = form("/console/events/redrive", "consumer", "inventory", "id", parked, "reason", "mended", "actor", "ann")
			want("a redrive", status, page, 200, "The event waits to be handled again.")
			stage.Eventually(t, "the event is handled", func() bool {
				return len(s.send("inventory", "GET", "/v1/events/inventory/parked", "", 200)["events"].([]any)) == 0
			})

			sheet := func(csv string, fields ...string) (int, string) {
				var body bytes.Buffer
				m := multipart.NewWriter(&body)
				for i := 0; i < len(fields); i += 2 {
					_ = m.WriteField(fields[i], fields[i+1]) // into memory
				}
				f, err := m.CreateFormFile("file", "stock.csv")
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprint(f, csv)
				m.Close()
				return s.submit(c, "/console/stock/import", m.FormDataContentType(), &body)
			}
			const good = "sku,title,on_hand,tracked\nNEW-1,New,5,true\nMUG-BLUE,Mug with a whale,12,true\n"
			status, page = sheet("sku,title,on_hand,tracked\nNEW-1,New,many,true\n,x,1,true\n")
			want("a bad file", status, page, 422, `data-label="Row" class="n">3<`)
			status, page = sheet(good)
			want("a preview", status, page, 200, "nothing has changed yet")
			s.send("inventory", "GET", "/v1/stock/NEW-1", "", 404)
			status, page = sheet(good, "really", "1", "actor", "ann")
			want("an import", status, page, 200, "The file was imported.")
			s.send("inventory", "GET", "/v1/stock/NEW-1", "", 200)

			for context, acts := range map[string]string{"orders": "return_order cancel_order cancel_order", "inventory": "adjust_stock redrive_event import_stock"} {
				path := map[string]string{"orders": "/v1/acts", "inventory": "/v1/acts/inventory"}[context]
				var got []string
				for _, a := range s.send(context, "GET", path, "", 200)["acts"].([]any) {
					if a := a.(map[string]any); a["actor"] == "ann" {
						got = append(got, a["what"].(string))
					}
				}
				if strings.Join(got, " ") != acts {
					t.Errorf("the trail of %s has %v, want %s", context, got, acts)
				}
			}
		})
	}
}
