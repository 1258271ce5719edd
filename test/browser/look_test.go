package browser

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/orderkeep/orderkeep/test/stage"
)

// axe is axe-core 4.14.1, as npm has it; its licence is beside it.
//
//go:embed testdata/axe/axe.min.js
var axe string

// window is how a page is looked at.
type window struct {
	name          string
	width, height int64
	dark          bool
}

var (
	desk  = window{"desk", 1280, 900, false}
	night = window{"night", 1280, 900, true}
	phone = window{"phone", 390, 844, false}
)

// tab is a page of the browser, with what went wrong in it.
type tab struct {
	ctx context.Context

	mu    sync.Mutex
	wrong []string
}

// open starts a browser of its own with one tab, until the test ends.
func open(t *testing.T, w window) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(stage.Need(t, "chromium")), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(stage.Patience))
	ctx, end := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(end)
	ctx, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) }) // waits until it has ended
	// The browser ends with the context of the first run: it has no time of its own.
	if err := chromedp.Run(ctx); err != nil {
		t.Fatal(err)
	}
	b := &tab{ctx: ctx}
	chromedp.ListenTarget(ctx, func(e any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := e.(type) {
		case *runtime.EventExceptionThrown:
			b.wrong = append(b.wrong, e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError && !strings.Contains(e.Entry.Text, "the server responded with a status of") { // a page that says what is missing
				b.wrong = append(b.wrong, e.Entry.Text)
			}
		}
	})
	scheme := "light"
	if w.dark {
		scheme = "dark"
	}
	b.run(t, log.Enable(), chromedp.EmulateViewport(w.width, w.height),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
	return b
}

func (b *tab) run(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stage.Patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// script runs one in the page and reads what it returns.
func (b *tab) script(t *testing.T, text string, v any) {
	t.Helper()
	b.run(t, chromedp.Evaluate(text, v, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
}

// finding is what axe-core found.
type finding struct {
	ID, Impact, Help string
	Nodes            []string
}

const findings = `axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then(r => r.violations.map(
	v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => n.html.slice(0, 160) + " — " + n.failureSummary.slice(0, 220))})))`

// look goes to a page, takes its picture, and says everything that is wrong with it.
func (b *tab) look(t *testing.T, url, picture string) {
	t.Helper()
	b.run(t, chromedp.Navigate(url), chromedp.WaitReady("main"))
	var image []byte
	b.run(t, chromedp.FullScreenshot(&image, 100))
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), picture+".png"), image, 0o600); err != nil {
		t.Fatal(err)
	}
	var beside int64
	b.script(t, `document.documentElement.scrollWidth - document.documentElement.clientWidth`, &beside)
	if beside > 0 {
		t.Errorf("%s is %d pixels wider than its window", picture, beside)
	}
	var found []finding
	b.script(t, axe+";0", nil)
	b.script(t, findings, &found)
	for _, f := range found {
		if f.Impact == "serious" || f.Impact == "critical" {
			t.Errorf("%s: %s (%s): %s\n%s", picture, f.ID, f.Impact, f.Help, strings.Join(f.Nodes[:min(3, len(f.Nodes))], "\n"))
		} else {
			t.Logf("%s: %s (%s): %s", picture, f.ID, f.Impact, f.Help)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, wrong := range b.wrong {
		t.Errorf("%s: %s", picture, wrong)
	}
	b.wrong = nil
}

func TestPagesAreSoundInOneProcess(t *testing.T) {
	t.Parallel()
	s := oneProcess(t).fill()
	s.verify()
	for _, w := range []window{desk, night, phone} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			b := open(t, w)
			for _, p := range s.pages() {
				b.look(t, s.console+p[1], "one-"+w.name+"-"+p[0])
			}
		})
	}
}

func TestPagesAreSoundWhereNothingIsYet(t *testing.T) {
	t.Parallel()
	s := oneProcess(t)
	b := open(t, phone)
	for _, p := range [][2]string{{"now", "/console"}, {"orders", "/console/orders"}, {"stock", "/console/stock"}, {"payments", "/console/payments"}, {"events", "/console/events"}, {"verify", "/console/verify"}} {
		b.look(t, s.console+p[1], "empty-phone-"+p[0])
	}
}

