package httpd_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/httpd"
	"go.yaml.in/yaml/v4"
)

// contracts are the real ones; the pages must be able to show them.
func contracts(t testing.TB) [][]byte {
	t.Helper()
	var all [][]byte
	for _, c := range []string{"orders", "inventory", "payments"} {
		b, err := os.ReadFile("../../" + c + "/v1/openapi.yaml")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

func TestMerge(t *testing.T) {
	t.Parallel()
	all := contracts(t)
	t.Run("keeps every path and component of the real contracts", func(t *testing.T) {
		t.Parallel()
		merged, err := httpd.Merge(all)
		if err != nil {
			t.Fatal(err)
		}
		type doc struct {
			OpenAPI    string
			Info       struct{ Title string }
			Paths      map[string]map[string]any
			Components map[string]map[string]any
		}
		var have doc
		if err := yaml.Unmarshal(merged, &have); err != nil {
			t.Fatal(err)
		}
		if have.OpenAPI != "3.1.0" || have.Info.Title != "Orderkeep" {
			t.Errorf("openapi %q, title %q", have.OpenAPI, have.Info.Title)
		}
		for _, c := range all {
			var one doc
			if err := yaml.Unmarshal(c, &one); err != nil {
				t.Fatal(err)
			}
			for path, item := range one.Paths {
				for op := range item {
					if have.Paths[path][op] == nil {
						t.Errorf("%s %s is lost", op, path)
					}
				}
			}
			for kind, names := range one.Components {
				for name := range names {
					if have.Components[kind][name] == nil {
						t.Errorf("component %s/%s is lost", kind, name)
					}
				}
			}
		}
	})
	t.Run("gives the same bytes each time", func(t *testing.T) {
		t.Parallel()
		a, _ := httpd.Merge(all)
		if b, _ := httpd.Merge(all); !bytes.Equal(a, b) {
			t.Error("two merges differ")
		}
	})
	t.Run("refuses two of one path", func(t *testing.T) {
		t.Parallel()
		if _, err := httpd.Merge([][]byte{all[0], all[0]}); err == nil || !strings.Contains(err.Error(), "/v1/orders") {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("keeps apart components of one name that differ, and those that refer to them", func(t *testing.T) {
		t.Parallel()
		one := "openapi: 3.1.0\ninfo: {title: One}\ncomponents:\n  schemas:\n    A: {type: string}\n    B: {$ref: '#/components/schemas/A'}\n    C: {type: object}\n"
		two := "openapi: 3.1.0\ninfo: {title: The Two}\ncomponents:\n  schemas:\n    B: {$ref: '#/components/schemas/A'}\n    A: {type: integer}\n    C: {type: object}\n"
		merged, err := httpd.Merge([][]byte{[]byte(one), []byte(two)})
		if err != nil {
			t.Fatal(err)
		}
		var have struct {
			Components struct{ Schemas map[string]map[string]string }
		}
		if err := yaml.Unmarshal(merged, &have); err != nil {
			t.Fatal(err)
		}
		want := map[string]map[string]string{
			"A": {"type": "string"}, "B": {"$ref": "#/components/schemas/A"}, "C": {"type": "object"},
			"TwoA": {"type": "integer"}, "TwoB": {"$ref": "#/components/schemas/TwoA"},
		}
		if d := cmp.Diff(want, have.Components.Schemas); d != "" {
			t.Error(d)
		}
	})
}

func TestDocsPage(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(httpd.New(httpd.Options{Contracts: contracts(t)}))
	defer s.Close()
	res, err := http.Get(s.URL + "/docs") //nolint:noctx // a test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	page := string(b)
	if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("GET /docs = %d %s: %s", res.StatusCode, res.Header.Get("Content-Type"), page)
	}
	for what, want := range map[string]string{
		"an operation's place":      `id="placeOrder"`,
		"a nested field":            `<code>items[].qty</code>`,
		"a rule":                    "at most 2147483647",
		"a request to try":          `-d &#39;{&#34;items&#34;:[{&#34;qty&#34;:1,&#34;sku&#34;:&#34;SKU-1&#34;}]}&#39;`,
		"a way to skip":             `href="#content"`,
		"a phone's width":           `width=device-width`,
		"an operation of Payments":  `id="refundPayment"`,
		"the feeds under one group": `id="listStockEvents"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s: %s", what, want)
		}
	}
	if strings.Contains(page, "<script") || strings.Contains(page, "ZgotmplZ") || strings.Contains(page, `src="`) {
		t.Error("the page has a script, a foreign resource or a refused value")
	}
	policy := res.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("Content-Security-Policy = %q", policy)
	}
	if !strings.Contains(page, "<style>:root") {
		t.Error("the style sheet is not the one that the policy's hash is of")
	}
}
