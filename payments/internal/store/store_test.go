package store

import (
	"context"
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
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		for want, ops := range map[payment.Status][]string{
			payment.Pending:    {"authorize pm_simulated_down"},
			payment.Authorized: {"authorize"},
			payment.Declined:   {"authorize pm_card_chargeDeclinedExpiredCard"},
			payment.Captured:   {"authorize", "capture"},
			payment.Voided:     {"authorize", "void"},
			payment.Refunded:   {"authorize", "capture", "refund"},
		} {
			t.Run(string(want), func(t *testing.T) {
				t.Parallel()
				b := setup(t, e)
				id := orderID(1)
				b.operate(id, ops...)
				before := b.record(id)
				b.close()
				b = reopen(t, b.at)
				if d := cmp.Diff(before, b.record(id)); d != "" {
					t.Errorf("after a restart (-want +got):\n%s", d)
				}
				got, err := b.Payment(t.Context(), id)
				if d := cmp.Diff(before.Payment, got); err != nil || d != "" || got.Status != want {
					t.Errorf("%s, %v (-want +got):\n%s", got.Status, err, d)
				}
				if code := map[payment.Status]string{payment.Declined: "expired_card"}[want]; before.Payment.Decline != code {
					t.Errorf("declined for %q, want %q", before.Payment.Decline, code)
				}
				if len(before.Attempts) != len(ops) {
					t.Errorf("%d attempts of %d operations", len(before.Attempts), len(ops))
				}
				b.sound()
			})
		}
	})
}

func TestThereIsNoPaymentOfAnOrderNeverHeardOf(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		if _, err := b.Payment(t.Context(), orderID(1)); !errors.Is(err, payment.ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
		if err := operate(t.Context(), b.payments, orderID(1), "capture"); !errors.Is(err, payment.ErrNotFound) {
			t.Errorf("capture: %v, want ErrNotFound", err)
		}
		if n := b.count(`SELECT count(*) FROM payments`); n != 0 {
			t.Errorf("looking for it left %d rows", n)
		}
	})
}

// killed wraps a provider, and copies all files before and after each of its calls: what a kill -9 leaves then.
type killed struct {
	payment.Provider
	at func(when string)
}

func (k killed) around(f func() (payment.Outcome, error)) (payment.Outcome, error) {
	k.at("before")
	o, err := f()
	k.at("after")
	return o, err
}

func (k killed) Authorize(ctx context.Context, c payment.Charge) (payment.Outcome, error) {
	return k.around(func() (payment.Outcome, error) { return k.Provider.Authorize(ctx, c) })
}

func (k killed) Capture(ctx context.Context, key string) (payment.Outcome, error) {
	return k.around(func() (payment.Outcome, error) { return k.Provider.Capture(ctx, key) })
}

func (k killed) Void(ctx context.Context, key string) (payment.Outcome, error) {
	return k.around(func() (payment.Outcome, error) { return k.Provider.Void(ctx, key) })
}

func (k killed) Refund(ctx context.Context, key string) (payment.Outcome, error) {
	return k.around(func() (payment.Outcome, error) { return k.Provider.Refund(ctx, key) })
}

// The process dies while the provider is asked: before it acts, or after it acted and before we wrote its answer. What is
// on the disk then says that it was asked, and a repeat by the next process ends it, with one charge.
func TestKillAroundTheProviderIsRepairedByARepeat(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ops   []string // the last is the one that dies
		doing payment.Status
		done  payment.Status
		holds int64
	}{
		{[]string{"authorize"}, payment.Pending, payment.Authorized, 1},
		{[]string{"authorize pm_card_chargeDeclined"}, payment.Pending, payment.Declined, 0},
		{[]string{"authorize", "capture"}, payment.Capturing, payment.Captured, 1},
		{[]string{"authorize", "void"}, payment.Voiding, payment.Voided, 0},
		{[]string{"authorize", "capture", "refund"}, payment.Refunding, payment.Refunded, 0},
	} {
		t.Run(string(tc.done), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := reopen(t, in(dir))
			id := orderID(1)
			last := tc.ops[len(tc.ops)-1]
			b.operate(id, tc.ops[:len(tc.ops)-1]...)
			left := map[string]string{}
			dying := payment.NewService(b.Store, map[string]payment.Provider{"simulated": killed{b.provider, func(when string) { left[when] = snapshot(t, dir) }}})
			if err := operate(t.Context(), dying, id, last); err != nil {
				t.Fatal(err)
			}
			for _, when := range []string{"before", "after"} {
				next := reopen(t, in(left[when]))
				if s := next.record(id).Payment.Status; s != tc.doing {
					t.Errorf("killed %s the provider acts: the disk says %q, want %q", when, s, tc.doing)
				}
				step := payment.Step(strings.Fields(last)[0])
				if a := next.record(id).Attempts[step]; a.Result != payment.Started {
					t.Errorf("killed %s the provider acts: the attempt is %+v", when, a)
				}
				next.sound()
				for range 2 {
					next.operate(id, last)
				}
				if s := next.record(id).Payment.Status; s != tc.done {
					t.Errorf("killed %s the provider acts, repeated: %q, want %q", when, s, tc.done)
				}
				next.sound()
				if counts, _, _ := next.inspect(); counts["providerHolds"] != tc.holds {
					t.Errorf("killed %s the provider acts, repeated: it holds %d charges, want %d", when, counts["providerHolds"], tc.holds)
				}
			}
		})
	}
}

