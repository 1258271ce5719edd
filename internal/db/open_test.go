package db_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
)

func TestOpenRefusesWhatIsNotItsDatabase(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T, path string)
		code    string
		says    string // what the operator is told
	}{
		"a file of another context": {func(t *testing.T, path string) {
			s := schema()
			s.Context = "payments"
			d, err := db.Open(t.Context(), "sqlite:"+path, s)
			if err != nil {
				t.Fatal(err)
			}
			d.Close()
		}, "foreign_database", "belongs to payments"},
		"a file from the future": {func(t *testing.T, path string) {
			d, err := db.Open(t.Context(), "sqlite:"+path, schema("-- +goose Up\nCREATE TABLE later (x TEXT);\n"))
			if err != nil {
				t.Fatal(err)
			}
			d.Close()
		}, "database_from_the_future", "schema version 2 and this program knows 1"},
		"a file that is no database": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("Dear diary, ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not_a_database", "not an Orderkeep database"},
		"a database of another program": {func(t *testing.T, path string) {
			other, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if _, err := other.Exec(`CREATE TABLE bookmarks (url TEXT)`); err != nil {
				t.Fatal(err)
			}
		}, "foreign_database", "not Orderkeep's"},
		"a directory": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "storage_unavailable", "cannot be read or written"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "test.db")
			c.prepare(t, path)
			before := content(t, path)
			open := map[string]func(context.Context, string, db.Schema) (*db.DB, error){"Open": db.Open, "OpenReadOnly": db.OpenReadOnly}
			for how, open := range open {
				_, err := open(t.Context(), "sqlite:"+path, schema())
				if err == nil {
					t.Fatalf("%s opened it", how)
				}
				if f := fault.Of(err); f.Code != c.code || !strings.Contains(f.Detail, c.says) || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: %v, want %s that says %q and names the file", how, err, c.code, c.says)
				}
			}
			if content(t, path) != before {
				t.Error("the file was changed")
			}
		})
	}
}

// content of a file, or "" of a directory.
func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if info, serr := os.Stat(path); serr == nil && info.IsDir() {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOpenSaysWhatIsWrongWithTheURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"mysql://host/db": `engine "mysql"`, "/var/lib/test.db": "sqlite:/path", "sqlite:": "sqlite:/path",
	} {
		if _, err := db.Open(t.Context(), url, schema()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", url, err, want)
		}
	}
}

func TestOpenNeedsADirectoryThatItCanMake(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := db.Open(t.Context(), "sqlite:"+filepath.Join(file, "data", "test.db"), schema())
	if err == nil || !strings.Contains(err.Error(), "make the directory") || !strings.Contains(err.Error(), file) {
		t.Errorf("%v, want an error that names the directory", err)
	}
	d, err := db.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "a", "b?c=d#e%20 f", "test.db"), schema())
	if err != nil {
		t.Fatalf("a new directory with odd characters: %v", err)
	}
	d.Close()
}

func TestOpenMigratesAndKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, url := setup(t, e)
		write(t, d, `INSERT INTO pair_a (id, text) VALUES ('a', 'kept')`)
		d.Close()
		broken := schema("-- +goose Up\nCREATE TABLE more (x TEXT);\nINSERT INTO nowhere VALUES (1);\n")
		if _, err := db.Open(t.Context(), url, broken); err == nil {
			t.Fatal("a migration that fails went through")
		}
		d, err := db.Open(t.Context(), url, schema("-- +goose Up\nCREATE TABLE more (x TEXT);\n")) // nothing of the broken one is left
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if n := count(t, d, `SELECT count(*) FROM pair_a WHERE text = 'kept'`) + count(t, d, `SELECT count(*) FROM more`); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

func TestOpenReadOnlyLooksAtALiveDatabase(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, url := setup(t, e)
		r, err := db.OpenReadOnly(t.Context(), url, schema())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for n := range int64(3) {
			write(t, d, `INSERT INTO pair_a (id, text) VALUES ($1, '')`, fmt.Sprint(n))
			if got := count(t, r, `SELECT count(*) FROM pair_a`); got != n+1 {
				t.Errorf("the reader sees %d rows, want %d", got, n+1)
			}
		}
		err = r.Read(t.Context(), func(tx *sql.Tx) error { // one snapshot, and the writer goes on meanwhile
			for range 2 {
				var n int64
				if err := tx.QueryRow(`SELECT count(*) FROM pair_a`).Scan(&n); err != nil {
					return err
				}
				if n != 3 {
					t.Errorf("the snapshot has %d rows, want 3", n)
				}
				write(t, d, `INSERT INTO pair_a (id, text) VALUES ($1, '')`, fmt.Sprint(rand.Int64()))
			}
			_, err := tx.Exec(`DELETE FROM pair_a`)
			return err
		})
		if err == nil {
			t.Error("the reader could delete")
		}
		if r.Write(t.Context(), func(*db.Tx) error { return nil }) == nil {
			t.Error("the reader could write")
		}
		if got := count(t, d, `SELECT count(*) FROM pair_a`); got != 5 {
			t.Errorf("%d rows, want 5", got)
		}
	})
}

func TestOpenReadOnlyMakesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	if _, err := db.OpenReadOnly(t.Context(), "sqlite:"+path, schema()); err == nil || !strings.Contains(err.Error(), "give the directory that serve was started with") {
		t.Errorf("%v, want an error that says what to give", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file: %v, want none", err)
	}
	open(t, "sqlite:"+path).Close()
	_, err := db.OpenReadOnly(t.Context(), "sqlite:"+path, schema("-- +goose Up\nCREATE TABLE later (x TEXT);\n"))
	if fault.Of(err).Code != "database_behind" {
		t.Errorf("an older database: %v, want database_behind", err)
	}
}

// A process is killed at a random instant of making its database; the next one opens it as if nothing had been.
func TestOpenSurvivesAKillAtAnyInstant(t *testing.T) {
	t.Parallel()
	url := os.Getenv("ORDERKEEP_TEST_OPEN")
	if url != "" { // the one that is killed
		os.Stdout.WriteString("opening\n")
		d, err := db.Open(context.Background(), url, schema())
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		return
	}
	for range 12 {
		url := "sqlite:" + filepath.Join(t.TempDir(), "test.db")
		child := exec.Command(os.Args[0], "-test.run=^TestOpenSurvivesAKillAtAnyInstant$")
		child.Env = append(os.Environ(), "ORDERKEEP_TEST_OPEN="+url)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "opening\n" {
			t.Fatalf("the child said %q, %v", line, err)
		}
		time.Sleep(rand.N(15 * time.Millisecond)) // the instant; opening takes about that long
		_ = child.Process.Kill()
		_ = child.Wait() // killed or done, both are fine
		d, err := db.Open(t.Context(), url, schema())
		if err != nil {
			t.Fatalf("after a kill: %v", err)
		}
		write(t, d, `INSERT INTO pair_a (id, text) VALUES ('a', '')`)
		d.Close()
	}
}

func TestACommitIsThereAfterTheDatabaseIsOpenedAgain(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, url := setup(t, e)
		write(t, d, `INSERT INTO pair_a (id, text) VALUES ('a', '')`)
		if err := d.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := d.Write(context.Background(), func(*db.Tx) error { return nil }); !errors.Is(err, db.ErrClosed) {
			t.Errorf("a write after Close: %v, want %v", err, db.ErrClosed)
		}
		d = open(t, url)
		if n := count(t, d, `SELECT count(*) FROM pair_a`); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}
