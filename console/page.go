package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry"
)

//go:embed templates/*.html
var templates embed.FS

//go:embed static
var assets embed.FS

// pages are the templates, read when the first page is asked for: an idle process does without.
type pages struct {
	read func() (map[string]*template.Template, error)
	// version makes the address of an asset new when any of them has changed.
	version func() string
}

func newPages() *pages {
	return &pages{read: sync.OnceValues(readPages), version: sync.OnceValue(assetsVersion)}
}

func readPages() (map[string]*template.Template, error) {
	layout, err := template.New("layout.html").Funcs(words).ParseFS(templates, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	all := map[string]*template.Template{}
	files, err := templates.ReadDir("templates")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".html")
		if name == "layout" || name == "parts" {
			continue
		}
		t, err := layout.Clone()
		if err != nil {
			return nil, err
		}
		if all[name], err = t.ParseFS(templates, "templates/"+f.Name()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func assetsVersion() string {
	sum := sha256.New()
	files, _ := assets.ReadDir("static") // it is embedded
	for _, f := range files {
		text, _ := assets.ReadFile("static/" + f.Name())
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// kinds are the assets that are served; their licences are beside them in the source.
var kinds = map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

func (c *console) static(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	kind := kinds[path.Ext(name)]
	text, err := assets.ReadFile("static/" + name)
	if kind == "" || err != nil {
		c.nothing(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == c.pages.version() {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = w.Write(text) // a client that is gone misses nothing
}

// view is what the layout knows.
type view struct {
	Title   string
	Section string // of the navigation
	Version string // of the assets
	Who     string // who is signed in, or has given a name
	Session bool   // somebody can sign out
	Done    string // what was just done
	Data    any
}

type link struct{ Href, Name string }

// sections are the navigation.
func (view) Sections() []link {
	return []link{{"/console", "Now"}, {"/console/orders", "Orders"}, {"/console/stock", "Stock"}, {"/console/payments", "Payments"}, {"/console/events", "Events"}, {"/console/verify", "Verify"}}
}

// section is the entry of the navigation that a path belongs to.
func section(path string) string {
	for _, s := range (view{}).Sections() {
		if s.Href != "/console" && strings.HasPrefix(path, s.Href) {
			return s.Href
		}
	}
	return "/console"
}

// done are the sentences for what was done, by the word in ?done=. A sentence never comes from the address itself.
var done = map[string]string{
	"cancel": "The order is cancelled.", "fulfil": "The order is fulfilled.", "return": "The order is returned.", "drive": "The order was driven on.",
	"release": "The units were released.", "void": "The payment was voided.", "adjust": "The stock was adjusted.", "import": "The file was imported.",
	"redrive": "The event waits to be handled again.", "reset": "The breakers were reset.",
}

// show answers with a page. It is whole or it is an error: nothing is sent before all of it is there.
func (c *console) show(w http.ResponseWriter, r *http.Request, status int, name, title string, data any) {
	all, err := c.pages.read()
	var out bytes.Buffer
	if err == nil {
		v := view{
			Title: title, Section: section(r.URL.Path), Version: c.pages.version(), Who: c.guard.who(r), Session: c.guard.token != "" && c.guard.who(r) != "",
			Done: done[r.URL.Query().Get("done")], Data: data,
		}
		err = all[name].ExecuteTemplate(&out, "layout.html", v)
	}
	if err != nil {
		c.log.ErrorContext(r.Context(), "a page of the console cannot be made", "page", name, "error", err)
		http.Error(w, "This page cannot be made; the log says why. Correlation id: "+telemetry.Correlation(r.Context()), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // a client that is gone misses nothing
}

type refusal struct {
	Detail string
	Items  []item
	Back   string
}

// refuse says on a page of its own what was not done, and what to do.
func (c *console) refuse(w http.ResponseWriter, r *http.Request, status int, title, detail string, items ...item) {
	back := "/console"
	if r.Method == http.MethodPost {
		back = r.URL.Path
	}
	c.show(w, r, status, "refused", title, refusal{Detail: detail, Items: items, Back: back})
}

// troubled answers with the trouble that an action met.
func (c *console) troubled(w http.ResponseWriter, r *http.Request, bad *trouble) {
	status := bad.Status
	if status < 400 {
		status = http.StatusBadGateway
	}
	title := bad.Service + " did not do it"
	if bad.Gone() {
		title = bad.Service + " did not answer: whether it was done is not known"
	}
	c.refuse(w, r, status, title, bad.Detail, bad.Items...)
}

// back answers a form that was done: the browser gets the page anew, so that reloading it does nothing twice.
func back(w http.ResponseWriter, r *http.Request, to, what string) {
	sep := "?"
	if strings.Contains(to, "?") {
		sep = "&"
	}
	http.Redirect(w, r, to+sep+"done="+what, http.StatusSeeOther)
}

func escape(s string) string { return url.QueryEscape(s) }

// words are what the templates can say.
var words = template.FuncMap{
	"money": money, "count": count, "time": clock, "stamp": stamp, "ago": ago, "short": short, "title": titleOf, "query": escape, "path": url.PathEscape,
	"human": human, "took": took, "seconds": seconds, "tone": tone, "dict": dict, "percent": percent,
}

// dict gives a part of a page several values.
func dict(pairs ...any) (map[string]any, error) {
	all := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("%v is no name", pairs[i])
		}
		all[name] = pairs[i+1]
	}
	return all, nil
}

// exponents are the currencies whose minor unit is not a hundredth (ISO 4217), as far as shops take them.
var exponents = map[string]int{
	"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0, "UGX": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
	"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
}

func money(minor int64, currency string) string {
	if currency == "" {
		return count(minor)
	}
	exponent, ok := exponents[currency]
	if !ok {
		exponent = 2
	}
	sign := ""
	if minor < 0 {
		sign, minor = "−", -minor
	}
	digits := fmt.Sprintf("%0*d", exponent+1, minor)
	whole, rest := digits[:len(digits)-exponent], digits[len(digits)-exponent:]
	if rest != "" {
		rest = "." + rest
	}
	return sign + grouped(whole) + rest + " " + currency
}

func count(n int64) string {
	if n < 0 {
		return "−" + grouped(strconv.FormatInt(n, 10)[1:])
	}
	return grouped(strconv.FormatInt(n, 10))
}

func grouped(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func ago(t time.Time) string { return human(time.Since(t)) + " ago" }

// human is a duration in one or two words.
func human(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " days"
}

func seconds(s float64) string { return took(time.Duration(s * float64(time.Second))) }

// took is a duration with three digits.
func took(d time.Duration) string {
	switch {
	case d <= 0:
		return "0"
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " µs"
	case d < 10*time.Millisecond:
		return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 2, 64) + " ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) + " s"
	}
	return human(d)
}

func percent(part, whole uint64) string {
	if whole == 0 {
		return "0 %"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + " %"
}

// short is enough of an id to tell it from its neighbours.
func short(id string) string {
	if len(id) == 36 {
		return id[:8] + "…" + id[len(id)-6:]
	}
	if len(id) > 24 {
		return id[:23] + "…"
	}
	return id
}

// tone is the colour of a word: whether what it says is good, under way, over, or bad.
func tone(word string) string {
	switch word {
	case "confirmed", "fulfilled", "captured", "succeeded", "ready", "closed", "authorized", "ok", "done":
		return "good"
	case "pending", "undoing", "unknown", "started", "capturing", "voiding", "refunding", "degraded", "half-open", "draining", "unavailable":
		return "warn"
	case "rejected", "declined", "open", "not_ready", "failed", "missing":
		return "bad"
	}
	return "plain"
}