// The same of a capture that an event asks for: the process dies, the event is not marked, and the next process
// handles it again.
func TestKillAroundACaptureIsRepairedByItsEvent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := reopen(t, in(dir))
	id := orderID(1)
	b.operate(id, "authorize")
	left := map[string]string{}
	dying := payment.NewService(b.Store, map[string]payment.Provider{"simulated": killed{b.provider, func(when string) { left[when] = snapshot(t, dir) }}})
	mark := func(tx *db.Tx) error { _, err := tx.Exec(`UPDATE outbox SET traceparent = 'marked'`); return err }
	if err := dying.Collect(t.Context(), id, b.DecideWith(mark)); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"before", "after"} {
		next := reopen(t, in(left[when]))
		if s := next.record(id).Payment.Status; s != payment.Capturing || next.count(`SELECT count(*) FROM outbox WHERE traceparent = 'marked'`) != 0 {
			t.Errorf("killed %s the provider acts: the disk says %q, or the event is marked", when, s)
		}
		next.sound()
		if err := next.payments.Collect(t.Context(), id, next.DecideWith(mark)); err != nil {
			t.Errorf("killed %s the provider acts, again: %v", when, err)
		}
		if s := next.record(id).Payment; s.Status != payment.Captured || s.Captured != 1000 || next.count(`SELECT count(*) FROM outbox WHERE traceparent <> 'marked'`) != 0 {
			t.Errorf("killed %s the provider acts, again: %+v, or an event is not marked", when, s)
		}
		if n := next.count(`SELECT count(*) FROM outbox WHERE type = 'orderkeep.payments.v1.PaymentCaptured'`); n != 1 {
			t.Errorf("killed %s the provider acts, again: told %d times that it is captured", when, n)
		}
		next.sound()
		if o, err := next.provider.Lookup(t.Context(), payment.ChargeKey(id)); err != nil || o.Captured != 1000 || o.State != payment.StateCaptured {
			t.Errorf("killed %s the provider acts, again: the provider has %+v, %v", when, o, err)
		}
	}
}