func TestPagesAreSoundSplitAndWithAServiceAway(t *testing.T) {
	t.Parallel()
	s := split(t).fill()
	b := open(t, desk)
	s.verify()
	for _, p := range s.pages() {
		b.look(t, s.console+p[1], "split-"+p[0])
	}
	if err := s.processes["inventory"].Stop(); err != nil {
		t.Fatal(err)
	}
	small := open(t, phone)
	for _, p := range s.pages() {
		b.look(t, s.console+p[1], "away-"+p[0])
		small.look(t, s.console+p[1], "away-phone-"+p[0])
	}
	for _, at := range []string{"/console", "/console/orders/" + s.orders["returned"], "/console/stock", "/console/events"} {
		var text string
		b.run(t, chromedp.Navigate(s.console+at), chromedp.Text("main", &text))
		if !strings.Contains(text, "missing") || !strings.Contains(text, "Inventory") {
			t.Errorf("%s does not say that Inventory is missing:\n%s", at, text)
		}
	}
	var text string
	b.run(t, chromedp.Navigate(s.console+"/console/events"), chromedp.Text("main", &text))
	for _, want := range []string{"OrderReturned", "PaymentRefunded", "order " + s.orders["returned"][:8]} {
		if !strings.Contains(text, want) {
			t.Errorf("without Inventory the page of events says nothing of %q:\n%s", want, text)
		}
	}
	b.run(t, chromedp.Navigate(s.console+"/console/orders/"+s.orders["returned"]), chromedp.Text("main", &text))
	for _, want := range []string{"26.50 GBP", "returned", "payment refunded", "return order by ann"} {
		if !strings.Contains(text, want) {
			t.Errorf("without Inventory the order's page says nothing of %q:\n%s", want, text)
		}
	}
}

func TestAnOrderIsFulfilledByKeyboard(t *testing.T) {
	t.Parallel()
	s := oneProcess(t).fill()
	b := open(t, desk)
	b.run(t, chromedp.Navigate(s.console+"/console/orders/"+s.orders["confirmed"]), chromedp.WaitReady("main"))
	focus := func() (at string) {
		b.script(t, `(e => (e.closest("details") && e.tagName != "SUMMARY" ? "in " : "") + (e.name || e.textContent.trim().slice(0, 24)))(document.activeElement)`, &at)
		return at
	}
	b.run(t, chromedp.KeyEvent("\t"))
	if at := focus(); at != "Skip to the content" {
		t.Fatalf("the first stop is %q", at)
	}
	press := func(until string) {
		t.Helper()
		for range 80 {
			if focus() == until {
				return
			}
			b.run(t, chromedp.KeyEvent("\t"))
		}
		t.Fatalf("%q cannot be reached by keyboard", until)
	}
	press("Fulfil…")
	b.run(t, chromedp.KeyEvent("\r"))
	press("in reason")
	b.run(t, chromedp.KeyEvent("handed over"))
	press("in actor")
	b.run(t, chromedp.KeyEvent("ann"), chromedp.KeyEvent("\r"), chromedp.WaitVisible(".note.good"))
	var text string
	b.run(t, chromedp.Text("main", &text))
	for _, want := range []string{"The order is fulfilled.", "fulfil order by ann", "handed over"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
	if got := s.send("orders", "GET", "/v1/orders/"+s.orders["confirmed"], "", 200)["status"]; got != "fulfilled" {
		t.Errorf("the order is %v", got)
	}
}

func TestThePageOfAnOrderChangesNothingByItself(t *testing.T) {
	t.Parallel()
	s := oneProcess(t).fill()
	b := open(t, desk)
	at := s.console + "/console/orders/" + s.orders["confirmed"]
	b.run(t, chromedp.Navigate(at), chromedp.Click(`//summary[contains(., "Cancel")]`, chromedp.BySearch))
	if got := s.send("orders", "GET", "/v1/orders/"+s.orders["confirmed"], "", 200)["status"]; got != "confirmed" {
		t.Errorf("a click on Cancel… made the order %v before it was confirmed", got)
	}
}

// The charts come from the script, and new figures without a new page.
func TestFiguresComeByThemselves(t *testing.T) {
	t.Parallel()
	s := oneProcess(t).fill()
	b := open(t, desk)
	b.run(t, chromedp.Navigate(s.console+"/console"), chromedp.WaitReady("#live"))
	b.script(t, `window.marked = true; document.getElementById("live").dataset.old = "1"; 0`, nil)
	b.run(t, chromedp.WaitVisible(".u-wrap"), chromedp.WaitNotPresent("#live[data-old]"))
	var same bool
	if b.script(t, `window.marked === true`, &same); !same {
		t.Error("the page was loaded anew")
	}
	b.look(t, fmt.Sprintf("%s/console?at=%d", s.console, time.Now().UnixNano()), "charts")
}
