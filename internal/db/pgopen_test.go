package db_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// as returns a database's URL with another part.
func as(t testing.TB, raw string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

// nameOf is the database of a URL from dbtest, and the role that owns it.
func nameOf(t testing.TB, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(u.Path, "/")
}

// admin runs statements as the server's administrator in the database of a URL.
func admin(t testing.TB, raw string, statements ...string) {
	t.Helper()
	d := dbtest.Raw(t, dbtest.Admin(t, nameOf(t, raw)))
	for _, s := range statements {
		if _, err := d.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	d.Close()
}

func openAs(t testing.TB, url, context string) (*db.DB, error) {
	t.Helper()
	s := schema()
	s.Context = context
	d, err := db.Open(t.Context(), url, s)
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

func TestOpenRefusesOnPostgres(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T, url string) string // returns the URL to open
		code    string
		says    string // what the operator is told
	}{
		"a database of another context": {func(t *testing.T, url string) string {
			d, err := openAs(t, url, "payments")
			if err != nil {
				t.Fatal(err)
			}
			d.Close()
			return url
		}, "foreign_database", "belongs to payments"},
		"a database from the future": {func(t *testing.T, url string) string {
			d, err := db.Open(t.Context(), url, schema("-- +goose Up\nCREATE TABLE later (x TEXT);\n"))
			if err != nil {
				t.Fatal(err)
			}
			d.Close()
			return url
		}, "database_from_the_future", "schema version 2 and this program knows 1"},
		"a database of another program": {func(t *testing.T, url string) string {
			if _, err := dbtest.Raw(t, url).Exec(`CREATE TABLE bookmarks (url TEXT)`); err != nil {
				t.Fatal(err)
			}
			return url
		}, "foreign_database", "not Orderkeep's"},
		"a wrong password": {func(t *testing.T, raw string) string {
			return as(t, raw, func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "hunter2") })
		}, "database_login_refused", "the user or the password"},
		"a user that is not there": {func(t *testing.T, raw string) string {
			return as(t, raw, func(u *url.URL) { u.User = url.UserPassword("nobody-here", "hunter2") })
		}, "database_login_refused", "the user or the password"},
		"a database that is not there": {func(t *testing.T, raw string) string {
			return as(t, raw, func(u *url.URL) { u.Path += "x" })
		}, "no_database", "CREATE DATABASE"},
		"a server that is away": {func(t *testing.T, raw string) string {
			return as(t, raw, func(u *url.URL) { u.RawQuery = "host=" + url.QueryEscape(t.TempDir()) })
		}, "storage_unavailable", "Look whether it runs"},
		"a user that may not make tables": {func(t *testing.T, raw string) string {
			admin(t, raw, `ALTER DATABASE `+nameOf(t, raw)+` OWNER TO postgres`, `GRANT CONNECT ON DATABASE `+nameOf(t, raw)+` TO `+nameOf(t, raw))
			return raw
		}, "database_permission_denied", "ALTER DATABASE"},
		"a schema that is not there": {func(t *testing.T, raw string) string {
			return as(t, raw, func(u *url.URL) { u.RawQuery += "&search_path=nowhere" })
		}, "database_without_schema", "CREATE SCHEMA"},
		"the administrator": {func(t *testing.T, raw string) string {
			return dbtest.Admin(t, nameOf(t, raw))
		}, "database_reach", "CREATE ROLE orderkeep_test"},
		"a user that may read everything": {func(t *testing.T, raw string) string {
			admin(t, raw, `GRANT pg_read_all_data TO `+nameOf(t, raw))
			return raw
		}, "database_reach", "CREATE ROLE orderkeep_test"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := c.prepare(t, dbtest.Database(t))
			_, err := db.Open(t.Context(), raw, schema())
			if err == nil {
				t.Fatal("it was opened")
			}
			if f := fault.Of(err); f.Code != c.code || !strings.Contains(f.Detail, c.says) {
				t.Errorf("%v, want %s that says %q", err, c.code, c.says)
			}
			if !strings.Contains(err.Error(), nameOf(t, raw)) {
				t.Errorf("%v: it does not say which database", err)
			}
			u, _ := url.Parse(raw)
			if password, _ := u.User.Password(); strings.Contains(err.Error(), password) {
				t.Errorf("%v: it has the password", err)
			}
		})
	}
}

func TestOpenDoesNotRepeatAURLThatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"postgres://user:hun%ter2@host/db", "postgres://user:hunter2@host:port/db", "postgres://user:hunter2@host/db?sslmode=perhaps",
		"postgres://user:hunter2@host", "postgres://user:hunter2@host/", "mysql://user:hunter2@host/db", "postgres:user:hunter2",
		"postgres://user:hunter2@host/db?connect_timeout=hunter2",
	} {
		_, err := db.Open(t.Context(), raw, schema())
		if err == nil || db.Check(raw) == nil {
			t.Errorf("%s was taken", raw)
		} else if strings.Contains(err.Error(), "hun") || !strings.Contains(err.Error(), "postgres://user:password@host:5432/database") {
			t.Errorf("%v: it has the password, or does not say what a URL is like", err)
		}
	}
}