func TestEventsAreWrittenWithTheChange(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		woken := 0
		b.Appended = func() { woken++ }
		ctx := telemetry.WithCorrelation(t.Context(), "corr-1")
		kept, taken, declined, buried := orderID(1), orderID(2), orderID(3), orderID(4)
		for _, op := range []struct{ order, op string }{
			{kept, "authorize"}, {kept, "authorize"}, {kept, "void"}, {kept, "void"},
			{taken, "authorize"}, {taken, "capture"}, {taken, "refund"},
			{declined, "authorize pm_card_chargeDeclinedInsufficientFunds"},
			{buried, "void"},
		} {
			if err := operate(ctx, b.payments, op.order, op.op); err != nil {
				t.Fatal(err)
			}
		}
		if got := rows(t, b.db, `SELECT DISTINCT correlation_id FROM outbox`); len(got) != 1 || got[0] != "corr-1" {
			t.Errorf("correlation ids %q", got)
		}
		money := &paymentsv1.Money{AmountMinor: 1000, Currency: "EUR"}
		id := func(order string) string { return b.record(order).Payment.ID }
		want := []proto.Message{
			&paymentsv1.PaymentAuthorized{OrderId: kept, PaymentId: id(kept), Amount: money},
			&paymentsv1.PaymentVoided{OrderId: kept, PaymentId: id(kept)},
			&paymentsv1.PaymentAuthorized{OrderId: taken, PaymentId: id(taken), Amount: money},
			&paymentsv1.PaymentCaptured{OrderId: taken, PaymentId: id(taken), Amount: money},
			&paymentsv1.PaymentRefunded{OrderId: taken, PaymentId: id(taken), Amount: money},
			&paymentsv1.PaymentDeclined{OrderId: declined, PaymentId: id(declined), DeclineCode: "insufficient_funds"},
			&paymentsv1.PaymentVoided{OrderId: buried},
		}
		types := rows(t, b.db, `SELECT type FROM outbox ORDER BY seq`)
		subjects := rows(t, b.db, `SELECT subject FROM outbox ORDER BY seq`)
		data := rows(t, b.db, `SELECT data FROM outbox ORDER BY seq`)
		if len(types) != len(want) || woken != len(want) {
			t.Fatalf("%d events, the relay woken %d times, want %d: %v", len(types), woken, len(want), types)
		}
		for i, w := range want {
			got := w.ProtoReflect().New().Interface()
			if err := proto.Unmarshal([]byte(data[i]), got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(w, got, protocmp.Transform(), protocmp.IgnoreMessages(&timestamppb.Timestamp{})); d != "" {
				t.Errorf("event %d (-want +got):\n%s", i, d)
			}
			order := w.(interface{ GetOrderId() string }).GetOrderId()
			if types[i] != string(w.ProtoReflect().Descriptor().FullName()) || subjects[i] != order {
				t.Errorf("event %d is of type %s, about %s", i, types[i], subjects[i])
			}
		}
	})
}

func TestMarkAndEffectShareATransaction(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		id := orderID(1)
		b.operate(id, "authorize")
		before := b.record(id)
		events := b.count(`SELECT count(*) FROM outbox`)
		handled := fault.New(fault.Conflict, "event_handled", "")
		if err := b.payments.GiveBack(t.Context(), id, b.DecideWith(func(*db.Tx) error { return handled })); !errors.Is(err, handled) {
			t.Fatalf("%v", err)
		}
		if s := b.record(id).Payment.Status; s != payment.Voiding {
			t.Errorf("the end stayed without its mark: %q", s)
		}
		if n := b.count(`SELECT count(*) FROM outbox`); n != events {
			t.Errorf("%d events stayed without their mark", n-events)
		}
		marked := 0
		mark := func(tx *db.Tx) error {
			marked++
			_, err := tx.Exec(`UPDATE outbox SET traceparent = 'marked'`)
			return err
		}
		if err := b.payments.GiveBack(t.Context(), id, b.DecideWith(mark)); err != nil || marked != 1 {
			t.Errorf("%v, marked %d times", err, marked)
		}
		if n := b.count(`SELECT count(*) FROM outbox WHERE traceparent = 'marked'`); n != events+1 {
			t.Errorf("the mark and the event: %d rows, want %d", n, events+1)
		}
		refuse := func(*payment.Record) error { return payment.ErrMismatch }
		if err := b.DecideWith(mark)(t.Context(), id, refuse); !errors.Is(err, payment.ErrMismatch) || marked != 1 {
			t.Errorf("a refusal: %v, marked %d times", err, marked)
		}
		if d := cmp.Diff(before.Payment.ID, b.record(id).Payment.ID); d != "" {
			t.Error(d)
		}
	})
}

