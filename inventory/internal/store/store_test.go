package store

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
	inventoryv1 "github.com/orderkeep/orderkeep/inventory/v1"
	"google.golang.org/protobuf/proto"
)

// bundle is a store with BOOK (50 units), PEN (none) and GIFT (not tracked).
type bundle struct {
	*Store
	t   *testing.T
	ctx context.Context
	dir string
	at  string // the database's URL
}

func setup(t *testing.T, e dbtest.Engine) *bundle {
	t.Helper()
	b := &bundle{t: t, ctx: telemetry.WithCorrelation(context.Background(), "corr-1"), dir: t.TempDir(), at: e.New(t)}
	b.open()
	t.Cleanup(func() { b.Store.Close() })
	if _, err := b.Import(b.ctx, strings.NewReader("sku,title,on_hand,tracked\nBOOK,A book,50,true\nPEN,A pen,0,true\nGIFT,A gift,0,false\n")); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bundle) open() {
	b.t.Helper()
	s, err := Open(b.ctx, b.at, b.dir, time.Now)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Store = s
}

// reopen is a restart.
func (b *bundle) reopen() {
	b.t.Helper()
	if err := b.Store.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

func (b *bundle) reserve(id, sku string, qty int64) stock.Answer {
	b.t.Helper()
	a, err := b.Reserve(b.ctx, Wait, stock.Ask{ID: id, Owner: stock.ByOrder, Lines: []stock.Line{{SKU: sku, Qty: qty}}, CorrelationID: "corr-1"})
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func (b *bundle) level(sku string) stock.Level {
	b.t.Helper()
	i, err := b.Item(b.ctx, sku)
	if err != nil {
		b.t.Fatal(err)
	}
	return i.Levels[0]
}

// events returns what the outbox has, oldest first, after what setup left.
func (b *bundle) events() []proto.Message {
	b.t.Helper()
	rows, err := b.db.Query(b.ctx, `SELECT type, data FROM outbox ORDER BY seq`)
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	var out []proto.Message
	for rows.Next() {
		var name string
		var data []byte
		if err := rows.Scan(&name, &data); err != nil {
			b.t.Fatal(err)
		}
		var m proto.Message
		switch name {
		case "orderkeep.inventory.v1.StockReleased":
			m = &inventoryv1.StockReleased{}
		case "orderkeep.inventory.v1.StockCommitted":
			m = &inventoryv1.StockCommitted{}
		case "orderkeep.inventory.v1.StockReturned":
			m = &inventoryv1.StockReturned{}
		case "orderkeep.inventory.v1.StockAdjusted":
			m = &inventoryv1.StockAdjusted{}
		default:
			b.t.Fatalf("event of type %q", name)
		}
		if err := proto.Unmarshal(data, m); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, m)
	}
	return out[1:] // the import of BOOK
}

// sound fails the test if an audit finds anything but events that wait: no relay runs here.
func (b *bundle) sound() {
	b.t.Helper()
	b.kept()
	b.counted()
}

// kept fails the test where the audit finds a promise broken.
func (b *bundle) kept() {
	b.t.Helper()
	v, err := Inspect(b.ctx, b.at)
	if err != nil {
		b.t.Fatal(err)
	}
	defer v.Close()
	_, broken, err := v.Check(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, x := range broken {
		if x.Rule != "outbox_drained" {
			b.t.Errorf("%s: %s", x.Rule, x.Detail)
		}
	}
}

// counted fails the test unless the number of live reservations is the one that the figures have.
func (b *bundle) counted() {
	b.t.Helper()
	counted, err := live(b.ctx, b.db)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, owner := range []stock.Owner{stock.ByOrder, stock.Direct} {
		var n int64
		if err := b.db.QueryRow(b.ctx, `SELECT count(*) FROM reservations WHERE state = 'reserved' AND owner = $1`, string(owner)).Scan(&n); err != nil {
			b.t.Fatal(err)
		}
		if counted[owner] != n {
			b.t.Errorf("%d reservations of owner %s are counted as live, and %d are", counted[owner], owner, n)
		}
	}
}

func newID(t *testing.T) string {
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func TestFiftyUnitsAndTwoHundredBuyers(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		var sold, refused atomic.Int64
		var wg sync.WaitGroup
		for range 200 {
			id := newID(t)
			wg.Go(func() {
				a, err := b.Reserve(b.ctx, Wait, stock.Ask{ID: id, Owner: stock.ByOrder, Lines: []stock.Line{{SKU: "BOOK", Qty: 1}}})
				switch {
				case err != nil:
					t.Error(err)
				case a.State == stock.Reserved:
					sold.Add(1)
				case a.State == stock.Refused:
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if sold.Load() != 50 || refused.Load() != 150 {
			t.Errorf("%d sold, %d refused; want 50, 150", sold.Load(), refused.Load())
		}
		if l := b.level("BOOK"); l.Reserved != 50 || l.Available() != 0 {
			t.Errorf("level %+v", l)
		}
		b.sound()
	})
}

func TestReserveSurvivesARestart(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		held, refused := newID(t), newID(t)
		b.reserve(held, "BOOK", 2)
		b.reserve(refused, "BOOK", 49)
		b.reopen()
		want := stock.Answer{State: stock.Reserved, Lines: []stock.Line{{SKU: "BOOK", Qty: 2}}, Replayed: true}
		if diff := cmp.Diff(want, b.reserve(held, "GIFT", 9)); diff != "" {
			t.Errorf("held (-want +got):\n%s", diff)
		}
		want = stock.Answer{State: stock.Refused, Shortages: []stock.Shortage{{SKU: "BOOK", Requested: 49, Available: 48}}, Replayed: true}
		if diff := cmp.Diff(want, b.reserve(refused, "BOOK", 1)); diff != "" {
			t.Errorf("refused (-want +got):\n%s", diff)
		}
		if l := b.level("BOOK"); l.Reserved != 2 {
			t.Errorf("reserved %d, want 2", l.Reserved)
		}
		b.sound()
	})
}

func TestSeveralCommandsOnOneReservationInOneBatch(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		id := newID(t)
		first := &reserve{ask: stock.Ask{ID: id, Owner: stock.ByOrder, Lines: []stock.Line{{SKU: "BOOK", Qty: 3}}}}
		again := &reserve{ask: first.ask}
		other := &reserve{ask: stock.Ask{ID: newID(t), Owner: stock.ByOrder, Lines: []stock.Line{{SKU: "BOOK", Qty: 48}}}}
		off := &release{ctx: b.ctx, id: id}
		late := &reserve{ask: first.ask}
		fits := &reserve{ask: stock.Ask{ID: newID(t), Owner: stock.ByOrder, Lines: []stock.Line{{SKU: "BOOK", Qty: 50}}}}
		err := b.db.Write(b.ctx, func(tx *db.Tx) error {
			return b.apply(tx, []command{first, again, other, off, late, fits})
		})
		if err != nil {
			t.Fatal(err)
		}
		got := []stock.State{first.answer.State, again.answer.State, other.answer.State, late.answer.State, fits.answer.State}
		want := []stock.State{stock.Reserved, stock.Reserved, stock.Refused, stock.Released, stock.Reserved}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if l := b.level("BOOK"); l.Reserved != 50 {
			t.Errorf("reserved %d, want 50", l.Reserved)
		}
		b.sound()
	})
}

func TestRelease(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		released := func(id string, lines ...*inventoryv1.Line) *inventoryv1.StockReleased {
			return &inventoryv1.StockReleased{OrderId: id, Lines: lines}
		}
		two := &inventoryv1.Line{Sku: "BOOK", Qty: 2}
		id := "0197b7b0-0000-7000-8000-000000000001"
		nothing := func(*db.Tx) error { return nil }
		tests := []struct {
			name string
			do   func(b *bundle) error
			want []*inventoryv1.StockReleased
		}{
			{"tells once of the units it freed", func(b *bundle) error {
				b.reserve(id, "BOOK", 2)
				return errors.Join(b.Release(b.ctx, Wait, id), b.Release(b.ctx, Wait, id))
			}, []*inventoryv1.StockReleased{released(id, two)}},
			{"tells nothing of a tombstone", func(b *bundle) error { return b.Release(b.ctx, Wait, id) }, nil},
			{"tells nothing of a refused one", func(b *bundle) error {
				b.reserve(id, "PEN", 2)
				return b.Release(b.ctx, Wait, id)
			}, nil},
			{"tells nothing of one that no order owns", func(b *bundle) error {
				_, err := b.Reserve(b.ctx, Wait, stock.Ask{ID: id, Owner: stock.Direct, Lines: []stock.Line{{SKU: "BOOK", Qty: 2}}})
				return errors.Join(err, b.Release(b.ctx, Wait, id))
			}, nil},
			{"answers a cancelled order", func(b *bundle) error {
				b.reserve(id, "BOOK", 2)
				return b.ReleaseCancelled(b.ctx, id, nothing)
			}, []*inventoryv1.StockReleased{released(id, two)}},
			{"answers a cancelled order that held nothing", func(b *bundle) error { return b.ReleaseCancelled(b.ctx, id, nothing) },
				[]*inventoryv1.StockReleased{released(id)}},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				b := setup(t, e)
				if err := tt.do(b); err != nil {
					t.Fatal(err)
				}
				var got []*inventoryv1.StockReleased
				for _, m := range b.events() {
					e, ok := m.(*inventoryv1.StockReleased)
					if !ok || e.ReleasedAt == nil {
						t.Fatalf("event %v", m)
					}
					e.ReleasedAt = nil
					got = append(got, e)
				}
				if diff := cmp.Diff(tt.want, got, cmp.Comparer(proto.Equal)); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				if l := b.level("BOOK"); l.Reserved != 0 {
					t.Errorf("reserved %d, want 0", l.Reserved)
				}
				b.reopen()
				if a := b.reserve(id, "BOOK", 1); a.State != stock.Released {
					t.Errorf("a late reserve: %s", a.State)
				}
				b.sound()
			})
		}
	})
}

