package window

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string, size int64, age time.Duration) *Window {
	t.Helper()
	w, err := Open(dir, "orders", size, age, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func line(n int) Entry {
	return Entry{Kind: Log, At: noon.Add(time.Duration(n) * time.Second), Service: "orders", Level: "INFO", Message: fmt.Sprint("line ", n), CorrelationID: fmt.Sprint("c-", n%3)}
}

func read(t *testing.T, w *Window, q Query) Page {
	t.Helper()
	p, err := w.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func messages(p Page) string {
	var all []string
	for _, e := range p.Entries {
		all = append(all, strings.TrimPrefix(e.Message, "line "))
	}
	return strings.Join(all, " ")
}

func TestReadsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	w := open(t, t.TempDir(), 1<<20, time.Hour)
	for n := range 6 {
		w.Append(line(n))
	}
	w.Append(Entry{Kind: Span, At: noon.Add(6 * time.Second), Service: "orders", Name: "a", Message: "line s", TraceID: "t-1", Attrs: map[string]any{"orderId": "o<1>"}})
	w.Append(Entry{Kind: Span, At: noon.Add(7 * time.Second), Service: "orders", Name: "b", Message: "line f", Error: "it broke", Links: []Link{{TraceID: "t-1"}}})
	w.Append(Entry{Kind: Log, At: noon.Add(8 * time.Second), Level: "WARN", Message: "line w"})
	for _, c := range []struct {
		want string
		q    Query
	}{
		{"0 1 2 3 4 5 s f w", Query{}},
		{"1 4", Query{Correlation: "c-1"}},
		{"f w", Query{Limit: 2}},
		{"s", Query{Trace: "t-1"}},
		{"s f", Query{Text: []string{"t-1"}}},
		{"1 4 s", Query{Text: []string{"o<1>", "c-1"}}},
		{"s f", Query{Kind: Span}},
		{"f w", Query{Level: "WARN"}},
		{"0 1 2 3 4 5 w", Query{Kind: Log, Level: "INFO"}},
		{"4 5 s f w", Query{From: noon.Add(4 * time.Second)}},
		{"", Query{Correlation: "c"}},
	} {
		if got := messages(read(t, w, c.q)); got != c.want {
			t.Errorf("%+v: %q, want %q", c.q, got, c.want)
		}
	}
}

func TestACursorGoesOnWhereAPageEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := open(t, dir, 1<<20, time.Hour)
	w.Append(line(0))
	p := read(t, w, Query{})
	for n := 1; n <= 5; n++ {
		w.Append(line(n))
	}
	p = read(t, w, Query{After: p.Next, Limit: 2})
	if got := messages(p); got != "1 2" || !p.More {
		t.Errorf("%q, more: %t", got, p.More)
	}
	// The next process goes on in a segment of its own.
	w.Close()
	w = open(t, dir, 1<<20, time.Hour)
	w.Append(line(6))
	p = read(t, w, Query{After: p.Next})
	if got := messages(p); got != "3 4 5 6" || p.More || !p.Oldest.Equal(noon) {
		t.Errorf("%q, more: %t, oldest %v", got, p.More, p.Oldest)
	}
	if got := read(t, w, Query{After: p.Next}); len(got.Entries) != 0 || got.Next != p.Next {
		t.Errorf("nothing has come, and there is %+v", got)
	}
	for _, bad := range []string{"x", "1", "1.-2", "1.2.3", "01.2"} {
		if _, err := w.Read(t.Context(), Query{After: bad}); err == nil {
			t.Errorf("the cursor %q is taken", bad)
		}
	}
}

func TestWaitsForWhatComes(t *testing.T) {
	t.Parallel()
	w := open(t, t.TempDir(), 1<<20, time.Hour)
	at := read(t, w, Query{}).Next
	got := make(chan string)
	go func() {
		p, err := w.Read(context.WithoutCancel(t.Context()), Query{After: at, Correlation: "c-1", Wait: time.Minute})
		got <- fmt.Sprint(messages(p), err)
	}()
	w.Append(line(0)) // somebody else's
	w.Append(line(1))
	if p := <-got; p != "1<nil>" {
		t.Error(p)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := w.Read(gone, Query{After: at, Correlation: "none", Wait: time.Minute}); err != nil || len(p.Entries) > 0 {
		t.Error(p, err)
	}
}

func TestWhatIsTornIsLeftOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := open(t, dir, 1<<20, time.Hour)
	w.Append(line(0))
	w.Append(line(1))
	w.Close()
	name := filepath.Join(dir, "orders", segment(1))
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(text) / 2 {
		if err := os.WriteFile(name, text[:len(text)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		w := open(t, dir, 1<<20, time.Hour)
		w.Append(line(2))
		want := "0 1 2"
		if cut > 0 {
			want = "0 2"
		}
		if got := messages(read(t, w, Query{})); got != want {
			t.Fatalf("%d bytes short: %q, want %q", cut, got, want)
		}
		last := w.path(w.parts[len(w.parts)-1].n)
		w.Close()
		os.Remove(last)
	}
}

func TestKeepsToItsSizeAndAge(t *testing.T) {
	t.Parallel()
	const size = 1 << 16
	dir := t.TempDir()
	w := open(t, dir, size, 8*time.Hour)
	now := noon
	w.mu.Lock()
	w.now = func() time.Time { return now }
	w.parts[0].first, w.parts[0].last = now, now
	w.mu.Unlock()
	for n := range 2000 {
		w.Append(line(n))
		if n%100 == 0 && onDisk(t, dir) > size {
			t.Fatalf("%d bytes after %d lines, of %d", onDisk(t, dir), n+1, size)
		}
	}
	p := read(t, w, Query{Limit: MaxLimit})
	if len(p.Entries) < 300 || p.Entries[len(p.Entries)-1].Message != "line 1999" || onDisk(t, dir) < size/2 || w.Size() != onDisk(t, dir) {
		t.Errorf("%d lines are left, in %d bytes", len(p.Entries), onDisk(t, dir))
	}
	now = now.Add(8*time.Hour + time.Second)
	w.Append(line(2000))
	if got := messages(read(t, w, Query{})); got != "2000" {
		t.Errorf("after the age there is %q", got)
	}
	huge := line(1)
	huge.Message = strings.Repeat("x", size)
	if w.Append(huge); w.Dropped() != 1 {
		t.Errorf("%d dropped", w.Dropped())
	}
}

func onDisk(t *testing.T, dir string) (total int64) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			total += info.Size()
		}
	}
	return total
}

func TestASecondProcessHasItsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := open(t, dir, 1<<20, time.Hour), open(t, dir, 1<<20, time.Hour)
	a.Append(line(1))
	b.Append(line(2))
	if one, two := messages(read(t, a, Query{})), messages(read(t, b, Query{})); one != "1" || two != "2" {
		t.Errorf("%q and %q", one, two)
	}
}

func TestManyWriteAtOnce(t *testing.T) {
	t.Parallel()
	w := open(t, t.TempDir(), 1<<20, time.Hour)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 50 {
				w.Append(line(n*50 + i))
				if i%10 == 0 {
					if _, err := w.Read(t.Context(), Query{Limit: 5}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if p := read(t, w, Query{Limit: MaxLimit}); len(p.Entries) != 400 {
		t.Errorf("%d lines", len(p.Entries))
	}
}

func TestNoWindowKeepsNothing(t *testing.T) {
	t.Parallel()
	var w *Window
	w.Append(line(1))
	if p, err := w.Read(t.Context(), Query{}); err != nil || len(p.Entries) != 0 || w.Close() != nil || w.Size() != 0 || w.Dropped() != 0 {
		t.Error(p, err)
	}
}
