package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func setup(t testing.TB, e dbtest.Engine) (*Store, string) {
	t.Helper()
	url := e.New(t)
	return reopen(t, url), url
}

func reopen(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func pending(key string) *order.Order {
	o := &order.Order{
		ID: order.NewID(), State: order.Pending, Currency: "GBP", TotalMinor: 1000, Customer: "C-1", Key: key, CorrelationID: "corr-1",
		Lines:    []order.Line{{SKU: "B", Qty: 1, UnitPriceMinor: 400}, {SKU: "A", Qty: 3, UnitPriceMinor: 200}},
		Payment:  order.Payment{Provider: "simulated", Token: "pm_card_visa"},
		PlacedAt: noon, Lease: order.Lease{Owner: "replica-1", Until: noon.Add(15 * time.Second)},
	}
	if key != "" {
		o.Payload = order.Hash{1}
	}
	return o
}

func mustBegin(t *testing.T, s *Store, o *order.Order) {
	t.Helper()
	if existing, err := s.Begin(t.Context(), o); err != nil || existing != nil {
		t.Fatalf("begin: %v, %v", existing, err)
	}
}

func confirm() order.Move {
	return order.Move{To: order.Confirmed, At: noon.Add(time.Second), ReservedAt: noon.Add(time.Millisecond), AuthorizedAt: noon.Add(2 * time.Millisecond), PaymentID: "pay-1"}
}

func fulfil() order.Move {
	return order.Move{To: order.Fulfilled, At: noon.Add(time.Hour), ReservedAt: noon}
}

func mustMove(t *testing.T, s *Store, o *order.Order, m order.Move) {
	t.Helper()
	if ok, err := s.Move(t.Context(), o, m); err != nil || !ok {
		t.Fatalf("move to %s: %v, %v", m.To, ok, err)
	}
	o.Apply(m)
}

func rejection() *order.Rejection {
	return &order.Rejection{Kind: fault.Conflict, Code: "out_of_stock", Detail: "not enough", Shortages: []order.Shortage{{SKU: "A", Requested: 3, Available: 1}}}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		for name, moves := range map[string][]order.Move{
			"pending":   nil,
			"confirmed": {confirm()},
			"rejected":  {{To: order.Rejected, At: noon.Add(time.Second), Rejection: rejection()}},
			"undone": {{To: order.Undoing, At: noon, Rejection: rejection(), ReservedAt: noon, Lease: order.Lease{Owner: "r", Until: noon}},
				{To: order.Rejected, At: noon.Add(time.Second), Rejection: rejection(), ReservedAt: noon}},
			"cancelled": {confirm(), {To: order.Cancelled, At: noon.Add(time.Hour), Reason: "changed my mind", ReservedAt: noon}},
			"fulfilled": {confirm(), fulfil()},
			"returned":  {confirm(), fulfil(), {To: order.Returned, At: noon.Add(2 * time.Hour), Reason: "too small", ReservedAt: noon}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s, url := setup(t, e)
				o := pending("key-1")
				mustBegin(t, s, o)
				for _, m := range moves {
					mustMove(t, s, o, m)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				got, err := reopen(t, url).Get(t.Context(), o.ID)
				if err != nil {
					t.Fatal(err)
				}
				want := *o
				want.Payload = order.Hash{} // stays with the key
				if want.State.Live() && s.db.Exclusive() {
					want.Lease = order.Lease{} // whoever held it is dead
				}
				if d := cmp.Diff(&want, got); d != "" {
					t.Errorf("-want +got:\n%s", d)
				}
			})
		}
	})
}

func TestMoveLosesToWhoWasFirst(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		for range 50 {
			o := pending("")
			mustBegin(t, s, o)
			var wg sync.WaitGroup
			won := make([]bool, 4)
			for i := range won {
				wg.Go(func() {
					m := confirm()
					if i%2 == 1 {
						m = order.Move{To: order.Undoing, At: noon, Rejection: rejection()}
					}
					ok, err := s.Move(t.Context(), o, m)
					if err != nil {
						t.Error(err)
					}
					won[i] = ok
				})
			}
			wg.Wait()
			winners := 0
			for i, ok := range won {
				if !ok {
					continue
				}
				winners++
				got, err := s.Get(t.Context(), o.ID)
				if err != nil || (got.State == order.Confirmed) != (i%2 == 0) {
					t.Errorf("driver %d won and the order is %v (%v)", i, got, err)
				}
			}
			if winners != 1 {
				t.Fatalf("%d drivers moved one order", winners)
			}
		}
	})
}