func TestReleaseFailsWithTheMarkOfItsEvent(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		id := newID(t)
		b.reserve(id, "BOOK", 2)
		broken := errors.New("the mark failed")
		if err := b.ReleaseCancelled(b.ctx, id, func(*db.Tx) error { return broken }); !errors.Is(err, broken) {
			t.Fatalf("err = %v", err)
		}
		if l := b.level("BOOK"); l.Reserved != 2 || len(b.events()) != 0 {
			t.Errorf("reserved %d, events %v: the release happened without its mark", l.Reserved, b.events())
		}
	})
}

func TestCommit(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		id := newID(t)
		b.reserve(id, "BOOK", 2)
		for range 2 {
			if err := b.Commit(b.ctx, Wait, id); err != nil {
				t.Fatal(err)
			}
		}
		if l := b.level("BOOK"); l.OnHand != 48 || l.Reserved != 0 {
			t.Errorf("level %+v", l)
		}
		all, _, err := b.Movements(b.ctx, "BOOK", 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		m := all[0]
		if len(all) != 2 || m.Delta != -2 || m.OnHand != 48 || m.OrderID != id || m.CorrelationID != "corr-1" || m.Reason != "sold" {
			t.Errorf("movements %+v", all)
		}
		if e := b.events(); len(e) != 1 {
			t.Errorf("events %v, want one StockCommitted", e)
		}
		if err := b.Release(b.ctx, Wait, id); !errors.Is(err, stock.ErrCommitted) {
			t.Errorf("release: %v, want ErrCommitted", err)
		}
		if err := b.Commit(b.ctx, Wait, newID(t)); !errors.Is(err, stock.ErrNoReservation) {
			t.Errorf("commit of nothing: %v, want ErrNoReservation", err)
		}
		b.sound()
	})
}

