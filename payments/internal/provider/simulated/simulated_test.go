package simulated

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
)

const key = "0197b7b0-0000-7000-8000-00000000000a:authorize"

// clock is one that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.at = c.at.Add(d) }

type bundle struct {
	*Provider
	t     *testing.T
	url   string
	clock *clock
}

func setup(t *testing.T, e dbtest.Engine) *bundle {
	t.Helper()
	b := &bundle{t: t, url: e.New(t), clock: &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	b.open()
	t.Cleanup(func() { b.Provider.Close() })
	return b
}

func (b *bundle) open() {
	b.t.Helper()
	var err error
	if b.Provider, err = Open(b.t.Context(), b.url, b.clock.now); err != nil {
		b.t.Fatal(err)
	}
}

// restart closes the provider and opens what it left.
func (b *bundle) restart() {
	b.t.Helper()
	if err := b.Provider.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

func charge1000(token string) payment.Charge {
	return payment.Charge{Key: key, Amount: 1000, Currency: "EUR", Token: telemetry.Secret(token)}
}

// is checks an answer without the provider's id, which is random.
func (b *bundle) is(want payment.Outcome) func(payment.Outcome, error) {
	b.t.Helper()
	return func(got payment.Outcome, err error) {
		b.t.Helper()
		if err != nil || (got.Ref == "") != (want.State == payment.StateAbsent) {
			b.t.Errorf("%+v, %v", got, err)
		}
		got.Ref = ""
		if d := cmp.Diff(want, got); d != "" {
			b.t.Errorf("-want +got:\n%s", d)
		}
	}
}

// fails checks that there is no answer, and why.
func (b *bundle) fails(want error) func(payment.Outcome, error) {
	b.t.Helper()
	return func(got payment.Outcome, err error) {
		b.t.Helper()
		if !errors.Is(err, want) || got != (payment.Outcome{}) {
			b.t.Errorf("%+v, %v, want %v", got, err, want)
		}
	}
}

var (
	heldAll     = payment.Outcome{State: payment.StateAuthorized, Authorized: 1000}
	declinedFor = func(code string) payment.Outcome { return payment.Outcome{State: payment.StateDeclined, Decline: code} }
)

func TestTokensDoWhatTheDocumentSays(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		f, err := os.Open("../../../../docs/simulated-provider.md")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		row := regexp.MustCompile("^\\| `?([^`|]+?)`? \\| (.*) \\|$")
		code := regexp.MustCompile("^declined: `(.*)`$")
		documented := map[string]bool{}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			m := row.FindStringSubmatch(lines.Text())
			if m == nil || m[1] == "token" {
				continue
			}
			token, says := m[1], m[2]
			documented[token] = true
			t.Run(token, func(t *testing.T) {
				t.Parallel()
				b := setup(t, e)
				ctx := t.Context()
				c := charge1000(token)
				declines := code.FindStringSubmatch(says)
				switch {
				case declines != nil:
					b.is(declinedFor(declines[1]))(b.Authorize(ctx, c))
				case says == "the money is held":
					b.is(heldAll)(b.Authorize(ctx, c))
				case says == "the money is held, and the answer is lost":
					b.fails(payment.ErrUnknownOutcome)(b.Authorize(ctx, c))
					b.is(heldAll)(b.Lookup(ctx, key))
					b.is(heldAll)(b.Authorize(ctx, c))
				case says == "declined, and the answer is lost":
					b.fails(payment.ErrUnknownOutcome)(b.Authorize(ctx, c))
					b.is(declinedFor("card_declined"))(b.Lookup(ctx, key))
				case strings.HasPrefix(says, "the first call is lost on its way"):
					b.fails(payment.ErrUnknownOutcome)(b.Authorize(ctx, c))
					b.is(payment.Outcome{})(b.Lookup(ctx, key))
					b.is(heldAll)(b.Authorize(ctx, c))
				case strings.HasPrefix(says, "the money is held, and the answer comes two seconds later"):
					short, cancel := context.WithCancel(ctx)
					cancel() // TestSlowAnswerComesLater has the time
					b.fails(payment.ErrUnknownOutcome)(b.Authorize(short, c))
				case strings.HasPrefix(says, "the provider is away whenever money is asked for"):
					b.fails(payment.ErrUnavailable)(b.Authorize(ctx, c))
					b.clock.pass(time.Hour)
					b.fails(payment.ErrUnavailable)(b.Authorize(ctx, c))
					b.is(payment.Outcome{State: payment.StateVoided})(b.Void(ctx, key))
				case strings.HasPrefix(says, "the provider is away for every call about the order's money, for two seconds"):
					b.fails(payment.ErrUnavailable)(b.Authorize(ctx, c))
				default:
					t.Errorf("no case for %q", says)
				}
			})
		}
		for _, token := range slices.Concat(slices.Collect(maps.Keys(declines)), slices.Collect(maps.Keys(approved)),
			[]string{timeoutCharged, timeoutDeclined, timeoutNotCharged, down, downPrefix + "2s", slowPrefix + "2s", "any other"}) {
			if !documented[token] {
				t.Errorf("docs/simulated-provider.md does not have %s", token)
			}
		}
	})
}

