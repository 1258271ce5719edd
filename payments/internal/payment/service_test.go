package payment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// operations are the commands, as a caller repeats them.
var operations = map[string]func(*bundle, context.Context) (Payment, error){
	"authorize": func(b *bundle, ctx context.Context) (Payment, error) { return b.Authorize(ctx, ask()) },
	"capture":   func(b *bundle, ctx context.Context) (Payment, error) { return b.Capture(ctx, orderA) },
	"void":      func(b *bundle, ctx context.Context) (Payment, error) { return b.Void(ctx, orderA) },
	"refund":    func(b *bundle, ctx context.Context) (Payment, error) { return b.Refund(ctx, orderA) },
	"give back": func(b *bundle, ctx context.Context) (Payment, error) { return Payment{}, b.giveBack(ctx) },
	"collect":   func(b *bundle, ctx context.Context) (Payment, error) { return Payment{}, b.collect(ctx) },
}

func TestEachCommandFromEachStatus(t *testing.T) {
	t.Parallel()
	// Which operations lead to a status, the last with what went wrong in it.
	type way struct {
		ops     []string
		trouble trouble
	}
	ways := map[Status]way{
		None:       {},
		Pending:    {[]string{"authorize"}, unsaid},
		Authorized: {[]string{"authorize"}, none},
		Capturing:  {[]string{"authorize", "capture"}, unsaid},
		Captured:   {[]string{"authorize", "capture"}, none},
		Voiding:    {[]string{"authorize", "void"}, unsaid},
		Voided:     {[]string{"authorize", "void"}, none},
		Refunding:  {[]string{"authorize", "capture", "refund"}, unsaid},
		Refunded:   {[]string{"authorize", "capture", "refund"}, none},
		Declined:   {[]string{"authorize"}, none},
	}
	type answer struct {
		to  Status
		err error
	}
	for from, answers := range map[Status]map[string]answer{
		None:       {"authorize": {Authorized, nil}, "capture": {None, ErrNotFound}, "void": {Voided, nil}, "refund": {None, ErrNotFound}, "give back": {Voided, nil}, "collect": {None, ErrNotFound}},
		Pending:    {"authorize": {Authorized, nil}, "capture": {Pending, ErrNotAuthorized}, "void": {Voided, nil}, "refund": {Pending, ErrNotCaptured}, "give back": {Voided, nil}, "collect": {Pending, ErrNotAuthorized}},
		Authorized: {"authorize": {Authorized, nil}, "capture": {Captured, nil}, "void": {Voided, nil}, "refund": {Authorized, ErrNotCaptured}, "give back": {Voided, nil}, "collect": {Captured, nil}},
		Declined:   {"authorize": {Declined, nil}, "capture": {Declined, ErrNotAuthorized}, "void": {Declined, nil}, "refund": {Declined, ErrNotCaptured}, "give back": {Declined, nil}, "collect": {Declined, nil}},
		Capturing:  {"authorize": {Capturing, nil}, "capture": {Captured, nil}, "void": {Capturing, ErrAlreadyCaptured}, "refund": {Refunded, nil}, "give back": {Refunded, nil}, "collect": {Captured, nil}},
		Captured:   {"authorize": {Captured, nil}, "capture": {Captured, nil}, "void": {Captured, ErrAlreadyCaptured}, "refund": {Refunded, nil}, "give back": {Refunded, nil}, "collect": {Captured, nil}},
		Voiding:    {"authorize": {Voiding, nil}, "capture": {Voiding, ErrNotAuthorized}, "void": {Voided, nil}, "refund": {Voiding, ErrNotCaptured}, "give back": {Voided, nil}, "collect": {Voiding, ErrNotAuthorized}},
		Voided:     {"authorize": {Voided, nil}, "capture": {Voided, ErrNotAuthorized}, "void": {Voided, nil}, "refund": {Voided, ErrNotCaptured}, "give back": {Voided, nil}, "collect": {Voided, nil}},
		Refunding:  {"authorize": {Refunding, nil}, "capture": {Refunding, nil}, "void": {Refunding, ErrAlreadyCaptured}, "refund": {Refunded, nil}, "give back": {Refunded, nil}, "collect": {Refunding, nil}},
		Refunded:   {"authorize": {Refunded, nil}, "capture": {Refunded, nil}, "void": {Refunded, nil}, "refund": {Refunded, nil}, "give back": {Refunded, nil}, "collect": {Refunded, nil}},
	} {
		for op, want := range answers {
			t.Run(fmt.Sprintf("%s of %q", op, from), func(t *testing.T) {
				t.Parallel()
				b := setup()
				if from == Declined {
					b.book.decline = "card_declined"
				}
				way := ways[from]
				for i, step := range way.ops {
					if i == len(way.ops)-1 {
						b.book.trouble = way.trouble
					}
					_, _ = operations[step](b, t.Context())
				}
				b.book.trouble = none
				if at := b.memory.record(orderA).Payment.Status; at != from {
					t.Fatalf("the way to %q led to %q", from, at)
				}
				for range 2 { // a repeat gives the same answer
					_, err := operations[op](b, t.Context())
					r := b.memory.record(orderA)
					if r.Payment.Status != want.to || !errors.Is(err, want.err) {
						t.Fatalf("got %q and %v, want %q and %v", r.Payment.Status, err, want.to, want.err)
					}
					sound(t, b)
				}
				if b.book.held > 1 {
					t.Errorf("charged %d times", b.book.held)
				}
			})
		}
	}
}