// What the events of an order do, in the order that they came in, and what Inventory answers.
func TestFulfilmentAndReturn(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		const id = "0197b7b0-0000-7000-8000-000000000001"
		two := []*inventoryv1.Line{{Sku: "BOOK", Qty: 2}, {Sku: "GIFT", Qty: 1}}
		taken := func(lines []*inventoryv1.Line) proto.Message {
			return &inventoryv1.StockCommitted{OrderId: id, Lines: lines}
		}
		back := func(lines []*inventoryv1.Line) proto.Message {
			return &inventoryv1.StockReturned{OrderId: id, Lines: lines}
		}
		for _, tt := range []struct {
			name   string
			events []string
			want   []proto.Message
			onHand int64 // of BOOK
			moves  []int64
		}{
			{"fulfilled", []string{"fulfilled"}, []proto.Message{taken(two)}, 48, []int64{-2}},
			{"fulfilled twice", []string{"fulfilled", "fulfilled"}, []proto.Message{taken(two), taken(nil)}, 48, []int64{-2}},
			{"taken by hand before", []string{"commit", "fulfilled"}, []proto.Message{taken(two), taken(nil)}, 48, []int64{-2}},
			{"returned", []string{"fulfilled", "returned"}, []proto.Message{taken(two), back(two)}, 50, []int64{-2, 2}},
			{"returned twice", []string{"fulfilled", "returned", "returned"}, []proto.Message{taken(two), back(two), back(nil)}, 50, []int64{-2, 2}},
			{"returned before it was fulfilled", []string{"returned", "fulfilled"}, []proto.Message{taken(two), back(two), taken(nil)}, 50, []int64{-2, 2}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				b := setup(t, e)
				if _, err := b.Reserve(b.ctx, Wait, stock.Ask{ID: id, Owner: stock.ByOrder, Lines: []stock.Line{{SKU: "BOOK", Qty: 2}, {SKU: "GIFT", Qty: 1}}}); err != nil {
					t.Fatal(err)
				}
				marked := 0
				mark := func(*db.Tx) error { marked++; return nil }
				for _, e := range tt.events {
					var err error
					switch e {
					case "fulfilled":
						err = b.CommitFulfilled(b.ctx, id, mark)
					case "returned":
						err = b.RestockReturned(b.ctx, id, mark)
					case "commit":
						err, marked = b.Commit(b.ctx, Wait, id), marked+1
					}
					if err != nil {
						t.Fatalf("%s: %v", e, err)
					}
				}
				if marked != len(tt.events) {
					t.Errorf("%d events are marked, want %d", marked, len(tt.events))
				}
				var got []proto.Message
				for _, m := range b.events() {
					switch e := m.(type) {
					case *inventoryv1.StockCommitted:
						e.CommittedAt = nil
					case *inventoryv1.StockReturned:
						e.ReturnedAt = nil
					}
					got = append(got, m)
				}
				if diff := cmp.Diff(tt.want, got, cmp.Comparer(proto.Equal)); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				b.reopen()
				if l := b.level("BOOK"); l.OnHand != tt.onHand || l.Reserved != 0 {
					t.Errorf("level %+v, want %d on hand", l, tt.onHand)
				}
				all, _, err := b.Movements(b.ctx, "BOOK", 0, 10)
				if err != nil {
					t.Fatal(err)
				}
				var moves []int64
				for _, m := range all[:len(all)-1] { // newest first; the last is the import
					moves = append([]int64{m.Delta}, moves...)
					if m.OrderID != id || m.CorrelationID != "corr-1" || m.Actor != "orders" {
						t.Errorf("movement %+v does not say for whom", m)
					}
				}
				if diff := cmp.Diff(tt.moves, moves); diff != "" {
					t.Errorf("movements (-want +got):\n%s", diff)
				}
				b.sound()
			})
		}
	})
}

