package order

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// Config holds the saga's times. A zero field takes its default.
type Config struct {
	// Budget is how long a caller waits for the end of an order before it is told 202: long enough for a slow provider,
	// short enough for a browser. 10 s.
	Budget time.Duration
	// Lease is how long a driver may be silent before another takes over: the budget and a half. 15 s.
	Lease time.Duration
	// Deadline is how long an order may stay pending before it is given up and its payment voided: a customer who waits longer
	// has left. 15 min.
	Deadline time.Duration
	// Poll is how often recovery looks for work. 500 ms.
	Poll time.Duration
	// AnswerWait is how long a caller of Cancel, Fulfil or Return waits for what Inventory and Payments have to do. 2 s.
	AnswerWait time.Duration
	// Backlog is how long the queues in front of this process's databases are that an order, with a price or without one, has to
	// pass: not what other services or a provider take. Without it there is no limit on arrivals.
	Backlog func(paid bool) time.Duration
	// Figures count what becomes of orders.
	Figures Figures
	// Alone says that nobody else has the Store open: leaves found in it at the start are of the dead.
	Alone bool
	// Owner names this replica in leases.
	Owner string
	// Now is the clock.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.Budget, 10*time.Second)
	set(&c.Lease, 15*time.Second)
	set(&c.Deadline, 15*time.Minute)
	set(&c.Poll, 500*time.Millisecond)
	set(&c.AnswerWait, 2*time.Second)
	if c.Backlog == nil {
		c.Backlog = func(bool) time.Duration { return 0 }
	}
	c.Figures = c.Figures.withDefaults()
	if c.Owner == "" {
		c.Owner = string(NewID())
	}
	if c.Now == nil {
		c.Now = lab.Now
	}
	return c
}

// Service drives orders. It is safe for concurrent use; replicas share nothing but the Store.
//
// What a crash leaves, by the last thing that became durable:
//
//	Begin           pending, leased to the dead: recovery claims it when the lease has run out, and reserves
//	Reserve         the same; reserving again gives the same answer
//	Keep            the same: what an Inventory without a release has taken is noted before anything else is done; reserving again is
//	                noted beside it, because it may have taken the units again. A crash before the note has left it to the second one alone
//	Authorize       the same; authorizing again asks for the outcome by key and never charges blindly
//	Move to undoing recovery goes on giving back; both undo steps may be repeated
//	Move to an end  the caller repeats its key and gets the stored answer
//
// An order that is reserved for before it is recorded has a table of its own: see ahead.
//
// Two drivers of one order do no harm: every command to a peer is named by the order, and only one Move from a state
// succeeds; who loses it stops. Nothing is given back before the move to undoing is durable, so that an order cannot be
// confirmed while its stock or money goes back.
type Service struct {
	store   Store
	records Records
	stock   Stock
	cashier Cashier
	cfg     Config
	log     *slog.Logger
	soldOut soldOut
	ahead   ahead
	seen    map[string]sighting // leaves, by name; Recover's alone
	mono    func() time.Time    // a clock that nobody sets
}

// NewService makes a service. Recover must run for orders to reach their end after a crash.
func NewService(store Store, records Records, stock Stock, cashier Cashier, cfg Config, log *slog.Logger) *Service {
	return &Service{store: store, records: records, stock: stock, cashier: cashier, cfg: cfg.withDefaults(), log: log, mono: time.Now}
}

func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// Result is the answer to a placement: the order as far as it got. With a Rejection it will not be served; an order
// that was refused without being recorded has no ID.
type Result struct {
	Order    *Order
	Replayed bool // the answer to an earlier request under the same key
}

