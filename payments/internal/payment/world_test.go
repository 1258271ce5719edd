package payment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/explore"
)

// plan says who acts on the one order, each once and at any moment, and how often what may happen.
type plan struct {
	who     []string // of callers
	crashes int      // whoever drives a payment is gone, between any two steps
	away    int      // the provider says that it did nothing
	lost    int      // it does not say; the call arrives later, or never
	twice   int      // a call arrives again, later
	decline bool
}

// world is what outlives a crash: Payments' records, the provider's book, and calls on their way to it.
type world struct {
	memory  *memory
	book    *book
	plan    plan
	planted string // the mistake that is to be found, or ""
	late    []message
	told    map[string]string // by caller
	running []*process
	waiting []string // of plan.who, those that have not begun
}

type message struct {
	name string
	act  func()
}

// callers are all that can be asked of Payments.
var callers = map[string]func(context.Context, *process) error{
	"buyer":        func(ctx context.Context, p *process) error { return p.authorizes(ctx) },
	"buyer again":  func(ctx context.Context, p *process) error { return p.authorizes(ctx) },
	"undo":         func(ctx context.Context, p *process) error { _, err := p.payments.Void(ctx, orderA); return err },
	"undo again":   func(ctx context.Context, p *process) error { _, err := p.payments.Void(ctx, orderA); return err },
	"capturer":     func(ctx context.Context, p *process) error { _, err := p.payments.Capture(ctx, orderA); return err },
	"refunder":     func(ctx context.Context, p *process) error { _, err := p.payments.Refund(ctx, orderA); return err },
	"cancellation": func(ctx context.Context, p *process) error { return p.payments.GiveBack(ctx, orderA, p.Decide) },
	"fulfilment":   func(ctx context.Context, p *process) error { return p.payments.Collect(ctx, orderA, p.Decide) },
	"recovery": func(ctx context.Context, p *process) error {
		p.payments.recoverSome(ctx, slog.New(slog.DiscardHandler))
		return nil
	},
}

func (p *process) authorizes(ctx context.Context) error {
	got, err := p.payments.Authorize(ctx, ask())
	if err == nil {
		p.world.told[p.Name] = string(got.Status)
	}
	return err
}

func newWorld(p plan, planted string) *world {
	w := &world{memory: &memory{records: map[string]*Record{}}, book: &book{charges: map[string]Outcome{}}, plan: p, planted: planted, told: map[string]string{}, waiting: p.who}
	if p.decline {
		w.book.decline = "card_declined"
	}
	return w
}

// process is one of many Payments, and its ports: whatever it asks of the world stops it until the run lets it go on.
type process struct {
	*explore.Actor
	payments *Service
	world    *world
	how      fate
}

// fate is what becomes of the call that a process is about to make.
type fate string

const (
	answered fate = ""
	refused  fate = " (away)"
	lost     fate = " (lost)"
	twice    fate = " (twice)"
	gone     fate = " (crashes before it)"
)

func (w *world) start(name string) {
	p := &process{world: w}
	p.payments = NewService(p, map[string]Provider{sim: p})
	w.waiting = slices.DeleteFunc(slices.Clone(w.waiting), func(x string) bool { return x == name })
	w.running = append(w.running, p)
	p.Actor = explore.Go(name, func(a *explore.Actor) {
		p.Actor = a
		err := callers[name](context.Background(), p)
		if w.told[name] == "" && err == nil {
			w.told[name] = "done"
		}
	})
}

// way is one thing that can happen next.
type way struct {
	process *process
	fate    fate
	message int    // its place in late, from 1
	begin   string // who begins
	end     bool   // nothing more goes wrong
}

func (w *world) ways() []way {
	var all []way
	idle := true
	for _, p := range w.running {
		what, ok := p.Pending()
		if !ok {
			continue
		}
		idle = false
		for _, f := range []fate{answered, refused, lost, twice, gone} {
			provider := !strings.HasPrefix(what, "decide")
			if left := w.left(f); (left == nil || *left > 0) && (provider || f == answered || f == gone) {
				all = append(all, way{process: p, fate: f})
			}
		}
	}
	for i, m := range w.late {
		if i == slices.IndexFunc(w.late, func(x message) bool { return x.name == m.name }) {
			all = append(all, way{message: i + 1})
		}
	}
	for _, name := range w.waiting {
		all = append(all, way{begin: name})
	}
	if idle {
		all = append(all, way{end: true})
	}
	return all
}

func (w *world) left(f fate) *int {
	switch f {
	case refused:
		return &w.plan.away
	case lost:
		return &w.plan.lost
	case twice:
		return &w.plan.twice
	case gone:
		return &w.plan.crashes
	}
	return nil
}

func (w *world) describe(x way) string {
	switch {
	case x.process != nil:
		what, _ := x.process.Pending()
		return x.process.Name + ": " + what + string(x.fate)
	case x.message > 0:
		return "late: " + w.late[x.message-1].name
	case x.end:
		return "nothing more goes wrong"
	}
	return x.begin + " begins"
}

func (w *world) happen(x way) {
	if left := w.left(x.fate); left != nil {
		*left--
	}
	switch {
	case x.fate == gone:
		x.process.Kill()
	case x.process != nil:
		x.process.how = x.fate
		x.process.Step()
	case x.message > 0:
		w.deliver(x.message - 1)
	default:
		w.start(x.begin)
	}
}