func TestScriptWithABadDurationIsDeclined(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"pm_simulated_slow_", "pm_simulated_slow_0s", "pm_simulated_slow_-1s", "pm_simulated_slow_61s", "pm_simulated_down_soon", "pm_simulated_slow_1", "PM_CARD_VISA", ""} {
		if s := read(token); s != (script{decline: "unknown_token"}) {
			t.Errorf("%q: %+v", token, s)
		}
	}
	if s := read("pm_simulated_slow_1m"); s.slow != time.Minute {
		t.Errorf("a minute is %+v", s)
	}
}

func TestAwayForAWhileIsAwayForAllCalls(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		ctx := t.Context()
		c := charge1000("pm_simulated_down_2s")
		calls := map[string]func() (payment.Outcome, error){
			"authorize": func() (payment.Outcome, error) { return b.Authorize(ctx, c) },
			"lookup":    func() (payment.Outcome, error) { return b.Lookup(ctx, key) },
			"capture":   func() (payment.Outcome, error) { return b.Capture(ctx, key) },
			"void":      func() (payment.Outcome, error) { return b.Void(ctx, key) },
			"refund":    func() (payment.Outcome, error) { return b.Refund(ctx, key) },
		}
		b.fails(payment.ErrUnavailable)(b.Authorize(ctx, c))
		b.clock.pass(time.Second)
		b.restart() // it stays away
		for _, call := range calls {
			b.fails(payment.ErrUnavailable)(call())
		}
		b.clock.pass(time.Second)
		b.is(payment.Outcome{})(b.Lookup(ctx, key))
		b.is(heldAll)(b.Authorize(ctx, c))
		other := charge1000("pm_card_visa")
		other.Key = "other:authorize"
		b.is(heldAll)(b.Authorize(ctx, other))
	})
}

func TestSlowAnswerComesLater(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, err := Open(t.Context(), "sqlite:"+filepath.Join(dir, "provider.db"), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		start := time.Now()
		o, err := p.Authorize(t.Context(), charge1000("pm_simulated_slow_2s"))
		if took := time.Since(start); err != nil || o.State != payment.StateAuthorized || took != 2*time.Second {
			t.Errorf("%+v, %v after %v", o, err, took)
		}
		start = time.Now()
		if o, err := p.Authorize(t.Context(), charge1000("pm_simulated_slow_2s")); err != nil || o.Authorized != 1000 || time.Since(start) != 0 {
			t.Errorf("the repeat: %+v, %v after %v", o, err, time.Since(start))
		}
		c := charge1000("pm_simulated_slow_2s")
		c.Key = "impatient:authorize"
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Authorize(ctx, c); !errors.Is(err, payment.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller that hung up: %v", err)
		}
		if o, err := p.Lookup(t.Context(), c.Key); err != nil || o.Authorized != 1000 {
			t.Errorf("its money: %+v, %v; a caller that hangs up does not stop a provider", o, err)
		}
	})
}

func TestOneKeyHasOneOutcomeForEver(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		ctx := t.Context()
		first, err := b.Authorize(ctx, charge1000("pm_card_visa"))
		if err != nil {
			t.Fatal(err)
		}
		b.restart()
		other := payment.Charge{Key: key, Amount: 5, Currency: "USD", Token: "pm_card_chargeDeclined"}
		for _, ask := range []func() (payment.Outcome, error){
			func() (payment.Outcome, error) { return b.Authorize(ctx, charge1000("pm_card_visa")) },
			func() (payment.Outcome, error) { return b.Authorize(ctx, other) },
			func() (payment.Outcome, error) { return b.Lookup(ctx, key) },
			func() (payment.Outcome, error) { return b.Refund(ctx, key) }, // nothing is captured
		} {
			if again, err := ask(); err != nil || again != first {
				t.Errorf("%+v, %v, want %+v", again, err, first)
			}
		}
	})
}