// Place takes an order and drives it to its end, or until the budget is spent. The caller's going away does not stop it.
//
// Errors: Invalid for a placement that can never be taken; ErrReused and ErrInFlight about its key; Unavailable, with
// nothing taken and the key as it was, when too many orders come (ErrOverloaded; a key that has its answer gets it then too), the order cannot be recorded or Inventory does not answer;
// ErrInterrupted when somebody took it for left behind by a crash.
func (s *Service) Place(ctx context.Context, p Placement) (Result, error) {
	now := s.now()
	o, err := New(p, now)
	if err != nil {
		return Result{}, err
	}
	ctx = context.WithoutCancel(ctx)
	if r := s.refuseAtSight(ctx, o); r != nil {
		o.State, o.Rejection, o.DecidedAt = Rejected, r, now
		if o.Key == "" {
			s.cfg.Figures.ended(o)
			o.ID = "" // nothing is recorded, so there is nothing to look up
			return Result{Order: o}, nil
		}
	} else {
		o.Lease = Lease{Owner: s.cfg.Owner, Until: now.Add(s.cfg.Lease)}
	}
	if s.cfg.Backlog(o.Paid()) > crowded {
		return s.turnAway(ctx, o)
	}
	if s.ahead.enter(o, s.mono()) {
		return s.placeAhead(ctx, o)
	}
	// Without a deadline: a Begin whose outcome nobody waited for would be an order that its caller was told is none.
	began := time.Now()
	existing, err := s.store.Begin(ctx, o)
	took(s.cfg.Figures.begin, began)
	switch {
	case err != nil:
		return Result{}, err
	case existing != nil:
		return s.replay(existing)
	case o.State == Rejected:
		s.cfg.Figures.ended(o)
		return Result{Order: o}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Budget)
	defer cancel()
	err = s.drive(ctx, o, true)
	if errors.Is(err, errNotTaken) {
		return Result{}, untaken(err)
	}
	if err != nil {
		s.park(ctx, o, err)
	}
	return Result{Order: o}, nil
}

// untaken is what the caller of an order is told that Inventory did not answer for.
func untaken(err error) error {
	if errors.Is(err, fault.ErrContract) {
		return fault.Of(err)
	}
	return ErrNoStock.Because(err)
}

// crowded is the backlog from which on arrivals are turned away. An order passes a queue at its begin, for its stock and at its
// end, so that one which is let in has its answer within about half a second, also while far more come than can be taken. It is a
// dozen full transactions on a disk that syncs in a few milliseconds: turning away sooner would leave them less than full.
const crowded = 150 * time.Millisecond

// lookupTime bounds what turning away may take. Looking a key up takes microseconds in a file, a millisecond on a server that is well.
const lookupTime = 50 * time.Millisecond

// turnAway refuses an order that would wait for too long, unless its key has an answer already: to give that takes a look, and no turn in
// the queue, and who repeats under overload has mostly waited once. Where looking is slow too, nobody waits for it.
func (s *Service) turnAway(ctx context.Context, o *Order) (Result, error) {
	if o.Key != "" {
		ctx, cancel := context.WithTimeout(ctx, lookupTime)
		defer cancel()
		switch existing, err := s.store.Known(ctx, o); {
		case errors.Is(err, ErrReused):
			return Result{}, err
		case err == nil && existing != nil:
			return s.replay(existing)
		}
	}
	s.cfg.Figures.overloaded.Inc()
	return Result{}, overloaded()
}

// overloaded spreads those that are turned away over two seconds, so that they do not come back together.
func overloaded() error {
	f := *ErrOverloaded
	f.RetryAfter = time.Second + rand.N(2*time.Second)
	return &f
}

// refuseAtSight answers for SKUs known to be sold out by asking Inventory before anything is written.
func (s *Service) refuseAtSight(ctx context.Context, o *Order) *Rejection {
	if !s.soldOut.touches(o.Lines) {
		return nil
	}
	shortages, err := s.stock.Check(ctx, o.Lines)
	if err != nil {
		return nil // the long way says what is wrong
	}
	if len(shortages) == 0 {
		s.soldOut.forget(o.Lines)
		return nil
	}
	return refusal(shortages)
}

// replay gives the answer that was given, or would have been, to the first request under the key.
func (s *Service) replay(o *Order) (Result, error) {
	if o.State == Pending && o.Lease.Live(s.now()) {
		return Result{}, ErrInFlight
	}
	if o.Rejection != nil && o.Rejection.Code == ErrNoStock.Code {
		// The order was given up, and its key became free, between the finding of the key and the reading of the order. The
		// first request was told that nothing was taken; this one is told the same, and a repeat starts anew.
		return Result{}, ErrNoStock
	}
	return Result{Order: o, Replayed: true}, nil
}