func (w *world) deliver(i int) {
	m := w.late[i]
	w.late = slices.Delete(w.late, i, i+1)
	m.act()
}

// state names all that the world's further way depends on.
func (w *world) state() string {
	var b strings.Builder
	r := w.memory.record(orderA)
	fmt.Fprintln(&b, w.plan, w.waiting, w.told, r.Payment.Status, r.Payment.Authorized, r.Payment.Captured, r.Payment.Voided, r.Payment.Refunded)
	for _, s := range []Step{StepAuthorize, StepCapture, StepVoid, StepRefund} {
		fmt.Fprint(&b, r.Attempts[s].Result, r.Attempts[s].Amount, ";")
	}
	fmt.Fprintln(&b, w.book.outcome(orderA), w.book.held)
	late := make([]string, len(w.late))
	for i, m := range w.late {
		late[i] = m.name
	}
	slices.Sort(late)
	fmt.Fprintln(&b, late)
	for _, p := range w.running {
		b.WriteString(p.State() + "\n")
	}
	return b.String()
}

// Decide is a durable write.
func (p *process) Decide(_ context.Context, order string, f func(*Record) error) error {
	p.Stop("decide")
	m := p.world.memory
	before := m.records[order]
	err := m.Decide(context.Background(), order, func(r *Record) error {
		if !r.Payment.Due.IsZero() {
			r.Payment.Due = time.Unix(1, 0) // whatever is under way is due: time passes as it likes
		}
		return f(r)
	})
	if p.world.planted == "an attempt is not stored" && before == nil && m.records[order] != nil && m.records[order].Payment.Status == Pending {
		delete(m.records, order)
	}
	r := m.record(order)
	p.Saw(fmt.Sprint(r.Payment.Status, r.Attempts[StepCapture].Result, r.Attempts[StepRefund].Result, err))
	return err
}

// TryDecide is Decide.
func (p *process) TryDecide(ctx context.Context, order string, f func(*Record) error) error {
	return p.Decide(ctx, order, f)
}

// Payment is not asked for by the operations.
func (p *process) Payment(ctx context.Context, order string) (Payment, error) {
	return p.world.memory.Payment(ctx, order)
}

// Due returns the payment if anything is under way.
func (p *process) Due(context.Context, time.Time, time.Time, int) ([]Payment, error) {
	if r := p.world.memory.record(orderA); !r.Payment.Due.IsZero() {
		p.Saw("due")
		return []Payment{r.Payment}, nil
	}
	p.Saw("nothing due")
	return nil, nil
}

// call is one to the provider.
func (p *process) call(name string, act func() (Outcome, error)) (Outcome, error) {
	p.Stop(name)
	if p.how == lost || p.how == twice {
		p.world.late = append(p.world.late, message{name, func() { _, _ = act() }})
	}
	switch p.how {
	case refused:
		p.Saw(name + " away")
		return Outcome{}, ErrUnavailable
	case lost:
		p.Saw(name + " lost")
		return Outcome{}, ErrUnknownOutcome
	}
	o, err := act()
	p.Saw(fmt.Sprint(name, o.State))
	return o, err
}

func (p *process) charge(key string) { delete(p.world.book.charges, key) }

// Authorize implements Provider.
func (p *process) Authorize(ctx context.Context, c Charge) (Outcome, error) {
	return p.call("authorize", func() (Outcome, error) {
		if p.world.planted == "the provider does not know a charge again" {
			p.charge(c.Key)
		}
		return p.world.book.Authorize(ctx, c)
	})
}

// Lookup implements Provider.
func (p *process) Lookup(ctx context.Context, key string) (Outcome, error) {
	return p.call("lookup", func() (Outcome, error) { return p.world.book.Lookup(ctx, key) })
}

// Capture implements Provider.
func (p *process) Capture(ctx context.Context, key string) (Outcome, error) {
	return p.call("capture", func() (Outcome, error) { return p.world.book.Capture(ctx, key) })
}

// Void implements Provider.
func (p *process) Void(ctx context.Context, key string) (Outcome, error) {
	return p.call("void", func() (Outcome, error) {
		if p.world.planted == "a void is said to be done" {
			return Outcome{State: StateVoided}, nil
		}
		unseen := p.world.book.charges[key].State == StateAbsent
		o, err := p.world.book.Void(ctx, key)
		if p.world.planted == "a void leaves no tombstone" && unseen {
			p.charge(key)
		}
		return o, err
	})
}

// Refund implements Provider.
func (p *process) Refund(ctx context.Context, key string) (Outcome, error) {
	return p.call("refund", func() (Outcome, error) { return p.world.book.Refund(ctx, key) })
}

// giveBack brings the order to nothing, as Orders does with one that it rejects, when nothing goes wrong any more.
func (w *world) giveBack() error {
	s := NewService(w.memory, map[string]Provider{sim: w.book})
	_, err := s.Void(context.Background(), orderA)
	if errors.Is(err, ErrAlreadyCaptured) {
		_, err = s.Refund(context.Background(), orderA)
	}
	return err
}