func TestFulfilmentAndReturnAreRefusedWhereNothingIsHeld(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		off, refused := newID(t), newID(t)
		b.reserve(refused, "PEN", 1)
		if err := b.Release(b.ctx, Wait, off); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]error{newID(t): stock.ErrNoReservation, off: stock.ErrReleased, refused: stock.ErrRefused} {
			mark := func(*db.Tx) error { t.Errorf("the event is marked, and nothing was done: %v", want); return nil }
			if err := b.CommitFulfilled(b.ctx, id, mark); !errors.Is(err, want) {
				t.Errorf("fulfilled: %v, want %v", err, want)
			}
			if err := b.RestockReturned(b.ctx, id, mark); !errors.Is(err, want) {
				t.Errorf("returned: %v, want %v", err, want)
			}
		}
		if len(b.events()) != 0 {
			t.Errorf("events %v", b.events())
		}
	})
}

func TestFulfilmentAndReturnFailWithTheMarkOfTheirEvent(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		id := newID(t)
		b.reserve(id, "BOOK", 2)
		broken := errors.New("the mark failed")
		mark := func(*db.Tx) error { return broken }
		if err := b.CommitFulfilled(b.ctx, id, mark); !errors.Is(err, broken) {
			t.Fatalf("err = %v", err)
		}
		if err := b.RestockReturned(b.ctx, id, mark); !errors.Is(err, broken) {
			t.Fatalf("err = %v", err)
		}
		if l := b.level("BOOK"); l.Reserved != 2 || l.OnHand != 50 || len(b.events()) != 0 {
			t.Errorf("level %+v, events %v: it happened without its mark", l, b.events())
		}
	})
}