// In one transaction, each decision sees what those before it made, and a refusal changes nothing.
func TestBatchDecidesInOrderOfArrival(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		one, two := orderID(1), orderID(2)
		ctx := telemetry.WithCorrelation(t.Context(), "corr-first")
		pending := func(r *payment.Record) error {
			r.Payment = payment.Payment{ID: "p-" + r.Payment.Order, Order: r.Payment.Order, Status: payment.Pending, Amount: 7, Currency: "EUR", Created: time.UnixMicro(1)}
			r.Attempts[payment.StepAuthorize] = payment.Attempt{Step: payment.StepAuthorize, Result: payment.Started, Started: time.UnixMicro(1)}
			return nil
		}
		var seen []payment.Status
		look := func(r *payment.Record) error { seen = append(seen, r.Payment.Status); return nil }
		spoil := func(r *payment.Record) error { r.Payment.Status = "spoiled"; return errLooked }
		voided := func(r *payment.Record) error {
			r.Payment.Status = payment.Voided
			r.Facts = append(r.Facts, payment.Fact{Payment: r.Payment, At: time.UnixMicro(2)})
			return nil
		}
		cmds := []*command{
			{ctx: ctx, order: two, decide: look},
			{ctx: ctx, order: one, decide: pending},
			{ctx: t.Context(), order: one, decide: look},
			{ctx: t.Context(), order: one, decide: spoil},
			{ctx: t.Context(), order: one, decide: voided},
			{ctx: t.Context(), order: one, decide: look},
			{ctx: t.Context(), exec: func(*db.Tx) error { return nil }},
		}
		for range 2 { // a batch may run again on the same commands
			seen = nil
			err := b.db.Write(t.Context(), func(tx *db.Tx) error {
				if err := apply(tx, cmds); err != nil {
					return err
				}
				return errLooked
			})
			if !errors.Is(err, errLooked) {
				t.Fatal(err)
			}
		}
		if err := b.db.Write(t.Context(), func(tx *db.Tx) error { return apply(tx, cmds) }); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]payment.Status{payment.None, payment.Pending, payment.Voided}, seen[len(seen)-3:]); d != "" {
			t.Errorf("seen (-want +got):\n%s", d)
		}
		for i, c := range cmds {
			if refused := i == 3; refused != errors.Is(c.err, errLooked) || c.facts != map[bool]int{true: 1}[i == 4] {
				t.Errorf("command %d: %v, %d facts", i, c.err, c.facts)
			}
		}
		got := b.record(one).Payment
		if got.Status != payment.Voided || got.Correlation != "corr-first" {
			t.Errorf("%+v", got)
		}
		if n := b.count(`SELECT count(*) FROM payments`); n != 1 {
			t.Errorf("%d payments: a look made one", n)
		}
		if n := b.count(`SELECT count(*) FROM outbox`); n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

func TestOneCommandsMistakeDoesNotFailItsNeighbours(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		broken := errors.New("injected")
		var wg sync.WaitGroup
		for n := range 60 {
			wg.Go(func() {
				if n%10 == 0 {
					err := b.DecideWith(func(*db.Tx) error { return broken })(context.Background(), orderID(n), func(r *payment.Record) error {
						r.Payment.Status, r.Payment.Created = payment.Voided, time.UnixMicro(1)
						return nil
					})
					if !errors.Is(err, broken) {
						t.Errorf("order %d: %v", n, err)
					}
					return
				}
				if err := operate(context.Background(), b.payments, orderID(n), "authorize"); err != nil {
					t.Errorf("order %d: %v", n, err)
				}
			})
		}
		wg.Wait()
		if n := b.count(`SELECT count(*) FROM payments WHERE status = 'authorized'`); n != 54 {
			t.Errorf("%d authorized, want 54", n)
		}
		if n := b.count(`SELECT count(*) FROM payments`); n != 54 {
			t.Errorf("%d payments, want 54", n)
		}
		b.sound()
	})
}

func TestConcurrentRepeatsChargeOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		const orders, repeats = 10, 8
		ids := make([][repeats]string, orders)
		var wg sync.WaitGroup
		for n := range orders {
			for r := range repeats {
				wg.Go(func() {
					p, err := b.payments.Authorize(context.Background(), request(orderID(n), "pm_card_visa"))
					if err != nil || p.Status != payment.Authorized {
						t.Errorf("%s, %v", p.Status, err)
					}
					ids[n][r] = p.ID
				})
			}
		}
		wg.Wait()
		for n, of := range ids {
			for _, id := range of {
				if id == "" || id != of[0] {
					t.Errorf("order %d has payments %v", n, of)
					break
				}
			}
		}
		if counts, _, _ := b.inspect(); counts["providerHolds"] != orders || counts["authorized"] != orders {
			t.Errorf("%v", counts)
		}
		if n := b.count(`SELECT count(*) FROM outbox`); n != orders {
			t.Errorf("%d events, want %d", n, orders)
		}
	})
}

