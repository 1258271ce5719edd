package test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

// repairs is what verify --repair --json prints, as far as these tests read it.
type repairs struct {
	OK       bool
	OnItsWay []struct {
		Rule  string
		Count int
	}
	Violations []struct{ Rule, Detail string }
	Repairs    []struct{ Repair, Context, ID, Rule, Reason, Outcome, Detail string }
}

// repair runs verify --repair, and with yes performs what it proposes.
func (s *shop) repair(t *testing.T, yes bool, more ...string) (r repairs, code int) {
	t.Helper()
	args := append([]string{"verify", "--json", "--repair"}, more...)
	if yes {
		args = append(args, "--yes", "--actor", "ada", "--inventory-at", s.process("inventory").URL, "--payments-at", s.process("payments").URL)
	}
	out, log, code := s.cli(t, "", args...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("verify --repair exits with %d: %v\n%s%s", code, err, out, log)
	}
	return r, code
}

// raw is the database of a context, beside its server.
func (s *shop) raw(t *testing.T, context, statement string, args ...any) {
	t.Helper()
	at := "sqlite:" + filepath.Join(s.data, context+".db")
	for _, e := range s.env {
		if url, ok := strings.CutPrefix(e, strings.ToUpper(context)+"_DB="); ok {
			at = url
		}
	}
	d := dbtest.Raw(t, at)
	defer d.Close()
	res, err := d.Exec(statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: %d rows, %v", statement, n, err)
	}
}

// TestRepair breaks promises in the databases of a running shop, has them repaired through its contracts, and looks that nothing is
// left, that the repairs bar what comes late, and that the trail tells of each of them once.
func TestRepair(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T, int) *shop{
		"one process":               oneProcess,
		"one process on PostgreSQL": onPostgres(1),
		"three processes over gRPC": threeProcesses("grpc", ownBroker),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, 50)
			place := func() string {
				t.Helper()
				a := s.place(t, "", paid(visa, one))
				want(t, a, http.StatusCreated, "")
				return a.OrderID
			}
			nobodys, off, lost, cancelled := uuid.Must(uuid.NewV7()).String(), place(), place(), place()
			want(t, s.do(t, http.MethodPost, "/v1/orders/"+cancelled+"/cancel", nil), http.StatusOK, "")
			s.settles(t)

			// Units and money of an order that Orders has never heard of.
			reservation := map[string]any{"lines": []map[string]any{{"sku": book, "qty": 3}}}
			authorization := map[string]any{"amountMinor": 700, "currency": "GBP", "provider": "simulated", "token": visa}
			want(t, s.do(t, http.MethodPut, "/v1/reservations/"+nobodys, reservation), http.StatusOK, "")
			want(t, s.do(t, http.MethodPut, "/v1/payments/"+nobodys, authorization), http.StatusOK, "")
			// Those of one that was rejected.
			s.raw(t, "orders", `UPDATE orders SET state = 'rejected', reject_code = 'planted', reject_detail = '{}', payment_id = '', authorized_at = 0 WHERE id = $1`, off)
			// One that somebody seems to drive for hours.
			now := time.Now()
			s.raw(t, "orders", `UPDATE orders SET state = 'pending', decided_at = 0, payment_id = '', authorized_at = 0, placed_at = $1, lease_owner = 'gone', lease_until = $2 WHERE id = $3`,
				now.Add(-2*time.Hour).UnixMicro(), now.Add(100*time.Second).UnixMicro(), lost)
			// An event on which Inventory failed too often.
			s.raw(t, "inventory", `UPDATE inbox SET state = 'parked', attempts = 10, error = 'planted' WHERE subject = $1`, cancelled)

			proposal, code := s.repair(t, false)
			if code != 1 || proposal.OK || len(proposal.Repairs) != 6 {
				t.Errorf("exit %d, %+v; want six repairs", code, proposal)
			}
			if again, _ := s.repair(t, false); len(again.Repairs) != 6 || again.Repairs[0].Outcome != "proposed" {
				t.Errorf("a proposal alone has changed something: %+v", again)
			}
			done, code := s.repair(t, true)
			got := map[string]string{}
			for _, r := range done.Repairs {
				got[r.Repair+" "+r.Context+" "+r.Rule+" "+r.ID] = r.Outcome + r.Detail
			}
			for _, what := range []string{
				"release_units inventory reservation_has_live_order " + nobodys, "void_payment payments money_has_live_order " + nobodys,
				"release_units inventory reservation_has_live_order " + off, "void_payment payments money_has_live_order " + off,
				"drive_order orders pending_order_is_driven " + lost,
			} {
				if got[what] != "done" {
					t.Errorf("%s: %q, want it done", what, got[what])
				}
			}
			if code != 0 || len(got) != 6 {
				t.Errorf("exit %d, repairs %v", code, got)
			}

			s.settles(t) // the event is handled again
			s.hasAvailable(t, book, 50)
			if o := s.get(t, "/v1/orders/"+lost); o.Status != "rejected" || o.Reason != "payment_timeout" {
				t.Errorf("the lost order: %v", o)
			}
			if r, code := s.repair(t, true); code != 0 || !r.OK || len(r.Repairs) != 0 {
				t.Errorf("the second time: exit %d, %+v; want nothing to repair", code, r)
			}
			// What comes late finds the tombstones, also of what was never there.
			want(t, s.do(t, http.MethodPut, "/v1/reservations/"+nobodys, reservation), http.StatusConflict, "reservation_released")
			want(t, s.do(t, http.MethodPut, "/v1/payments/"+nobodys, authorization), http.StatusConflict, "payment_voided")
			s.toldByTrail(t, done)
			s.close(t)
		})
	}
}

