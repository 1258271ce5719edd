package db_test

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
)

func TestSnapshotIsOneStateAndWritesNothing(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		d, url := setup(t, e)
		write(t, d, `INSERT INTO pair_a (id, text) VALUES ('before', '')`)
		// The context of the opening may end; the snapshot stays.
		ctx, end := context.WithCancel(t.Context())
		s, err := db.OpenSnapshot(ctx, url, schema())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		end()
		write(t, d, `INSERT INTO pair_a (id, text) VALUES ('after', '')`)
		for range 2 {
			err := s.Read(func(tx *sql.Tx) error {
				var n int
				if err := tx.QueryRow(`SELECT count(*) FROM pair_a`).Scan(&n); err != nil {
					return err
				}
				if n != 1 {
					t.Errorf("the snapshot has %d rows, want the one from before it", n)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if s.Read(func(tx *sql.Tx) error { _, err := tx.Exec(`DELETE FROM pair_a`); return err }) == nil {
			t.Error("a snapshot could delete")
		}
		if n := count(t, d, `SELECT count(*) FROM pair_a`); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
	})
}

// What a killed process left is read as it lies: the next start of its owner folds it back, and nobody else.
func TestSnapshotLeavesTheFilesOfAKilledProcess(t *testing.T) {
	t.Parallel()
	d, url := setup(t, dbtest.SQLite)
	write(t, d, `INSERT INTO pair_a (id, text) VALUES ('in the WAL', '')`)
	left := filepath.Join(t.TempDir(), "test.db")
	files := map[string][]byte{left: nil, left + "-wal": nil}
	for to := range files {
		text, err := os.ReadFile(strings.TrimPrefix(url, "sqlite:") + strings.TrimPrefix(to, left))
		if err != nil {
			t.Fatal(err)
		}
		files[to] = text
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := db.OpenSnapshot(t.Context(), "sqlite:"+left, schema())
	if err != nil {
		t.Fatal(err)
	}
	err = s.Read(func(tx *sql.Tx) error {
		var id string
		return tx.QueryRow(`SELECT id FROM pair_a`).Scan(&id)
	})
	if err != nil {
		t.Errorf("what is in the WAL only: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for path, before := range files {
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s is not as it was: %d bytes, before %d, %v", filepath.Base(path), len(after), len(before), err)
		}
	}
}

// A user who may only read takes a snapshot, and leaves no row of a writer.
func TestSnapshotNeedsNoRightButToRead(t *testing.T) {
	t.Parallel()
	at := dbtest.Database(t)
	d := open(t, at)
	const writers = `SELECT count(*) FROM orderkeep_writer`
	write(t, d, `INSERT INTO pair_a (id, text) VALUES ('a', '')`)
	before := count(t, d, writers)
	reader := dbtest.Reader(t, at, `CREATE ROLE auditor LOGIN PASSWORD '...'; GRANT CONNECT ON DATABASE orders TO auditor; GRANT SELECT ON ALL TABLES IN SCHEMA public TO auditor`)
	for _, url := range []string{reader, at} {
		s, err := db.OpenSnapshot(t.Context(), url, schema())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := count(t, d, writers); after != before || before == 0 {
		t.Errorf("%d writers after the snapshots, %d before", after, before)
	}
	if d, err := db.Open(t.Context(), reader, schema()); err == nil {
		d.Close()
		t.Error("a user who may only read could open the database for writing")
	}
	stranger := dbtest.Reader(t, at, `CREATE ROLE auditor LOGIN PASSWORD '...'; GRANT CONNECT ON DATABASE orders TO auditor`)
	_, err := db.OpenSnapshot(t.Context(), stranger, schema())
	if fault.Of(err).Code != "database_permission_denied" || !strings.Contains(err.Error(), "GRANT SELECT ON ALL TABLES") {
		t.Errorf("a user who may not read: %v, want what to run", err)
	}
}
