package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/orders/internal/order"
)

// unrecorded is an order that units were reserved for first.
func unrecorded() *order.Order {
	o := pending("")
	o.State, o.TotalMinor, o.Payment, o.Lease = order.None, 0, order.Payment{}, order.Lease{}
	for i := range o.Lines {
		o.Lines[i].UnitPriceMinor = 0
	}
	return o
}

func reserved() order.Move {
	return order.Move{To: order.Confirmed, At: noon.Add(time.Second), ReservedAt: noon.Add(time.Millisecond)}
}

func takenBack() order.Move {
	return order.Move{To: order.Undoing, At: noon, Rejection: rejection(), ReservedAt: noon, Lease: order.Lease{Until: noon}}
}

func (s *Store) typesOf(t *testing.T, id order.ID) (types []string) {
	t.Helper()
	rows, err := s.db.Query(t.Context(), `SELECT type FROM outbox WHERE subject = $1 ORDER BY seq`, string(id))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var typ string
		if err := rows.Scan(&typ); err != nil {
			t.Fatal(err)
		}
		types = append(types, typ)
	}
	return types
}

func TestAnOrderIsRecordedInTheStateThatItHas(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		for name, tc := range map[string]struct {
			move   order.Move
			events []string
		}{
			"confirmed": {reserved(), []string{"orderkeep.orders.v1.OrderConfirmed"}},
			"rejected":  {order.Move{To: order.Rejected, At: noon, Rejection: rejection()}, []string{"orderkeep.orders.v1.OrderRejected"}},
			"undoing":   {takenBack(), nil},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s, url := setup(t, e)
				woken := 0
				s.Appended = func() { woken++ }
				o := unrecorded()
				mustMove(t, s, o, tc.move)
				if woken != len(tc.events) {
					t.Errorf("the relay was woken %d times for %d events", woken, len(tc.events))
				}
				again := unrecorded()
				again.ID = o.ID
				if ok, err := s.Move(t.Context(), again, takenBack()); ok || err != nil {
					t.Errorf("recorded over another: %v, %v", ok, err)
				}
				if d := cmp.Diff(tc.events, s.typesOf(t, o.ID)); d != "" {
					t.Errorf("events (-want +got):\n%s", d)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				got, err := reopen(t, url).Get(t.Context(), o.ID)
				if err != nil {
					t.Fatal(err)
				}
				if o.State.Live() && s.db.Exclusive() {
					o.Lease = order.Lease{}
				}
				if d := cmp.Diff(o, got); d != "" {
					t.Errorf("-want +got:\n%s", d)
				}
			})
		}
	})
}

// Whoever records an order first has it, and those who come in the same transaction lose nothing by the one that fails in it.
func TestWhoRecordsAnOrderFirstHasIt(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, url := setup(t, e)
		stores := []*Store{s}
		if !s.db.Exclusive() {
			stores = append(stores, reopen(t, url))
		}
		for range 25 {
			o := unrecorded()
			others := make([]*order.Order, 4)
			won := make([]bool, 4)
			var wg sync.WaitGroup
			for i := range won {
				others[i] = unrecorded()
				wg.Go(func() {
					m := reserved()
					if i%2 == 1 {
						m = takenBack()
					}
					ok, err := stores[i%len(stores)].Move(t.Context(), o, m)
					if err != nil {
						t.Error(err)
					}
					won[i] = ok
				})
				wg.Go(func() {
					if ok, err := stores[i%len(stores)].Move(t.Context(), others[i], reserved()); !ok || err != nil {
						t.Errorf("a neighbour: %v, %v", ok, err)
					}
				})
			}
			wg.Wait()
			got, err := s.Get(t.Context(), o.ID)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for i, ok := range won {
				if ok {
					n++
					if want := []order.State{order.Confirmed, order.Undoing}[i%2]; got.State != want {
						t.Errorf("it is %s, and who won recorded %s", got.State, want)
					}
				}
			}
			if events := len(s.typesOf(t, o.ID)); n != 1 || len(got.Lines) != 2 || events != map[order.State]int{order.Confirmed: 1}[got.State] {
				t.Errorf("%d won, and it has %d lines and %d events", n, len(got.Lines), events)
			}
		}
	})
}