func TestKeyBelongsToOneOrder(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		orders := make([]*order.Order, 64)
		answers := make([]*order.Order, len(orders))
		var wg sync.WaitGroup
		for i := range orders {
			orders[i] = pending("key-1")
			wg.Go(func() {
				var err error
				if answers[i], err = s.Begin(t.Context(), orders[i]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var began order.ID
		for i, a := range answers {
			if a == nil {
				if began != "" {
					t.Fatal("two orders began under one key")
				}
				began = orders[i].ID
			}
		}
		for _, a := range answers {
			if a != nil && a.ID != began {
				t.Errorf("the key gave order %s, want %s", a.ID, began)
			}
		}
		other := pending("key-1")
		other.Payload = order.Hash{2}
		if _, err := s.Begin(t.Context(), other); !errors.Is(err, order.ErrReused) {
			t.Errorf("another payload: got %v, want ErrReused", err)
		}
		for _, k := range []struct {
			key     string
			payload order.Hash
			id      order.ID
			err     error
		}{{"key-1", orders[0].Payload, began, nil}, {"key-1", other.Payload, "", order.ErrReused}, {"key-2", other.Payload, "", nil}} {
			known, err := s.Known(t.Context(), &order.Order{Key: k.key, Payload: k.payload})
			if !errors.Is(err, k.err) || (known == nil) != (k.id == "") || known != nil && known.ID != k.id {
				t.Errorf("what is known of %s is %v, %v; want order %q, %v", k.key, known, err, k.id, k.err)
			}
		}
		first, err := s.Get(t.Context(), began)
		if err != nil {
			t.Fatal(err)
		}
		mustMove(t, s, first, order.Move{To: order.Undoing, At: noon, Rejection: rejection(), FreeKey: true})
		mustBegin(t, s, other)
	})
}

func TestEventsAreWrittenWithTheChange(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		appended := 0
		s.Appended = func() { appended++ }
		o := pending("")
		mustBegin(t, s, o)
		mustMove(t, s, o, confirm())
		stale := *o
		stale.State = order.Pending
		if ok, err := s.Move(t.Context(), &stale, confirm()); err != nil || ok {
			t.Fatalf("a second confirm: %v, %v", ok, err)
		}
		mustMove(t, s, o, order.Move{To: order.Cancelled, At: noon, Reason: "r", ReservedAt: noon})
		sold := pending("")
		mustBegin(t, s, sold)
		mustMove(t, s, sold, confirm())
		mustMove(t, s, sold, fulfil())
		mustMove(t, s, sold, order.Move{To: order.Returned, At: noon.Add(2 * time.Hour), Reason: "r", ReservedAt: noon})
		refused := pending("k")
		refused.State, refused.Rejection, refused.DecidedAt, refused.Lease = order.Rejected, rejection(), noon, order.Lease{}
		mustBegin(t, s, refused)

		rows, err := s.db.Query(t.Context(), `SELECT type, subject, correlation_id FROM outbox ORDER BY seq`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var got []string
		for rows.Next() {
			var typ, subject, corr string
			if err := rows.Scan(&typ, &subject, &corr); err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.TrimPrefix(typ, "orderkeep.orders.v1.")+" "+subject+" "+corr)
		}
		want := []string{"OrderConfirmed " + string(o.ID) + " corr-1", "OrderCancelled " + string(o.ID) + " corr-1"}
		for _, e := range []string{"OrderConfirmed", "OrderFulfilled", "OrderReturned"} {
			want = append(want, e+" "+string(sold.ID)+" corr-1")
		}
		want = append(want, "OrderRejected "+string(refused.ID)+" corr-1")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		if appended != 6 {
			t.Errorf("the relay was woken %d times, want 6", appended)
		}
		for _, m := range []proto.Message{
			&ordersv1.OrderFulfilled{OrderId: string(sold.ID), FulfilledAt: timestamppb.New(noon.Add(time.Hour)), Paid: true},
			&ordersv1.OrderReturned{OrderId: string(sold.ID), Reason: "r", ReturnedAt: timestamppb.New(noon.Add(2 * time.Hour)), Paid: true},
		} {
			got := m.ProtoReflect().New().Interface()
			var data []byte
			err := s.db.QueryRow(t.Context(), `SELECT data FROM outbox WHERE type = $1`, string(m.ProtoReflect().Descriptor().FullName())).Scan(&data)
			if err := errors.Join(err, proto.Unmarshal(data, got)); err != nil || !proto.Equal(m, got) {
				t.Errorf("got %v (%v), want %v", got, err, m)
			}
		}
	})
}

