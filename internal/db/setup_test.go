package db_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

// first is the first migration by engine. The two tables of a pair are written together or not at all.
var first = map[string]string{
	"sqlite": `-- +goose Up
CREATE TABLE pair_a (id TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pair_b (id TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL CHECK (text <> 'refused')) WITHOUT ROWID;
CREATE TABLE wide (k TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, s TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE single (k TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, s TEXT NOT NULL) WITHOUT ROWID;
`,
	"postgres": `-- +goose Up
CREATE TABLE pair_a (id TEXT COLLATE "C" NOT NULL PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE pair_b (id TEXT COLLATE "C" NOT NULL PRIMARY KEY, text TEXT NOT NULL CHECK (text <> 'refused'));
CREATE TABLE wide (k TEXT COLLATE "C" NOT NULL PRIMARY KEY, n BIGINT NOT NULL, s TEXT NOT NULL);
CREATE TABLE single (k TEXT COLLATE "C" NOT NULL PRIMARY KEY, n BIGINT NOT NULL, s TEXT NOT NULL);
`,
}

func schema(migrations ...string) db.Schema {
	files := fstest.MapFS{}
	for engine, first := range first {
		for n, m := range append([]string{first}, migrations...) {
			files[fmt.Sprintf("migrations/%s/%05d_more.sql", engine, 1+n)] = &fstest.MapFile{Data: []byte(m)}
		}
	}
	return db.Schema{Context: "test", Migrations: files}
}

func setup(t testing.TB, e dbtest.Engine) (*db.DB, string) {
	t.Helper()
	url := e.New(t)
	return open(t, url), url
}

func open(t testing.TB, url string) *db.DB {
	t.Helper()
	d, err := db.Open(context.Background(), url, schema())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func write(t testing.TB, d *db.DB, query string, args ...any) {
	t.Helper()
	err := d.Write(context.Background(), func(tx *db.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func count(t testing.TB, d *db.DB, query string, args ...any) int64 {
	t.Helper()
	var n sql.NullInt64
	if err := d.QueryRow(context.Background(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n.Int64
}