// sound checks what holds of a record at any time.
func sound(t fataler, b *bundle) {
	t.Helper()
	r := b.memory.record(orderA)
	p := r.Payment
	amounts := [4]int64{p.Authorized, p.Captured, p.Voided, p.Refunded}
	attempts := [4]int64{r.Attempts[StepAuthorize].Amount, r.Attempts[StepCapture].Amount, r.Attempts[StepVoid].Amount, r.Attempts[StepRefund].Amount}
	if amounts != attempts {
		t.Fatalf("%s: authorized, captured, voided, refunded %v, by the attempts %v", p.Status, amounts, attempts)
	}
	if p.Authorized > p.Amount || p.Captured+p.Voided > p.Authorized || p.Refunded > p.Captured {
		t.Fatalf("%s: more moved than there is: %+v", p.Status, p)
	}
	for step, a := range r.Attempts {
		if a.final() == a.Ended.IsZero() || a.Step != step {
			t.Fatalf("%s: attempt %+v", step, a)
		}
	}
	if doing := underWay[p.Status] != ""; doing == p.Due.IsZero() {
		t.Fatalf("%s, and recovery takes it up at %v", p.Status, p.Due)
	}
	switch p.Status {
	case Declined, Voided, Refunded:
		if held := b.book.holds(orderA); held != 0 || p.Authorized != p.Voided+p.Refunded {
			t.Fatalf("%s, and the provider has %d: %+v", p.Status, held, p)
		}
		for step, a := range r.Attempts {
			if !a.final() {
				t.Fatalf("%s, and the attempt to %s stands open", p.Status, step)
			}
		}
	case Captured:
		if p.Captured == 0 {
			t.Fatalf("captured nothing: %+v", p)
		}
	}
}

// fataler is a test or a rapid check.
type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func TestAttemptIsStoredBeforeTheProviderIsCalled(t *testing.T) {
	t.Parallel()
	b := setup()
	calls := 0
	b.book.seen = func(step string, _ *Charge) {
		calls++
		r := b.memory.record(orderA)
		doing := map[string]Status{"authorize": Pending, "capture": Capturing, "void": Voiding, "refund": Refunding}[step]
		if r.Payment.Status != doing || r.Attempts[Step(step)].Result != Started {
			t.Errorf("the provider is asked to %s, and the record says %q, attempt %+v", step, r.Payment.Status, r.Attempts[Step(step)])
		}
	}
	b.authorize(t)
	if _, err := b.Capture(t.Context(), orderA); err != nil {
		t.Error(err)
	}
	if _, err := b.Refund(t.Context(), orderA); err != nil {
		t.Error(err)
	}
	b.memory.records = map[string]*Record{}
	b.book.charges = map[string]Outcome{}
	b.authorize(t)
	if _, err := b.Void(t.Context(), orderA); err != nil {
		t.Error(err)
	}
	if calls != 5 {
		t.Errorf("the provider was called %d times, want 5", calls)
	}
}

// A crash, a full disk and a caller that has gone leave the same: the first write without the second.
func TestNothingIsAskedWhereTheAttemptIsNotDurable(t *testing.T) {
	t.Parallel()
	for op, run := range operations {
		b := setup()
		b.authorize(t)
		if op == "refund" {
			if _, err := b.Capture(t.Context(), orderA); err != nil {
				t.Fatal(err)
			}
		}
		if op == "authorize" {
			b = setup()
		}
		before := b.book.did()
		b.memory.fail = 1
		if _, err := run(b, t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("%s: %v, want the disk's error", op, err)
		}
		if d := cmp.Diff(before, b.book.did()); d != "" {
			t.Errorf("%s asked the provider:\n%s", op, d)
		}
	}
}