func TestClaim(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		led, due, parked, done := pending(""), pending(""), pending(""), pending("")
		due.Lease.Until = noon.Add(-time.Second)
		done.Lease.Until = noon.Add(-time.Second)
		for _, o := range []*order.Order{led, due, parked, done} {
			mustBegin(t, s, o)
		}
		mustMove(t, s, done, confirm())
		parked.ReservedAt = noon.Add(-time.Minute)
		if err := s.Park(t.Context(), parked, noon.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		claim := func(now time.Time, n int) map[order.ID]bool {
			t.Helper()
			claimed, err := s.Claim(t.Context(), "replica-2", now, now.Add(time.Hour), n)
			if err != nil {
				t.Fatal(err)
			}
			ids := map[order.ID]bool{}
			for _, o := range claimed {
				if o.Lease.Owner != "replica-2" || o.Attempts == 0 || len(o.Lines) != 2 {
					t.Errorf("claimed %+v: not leased to the claimer, or not whole", o)
				}
				ids[o.ID] = true
			}
			return ids
		}
		if d := cmp.Diff(map[order.ID]bool{due.ID: true}, claim(noon, 10)); d != "" {
			t.Errorf("at noon, -want +got:\n%s", d)
		}
		if d := cmp.Diff(map[order.ID]bool{}, claim(noon, 10)); d != "" {
			t.Errorf("claimed twice:\n%s", d)
		}
		if d := cmp.Diff(map[order.ID]bool{led.ID: true}, claim(noon.Add(2*time.Minute), 1)); d != "" {
			t.Errorf("the longest overdue first, -want +got:\n%s", d)
		}
		if d := cmp.Diff(map[order.ID]bool{parked.ID: true}, claim(noon.Add(2*time.Minute), 10)); d != "" {
			t.Errorf("after the backoff, -want +got:\n%s", d)
		}
		if d := cmp.Diff(map[order.ID]bool{due.ID: true, led.ID: true, parked.ID: true}, claim(noon.Add(-3*time.Hour), 10)); d != "" {
			t.Errorf("after the clock was set back, -want +got:\n%s", d)
		}
		if d := cmp.Diff(map[order.ID]bool{}, claim(noon.Add(-3*time.Hour), 10)); d != "" {
			t.Errorf("claimed twice after the clock was set back:\n%s", d)
		}
		if o, err := s.Get(t.Context(), parked.ID); err != nil || !o.ReservedAt.Equal(parked.ReservedAt) {
			t.Errorf("parked with units held since %v, and found with %+v, %v", parked.ReservedAt, o, err)
		}
	})
}

func TestNoteIsTakenOnceAndSaysWhatIsBack(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		o := pending("")
		mustBegin(t, s, o)
		mustMove(t, s, o, confirm())
		mustMove(t, s, o, order.Move{To: order.Cancelled, At: noon, ReservedAt: noon})
		nothing := func(*db.Tx) error { return nil }
		note := order.Note{At: noon.Add(time.Minute), What: "stock_released", Detail: "4 units"}
		for range 2 {
			if err := s.Note(t.Context(), o.ID, "event-1", note, order.UnitsBack, nothing); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Get(t.Context(), o.ID)
		if err != nil || got.Undone() || !got.UnitsBackAt.Equal(note.At) {
			t.Errorf("after the units: %+v, %v", got, err)
		}
		if err := s.Note(t.Context(), o.ID, "event-2", order.Note{At: noon, What: "payment_voided"}, order.MoneyBack, nothing); err != nil {
			t.Fatal(err)
		}
		if got, err = s.Get(t.Context(), o.ID); err != nil || !got.Undone() {
			t.Errorf("after the money: %+v, %v", got, err)
		}
		notes, err := s.Notes(t.Context(), o.ID)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]order.Note{{At: noon, What: "payment_voided"}, note}, notes); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		undelivered := errors.New("injected")
		other := pending("")
		mustBegin(t, s, other)
		mustMove(t, s, other, confirm())
		if err := s.Note(t.Context(), other.ID, "event-3", note, order.UnitsBack, func(*db.Tx) error { return undelivered }); !errors.Is(err, undelivered) {
			t.Fatalf("got %v", err)
		}
		if got, err := s.Get(t.Context(), other.ID); err != nil || !got.UnitsBackAt.IsZero() {
			t.Errorf("the effect stayed without its mark: %+v, %v", got, err)
		}
		if err := s.Note(t.Context(), order.NewID(), "event-4", note, order.UnitsBack, nothing); err != nil {
			t.Errorf("an event about nobody's order: %v", err)
		}
	})
}