func TestMoneyMovesOnceAndOnlyForward(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		type step func(*bundle) (payment.Outcome, error)
		authorize := func(b *bundle) (payment.Outcome, error) {
			return b.Authorize(b.t.Context(), charge1000("pm_card_visa"))
		}
		decline := func(b *bundle) (payment.Outcome, error) {
			return b.Authorize(b.t.Context(), charge1000("pm_card_chargeDeclined"))
		}
		capture := func(b *bundle) (payment.Outcome, error) { return b.Capture(b.t.Context(), key) }
		void := func(b *bundle) (payment.Outcome, error) { return b.Void(b.t.Context(), key) }
		refund := func(b *bundle) (payment.Outcome, error) { return b.Refund(b.t.Context(), key) }
		for name, tc := range map[string]struct {
			steps []step
			want  payment.Outcome
		}{
			"captured":                       {[]step{authorize, capture}, payment.Outcome{State: payment.StateCaptured, Authorized: 1000, Captured: 1000}},
			"voided":                         {[]step{authorize, void}, payment.Outcome{State: payment.StateVoided, Authorized: 1000, Voided: 1000}},
			"refunded":                       {[]step{authorize, capture, refund}, payment.Outcome{State: payment.StateRefunded, Authorized: 1000, Captured: 1000, Refunded: 1000}},
			"a capture of a void":            {[]step{authorize, void, capture}, payment.Outcome{State: payment.StateVoided, Authorized: 1000, Voided: 1000}},
			"a void of a capture":            {[]step{authorize, capture, void}, payment.Outcome{State: payment.StateCaptured, Authorized: 1000, Captured: 1000}},
			"a void of a refund":             {[]step{authorize, capture, refund, void}, payment.Outcome{State: payment.StateRefunded, Authorized: 1000, Captured: 1000, Refunded: 1000}},
			"a capture of nothing":           {[]step{capture}, payment.Outcome{}},
			"a refund of nothing":            {[]step{refund}, payment.Outcome{}},
			"a refund of a hold":             {[]step{authorize, refund}, heldAll},
			"a void of a decline":            {[]step{decline, void}, declinedFor("card_declined")},
			"an authorization after a void":  {[]step{void, authorize}, payment.Outcome{State: payment.StateVoided}},
			"a better token after a decline": {[]step{decline, authorize}, declinedFor("card_declined")},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := setup(t, e)
				for _, s := range tc.steps[:len(tc.steps)-1] {
					if _, err := s(b); err != nil {
						t.Fatal(err)
					}
				}
				last := tc.steps[len(tc.steps)-1]
				b.is(tc.want)(last(b))
				b.restart()
				b.is(tc.want)(last(b))
				b.is(tc.want)(b.Lookup(t.Context(), key))
			})
		}
	})
}

func TestConcurrentCallsHoldOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		for round := range 20 {
			c := charge1000("pm_card_visa")
			c.Key = fmt.Sprintf("order-%d:authorize", round)
			refs := make([]string, 16)
			var wg sync.WaitGroup
			for i := range refs {
				wg.Go(func() {
					o, err := b.Authorize(context.Background(), c)
					if err != nil || o.Authorized != 1000 {
						t.Errorf("%+v, %v", o, err)
					}
					refs[i] = o.Ref
				})
			}
			wg.Wait()
			slices.Sort(refs)
			if refs = slices.Compact(refs); len(refs) != 1 {
				t.Fatalf("%d charges under one key: %v", len(refs), refs)
			}
		}
		r, err := OpenRecord(t.Context(), b.url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if n, err := r.Count(t.Context()); err != nil || n != 20 {
			t.Errorf("the record has %d charges, %v; want 20", n, err)
		}
	})
}

func (b *bundle) refundCaptured(ctx context.Context, key string) (payment.Outcome, error) {
	if o, err := b.Capture(ctx, key); err != nil {
		return o, err
	}
	return b.Refund(ctx, key)
}