func TestAdjustUnderAKeySurvivesARestart(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		var woken atomic.Int64
		b.Notify(func() { woken.Add(1) })
		a := stock.Adjustment{Key: "k-1", SKU: "BOOK", Location: stock.Default, Delta: -10, Reason: "broken", Actor: "api"}
		first, err := b.Adjust(b.ctx, Refuse, a)
		if err != nil {
			t.Fatal(err)
		}
		if woken.Load() == 0 {
			t.Error("the relay was not woken")
		}
		low := stock.Adjustment{Key: "k-2", SKU: "PEN", Location: stock.Default, Delta: -10, Reason: "broken", Actor: "api"}
		if _, err := b.Adjust(b.ctx, Refuse, low); !errors.Is(err, stock.ErrInsufficient) {
			t.Fatalf("err = %v", err)
		}
		b.reopen()
		again, err := b.Adjust(b.ctx, Refuse, a)
		if diff := cmp.Diff(stock.Adjusted{Item: first.Item, Replayed: true}, again); err != nil || diff != "" {
			t.Errorf("repeat: %v (-want +got):\n%s", err, diff)
		}
		_, err = b.Adjust(b.ctx, Refuse, low)
		want := &fault.Error{Kind: fault.Conflict, Code: "insufficient_stock", Detail: "0 units of PEN are available, so on hand cannot fall by 10.",
			Items: []fault.Item{{SKU: "PEN", Requested: 10}}, Replayed: true}
		if got := fault.Of(err); got.Kind != want.Kind || got.Code != want.Code || got.Detail != want.Detail || !got.Replayed || !cmp.Equal(got.Items, want.Items) {
			t.Errorf("repeated refusal: %+v, want %+v", got, want)
		}
		a.Delta = -11
		if _, err := b.Adjust(b.ctx, Refuse, a); !errors.Is(err, stock.ErrKeyReused) {
			t.Errorf("another payload: %v", err)
		}
		if l := b.level("BOOK"); l.OnHand != 40 {
			t.Errorf("on hand %d, want 40", l.OnHand)
		}
		b.sound()
	})
}

func TestTheSameKeyAtOnceActsOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		var wg sync.WaitGroup
		var fresh atomic.Int64
		for range 50 {
			wg.Go(func() {
				got, err := b.Adjust(b.ctx, Wait, stock.Adjustment{Key: "k", SKU: "BOOK", Location: stock.Default, Delta: 1, Reason: "found", Actor: "api"})
				if err != nil {
					t.Error(err)
				}
				if !got.Replayed {
					fresh.Add(1)
				}
			})
		}
		wg.Wait()
		if l := b.level("BOOK"); l.OnHand != 51 || fresh.Load() != 1 {
			t.Errorf("on hand %d after %d fresh answers, want 51 after 1", l.OnHand, fresh.Load())
		}
	})
}

