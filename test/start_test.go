package test

import (
	"context"
	"database/sql"
	"github.com/orderkeep/orderkeep/test/stage"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to lay a database out as a later version would
)

// refused starts a program that must not start, and looks for what it has to say.
func refused(t *testing.T, l stage.Launch, wants ...string) {
	t.Helper()
	p := stage.Spawn(t, l)
	// It ends by itself with a failure, which is what is wanted here.
	select {
	case <-p.Ended:
	case <-p.Log.Await("serving"):
		t.Fatal("it serves")
	case <-time.After(stage.Patience):
		t.Fatalf("it neither serves nor ends:\n%s", p.Log)
	}
	p.Expected = true
	if code := p.Cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("it exits with %d, want 1", code)
	}
	text := p.Log.String()
	for _, w := range wants {
		if !strings.Contains(text, w) {
			t.Errorf("it does not say %q:\n%s", w, text)
		}
	}
	if strings.Contains(text, "goroutine ") {
		t.Errorf("it panics:\n%s", text)
	}
}

// A start that cannot be is one clear sentence, and what is in the directory stays what it is.
func TestStartThatCannotBeSaysWhyAndHarmsNothing(t *testing.T) {
	t.Parallel()
	// sold is a shop that has sold a book under the key k.
	sold := func(t *testing.T) *shop {
		s := oneProcess(t, 5)
		want(t, s.place(t, "k", paid(visa, one)), http.StatusCreated, "")
		return s
	}
	// unharmed looks whether the book is still sold once.
	unharmed := func(t *testing.T, s *shop) {
		t.Helper()
		if a := s.place(t, "k", paid(visa, one)); a.status != http.StatusCreated || !a.replayed() {
			t.Errorf("the key gives %v, want the first answer", a)
		}
		s.hasAvailable(t, book, 4)
		s.verify(t)
		s.close(t)
	}

	t.Run("beside another process on the same directory", func(t *testing.T) {
		t.Parallel()
		s := sold(t)
		refused(t, stage.Launch{Path: program, Args: s.serve()}, s.data, "in use", strconv.Itoa(s.process("orders").Cmd.Process.Pid), "--data")
		unharmed(t, s)
	})
	t.Run("on a port in use", func(t *testing.T) {
		t.Parallel()
		s := sold(t)
		addr := strings.TrimPrefix(s.process("orders").URL, "http://")
		other := t.TempDir()
		refused(t, stage.Launch{Path: program, Args: []string{"serve", "--data", other, "--listen", addr}}, addr, "in use", "--listen")
		unharmed(t, s)
	})
	t.Run("on a database of a later version", func(t *testing.T) {
		t.Parallel()
		s := sold(t)
		s.close(t)
		edit(t, filepath.Join(s.data, "orders.db"), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`)
		refused(t, stage.Launch{Path: program, Args: s.serve()}, "database_from_the_future", "99999", "orders", "restore a backup")
		if _, log, code := s.cli(t, "", "verify"); code != 1 || !strings.Contains(log, "database_from_the_future") {
			t.Errorf("verify exits with %d: %s", code, log)
		}
		edit(t, filepath.Join(s.data, "orders.db"), `DELETE FROM goose_db_version WHERE version_id = 99999`)
		s.start(t)
		unharmed(t, s)
	})
	t.Run("on another context's database", func(t *testing.T) {
		t.Parallel()
		s := sold(t)
		s.close(t)
		swapped := []string{"ORDERS_DB=sqlite:" + filepath.Join(s.data, "inventory.db"), "INVENTORY_DB=sqlite:" + filepath.Join(s.data, "orders.db")}
		refused(t, stage.Launch{Path: program, Args: s.serve(), Env: swapped}, "foreign_database", "inventory", "orders")
		s.start(t)
		unharmed(t, s)
	})
	t.Run("on a file that is no database", func(t *testing.T) {
		t.Parallel()
		s := newShop(t)
		path := filepath.Join(s.data, "payments.db")
		text := []byte(strings.Repeat("the holiday photos, and nothing else\n", 1000))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, stage.Launch{Path: program, Args: s.serve()}, "not_a_database", "payments")
		if now, err := os.ReadFile(path); err != nil || string(now) != string(text) {
			t.Errorf("the file was changed: %v", err)
		}
	})
	t.Run("with settings that are wrong, all of them named", func(t *testing.T) {
		t.Parallel()
		s := newShop(t)
		refused(t, stage.Launch{Path: program, Args: append(s.serve(), "--read-timeout", "0s"), Env: []string{"PAYMENTS_URL=ftp://till"}}, "--read-timeout", "PAYMENTS_URL")
		if files, err := os.ReadDir(s.data); err != nil || len(files) > 0 {
			t.Errorf("it has made %v before it looked at its settings: %v", files, err)
		}
	})
}

// edit changes a database that nobody has open.
func edit(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(context.Background(), statement); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
