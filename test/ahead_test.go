package test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// TestKillBetweenReservingAndRecording kills Orders under orders of total 0 without keys, whose units are reserved before they are
// recorded: what was reserved for those that were not is for sale again, and each that was answered 201 stands.
func TestKillBetweenReservingAndRecording(t *testing.T) {
	t.Parallel()
	for _, top := range []struct {
		name   string
		open   func(*testing.T, int) *shop
		rounds int
	}{
		{"one process", oneProcess, 4},
		{"three processes over gRPC", threeProcesses("grpc", ownBroker), 4},
		{"two replicas on PostgreSQL", onPostgres(2), 3}, // the leave of the dead has to run out: half a minute
	} {
		t.Run(top.name, func(t *testing.T) {
			t.Parallel()
			const units = 1_000_000
			s := top.open(t, units)
			seed := uint64(fromEnv(t, seedEnv, int(time.Now().UnixNano())))
			t.Logf("seed %d: %s=%d repeats the choices, though not the instants", seed, seedEnv, seed)
			chance := rand.New(rand.NewPCG(seed, 0))
			told := map[string]bool{}
			for round := range top.rounds {
				instant := time.Second + time.Duration(chance.Int64N(int64(200*time.Millisecond)))
				asked := s.besiege(t, fmt.Sprint(round), chance.Uint64(), func(_ context.Context, r *request) {
					r.key, r.then, r.order = "", "", order{Items: []line{{book, 1, 0}, {record, 2, 0}}, Customer: r.order.Customer}
					s.buy(r)
				}, func() {
					<-time.After(instant) // a leave is asked for within half a second
					sold, unlock := s.standStill(t)
					defer unlock()
					stage.Eventually(t, "most buyers have their units reserved and their order not recorded", func() bool {
						return s.get(t, "/v1/stock/"+book).Reserved > sold+buyersUnderFire/2
					})
					s.of["orders"][0].process.Kill()
				})
				s.start(t)
				for _, r := range asked {
					if r.err == nil && r.answer.status == http.StatusCreated {
						told[r.answer.OrderID] = true
					}
				}
			}
			s.verify(t)
			for end := time.Now().Add(time.Minute); len(s.audited(t).OnItsWay) > 0 && time.Now().Before(end); {
				<-time.After(100 * time.Millisecond)
			}
			s.settles(t)
			sold, interrupted := 0, 0
			for _, o := range s.orders(t, "") {
				if o.Status == "confirmed" {
					sold++
					delete(told, o.OrderID)
				}
				if a := s.get(t, "/v1/orders/"+o.OrderID); o.Status == "rejected" {
					interrupted++
					if a.Reason != "order_interrupted" || len(a.Items) != 2 || a.CorrelationID == "" {
						t.Errorf("taken back as %v", a)
					}
				}
			}
			if len(told) > 0 {
				t.Errorf("%d orders were answered 201 and are not confirmed", len(told))
			}
			s.hasAvailable(t, book, units-sold)
			s.hasAvailable(t, record, units-2*sold)
			t.Logf("%d sold, %d taken back", sold, interrupted)
			if interrupted == 0 {
				t.Error("none was under way between its two writes: the test does not test what it says")
			}
		})
	}
}

// standStill keeps Orders from recording anything, until unlock, and says how many orders are confirmed.
func (s *shop) standStill(t testing.TB) (confirmed int, unlock func()) {
	t.Helper()
	at, begin := "sqlite:"+filepath.Join(s.data, "orders.db"), "BEGIN IMMEDIATE"
	for _, setting := range s.env {
		if url, ok := strings.CutPrefix(setting, "ORDERS_DB="); ok {
			at, begin = url, "BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE"
		}
	}
	conn, err := dbtest.Raw(t, at).Conn(t.Context())
	if err == nil {
		_, err = conn.ExecContext(t.Context(), begin)
	}
	if err == nil {
		err = conn.QueryRowContext(t.Context(), `SELECT count(*) FROM orders WHERE state = 'confirmed'`).Scan(&confirmed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return confirmed, func() {
		if _, err := conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}

// TestAShopThatEndsInOrderLeavesNothingToLookFor stops a process that has reserved first.
func TestAShopThatEndsInOrderLeavesNothingToLookFor(t *testing.T) {
	t.Parallel()
	s := oneProcess(t, 1000)
	leaves := func() (n int) {
		db, err := sql.Open("sqlite", filepath.Join(s.data, "orders.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.QueryRow(`SELECT count(*) FROM leaves`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	stage.Eventually(t, "orders are reserved first", func() bool {
		s.place(t, "", order{Items: []line{{book, 1, 0}}})
		return leaves() == 1
	})
	s.close(t)
	if n := leaves(); n != 0 {
		t.Errorf("%d leaves after a stop in order", n)
	}
}