func TestDatabaseRefusesWhatTheCodeMustNeverDo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		b.operate(orderID(1), "authorize", "capture")
		b.operate(orderID(2), "authorize", "void")
		b.operate(orderID(3), "authorize", "capture", "refund")
		b.operate(orderID(4), "authorize pm_card_chargeDeclined")
		b.operate(orderID(5), "authorize")
		of := func(n int) string { return fmt.Sprintf(` WHERE order_id = '%s'`, orderID(n)) }
		for _, q := range []string{
			`UPDATE payments SET status = 'lost'` + of(1),
			`UPDATE payments SET authorized_minor = 1001` + of(1),
			`UPDATE payments SET authorized_minor = -1` + of(4),
			`UPDATE payments SET amount_minor = -1` + of(4),
			`UPDATE payments SET captured_minor = 1001` + of(1),
			`UPDATE payments SET captured_minor = -1` + of(5),
			`UPDATE payments SET voided_minor = 1` + of(1),
			`UPDATE payments SET voided_minor = -1` + of(1),
			`UPDATE payments SET refunded_minor = 1001` + of(1),
			`UPDATE payments SET refunded_minor = -1` + of(1),
			`UPDATE payments SET payment_id = ''` + of(1),
			`UPDATE payments SET payment_id = ''` + of(2),
			`UPDATE payments SET authorized_minor = 0, captured_minor = 0` + of(1),
			`UPDATE payments SET authorized_minor = 0` + of(5),
			`UPDATE payments SET status = 'captured'` + of(5),
			`UPDATE payments SET status = 'refunding', due_at = 1` + of(5),
			`UPDATE payments SET status = 'capturing'` + of(5), // and nobody comes for it
			`UPDATE payments SET due_at = 1` + of(5),           // and nothing is under way
			`UPDATE payments SET status = 'voided'` + of(5),    // and the money is held
			`UPDATE payments SET status = 'declined'` + of(5),  // the same
			`UPDATE payments SET status = 'refunded'` + of(1),  // and the money is ours
			`UPDATE payments SET refunded_minor = 999` + of(3),
			`INSERT INTO payments SELECT * FROM payments`,
			`UPDATE attempts SET step = 'steal'` + of(5),
			`UPDATE attempts SET result = 'perhaps'` + of(5),
			`UPDATE attempts SET amount_minor = -1` + of(5),
			`UPDATE attempts SET ended_at = 0` + of(5),
			`UPDATE attempts SET result = 'started'` + of(5),
			`INSERT INTO attempts (order_id, step, result, amount_minor, provider_ref, error, started_at) VALUES ('` + orderID(5) + `', 'authorize', 'started', 0, '', '', 1)`,
			`INSERT INTO attempts (order_id, step, result, amount_minor, provider_ref, error, started_at) VALUES ('nobody', 'void', 'started', 0, '', '', 1)`,
			`DELETE FROM payments` + of(5),
		} {
			if err := b.exec(q); err == nil {
				t.Errorf("the database took %s", q)
			}
		}
		b.sound()
	})
}

func TestCloseFinishesAndThenRefuses(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		b.operate(orderID(1), "authorize")
		if err := b.Store.Close(); err != nil {
			t.Fatal(err)
		}
		for _, decide := range []payment.Decide{b.Decide, b.TryDecide, b.DecideWith(func(*db.Tx) error { return nil })} {
			err := decide(t.Context(), orderID(1), func(*payment.Record) error { return nil })
			if fault.KindOf(err) != fault.Unavailable {
				t.Errorf("%v, want Unavailable", err)
			}
		}
	})
}

func TestBothEnginesHaveOneSchema(t *testing.T) {
	t.Parallel()
	dbtest.SameSchema(t, Open)
}

// Several replicas on one database are asked for the same at once, by a caller that repeats itself and by a saga that gives up.
func TestReplicasDecideAsOne(t *testing.T) {
	t.Parallel()
	first := setup(t, dbtest.Postgres)
	replicas := []*bundle{first, reopen(t, first.at), reopen(t, first.at)}
	for n := range 20 {
		id := orderID(n)
		var wait sync.WaitGroup
		for i := range 9 {
			b, op := replicas[i%3], "authorize"
			if i >= 6 {
				op = "void"
			}
			wait.Go(func() {
				if err := operate(context.Background(), b.payments, id, op); err != nil && fault.KindOf(err) != fault.Conflict {
					t.Errorf("%s: %v", op, err)
				}
			})
		}
		wait.Wait()
		first.operate(id, "void")
		if s := first.record(id).Payment.Status; s != payment.Voided {
			t.Errorf("order %d is %s, want voided", n, s)
		}
	}
	first.sound()
	if counts, _, _ := first.inspect(); counts["providerHolds"] != 0 {
		t.Errorf("the provider holds %d charges of voided orders", counts["providerHolds"])
	}
}
