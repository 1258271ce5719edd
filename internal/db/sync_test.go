package db_test

import (
	"runtime"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"modernc.org/sqlite"
)

// A commit syncs what it has written and not the times of the file, where there is a call for that.
func TestSQLiteSyncsTheDataOnly(t *testing.T) {
	t.Parallel()
	setup(t, dbtest.SQLite)
	if !sqlite.FdatasyncEnabled() && runtime.GOOS == "linux" {
		t.Error("SQLite syncs with fsync")
	}
}
