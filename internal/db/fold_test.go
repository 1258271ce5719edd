package db_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

// eventually commits until something is so, and fails the test if that is never.
func eventually(t *testing.T, d *db.DB, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !yes(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		write(t, d, `INSERT INTO single VALUES ('another', 1, '') ON CONFLICT (k) DO UPDATE SET n = single.n + 1`)
	}
}

// begun is what tells one beginning of the log from another: the salt of its header (https://www.sqlite.org/fileformat2.html#walformat).
func begun(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	header := make([]byte, 32)
	if _, err := f.ReadAt(header, 0); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", header[16:24])
}

// The log goes back into the file beside the writer, and begins anew when it has become long. Without that, it would do so in a commit
// four times as far on, which is further than these go.
func TestTheLogIsFoldedBackBesideTheWriter(t *testing.T) {
	t.Parallel()
	d, url := setup(t, dbtest.SQLite)
	path := strings.TrimPrefix(url, "sqlite:")
	write(t, d, `INSERT INTO single VALUES ('mark', 1, 'is it there yet?')`)
	eventually(t, d, "what was committed is in the file", func() bool {
		text, err := os.ReadFile(path)
		return err == nil && bytes.Contains(text, []byte("is it there yet?"))
	})
	first := begun(t, path)
	long := func(n int) {
		write(t, d, `INSERT INTO wide VALUES ($1, 1, $2)`, fmt.Sprint(n), strings.Repeat("x", 4<<20))
	}
	for n := range 5 { // five thousand pages
		long(n)
	}
	eventually(t, d, "the log begins anew", func() bool { return begun(t, path) != first })

	// Who reads an old state keeps the log from beginning anew, and from nothing else.
	began, over := make(chan struct{}), make(chan struct{})
	read := make(chan error)
	go func() {
		read <- d.Read(context.Background(), func(tx *sql.Tx) error {
			var n int
			err := tx.QueryRow(`SELECT count(*) FROM wide`).Scan(&n)
			close(began)
			<-over
			if err == nil && n != 5 {
				err = fmt.Errorf("it sees %d", n)
			}
			return err
		})
	}()
	<-began
	second := begun(t, path)
	for n := range 5 {
		long(5 + n)
	}
	for range 100 {
		write(t, d, `UPDATE single SET n = n + 1`)
	}
	if begun(t, path) != second {
		t.Error("the log began anew under a reader")
	}
	close(over)
	if err := <-read; err != nil {
		t.Error(err)
	}
	eventually(t, d, "the log begins anew after the reader", func() bool { return begun(t, path) != second })
}