// errNotTaken says that the order was given up because Inventory did not answer, and its key is free again.
var errNotTaken = errors.New("the order was not taken")

// drive takes a live order as far as it goes, changing o. asked says that a caller waits who can be told to try again.
// An error means that the order is still live and somebody must come back to it, except errNotTaken.
func (s *Service) drive(ctx context.Context, o *Order, asked bool) error {
	if o.State == Undoing {
		return s.undo(ctx, o)
	}
	now := s.now()
	if now.Sub(o.PlacedAt) > s.cfg.Deadline {
		return s.giveUp(ctx, o, timeout(o))
	}
	held, shortages, err := s.reserve(ctx, o)
	switch {
	case err != nil && fault.KindOf(err) == fault.Invalid:
		return s.giveUp(ctx, o, refused(err)) // as in pay
	case err != nil && asked:
		return s.notTaken(ctx, o, err)
	case err != nil:
		return err
	}
	if len(shortages) > 0 {
		s.soldOut.remember(shortages)
		if !asked {
			// An Inventory that does not know the order again may refuse the second time what it gave the first time, and
			// between the two the money may have been held.
			return s.giveUp(ctx, o, *refusal(shortages))
		}
		return s.end(ctx, o, Move{To: Rejected, At: s.now(), Rejection: refusal(shortages)})
	}
	lab.Point("orders.reserved")
	if !held {
		return s.giveUp(ctx, o, Rejection{Kind: fault.Conflict, Code: "reservation_released", Detail: "The reservation of this order was released before it was confirmed."})
	}
	o.ReservedAt = s.now()
	if !o.Paid() {
		return s.end(ctx, o, Move{To: Confirmed, At: o.ReservedAt, ReservedAt: o.ReservedAt})
	}
	return s.pay(ctx, o)
}

// reserve asks Inventory, and makes durable what it keeps.
func (s *Service) reserve(ctx context.Context, o *Order) (held bool, shortages []Shortage, err error) {
	kept := o.Kept
	began := time.Now()
	held, shortages, err = s.stock.Reserve(ctx, o)
	took(s.cfg.Figures.reserve, began)
	if o.Kept != kept {
		// Without the deadline: an Inventory that hangs has used it up.
		if err := s.store.Keep(context.WithoutCancel(ctx), o); err != nil {
			s.log.WarnContext(ctx, "record what inventory keeps", "orderId", o.ID, "units", o.Kept, "error", err)
		}
	}
	return held, shortages, err
}

func (s *Service) pay(ctx context.Context, o *Order) error {
	began := time.Now()
	a, err := s.cashier.Authorize(ctx, o)
	took(s.cfg.Figures.pay, began)
	if err != nil {
		f := fault.Of(err)
		if f.Kind == fault.Invalid || f.Kind == fault.Conflict || f.Kind == fault.NotFound {
			// It will never be possible as asked; waiting would not help.
			return s.giveUp(ctx, o, refused(err))
		}
		return err
	}
	lab.Point("orders.authorized")
	switch a.Outcome {
	case Authorized:
		now := s.now()
		return s.end(ctx, o, Move{To: Confirmed, At: now, ReservedAt: o.ReservedAt, AuthorizedAt: now, PaymentID: a.PaymentID})
	case Declined:
		return s.giveUp(ctx, o, Rejection{Kind: fault.Conflict, Code: codeDeclined, Detail: "The payment was declined (" + a.DeclineCode + "). Nothing is charged; use another means of payment."})
	case Voided:
		return s.giveUp(ctx, o, Rejection{Kind: fault.Conflict, Code: "payment_voided", Detail: "The payment of this order was voided before it was confirmed."})
	}
	return errOutcomeUnknown
}

// timeout is why an order that was pending for too long is given up: what it was last waiting for.
func timeout(o *Order) Rejection {
	if !o.Paid() {
		return Rejection{Kind: fault.Conflict, Code: "inventory_timeout", Detail: "Stock could not be reserved in time. Nothing is held; place the order again, under another Idempotency-Key."}
	}
	return Rejection{Kind: fault.Conflict, Code: "payment_timeout", Detail: "The payment's outcome was not known in time. Nothing is held or charged; place the order again, under another Idempotency-Key."}
}