func TestRecordHasWhatWasHeldOrTaken(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		ctx := t.Context()
		refs := map[string]string{}
		for id, undo := range map[string]func(context.Context, string) (payment.Outcome, error){"d": nil, "a": b.Capture, "c": b.Void, "b": nil, "e": b.refundCaptured} {
			c := payment.Charge{Key: id, Amount: 7, Currency: "JPY", Token: "pm_card_visa"}
			o, err := b.Authorize(ctx, c)
			if err == nil && undo != nil {
				_, err = undo(ctx, id)
			}
			if err != nil {
				t.Fatal(err)
			}
			refs[id] = o.Ref
		}
		b.is(declinedFor("card_declined"))(b.Authorize(ctx, charge1000("pm_card_chargeDeclined")))
		r, err := OpenRecord(ctx, b.url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var got []Charge
		if err := r.Charges(ctx, func(c Charge) bool { got = append(got, c); return true }); err != nil {
			t.Fatal(err)
		}
		want := []Charge{
			{"a", "JPY", refs["a"], payment.StateCaptured, 7}, {"b", "JPY", refs["b"], payment.StateAuthorized, 7},
			{"d", "JPY", refs["d"], payment.StateAuthorized, 7}, {"e", "JPY", refs["e"], payment.StateRefunded, 7},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		if n, err := r.Count(ctx); err != nil || n != 3 {
			t.Errorf("%d, %v", n, err)
		}
		seen := 0
		if err := r.Charges(ctx, func(Charge) bool { seen++; return false }); err != nil || seen != 1 {
			t.Errorf("it went on after a no: %d, %v", seen, err)
		}
		if _, err := OpenRecord(ctx, "sqlite:"+filepath.Join(t.TempDir(), "none.db")); err == nil {
			t.Error("it opened a record that is not there")
		}
	})
}

func TestNoAnswerIsOneOfTwo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		b.fails(payment.ErrUnknownOutcome)(b.Authorize(gone, charge1000("pm_card_visa")))
		if err := b.Provider.Close(); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		b.fails(payment.ErrUnknownOutcome)(b.Authorize(ctx, charge1000("pm_card_visa")))
		b.fails(payment.ErrUnavailable)(b.Authorize(ctx, charge1000("pm_simulated_down_2s")))
		for _, ask := range []func(context.Context, string) (payment.Outcome, error){b.Lookup, b.Capture, b.Void, b.Refund} {
			b.fails(payment.ErrUnavailable)(ask(ctx, key))
		}
		b.open()
	})
}

func TestDatabaseRefusesWhatAProviderMustNeverDo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		b := setup(t, e)
		b.is(heldAll)(b.Authorize(t.Context(), charge1000("pm_card_visa")))
		for _, q := range []string{
			`UPDATE charges SET state = 'lost'`,
			`UPDATE charges SET authorized_minor = 1001`,
			`UPDATE charges SET authorized_minor = -1`,
			`UPDATE charges SET captured_minor = 1001`,
			`UPDATE charges SET captured_minor = 600, voided_minor = 600`,
			`UPDATE charges SET voided_minor = -1`,
			`UPDATE charges SET refunded_minor = 1`,
			`UPDATE charges SET refunded_minor = -1`,
			`INSERT INTO charges SELECT * FROM charges`,
		} {
			if err := b.db.Write(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(q); return err }); err == nil {
				t.Errorf("the database took %s", q)
			}
		}
	})
}

func TestBothEnginesHaveOneSchema(t *testing.T) {
	t.Parallel()
	dbtest.SameSchema(t, func(ctx context.Context, url string) (*Provider, error) { return Open(ctx, url, nil) })
}

// Replicas of Payments share the record, as they share a real provider.
func TestReplicasShareTheRecord(t *testing.T) {
	t.Parallel()
	b := setup(t, dbtest.Postgres)
	other, err := Open(t.Context(), b.url, b.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for n := range 50 {
		c := charge1000("pm_card_visa")
		c.Key = fmt.Sprint(n)
		var refs [2]string
		var wait sync.WaitGroup
		for i, p := range []*Provider{b.Provider, other} {
			wait.Go(func() {
				o, err := p.Authorize(context.Background(), c)
				if err != nil {
					t.Error(err)
				}
				refs[i] = o.Ref
			})
		}
		wait.Wait()
		if refs[0] != refs[1] {
			t.Errorf("charge %d has the references %v, want one", n, refs)
		}
	}
}
