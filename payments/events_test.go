package payments

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	"github.com/orderkeep/orderkeep/payments/internal/provider/simulated"
	"github.com/orderkeep/orderkeep/payments/internal/serve"
	"github.com/orderkeep/orderkeep/payments/internal/store"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/protobuf/proto"
)

// world is Payments open on a bus, with somebody who listens to it.
type world struct {
	t    *testing.T
	data string
	svc  *node.Service
	bus  *outbox.Local
	grpc paymentsv1.PaymentsServiceClient
	told chan outbox.Event
}

func join(t *testing.T) *world {
	t.Helper()
	return joinOn(t, t.TempDir())
}

func joinOn(t *testing.T, data string) *world {
	t.Helper()
	w := &world{t: t, data: data, bus: outbox.NewLocal(), told: make(chan outbox.Event, 100)}
	var err error
	w.svc, err = Context().Open(t.Context(), node.Env{DB: "sqlite:" + w.data + "/payments.db", Data: w.data, ProviderDB: "sqlite:" + w.data + "/simulated-provider.db", Bus: w.bus, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	types := []string{"PaymentAuthorized", "PaymentDeclined", "PaymentCaptured", "PaymentVoided", "PaymentRefunded"}
	for i := range types {
		types[i] = "orderkeep.payments.v1." + types[i]
	}
	var seen sync.Map // a relay that is stopped before it has marked what it published publishes it again
	err = w.bus.Subscribe(outbox.Subscription{Name: "probe", Types: types, Receive: func(_ context.Context, events []outbox.Event) error {
		for _, e := range events {
			if _, again := seen.LoadOrStore(e.ID, true); !again {
				w.told <- e
			}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.bus.Start()
	ch := &inprocgrpc.Channel{}
	w.svc.Register(ch)
	w.grpc = paymentsv1.NewPaymentsServiceClient(ch)
	return w
}

// close ends Payments; what it tells on the way is in told then.
func (w *world) close() {
	w.t.Helper()
	if err := w.svc.Close(w.t.Context()); err != nil {
		w.t.Error(err)
	}
}

func (w *world) authorize(order string) {
	w.t.Helper()
	if _, err := w.grpc.Authorize(w.t.Context(), authorize(order, "pm_card_visa")); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) publish(e outbox.Event) {
	w.t.Helper()
	if err := w.bus.Publish(w.t.Context(), []outbox.Event{e}); err != nil {
		w.t.Fatal(err)
	}
}

func cancelled(ctx context.Context, order string, paid bool) outbox.Event {
	return outbox.New(ctx, &ordersv1.OrderCancelled{OrderId: order, Paid: paid}, order, time.Now())
}

func kind(e outbox.Event) string { return strings.TrimPrefix(e.Type, "orderkeep.payments.v1.") }

func TestMoneyOfACancelledOrderGoesBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before func(w *world, order string)
		told   []string
	}{
		"authorized":     {func(w *world, order string) { w.authorize(order) }, []string{"PaymentAuthorized", "PaymentVoided"}},
		"never heard of": {func(*world, string) {}, []string{"PaymentVoided"}},
		"captured": {func(w *world, order string) {
			w.authorize(order)
			if _, err := w.grpc.Capture(w.t.Context(), &paymentsv1.CaptureRequest{OrderId: order}); err != nil {
				w.t.Fatal(err)
			}
		}, []string{"PaymentAuthorized", "PaymentCaptured", "PaymentRefunded"}},
		"voided before": {func(w *world, order string) {
			w.authorize(order)
			if _, err := w.grpc.Void(w.t.Context(), &paymentsv1.VoidRequest{OrderId: order}); err != nil {
				w.t.Fatal(err)
			}
		}, []string{"PaymentAuthorized", "PaymentVoided", "PaymentVoided"}}, // whoever waits for the answer to the cancellation gets one
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := join(t)
			id := uuid.NewString()
			tc.before(w, id)
			event := cancelled(telemetry.WithCorrelation(t.Context(), "corr-1"), id, true)
			for range 2 { // a bus delivers at least once
				w.publish(event)
			}
			var told []string
			for range tc.told {
				e := <-w.told
				told = append(told, kind(e))
				if e.Subject != id || e.Source != "/payments" {
					t.Errorf("%s about %s from %s", e.Type, e.Subject, e.Source)
				}
				if len(told) == len(tc.told) && (e.CausationID != event.ID || e.CorrelationID != "corr-1") {
					t.Errorf("%s is caused by %q, correlation %q", e.Type, e.CausationID, e.CorrelationID)
				}
			}
			if d := cmp.Diff(tc.told, told); d != "" {
				t.Errorf("told (-want +got):\n%s", d)
			}
			if r, err := w.grpc.Authorize(t.Context(), authorize(id, "pm_card_visa")); err != nil || r.State != voided && r.State != refunded {
				t.Errorf("a late authorization: %v, %v", r, err)
			}
			w.close()
			if len(w.told) > 0 {
				t.Errorf("the repeat had an effect: %s", kind(<-w.told))
			}
			source, err := Context().Inspect(t.Context(), "sqlite:"+w.data+"/payments.db", "sqlite:"+w.data+"/simulated-provider.db")
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			counts, broken, err := source.Check(t.Context())
			if err != nil || len(broken) > 0 || counts["providerHolds"] != 0 {
				t.Errorf("%v, %v, %v", counts, broken, err)
			}
		})
	}
}

func fulfilled(ctx context.Context, order string) outbox.Event {
	return outbox.New(ctx, &ordersv1.OrderFulfilled{OrderId: order, Paid: true}, order, time.Now())
}

func returned(ctx context.Context, order string) outbox.Event {
	return outbox.New(ctx, &ordersv1.OrderReturned{OrderId: order, Paid: true}, order, time.Now())
}

// What the events of an order do to its money in the order that they are handled in, each delivered twice. After a return
// the provider keeps nothing.
func TestMoneyOfAFulfilledAndAReturnedOrder(t *testing.T) {
	t.Parallel()
	type event = func(context.Context, string) outbox.Event
	for name, tc := range map[string]struct {
		events []event
		told   []string
		holds  int64
	}{
		"fulfilled":           {[]event{fulfilled}, []string{"PaymentAuthorized", "PaymentCaptured"}, 1},
		"returned":            {[]event{fulfilled, returned}, []string{"PaymentAuthorized", "PaymentCaptured", "PaymentRefunded"}, 0},
		"returned, then late": {[]event{returned, fulfilled}, []string{"PaymentAuthorized", "PaymentVoided", "PaymentVoided"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := join(t)
			id := uuid.NewString()
			w.authorize(id)
			told := []string{kind(<-w.told)}
			for _, of := range tc.events {
				event := of(telemetry.WithCorrelation(t.Context(), "corr-1"), id)
				for range 2 { // a bus delivers at least once
					w.publish(event)
				}
				e := <-w.told
				told = append(told, kind(e))
				if e.Subject != id || e.CausationID != event.ID || e.CorrelationID != "corr-1" {
					t.Errorf("%s about %s is caused by %q, correlation %q", e.Type, e.Subject, e.CausationID, e.CorrelationID)
				}
			}
			if d := cmp.Diff(tc.told, told); d != "" {
				t.Errorf("told (-want +got):\n%s", d)
			}
			w.close()
			if len(w.told) > 0 {
				t.Errorf("the repeat had an effect: %s", kind(<-w.told))
			}
			source, err := Context().Inspect(t.Context(), "sqlite:"+w.data+"/payments.db", "sqlite:"+w.data+"/simulated-provider.db")
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			counts, broken, err := source.Check(t.Context())
			if err != nil || len(broken) > 0 || counts["providerHolds"] != tc.holds {
				t.Errorf("%v, %v, %v", counts, broken, err)
			}
		})
	}
}

// A fulfilment that cannot be captured yet waits for what it lacks, and is not lost.
func TestFulfilmentOfAPaymentNeverHeardOfIsKept(t *testing.T) {
	t.Parallel()
	w := join(t)
	early, free := uuid.NewString(), uuid.NewString()
	unpaid := outbox.New(t.Context(), &ordersv1.OrderFulfilled{OrderId: free}, free, time.Now())
	w.publish(unpaid)
	w.publish(fulfilled(t.Context(), early))
	w.authorize(early)
	if told := []string{kind(<-w.told), kind(<-w.told)}; !cmp.Equal(told, []string{"PaymentAuthorized", "PaymentCaptured"}) {
		t.Errorf("told %v", told)
	}
	w.close()
	if len(w.told) > 0 {
		t.Errorf("told of the unpaid order: %s", kind(<-w.told))
	}
}

func TestCancellationOfAnUnpaidOrderIsNoneOfOurs(t *testing.T) {
	t.Parallel()
	w := join(t)
	free, paid := uuid.NewString(), uuid.NewString()
	w.publish(cancelled(t.Context(), free, false))
	w.publish(cancelled(t.Context(), paid, true))
	if e := <-w.told; e.Subject != paid {
		t.Errorf("told of %s", e.Subject)
	}
	w.close()
	if len(w.told) > 0 {
		t.Errorf("told of the unpaid order: %s", kind(<-w.told))
	}
}

// An event that cannot be read is tried again, and stops nobody else's order.
func TestBadEventHoldsUpOnlyItself(t *testing.T) {
	t.Parallel()
	w := join(t)
	good, bad := uuid.NewString(), cancelled(t.Context(), "x", true)
	rags := cancelled(t.Context(), "y", true)
	rags.Data = []byte("\xff")
	w.publish(bad)
	w.publish(rags)
	w.publish(cancelled(t.Context(), good, true))
	if e := <-w.told; e.Subject != good {
		t.Errorf("told of %s", e.Subject)
	}
	w.close()
	source, err := Context().Inspect(t.Context(), "sqlite:"+w.data+"/payments.db", "sqlite:"+w.data+"/simulated-provider.db")
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	_, broken, err := source.Check(t.Context())
	if err != nil || len(broken) != 2 || broken[0].Rule != "inbox_drained" {
		t.Errorf("verify says %v, %v; want the two events", broken, err)
	}
}

// The inbox's mark is written with the effect: a crash between the two would have the effect again.
func TestEffectAndMarkAreOneTransaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), "sqlite:"+dir+"/payments.db")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	provider, err := simulated.Open(t.Context(), "sqlite:"+dir+"/provider.db", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Close()
	svc := payment.NewService(st, map[string]payment.Provider{simulated.Name: provider})
	id := uuid.NewString()
	if _, err := svc.Authorize(t.Context(), payment.Request{Order: id, Amount: 1, Currency: "EUR", Provider: simulated.Name, Token: "pm_card_visa"}); err != nil {
		t.Fatal(err)
	}
	e := cancelled(t.Context(), id, true)
	handle := serve.Consumers(svc, st.DecideWith)[e.Type]
	handled := errors.New("handled before")
	if err := handle(t.Context(), e, func(*db.Tx) error { return handled }); !errors.Is(err, handled) {
		t.Errorf("%v, want the mark's error", err)
	}
	if p, err := svc.Payment(t.Context(), id); err != nil || p.Status == payment.Voided {
		t.Errorf("%s, %v: the effect stayed without its mark", p.Status, err)
	}
	marks := 0
	if err := handle(t.Context(), e, func(*db.Tx) error { marks++; return nil }); err != nil || marks != 1 {
		t.Errorf("%v, marked %d times", err, marks)
	}
	if p, err := svc.Payment(t.Context(), id); err != nil || p.Status != payment.Voided {
		t.Errorf("%s, %v", p.Status, err)
	}
}