func TestTheDatabaseRefusesWhatTheCodeMustNot(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		id := newID(t)
		b.reserve(id, "BOOK", 2)
		for _, statement := range []string{
			`UPDATE stock SET reserved = -1 WHERE sku = 'PEN'`,
			`UPDATE stock SET reserved = 51 WHERE sku = 'BOOK'`,
			`UPDATE stock SET on_hand = 1 WHERE sku = 'BOOK'`,
			`UPDATE stock SET reserved = -1 WHERE sku = 'GIFT'`,
			`INSERT INTO stock (sku, location, on_hand, reserved, unlimited) VALUES ('NONE', 'default', 1, 0, false)`,
			`UPDATE movements SET delta = 7`,
			`DELETE FROM movements`,
			`INSERT INTO movements (id, sku, location, delta, on_hand, reason, actor, at) VALUES ('m', 'BOOK', 'default', 0, 50, 'none', 'x', 1)`,
			`UPDATE reservations SET state = 'lost'`,
			`UPDATE reservations SET owner = 'nobody'`,
			`UPDATE reservations SET expires_at = 1`,
			`UPDATE reservation_lines SET qty = 0`,
			`INSERT INTO reservations (id, owner, state, correlation_id, created_at, changed_at) VALUES ('` + id + `', 'order', 'reserved', '', 1, 1)`,
		} {
			err := b.db.Write(b.ctx, func(tx *db.Tx) error {
				_, err := tx.Exec(statement)
				return err
			})
			if err == nil {
				t.Errorf("the database took: %s", statement)
			}
		}
		// A row that satisfies them is taken, so what was refused was refused for its content.
		if err := b.db.Write(b.ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(`UPDATE stock SET reserved = 5 WHERE sku = 'GIFT'`)
			return err
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestCheckSaysWhatReserveWould(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		b.reserve(newID(t), "BOOK", 20)
		for _, lines := range [][]stock.Line{
			{{SKU: "BOOK", Qty: 30}},
			{{SKU: "BOOK", Qty: 31}},
			{{SKU: "GIFT", Qty: stock.MaxQty}},
			{{SKU: "BOOK", Qty: 31}, {SKU: "GIFT", Qty: 1}, {SKU: "NONE", Qty: 1}, {SKU: "PEN", Qty: 1}},
		} {
			short, err := b.Check(b.ctx, lines)
			if err != nil {
				t.Fatal(err)
			}
			id := newID(t)
			a, err := b.Reserve(b.ctx, Wait, stock.Ask{ID: id, Owner: stock.ByOrder, Lines: lines})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(a.Shortages, short); diff != "" {
				t.Errorf("%v: check and reserve differ (-reserve +check):\n%s", lines, diff)
			}
			if err := b.Release(b.ctx, Wait, id); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestPages(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		var got []string
		after := ""
		for more := true; more; {
			var items []stock.Item
			var err error
			if items, more, err = b.Items(b.ctx, after, 2); err != nil {
				t.Fatal(err)
			}
			for _, i := range items {
				got = append(got, i.SKU)
				after = i.SKU
			}
		}
		if diff := cmp.Diff([]string{"BOOK", "GIFT", "PEN"}, got); diff != "" {
			t.Errorf("items (-want +got):\n%s", diff)
		}
		for n := range 4 {
			if _, err := b.Adjust(b.ctx, Wait, stock.Adjustment{SKU: "PEN", Location: stock.Default, Delta: int64(n + 1), Reason: "found", Actor: "api"}); err != nil {
				t.Fatal(err)
			}
		}
		var deltas []int64
		before := int64(0)
		for more := true; more; {
			var page []stock.Movement
			var err error
			if page, more, err = b.Movements(b.ctx, "PEN", before, 3); err != nil {
				t.Fatal(err)
			}
			for _, m := range page {
				deltas = append(deltas, m.Delta)
				before = m.Seq
			}
		}
		if diff := cmp.Diff([]int64{4, 3, 2, 1}, deltas); diff != "" {
			t.Errorf("movements (-want +got):\n%s", diff)
		}
		if _, _, err := b.Movements(b.ctx, "NONE", 0, 3); !errors.Is(err, stock.ErrNotFound) {
			t.Errorf("movements of nothing: %v", err)
		}
	})
}

func TestClosedStoreRefuses(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		if err := b.Store.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Release(b.ctx, Wait, newID(t)); !errors.Is(err, db.ErrClosed) {
			t.Errorf("err = %v, want ErrClosed", err)
		}
	})
}

