package archive_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
)

func open(t *testing.T, path string) *archive.Dir {
	t.Helper()
	d, err := archive.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// sealed is a part with records 1 to n of orders, and one of payments.
func sealed(t *testing.T, d *archive.Dir, n int) *archive.Part {
	t.Helper()
	w, err := d.New(archive.Orders, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		err = errors.Join(err, w.Add("orders", fmt.Appendf(nil, `{"id":"%03d","rows":{}}`, i+1)))
	}
	if err = errors.Join(err, w.Add("payments", []byte(`{"id":"001"}`))); err != nil {
		t.Fatal(err)
	}
	p, err := w.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "archive")
	d := open(t, path)
	w, err := d.New(archive.Orders, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][]string{"orders": {`{"id":"a","rows":{}}`, `{"id":"b","rows":{"x":[1]}}`}, "payments": {`{"id":"b"}`}}
	for context, its := range lines {
		for _, l := range its {
			if err := w.Add(context, []byte(l)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	look, err := archive.Look(path)
	if err != nil || look.ID != d.ID {
		t.Fatal(look, err)
	}
	parts, torn, err := look.Parts()
	if err != nil || len(parts) != 1 || len(torn) != 0 || parts[0].Outcome != nil {
		t.Fatal(parts, torn, err)
	}
	stamps, err := parts[0].Stamps()
	if err != nil {
		t.Fatal(err)
	}
	for context, its := range lines {
		if len(stamps[context]) != len(its) {
			t.Fatalf("%s has %d records, want %d", context, len(stamps[context]), len(its))
		}
		for i, l := range its {
			if stamps[context][i].Sum != archive.SumOf([]byte(l)) {
				t.Errorf("%s %d: another sum", context, i)
			}
		}
	}
	if err := parts[0].Done([]archive.Left{{Context: "payments", ID: "b", Why: "w"}}); err != nil {
		t.Fatal(err)
	}
	parts, _, err = look.Parts()
	if err != nil || parts[0].Outcome == nil || !parts[0].LeftOf("payments", "b") || parts[0].LeftOf("orders", "b") {
		t.Errorf("%+v, %v", parts[0].Outcome, err)
	}
	err = filepath.WalkDir(path, func(name string, f os.DirEntry, err error) error {
		if info, infoErr := f.Info(); err != nil || infoErr != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s may be read by others: %v, %v", name, info.Mode(), errors.Join(err, infoErr))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Any change of a file is found, whichever it is.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(text []byte) []byte{
		"a bit at the beginning": func(b []byte) []byte { b[3] ^= 1; return b },
		"a bit in the middle":    func(b []byte) []byte { b[len(b)/2] ^= 16; return b },
		"the last bit":           func(b []byte) []byte { b[len(b)-1] ^= 128; return b },
		"cut short":              func(b []byte) []byte { return b[:len(b)-9] },
		"empty":                  func([]byte) []byte { return nil },
		"something behind it":    func(b []byte) []byte { return append(b, 0) },
		"another behind it":      func(b []byte) []byte { return append(b, b...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t, t.TempDir())
			p := sealed(t, d, 300)
			if _, err := p.Stamps(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(d.Path, p.Name, "orders.jsonl.gz")
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, damage(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Stamps(); err == nil || !strings.Contains(err.Error(), "is not as its manifest says") {
				t.Errorf("it is read as %v", err)
			}
		})
	}
}

func TestPartWithoutItsManifestIsTorn(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	sealed(t, d, 1)
	for _, name := range []string{"part-000002-orders", "part-000003-events"} {
		if err := os.Mkdir(filepath.Join(d.Path, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	parts, torn, err := d.Parts()
	if err != nil || len(parts) != 1 || len(torn) != 2 {
		t.Fatal(parts, torn, err)
	}
	// The next one takes its place, without what was left of it.
	if p := sealed(t, d, 1); p.Number != 2 {
		t.Errorf("the next part is %s", p.Name)
	}
	if parts, torn, err = d.Parts(); err != nil || len(parts) != 2 || len(torn) != 0 {
		t.Error(parts, torn, err)
	}
}

func TestDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "orders.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := open(t, t.TempDir())
	newer, moved := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "archive.json"), []byte(`{"version":2,"archive":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := sealed(t, taken, 1)
	if err := open(t, moved).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(taken.Path, p.Name), filepath.Join(moved, p.Name)); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		full: "is not empty, and no archive", taken.Path: "somebody archives into", newer: "use a newer one", filepath.Join(full, "orders.db"): "make the directory",
	} {
		if _, err := archive.Open(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	if _, err := archive.Look(full); err == nil || !strings.Contains(err.Error(), "is no archive") {
		t.Errorf("to read: %v", err)
	}
	d := open(t, moved)
	if _, _, err := d.Parts(); err == nil || !strings.Contains(err.Error(), "it was moved here") {
		t.Errorf("a part of another archive: %v", err)
	}
	if _, err := d.New(archive.Orders, time.Now()); err == nil {
		t.Error("an archive with another's part is written to")
	}
}

func TestRecordThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	w, err := d.New(archive.Events, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"", "{", `{"id":"1"}`, `{"cursor":7}`, "{\"cursor\":\"7\"\n}"} {
		if err := w.Add("orders", []byte(line)); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
	if err := w.Abandon(); err != nil {
		t.Error(err)
	}
	if parts, torn, err := d.Parts(); err != nil || len(parts)+len(torn) != 0 {
		t.Error(parts, torn, err)
	}
}
