package httpd

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"regexp"
	"strings"
)

//go:embed docs.html
var docsHTML string

//go:embed docs.css
var docsCSS string

// docsPolicy lets the page use its own style sheet, known by its hash, and nothing else: no script, no other host.
func docsPolicy() string {
	sum := sha256.Sum256([]byte(docsCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// renderDocs makes the page that people read of an OpenAPI document.
func renderDocs(contract []byte) ([]byte, error) {
	page, err := readContract(contract)
	if err != nil {
		return nil, err
	}
	page.CSS = template.CSS(docsCSS)
	t, err := template.New("docs").Funcs(template.FuncMap{"prose": prose, "inline": inline}).Parse(docsHTML)
	if err != nil {
		return nil, fmt.Errorf("read the page's template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, page); err != nil {
		return nil, fmt.Errorf("render the page: %w", err)
	}
	return out.Bytes(), nil
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// inline shows `code` of a description as such; everything else is text.
func inline(s string) template.HTML {
	escaped := template.HTMLEscapeString(strings.TrimSpace(s))
	return template.HTML(codeSpan.ReplaceAllString(escaped, "<code>$1</code>"))
}

// prose makes paragraphs of a description.
func prose(s string) template.HTML {
	var out strings.Builder
	for p := range strings.SplitSeq(strings.TrimSpace(s), "\n\n") {
		if p != "" {
			out.WriteString("<p>" + string(inline(p)) + "</p>")
		}
	}
	return template.HTML(out.String())
}