func TestLeaves(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, url := setup(t, e)
		a := order.Leave{Name: "a", Since: noon, Until: noon.Add(15 * time.Second)}
		b := order.Leave{Name: "b", Since: noon.Add(-time.Second), Until: noon.Add(time.Second)}
		longer := order.Leave{Name: "a", Since: noon.Add(time.Second), Until: noon.Add(time.Minute)}
		for i, step := range []struct {
			do   func() error
			want []order.Leave
		}{
			{func() error { return s.SetLeave(t.Context(), a) }, []order.Leave{a}},
			{func() error { return s.SetLeave(t.Context(), b) }, []order.Leave{b, a}},
			{func() error { return s.SetLeave(t.Context(), longer) }, []order.Leave{b, longer}},
			{func() error { return s.EndLeave(t.Context(), a) }, []order.Leave{b, longer}}, // it is another by now
			{func() error { s.Close(); s = reopen(t, url); return nil }, []order.Leave{b, longer}},
			{func() error { return s.EndLeave(t.Context(), longer) }, []order.Leave{b}},
			{func() error { return s.EndLeave(t.Context(), longer) }, []order.Leave{b}},
			{func() error { return s.EndLeave(t.Context(), b) }, nil},
		} {
			if err := step.do(); err != nil {
				t.Fatal(i, err)
			}
			got, err := s.Leaves(t.Context())
			if d := cmp.Diff(step.want, got); d != "" || err != nil {
				t.Errorf("%d: %v\n%s", i, err, d)
			}
		}
	})
}

func TestMissingOrders(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, _ := setup(t, e)
		var ids, want []order.ID
		for i := range 300 { // more than a statement is asked about at once
			o := unrecorded()
			ids = append(ids, o.ID)
			switch i % 3 {
			case 0:
				mustMove(t, s, o, reserved())
			case 1:
				want = append(want, o.ID)
			}
		}
		err := s.db.Write(t.Context(), func(tx *db.Tx) error {
			if _, err := tx.Exec(`INSERT INTO archives (n, id, at) VALUES (1, 'x', 1)`); err != nil {
				return err
			}
			for i := 2; i < len(ids); i += 3 {
				if _, err := tx.Exec(`INSERT INTO archived (order_id, state, total_minor, currency, archive) VALUES ($1, 'rejected', 0, '', 1)`, string(ids[i])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Missing(t.Context(), ids)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%v\n%s", err, d)
		}
		if got, err := s.Missing(t.Context(), nil); len(got) > 0 || err != nil {
			t.Errorf("of none, %v, %v", got, err)
		}
	})
}

// An audit is told of which ids there may be orders that are not recorded, in its place among the orders.
func TestAuditClaimsWhatMayBeUnrecorded(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		s, url := setup(t, e)
		var want []string
		for i := range 4 {
			at := noon.Add(time.Duration(i) * time.Minute)
			l := order.Leave{Name: fmt.Sprint(4 - i), Since: at.Add(-time.Second), Until: at.Add(time.Second)}
			if err := s.SetLeave(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprint(audit.OrderUnrecorded, order.FirstID(l.Since), order.FirstID(l.Until), l.Since))
			if i < 3 {
				o := unrecorded()
				o.ID = order.IDAt(at)
				mustMove(t, s, o, reserved())
				want = append(want, fmt.Sprint(audit.OrderConfirmed, o.ID, time.Time{}))
			}
		}
		source, err := Inspect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		for most := range len(want) + 2 {
			var got []string
			if err := source.Claims(t.Context(), func(c audit.Claim) bool {
				if c.What == audit.OrderUnrecorded {
					got = append(got, fmt.Sprint(c.What, c.Order, c.Ref, c.Since))
				} else {
					got = append(got, fmt.Sprint(c.What, c.Order, c.Since))
				}
				return len(got) < most
			}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want[:min(max(most, 1), len(want))], got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("up to %d (-want +got):\n%s", most, d)
			}
		}
	})
}