// toldByTrail looks that each repair is in the trail once.
func (s *shop) toldByTrail(t *testing.T, done repairs) {
	t.Helper()
	out, log, code := s.cli(t, "", "trail", "--json")
	var trail struct {
		Acts []struct {
			Context, Actor, What, ID, Reason, CorrelationID string
			At                                              time.Time
		}
	}
	if err := json.Unmarshal([]byte(out), &trail); err != nil || code != 0 {
		t.Fatalf("trail exits with %d: %v\n%s%s", code, err, out, log)
	}
	told := map[string]string{}
	for _, a := range trail.Acts {
		told[a.What+" "+a.Context+" "+a.ID] = a.Actor + ": " + a.Reason
		if a.CorrelationID == "" || time.Since(a.At) > time.Hour {
			t.Errorf("%+v", a)
		}
	}
	for _, r := range done.Repairs {
		if got, want := told[r.Repair+" "+r.Context+" "+r.ID], "ada: "+r.Rule+": "+r.Reason; got != want {
			t.Errorf("the trail says of %s of %s %q, want %q", r.Repair, r.ID, got, want)
		}
	}
	if len(trail.Acts) != len(done.Repairs) {
		t.Errorf("%d acts of %d repairs: %s", len(trail.Acts), len(done.Repairs), out)
	}
}

// TestWhatIsOnItsWayIsNotRepaired looks at a pending order and at one that was cancelled, while nobody can go on with them.
func TestWhatIsOnItsWayIsNotRepaired(t *testing.T) {
	t.Parallel()
	s := threeProcesses("grpc", ownBroker)(t, 50)
	a := s.place(t, "", paid(visa, one))
	want(t, a, http.StatusCreated, "")
	s.of["payments"][0].process.Kill()
	b := s.place(t, "", paid(visa, one))
	want(t, b, http.StatusAccepted, "")
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/cancel", nil), http.StatusOK, "")
	r, code := s.repair(t, true)
	waits := map[string]bool{}
	for _, w := range r.OnItsWay {
		waits[w.Rule] = true
	}
	if code != 0 || !r.OK || len(r.Repairs) != 0 || !waits["pending_order_is_driven"] || !waits["order_is_answered"] {
		t.Errorf("exit %d, %+v; want both orders on their way, and nothing to repair", code, r)
	}
	s.start(t)
	if o := s.ends(t, b.OrderID); o.Status != "confirmed" {
		t.Errorf("the pending order: %v", o)
	}
	s.settles(t)
	s.close(t)
}

// TestOrdersFromAnOldBackupAreNotRepairedAway gives Orders back what it had some orders ago, lets it go on, and looks that nobody takes
// the customers' units and money for nobody's.
func TestOrdersFromAnOldBackupAreNotRepairedAway(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 50)
	place := func() {
		t.Helper()
		want(t, s.place(t, "", paid(visa, one)), http.StatusCreated, "")
	}
	// The files of a program that has ended are whole.
	orders := filepath.Join(s.data, "orders.db")
	carry := func(from, to string) {
		t.Helper()
		s.close(t)
		if text, err := os.ReadFile(from); err != nil || os.WriteFile(to, text, 0o600) != nil {
			t.Fatalf("copy %s to %s: %v", from, to, err)
		}
		s.start(t)
	}
	place()
	backup := filepath.Join(t.TempDir(), "orders.db")
	carry(orders, backup)
	place()
	place()
	s.settles(t)
	carry(backup, orders)
	left := func(when string) {
		t.Helper()
		r, code := s.repair(t, true)
		for _, x := range r.Repairs {
			if x.Outcome != "left" || !strings.Contains(x.Detail, "old backup") {
				t.Errorf("%s: %+v", when, x)
			}
		}
		if code != 1 || len(r.Repairs) != 4 {
			t.Errorf("%s: exit %d, %+v; want the units and the money of two orders left alone", when, code, r.Repairs)
		}
	}
	left("after the restore")
	place()
	left("when orders have gone on")
	s.hasAvailable(t, book, 50-4)
	r, code := s.repair(t, true, "--forgotten")
	for _, x := range r.Repairs {
		if x.Outcome != "done" {
			t.Errorf("when it is certain: %+v", x)
		}
	}
	if code != 0 || len(r.Repairs) != 4 {
		t.Errorf("when it is certain: exit %d, %+v", code, r.Repairs)
	}
	s.hasAvailable(t, book, 50-2)
	s.settles(t)
	s.close(t)
}