func TestUnknownOutcomeIsResolvedByAsking(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		trouble trouble
		decline string
		unnoted bool // the outcome is not written: a crash after the provider's answer
		note    Attempt
		calls   []string // of the repeat
		want    Status
	}{
		{name: "it had held the money", trouble: unsaid, note: Attempt{Result: Unclear, Error: "timeout"}, calls: []string{"lookup"}, want: Authorized},
		{name: "it had declined", trouble: unsaid, decline: "expired_card", note: Attempt{Result: Unclear, Error: "timeout"}, calls: []string{"lookup"}, want: Declined},
		{name: "it was never reached", trouble: unheard, note: Attempt{Result: Unclear, Error: "no_answer"}, calls: []string{"lookup", "authorize"}, want: Authorized},
		{name: "it was away", trouble: away, note: Attempt{Result: Unclear, Error: "provider_away"}, calls: []string{"lookup", "authorize"}, want: Authorized},
		{name: "we crashed after its answer", unnoted: true, note: Attempt{Result: Started}, calls: []string{"lookup"}, want: Authorized},
		{name: "we crashed before asking", trouble: unheard, unnoted: true, note: Attempt{Result: Started}, calls: []string{"lookup", "authorize"}, want: Authorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup()
			b.book.trouble, b.book.decline = tt.trouble, tt.decline
			if tt.unnoted {
				b.memory.fail = 2
			}
			p, err := b.Authorize(t.Context(), ask())
			if tt.unnoted != (err != nil) || err == nil && p.Status != Pending {
				t.Fatalf("got %q, %v", p.Status, err)
			}
			a := b.memory.record(orderA).Attempts[StepAuthorize]
			if a.Result != tt.note.Result || a.Error != tt.note.Error || !a.Ended.IsZero() {
				t.Errorf("the attempt is %+v, want %+v", a, tt.note)
			}
			first := len(b.book.did())
			b.book.trouble = none
			if p := b.authorize(t); p.Status != tt.want || p.Decline != tt.decline {
				t.Errorf("the repeat gave %q (%q), want %q", p.Status, p.Decline, tt.want)
			}
			if d := cmp.Diff(tt.calls, b.book.did()[first:]); d != "" {
				t.Errorf("calls of the repeat (-want +got):\n%s", d)
			}
			if b.book.held > 1 {
				t.Errorf("charged %d times", b.book.held)
			}
			sound(t, b)
		})
	}
}

