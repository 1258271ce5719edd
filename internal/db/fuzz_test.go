package db_test

import (
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db"
)

// FuzzURL reads ORDERS_DB and its like. It never panics, and why it refuses does not repeat what may hold a password.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"sqlite:/tmp/a.db", "sqlite:", "postgres://user:a-long-secret@host:5432/orders?sslmode=verify-full", "postgres://u:p%zz@h/d",
		"postgresql://h1,h2:1/d?connect_timeout=x", "postgres://h/", "mysql://u:a-long-secret@h/d", "", ":", "postgres://u:a long secret@h/d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, url string) {
		err := db.Check(url)
		if err == nil {
			if scheme, rest, _ := strings.Cut(url, ":"); rest == "" || scheme != "sqlite" && scheme != "postgres" && scheme != "postgresql" {
				t.Errorf("took %q", url)
			}
			return
		}
		if _, rest, _ := strings.Cut(url, "://"); len(rest) > 8 && strings.Contains(err.Error(), rest) {
			t.Errorf("the refusal repeats %q: %v", url, err)
		}
	})
}