// Each answer has a time of its own, which a repeated or late event does not take back.
func TestNoteKeepsEachAnswerApart(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		o := pending("")
		mustBegin(t, s, o)
		mustMove(t, s, o, confirm())
		mustMove(t, s, o, fulfil())
		want := *o
		want.Payload = order.Hash{}
		for n, tc := range []struct {
			means order.Answer
			at    *time.Time
		}{{order.NoAnswer, new(time.Time)}, {order.UnitsTaken, &want.UnitsTakenAt}, {order.MoneyTaken, &want.MoneyTakenAt}, {order.UnitsBack, &want.UnitsBackAt}, {order.MoneyBack, &want.MoneyBackAt}} {
			*tc.at = noon.Add(time.Duration(n+1) * time.Minute)
			for i, at := range []time.Time{*tc.at, tc.at.Add(-time.Hour)} {
				err := s.Note(t.Context(), o.ID, fmt.Sprint("event-", n, i), order.Note{At: at, What: "w"}, tc.means, func(*db.Tx) error { return nil })
				if err != nil {
					t.Fatal(err)
				}
			}
			got, err := s.Get(t.Context(), o.ID)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(&want, got); d != "" {
				t.Errorf("after answer %d, -want +got:\n%s", tc.means, d)
			}
		}
	})
}

// A shop keeps millions of orders; recovery looks twice a second, and staff at the few that are not fulfilled.
func TestHotStatementsGoByAnIndex(t *testing.T) {
	t.Parallel()
	s, _ := setup(t, dbtest.SQLite)
	for _, statement := range []string{anyDue, claimDue, listByState} {
		args := make([]any, strings.Count(statement, "$"))
		for i := range args {
			args[i] = 1
		}
		rows, err := s.db.Prepared(t.Context(), "EXPLAIN QUERY PLAN "+statement, args...)
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		defer rows.Close()
		plan := ""
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			plan += step + "\n"
		}
		if strings.Contains(plan, "SCAN orders") || !strings.Contains(plan, "INDEX orders_not_fulfilled") {
			t.Errorf("%s\ngoes by\n%swant the index orders_not_fulfilled and no scan", statement, plan)
		}
	}
}

func TestLinesHaveTheirOrderHoweverTheyAreFound(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		o := pending("")
		for n := range int64(20) {
			o.Lines = append(o.Lines, order.Line{SKU: "C", Qty: n + 1})
		}
		mustBegin(t, s, o)
		for _, by := range []string{"n DESC", "qty, n"} {
			query := strings.Replace(getOrder, "FROM order_lines WHERE order_id = o.id", "FROM (SELECT * FROM order_lines WHERE order_id = o.id ORDER BY "+by+" LIMIT 100) AS l", 1)
			got, err := s.read(t.Context(), query, string(o.ID))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(o.Lines, got[0].Lines); d != "" {
				t.Errorf("found by %s: -want +got:\n%s", by, d)
			}
		}
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		var all []order.ID // oldest first
		for i := range 10 {
			o := pending("")
			o.PlacedAt = noon.Add(time.Duration(i) * time.Microsecond)
			o.ID = order.IDAt(o.PlacedAt)
			o.Customer = telemetry.Secret(fmt.Sprintf("C-%d", i%2))
			mustBegin(t, s, o)
			all = append(all, o.ID)
			switch i % 3 {
			case 1:
				mustMove(t, s, o, confirm())
				if i == 4 {
					mustMove(t, s, o, fulfil())
				}
			case 2:
				mustMove(t, s, o, order.Move{To: order.Rejected, At: noon, Rejection: rejection()})
			}
		}
		pick := func(keep func(i int) bool) (want []order.ID) {
			for i := len(all) - 1; i >= 0; i-- {
				if keep(i) {
					want = append(want, all[i])
				}
			}
			return want
		}
		sixth, err := s.Get(t.Context(), all[6])
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			name string
			f    order.Filter
			want []order.ID
		}{
			{"all, newest first", order.Filter{Limit: 100}, pick(func(int) bool { return true })},
			{"a page", order.Filter{Limit: 3, Before: all[8]}, pick(func(i int) bool { return i < 8 && i >= 5 })},
			{"confirmed", order.Filter{Limit: 100, States: []order.State{order.Confirmed}}, pick(func(i int) bool { return i%3 == 1 && i != 4 })},
			{"fulfilled", order.Filter{Limit: 100, States: []order.State{order.Fulfilled}}, pick(func(i int) bool { return i == 4 })},
			{"rejected", order.Filter{Limit: 100, States: []order.State{order.Rejected}}, pick(func(i int) bool { return i%3 == 2 })},
			{"pending", order.Filter{Limit: 100, States: []order.State{order.Pending, order.Undoing}}, pick(func(i int) bool { return i%3 == 0 })},
			{"a customer's", order.Filter{Limit: 100, Customer: "C-1"}, pick(func(i int) bool { return i%2 == 1 })},
			{"a customer's confirmed", order.Filter{Limit: 100, Customer: "C-1", States: []order.State{order.Confirmed}}, pick(func(i int) bool { return i%2 == 1 && i%3 == 1 })},
			{"from a time", order.Filter{Limit: 100, PlacedFrom: sixth.PlacedAt}, pick(func(i int) bool { return i >= 6 })},
			{"before a time", order.Filter{Limit: 100, PlacedBefore: sixth.PlacedAt}, pick(func(i int) bool { return i < 6 })},
			{"between two times", order.Filter{Limit: 100, PlacedFrom: sixth.PlacedAt, PlacedBefore: sixth.PlacedAt.Add(time.Microsecond)}, pick(func(i int) bool { return i == 6 })},
			{"a customer's from a time", order.Filter{Limit: 100, Customer: "C-0", PlacedFrom: sixth.PlacedAt}, pick(func(i int) bool { return i >= 6 && i%2 == 0 })},
			{"long ago", order.Filter{Limit: 100, PlacedBefore: noon.AddDate(-20, 0, 0)}, nil},
		} {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				orders, err := s.List(t.Context(), tc.f)
				if err != nil {
					t.Fatal(err)
				}
				var got []order.ID
				for _, o := range orders {
					got = append(got, o.ID)
					if len(o.Lines) != 2 {
						t.Errorf("order %s has %d lines, want 2", o.ID, len(o.Lines))
					}
				}
				if d := cmp.Diff(tc.want, got); d != "" {
					t.Errorf("-want +got:\n%s", d)
				}
			})
		}
	})
}