func TestFirstTokenStands(t *testing.T) {
	t.Parallel()
	b := setup()
	b.book.trouble = unheard
	b.authorize(t)
	b.book.trouble = none
	b.book.seen = func(step string, c *Charge) {
		if step == "authorize" && c.Token != "pm_card_visa" {
			t.Errorf("the repeat sends token %q", c.Token)
		}
	}
	other := ask()
	other.Token = "pm_card_mastercard"
	if p, err := b.Authorize(t.Context(), other); err != nil || p.Status != Authorized || p.Token != "pm_card_visa" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestOneOrderHasOnePayment(t *testing.T) {
	t.Parallel()
	b := setup()
	b.authorize(t)
	more, dear := ask(), ask()
	more.Amount++
	dear.Currency = "USD"
	for _, q := range []Request{more, dear} {
		if _, err := b.Authorize(t.Context(), q); !errors.Is(err, ErrMismatch) {
			t.Errorf("%d %s: %v, want ErrMismatch", q.Amount, q.Currency, err)
		}
	}
	if b.book.outcome(orderA).Authorized != 1000 {
		t.Errorf("the provider has %+v", b.book.outcome(orderA))
	}
}

func TestVoidBeforeAuthorizeLeavesATombstone(t *testing.T) {
	t.Parallel()
	b := setup()
	if p, err := b.Void(t.Context(), orderA); err != nil || p.Status != Voided || p.ID != "" {
		t.Fatalf("%+v, %v", p, err)
	}
	if p := b.authorize(t); p.Status != Voided {
		t.Errorf("the late authorize gave %q", p.Status)
	}
	if calls := b.book.did(); len(calls) > 0 {
		t.Errorf("the provider was asked: %v", calls)
	}
	if d := cmp.Diff([]Status{Voided}, b.memory.told()); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}

func TestProviderInTroubleIsNoRefusal(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ops   []string
		doing Status
	}{
		{[]string{"authorize", "void"}, Voiding}, {[]string{"authorize", "capture"}, Capturing}, {[]string{"authorize", "capture", "refund"}, Refunding},
	} {
		for _, tr := range []trouble{away, unheard, unsaid} {
			b := setup()
			last := len(tc.ops) - 1
			for _, op := range tc.ops[:last] {
				if _, err := operations[op](b, t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			b.book.trouble = tr
			for range 2 {
				if _, err := operations[tc.ops[last]](b, t.Context()); !errors.Is(err, ErrProviderAway) {
					t.Errorf("%s with trouble %d: %v, want ErrProviderAway", tc.ops[last], tr, err)
				}
			}
			if _, err := operations["refund"](b, t.Context()); tc.doing == Capturing && !errors.Is(err, ErrProviderAway) {
				t.Errorf("refund of a capture with trouble %d: %v, want ErrProviderAway", tr, err)
			}
			if s := b.memory.record(orderA).Payment.Status; s != tc.doing {
				t.Errorf("%s with trouble %d left it %q", tc.ops[last], tr, s)
			}
		}
	}
}

// A caller that goes away while the provider acts must not take the outcome with it.
func TestOutcomeIsNotedForACallerThatIsGone(t *testing.T) {
	t.Parallel()
	b := setup()
	ctx, leave := context.WithCancel(t.Context())
	b.book.seen = func(string, *Charge) { leave() }
	if p, err := b.Authorize(ctx, ask()); err != nil || p.Status != Authorized {
		t.Errorf("%q, %v", p.Status, err)
	}
	if s := b.memory.record(orderA).Payment.Status; s != Authorized {
		t.Errorf("the record says %q", s)
	}
}

func TestProviderThatIsTooLate(t *testing.T) {
	t.Parallel()
	b := setup()
	b.book.trouble = unsaid
	if p := b.authorize(t); p.Status != Pending {
		t.Errorf("%q", p.Status)
	}
	if a := b.memory.record(orderA).Attempts[StepAuthorize]; a.Error != "timeout" {
		t.Errorf("the attempt is %+v", a)
	}
}

func TestProviderThatIsConfiguredNoMore(t *testing.T) {
	t.Parallel()
	b := setup()
	b.authorize(t)
	delete(b.providers, sim)
	if _, err := b.Void(t.Context(), orderA); !errors.Is(err, ErrProviderAway) {
		t.Errorf("void: %v", err)
	}
	if s := b.memory.record(orderA).Payment.Status; s != Voiding {
		t.Errorf("the record says %q", s)
	}
}

func TestRefusesWhatMustNotReachTheStore(t *testing.T) {
	t.Parallel()
	with := func(f func(*Request)) Request { q := ask(); f(&q); return q }
	for name, tc := range map[string]struct {
		q    Request
		code string
	}{
		"a card number for a token":           {with(func(q *Request) { q.Token = "4242 4242 4242 4242" }), "card_number_refused"},
		"a card number in a token":            {with(func(q *Request) { q.Token = "pm_4242424242424242x" }), "card_number_refused"},
		"a card number for a provider":        {with(func(q *Request) { q.Provider = "4242424242424242" }), "card_number_refused"},
		"a card number for a currency":        {with(func(q *Request) { q.Currency = "4242-4242-4242-4242" }), "card_number_refused"},
		"a total of nothing":                  {with(func(q *Request) { q.Amount = 0 }), "invalid_amount"},
		"a negative amount":                   {with(func(q *Request) { q.Amount = -1 }), "invalid_amount"},
		"a currency in small letters":         {with(func(q *Request) { q.Currency = "eur" }), "invalid_currency"},
		"no currency":                         {with(func(q *Request) { q.Currency = "" }), "invalid_currency"},
		"a provider that is not there":        {with(func(q *Request) { q.Provider = "bank" }), "unknown_provider"},
		"no provider":                         {with(func(q *Request) { q.Provider = "" }), "unknown_provider"},
		"no token":                            {with(func(q *Request) { q.Token = "" }), "invalid_token"},
		"a long token":                        {with(func(q *Request) { q.Token = telemetry.Secret(strings.Repeat("x", 256)) }), "invalid_token"},
		"a token that is not UTF-8":           {with(func(q *Request) { q.Token = "pm_\xff" }), "invalid_token"},
		"a token with a NUL":                  {with(func(q *Request) { q.Token = "pm_\x00" }), "invalid_token"},
		"a token with half a character":       {with(func(q *Request) { q.Token = "pm_\uFFFD" }), "invalid_token"},
		"a token of two lines":                {with(func(q *Request) { q.Token = "pm_\nx" }), "invalid_token"},
		"a card number where all else is bad": {Request{Token: "4242424242424242"}, "card_number_refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup()
			_, err := b.Authorize(t.Context(), tc.q)
			f := fault.Of(err)
			if f.Kind != fault.Invalid || f.Code != tc.code {
				t.Errorf("got %v, want %s", err, tc.code)
			}
			for _, sent := range []string{string(tc.q.Token), tc.q.Provider, tc.q.Currency} {
				if len(sent) > 3 && strings.Contains(err.Error(), sent) {
					t.Errorf("the error repeats %q: %v", sent, err)
				}
			}
			if len(b.memory.records) > 0 || len(b.book.did()) > 0 {
				t.Error("it reached the store or the provider")
			}
		})
	}
	if _, err := setup().Authorize(t.Context(), with(func(q *Request) { q.Token = telemetry.Secret(strings.Repeat("ü", 255)) })); err != nil {
		t.Errorf("a token of 255 characters: %v", err)
	}
}