func TestCloseTellsWhatIsStillToTell(t *testing.T) {
	t.Parallel()
	w := join(t)
	const n = 40
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { w.authorize(uuid.NewString()) })
	}
	wg.Wait()
	w.close()
	if len(w.told) != n {
		t.Errorf("%d events were told, want %d", len(w.told), n)
	}
}

func TestFeedTellsWhatHappenedAndNoToken(t *testing.T) {
	t.Parallel()
	w := join(t)
	id := uuid.NewString()
	ctx := telemetry.WithCorrelation(t.Context(), "corr-2")
	put := httptest.NewRequestWithContext(ctx, http.MethodPut, "/v1/payments/"+id, strings.NewReader(newPayment("pm_card_visa")))
	put.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	w.svc.Routes["/v1/payments"].ServeHTTP(rec, put)
	if rec.Code != http.StatusOK {
		t.Fatal(rec.Body)
	}
	e := <-w.told
	var m paymentsv1.PaymentAuthorized
	if err := proto.Unmarshal(e.Data, &m); err != nil || m.OrderId != id || m.Amount.GetAmountMinor() != 1000 || m.Amount.GetCurrency() != "EUR" || m.PaymentId == "" || m.AuthorizedAt == nil {
		t.Errorf("%v, %v", &m, err)
	}
	w.close()
	page := httptest.NewRecorder()
	second := openAgain(t, w.data)
	second.Routes["/v1/events/payments"].ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/v1/events/payments", nil))
	body := page.Body.String()
	for _, want := range []string{`"type":"orderkeep.payments.v1.PaymentAuthorized"`, `"subject":"` + id + `"`, `"correlationid":"corr-2"`, `"source":"/payments"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the feed lacks %s: %s", want, body)
		}
	}
	if strings.Contains(body, "pm_card") {
		t.Errorf("the feed has the token: %s", body)
	}
}

func openAgain(t *testing.T, data string) *node.Service {
	t.Helper()
	svc, err := Context().Open(t.Context(), node.Env{DB: "sqlite:" + data + "/payments.db", Data: data, ProviderDB: "sqlite:" + data + "/simulated-provider.db", Bus: outbox.NewLocal(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	if err := svc.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	return svc
}

// unheard is a provider whose answers to captures are lost.
type unheard struct{ payment.Provider }

func (u unheard) Capture(ctx context.Context, key string) (payment.Outcome, error) {
	_, err := u.Provider.Capture(ctx, key)
	return payment.Outcome{}, errors.Join(err, errors.New("the connection broke"))
}

// A capture that was answered with 503 is ended, and told, without anybody's repeating it.
func TestCaptureWithoutAnAnswerIsRecovered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), "sqlite:"+dir+"/payments.db")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := simulated.Open(t.Context(), "sqlite:"+dir+"/simulated-provider.db", nil)
	if err != nil {
		t.Fatal(err)
	}
	svc := payment.NewService(st, map[string]payment.Provider{simulated.Name: unheard{provider}})
	id := uuid.NewString()
	if _, err := svc.Authorize(t.Context(), payment.Request{Order: id, Amount: 1, Currency: "EUR", Provider: simulated.Name, Token: "pm_card_visa"}); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Capture(t.Context(), id); !errors.Is(err, payment.ErrProviderAway) {
		t.Fatalf("%v, want ErrProviderAway", err)
	}
	if err := errors.Join(st.Close(), provider.Close()); err != nil {
		t.Fatal(err)
	}
	w := joinOn(t, dir)
	for _, want := range []string{"PaymentAuthorized", "PaymentCaptured"} {
		select {
		case e := <-w.told:
			if kind(e) != want || e.Subject != id {
				t.Errorf("told %s of %s, want %s of %s", kind(e), e.Subject, want, id)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nobody told %s", want)
		}
	}
	w.close()
}