func TestOpenReadOnlyOnPostgresMakesNothing(t *testing.T) {
	t.Parallel()
	raw := dbtest.Database(t)
	if _, err := db.OpenReadOnly(t.Context(), raw, schema()); fault.Of(err).Code != "foreign_database" {
		t.Errorf("an empty database: %v, want foreign_database", err)
	}
	var tables int
	if err := dbtest.Raw(t, raw).QueryRow(`SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables); err != nil || tables != 0 {
		t.Errorf("%d tables, %v", tables, err)
	}
	open(t, raw).Close()
	_, err := db.OpenReadOnly(t.Context(), raw, schema("-- +goose Up\nCREATE TABLE later (x TEXT);\n"))
	if fault.Of(err).Code != "database_behind" {
		t.Errorf("an older database: %v, want database_behind", err)
	}
}

func TestOpenRefusesCredentialsThatReadAnotherContext(t *testing.T) {
	t.Parallel()
	const owner = `CREATE TABLE %sorderkeep_owner (context TEXT); INSERT INTO %sorderkeep_owner VALUES ('%s')`
	for name, c := range map[string]struct {
		// prepare makes ours and theirs what they are; ours is opened.
		prepare func(t *testing.T, ours, theirs string)
		says    string // "" if it is fine
	}{
		"each with a user of its own": {func(*testing.T, string, string) {}, ""},
		"one user for both databases": {func(t *testing.T, ours, theirs string) {
			admin(t, theirs, `ALTER DATABASE `+nameOf(t, theirs)+` OWNER TO `+nameOf(t, ours), `REASSIGN OWNED BY `+nameOf(t, theirs)+` TO `+nameOf(t, ours))
		}, "REASSIGN OWNED BY"},
		"a right to one table": {func(t *testing.T, ours, theirs string) {
			admin(t, theirs, `GRANT CONNECT ON DATABASE `+nameOf(t, theirs)+` TO `+nameOf(t, ours), `GRANT SELECT ON pair_a TO `+nameOf(t, ours))
		}, "REVOKE ALL ON ALL TABLES"},
		"membership in the other user": {func(t *testing.T, ours, theirs string) {
			admin(t, theirs, `GRANT `+nameOf(t, theirs)+` TO `+nameOf(t, ours))
		}, "can read the tables of inventory"},
		"a right to connect and none to read": {func(t *testing.T, ours, theirs string) {
			admin(t, theirs, `GRANT CONNECT ON DATABASE `+nameOf(t, theirs)+` TO `+nameOf(t, ours))
		}, ""},
		"another schema of the same database": {func(t *testing.T, ours, _ string) {
			admin(t, ours, `CREATE SCHEMA other`, fmt.Sprintf(owner, "other.", "other.", "inventory"), `GRANT USAGE ON SCHEMA other TO PUBLIC`, `GRANT SELECT ON other.orderkeep_owner TO PUBLIC`)
		}, "can read the tables of inventory"},
		"a copy of its own database": {func(t *testing.T, ours, _ string) {
			admin(t, ours, `CREATE SCHEMA copy`, fmt.Sprintf(owner, "copy.", "copy.", "test"), `GRANT USAGE ON SCHEMA copy TO PUBLIC`, `GRANT SELECT ON copy.orderkeep_owner TO PUBLIC`)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := dbtest.Database(t), dbtest.Database(t)
			d, err := openAs(t, theirs, "inventory")
			if err != nil {
				t.Fatal(err)
			}
			d.Close()
			c.prepare(t, ours, theirs)
			_, err = openAs(t, ours, "test")
			if c.says == "" && err != nil {
				t.Errorf("%v, want none", err)
			}
			if c.says != "" && (err == nil || fault.Of(err).Code != "database_reach" || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want database_reach that says %q", err, c.says)
			}
		})
	}
}

// Replicas start at the same instant on an empty database.
func TestOpenByManyAtOnceMigratesOnce(t *testing.T) {
	t.Parallel()
	raw := dbtest.Database(t)
	s := schema("-- +goose Up\nCREATE TABLE more (x TEXT);\nINSERT INTO more VALUES ('once');\n")
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			d, err := db.Open(context.Background(), raw, s)
			if err != nil {
				t.Error(err)
				return
			}
			d.Close()
		})
	}
	wait.Wait()
	d, err := db.Open(t.Context(), raw, s)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if n := count(t, d, `SELECT count(*) FROM more`); n != 1 {
		t.Errorf("migrated %d times, want once", n)
	}
}

func TestCommitIsWaitedForWhateverTheDatabaseSays(t *testing.T) {
	t.Parallel()
	raw := dbtest.Database(t)
	admin(t, raw, `ALTER DATABASE `+nameOf(t, raw)+` SET synchronous_commit = off`, `ALTER DATABASE `+nameOf(t, raw)+` SET default_transaction_isolation = 'serializable'`)
	d := open(t, raw)
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		for setting, want := range map[string]string{"synchronous_commit": "on", "transaction_isolation": "read committed"} {
			rows, err := tx.Query(`SELECT current_setting($1)`, setting)
			if err != nil {
				return err
			}
			for rows.Next() {
				var have string
				if err := rows.Scan(&have); err != nil || have != want {
					t.Errorf("%s is %q, %v; want %q", setting, have, err, want)
				}
			}
			rows.Close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
