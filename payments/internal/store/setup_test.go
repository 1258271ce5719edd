package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	"github.com/orderkeep/orderkeep/payments/internal/provider/simulated"
)

// bundle is Payments on its database, with the simulated provider on another behind it.
type bundle struct {
	*Store
	t        *testing.T
	at       places
	provider *simulated.Provider
	payments *payment.Service
}

// places are the URLs of two databases.
type places struct{ payments, provider string }

// in is two files in a directory.
func in(dir string) places {
	return places{"sqlite:" + filepath.Join(dir, "payments.db"), "sqlite:" + filepath.Join(dir, "provider.db")}
}

func setup(t *testing.T, e dbtest.Engine) *bundle {
	t.Helper()
	return reopen(t, places{e.New(t), e.New(t)})
}

// reopen opens what is there, as a process that starts.
func reopen(t *testing.T, at places) *bundle {
	t.Helper()
	b := &bundle{t: t, at: at}
	var err error
	if b.Store, err = Open(t.Context(), at.payments); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Store.Close() })
	if b.provider, err = simulated.Open(t.Context(), at.provider, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.provider.Close() })
	b.payments = payment.NewService(b.Store, map[string]payment.Provider{simulated.Name: b.provider})
	return b
}

func (b *bundle) close() {
	b.t.Helper()
	if err := errors.Join(b.Store.Close(), b.provider.Close()); err != nil {
		b.t.Fatal(err)
	}
}

// orderID is one that sorts as n does.
func orderID(n int) string { return fmt.Sprintf("0197b7b0-0000-7000-8000-%012d", n) }

func request(order, token string) payment.Request {
	return payment.Request{Order: order, Amount: 1000, Currency: "EUR", Provider: simulated.Name, Token: telemetry.Secret(token)}
}

// operate runs operations of an order in turn, by their names; authorize may have a token behind it.
func (b *bundle) operate(order string, ops ...string) {
	b.t.Helper()
	for _, op := range ops {
		if err := operate(b.t.Context(), b.payments, order, op); err != nil {
			b.t.Fatalf("%s: %v", op, err)
		}
	}
}

func operate(ctx context.Context, s *payment.Service, order, op string) error {
	name, token, _ := strings.Cut(op, " ")
	var err error
	switch name {
	case "authorize":
		if token == "" {
			token = "pm_card_visa"
		}
		_, err = s.Authorize(ctx, request(order, token))
	case "capture":
		_, err = s.Capture(ctx, order)
	case "void":
		_, err = s.Void(ctx, order)
	case "refund":
		_, err = s.Refund(ctx, order)
	default:
		err = errors.New("there is no operation " + op)
	}
	return err
}

var errLooked = errors.New("only looked")

// record is what a decision gets to see.
func (b *bundle) record(order string) *payment.Record {
	b.t.Helper()
	var got *payment.Record
	err := b.Decide(b.t.Context(), order, func(r *payment.Record) error {
		got = r.Clone()
		return errLooked
	})
	if !errors.Is(err, errLooked) {
		b.t.Fatal(err)
	}
	return got
}

// exec changes the database behind the code's back.
func (b *bundle) exec(statement string) error {
	return b.db.Write(b.t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(statement); return err })
}

func (b *bundle) count(query string) (n int) {
	b.t.Helper()
	if err := b.db.QueryRow(b.t.Context(), query).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// inspect is what verify reads.
func (b *bundle) inspect() (map[string]int64, []audit.Violation, []audit.Claim) {
	b.t.Helper()
	s, err := Inspect(b.t.Context(), b.at.payments, b.at.provider)
	if err != nil {
		b.t.Fatal(err)
	}
	defer s.Close()
	counts, broken, err := s.Check(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var claims []audit.Claim
	if err := s.Claims(b.t.Context(), func(c audit.Claim) bool { claims = append(claims, c); return true }); err != nil {
		b.t.Fatal(err)
	}
	return counts, broken, claims
}

// sound fails on any violation but the events that wait: no relay runs here.
func (b *bundle) sound() {
	b.t.Helper()
	_, broken, _ := b.inspect()
	for _, v := range broken {
		if v.Rule != "outbox_drained" {
			b.t.Errorf("%s: %s", v.Rule, v.Detail)
		}
	}
}

// snapshot copies all files of a directory, as a kill at this moment would leave them.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "-shm") {
			continue // shared memory, which a dead process takes with it
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, f.Name()), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// rows returns the first column of a query's result.
func rows(t *testing.T, d *db.DB, query string) []string {
	t.Helper()
	var all []string
	err := d.Read(t.Context(), func(tx *sql.Tx) error {
		r, err := tx.Query(query)
		if err != nil {
			return err
		}
		defer r.Close()
		for r.Next() {
			var s string
			if err := r.Scan(&s); err != nil {
				return err
			}
			all = append(all, s)
		}
		return r.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