const codeDeclined = "payment_declined"

var errOutcomeUnknown = fault.New(fault.Unavailable, "payment_outcome_unknown", "The payment's outcome is not known yet.")

// notTaken gives an order up because Inventory did not answer. Whether it reserved is not known, so the way back is
// recovery's; the caller need not wait for it.
func (s *Service) notTaken(ctx context.Context, o *Order, cause error) error {
	// Without the deadline: an Inventory that hangs has used it up, and the caller is to be told so.
	ctx = context.WithoutCancel(ctx)
	now := s.now()
	m := Move{
		To: Undoing, At: now, FreeKey: true, Lease: Lease{Until: now},
		Rejection: &Rejection{Kind: fault.Unavailable, Code: ErrNoStock.Code, Detail: ErrNoStock.Detail},
	}
	ok, err := s.store.Move(ctx, o, m)
	if err != nil || !ok {
		// The order is still pending, or somebody else ended it: telling the caller that it was not taken could be wrong.
		return errors.Join(err, cause)
	}
	o.Apply(m)
	s.cfg.Figures.notTaken.Inc()
	return errors.Join(errNotTaken, cause)
}

// giveUp makes it durable that the order will not be served, and why, and then gives back what it holds.
func (s *Service) giveUp(ctx context.Context, o *Order, r Rejection) error {
	now := s.now()
	m := Move{To: Undoing, At: now, Rejection: &r, ReservedAt: o.ReservedAt, Lease: Lease{Owner: s.cfg.Owner, Until: now.Add(s.cfg.Lease)}}
	if err := s.end(ctx, o, m); err != nil || o.State != Undoing {
		return err
	}
	lab.Point("orders.given_up")
	return s.undo(ctx, o)
}

// undo gives back the units, then the money, then records the end. Both may be repeated.
func (s *Service) undo(ctx context.Context, o *Order) error {
	if o.Kept == "" {
		if err := s.stock.Release(ctx, o.ID, o.Rejection.Code); err != nil {
			return err
		}
	}
	// A declined payment holds nothing, and one key has one outcome.
	if o.Paid() && o.Rejection.Code != codeDeclined {
		err := s.cashier.Void(ctx, o.ID, o.Rejection.Code)
		if errors.Is(err, ErrCaptured) { // by somebody at Payments or at the provider: orders capture later
			err = s.cashier.Refund(ctx, o.ID, o.Rejection.Code)
		}
		if err != nil {
			return err
		}
	}
	lab.Point("orders.given_back")
	return s.end(ctx, o, Move{To: Rejected, At: s.now(), Rejection: o.Rejection, ReservedAt: o.ReservedAt})
}

// end moves o. If another driver was faster, o becomes what that one made of it.
func (s *Service) end(ctx context.Context, o *Order, m Move) error {
	began := time.Now()
	ok, err := s.store.Move(ctx, o, m)
	took(s.cfg.Figures.decide, began)
	if err != nil {
		return err
	}
	if !ok {
		latest, err := s.records.Get(ctx, o.ID)
		if err != nil {
			return err
		}
		*o = *latest
		return nil
	}
	o.Apply(m)
	s.cfg.Figures.ended(o)
	if o.stays() {
		s.log.WarnContext(ctx, "units stay reserved: inventory has no release", "orderId", o.ID, "state", o.State, "units", o.Kept)
	}
	return nil
}

// stays reports whether the order is off, and Inventory keeps units for it that somebody has to put back by hand.
func (o *Order) stays() bool {
	return o.Kept != "" && (o.State == Rejected || o.State == Cancelled || o.State == Returned)
}

// Apply changes o as m says. It is what the store does to the row.
func (o *Order) Apply(m Move) {
	o.State = m.To
	o.ReservedAt, o.Lease = m.ReservedAt, m.Lease
	switch m.To {
	case Undoing:
		o.Rejection = m.Rejection
	case Rejected:
		o.Rejection, o.DecidedAt = m.Rejection, m.At
	case Confirmed:
		o.Payment.ID, o.AuthorizedAt, o.DecidedAt = m.PaymentID, m.AuthorizedAt, m.At
	case Cancelled:
		o.CancelReason, o.CancelledAt = m.Reason, m.At
	case Fulfilled:
		o.FulfilledAt = m.At
	case Returned:
		o.ReturnReason, o.ReturnedAt = m.Reason, m.At
	}
}