func TestDatabaseRefusesWhatTheCodeMustNeverDo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		o := pending("")
		mustBegin(t, s, o)
		if err := s.db.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(`INSERT INTO archives (n, id, at) VALUES (2, 'x', 1)`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{
			`UPDATE orders SET state = 'shipped'`,
			`UPDATE orders SET total_minor = -1`,
			`UPDATE orders SET state = 'undoing'`,
			`UPDATE orders SET state = 'undoing', reject_code = 'out_of_stock', decided_at = 1`,
			`UPDATE orders SET state = 'rejected', decided_at = 1`,
			`UPDATE orders SET state = 'cancelled', decided_at = 1`,
			`UPDATE orders SET state = 'cancelled', cancelled_at = 1`,
			`UPDATE orders SET state = 'confirmed'`,
			`UPDATE orders SET cancelled_at = 1`,
			`UPDATE orders SET fulfilled_at = 1`,
			`UPDATE orders SET returned_at = 1`,
			`UPDATE orders SET state = 'fulfilled', decided_at = 1`,
			`UPDATE orders SET state = 'fulfilled', fulfilled_at = 1`,
			`UPDATE orders SET state = 'returned', decided_at = 1, returned_at = 1`,
			`UPDATE orders SET state = 'returned', decided_at = 1, fulfilled_at = 1`,
			`UPDATE orders SET currency = ''`,
			`UPDATE order_lines SET qty = 0`,
			`UPDATE order_lines SET sku = ''`,
			`UPDATE order_lines SET unit_price_minor = -1`,
			`INSERT INTO order_lines (order_id, n, sku, qty, unit_price_minor) VALUES ('nobody', 0, 'A', 1, 0)`,
			`INSERT INTO archived (order_id, state, total_minor, currency, archive) VALUES ('a', 'rejected', 0, '', 1)`,
			`INSERT INTO archived (order_id, state, total_minor, currency, archive) SELECT 'a', 'pending', 0, '', n FROM archives`,
		} {
			err := s.db.Write(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(q); return err })
			if err == nil {
				t.Errorf("the database took %s", q)
			}
		}
		if _, err := s.Move(t.Context(), o, order.Move{To: order.Cancelled}); err == nil {
			t.Error("the store took a step that the machine does not have")
		}
	})
}

func TestBothEnginesHaveOneSchema(t *testing.T) {
	t.Parallel()
	dbtest.SameSchema(t, Open)
}