func TestBothEnginesHaveOneSchema(t *testing.T) {
	t.Parallel()
	dbtest.SameSchema(t, func(ctx context.Context, url string) (*Store, error) { return Open(ctx, url, t.TempDir(), time.Now) })
}

// replica is another process on the same database.
func (b *bundle) replica() *Store {
	b.t.Helper()
	s, err := Open(b.ctx, b.at, b.t.TempDir(), time.Now)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { s.Close() })
	return s
}

// Replicas reserve, release and import at once, each order at two of them.
func TestReplicasDecideAsOne(t *testing.T) {
	t.Parallel()
	b := setup(t, dbtest.Postgres)
	replicas := []*Store{b.Store, b.replica(), b.replica()}
	var wait sync.WaitGroup
	var sold, refused atomic.Int64
	for n := range 120 {
		id := newID(t)
		lines := []stock.Line{{SKU: "BOOK", Qty: 1}, {SKU: "GIFT", Qty: 2}}
		var answers [2]stock.Answer
		var both sync.WaitGroup
		for i := range answers {
			both.Add(1)
			wait.Go(func() {
				defer both.Done()
				var err error
				answers[i], err = replicas[(n+i)%3].Reserve(b.ctx, Wait, stock.Ask{ID: id, Owner: stock.ByOrder, Lines: lines})
				if err != nil {
					t.Errorf("reserve: %v", err)
				}
			})
		}
		wait.Go(func() {
			both.Wait()
			if answers[0].State != answers[1].State {
				t.Errorf("order %d is %s at one replica and %s at the other", n, answers[0].State, answers[1].State)
			}
			if answers[0].State == stock.Reserved {
				sold.Add(1)
				return
			}
			refused.Add(1)
			if err := replicas[n%3].Release(b.ctx, Wait, id); err != nil {
				t.Errorf("release: %v", err)
			}
		})
		if n%40 == 0 {
			wait.Go(func() {
				csv := "sku,title,on_hand,tracked\nGIFT,A gift,0,false\nNEW,New,5,true\nPEN,A pen,0,true\n"
				if _, err := replicas[n/40].Import(b.ctx, strings.NewReader(csv)); err != nil {
					t.Errorf("import: %v", err)
				}
			})
		}
	}
	wait.Wait()
	if sold.Load() != 50 || refused.Load() != 70 {
		t.Errorf("%d sold and %d refused, want 50 and 70", sold.Load(), refused.Load())
	}
	if l := b.level("BOOK"); l.Reserved != 50 {
		t.Errorf("%d reserved, want 50", l.Reserved)
	}
	if l := b.level("NEW"); l.OnHand != 5 {
		t.Errorf("%d on hand after three imports of 5, want 5", l.OnHand)
	}
	b.sound()
}

func TestReplicasSellNoUnitTwice(t *testing.T) {
	t.Parallel()
	b := setup(t, dbtest.Postgres)
	replicas := []*Store{b.Store, b.replica(), b.replica()}
	var wait sync.WaitGroup
	var sold atomic.Int64
	for buyer := range 9 {
		wait.Go(func() {
			for range 12 {
				a, err := replicas[buyer%3].Reserve(b.ctx, Wait, stock.Ask{ID: uuid.NewString(), Owner: stock.ByOrder, Lines: []stock.Line{{SKU: "BOOK", Qty: 1}}})
				if err != nil {
					t.Error(err)
				} else if a.State == stock.Reserved {
					sold.Add(1)
				}
			}
		})
	}
	wait.Wait()
	if l := b.level("BOOK"); sold.Load() != 50 || l.Reserved != 50 {
		t.Errorf("%d sold and %d reserved, want 50", sold.Load(), l.Reserved)
	}
	b.sound()
}