// refused is a peer's error as the reason of a rejection. A rejection has a code, also if the peer gave none.
func refused(err error) Rejection {
	f := fault.Of(err)
	return Rejection{Kind: f.Kind, Code: cmp.Or(f.Code, f.Kind.String()), Detail: f.Detail}
}

func refusal(shortages []Shortage) *Rejection {
	unknown := make([]Shortage, 0, len(shortages))
	for _, sh := range shortages {
		if sh.Unknown {
			unknown = append(unknown, sh)
		}
	}
	if len(unknown) > 0 {
		return &Rejection{Kind: fault.Conflict, Code: "unknown_sku", Detail: "There is no item with the SKU given. SKUs are case-sensitive.", Shortages: unknown}
	}
	return &Rejection{Kind: fault.Conflict, Code: "out_of_stock", Detail: "There is not enough stock. Nothing is reserved or charged.", Shortages: shortages}
}

// Backoff of recovery: a second at first, a minute at most, with full jitter so that orders which failed together do
// not come back together.
const (
	firstBackoff = time.Second
	lastBackoff  = time.Minute
)

// park leaves a live order to recovery.
func (s *Service) park(ctx context.Context, o *Order, why error) {
	ctx = context.WithoutCancel(ctx)
	backoff := min(lastBackoff, firstBackoff<<min(o.Attempts, 6))
	from := s.now().Add(time.Duration(rand.Int64N(int64(backoff))))
	telemetry.Keep(ctx)
	s.cfg.Figures.deferred.Inc()
	s.log.InfoContext(ctx, "order waits for recovery", "orderId", o.ID, "state", o.State, "attempts", o.Attempts, "why", why)
	if err := s.store.Park(ctx, o, from); err != nil {
		// Its lease runs out by itself.
		s.log.WarnContext(ctx, "park order", "orderId", o.ID, "error", err)
	}
	lab.Point("orders.parked")
	o.Lease = Lease{Until: from}
}

// recoverers is how many orders one replica drives at once in recovery. When a provider hangs, each is driven for seconds, and the
// thousands that were left to recovery meanwhile have to come round before their deadline: 128 are 40 a second, 36,000 within the 15
// minutes. They are half a batch, and so few enough not to starve the customers who wait.
const recoverers = 128

// Recover drives orders that nobody drives, until ctx ends.
func (s *Service) Recover(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	defer s.endLeave(context.WithoutCancel(ctx))
	for first := s.cfg.Alone; ; {
		first = !s.sweep(ctx, first) && first
		s.renewLeave(ctx)
		for s.recoverSome(ctx) && ctx.Err() == nil {
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// recoverSome takes up what waits, and reports whether more may be waiting.
func (s *Service) recoverSome(ctx context.Context) bool {
	now := s.now()
	orders, err := s.store.Claim(ctx, s.cfg.Owner, now, now.Add(s.cfg.Lease), recoverers)
	if err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "claim orders to recover", "error", err)
		}
		return false
	}
	var wg sync.WaitGroup
	for _, o := range orders {
		wg.Go(func() { s.Drive(ctx, o) })
	}
	wg.Wait()
	return len(orders) == recoverers
}

// Drive takes a live order as far as it goes now, changing o, and leaves it to recovery if that is not to its end. Whoever else
// drives it may go on. The caller's going away does not stop it.
func (s *Service) Drive(ctx context.Context, o *Order) {
	ctx, op := telemetry.Enter(context.WithoutCancel(ctx), o.CorrelationID, "", telemetry.Internal)
	telemetry.Keep(ctx) // an order that needs it is one that somebody asks about
	op.Name = "recover order"
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Budget)
	defer cancel()
	err := s.drive(ctx, o, false)
	op.End(err)
	if err != nil {
		s.park(ctx, o, err)
		return
	}
	s.log.InfoContext(ctx, "order recovered", "orderId", o.ID, "state", o.State)
}
