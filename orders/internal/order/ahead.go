package order

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// An order is recorded before anything is done for it if there is something to remember while it is under way: a key, which its
// repeats must find, or a price, since money moves only for an order that is on disk. Of any other nobody asks before it has its answer.
// For such an order the units are reserved first, and it is recorded when all is known, which is one write of three less.
//
// A crash in between leaves a reservation without an order. So that these are found without looking through all that there are, a
// process does so only with a Leave: a durable note of the times of which the ids of such orders may be. It is renewed before it runs
// out and removed when there are none. What becomes of it:
//
//	a crash after the note          the leave is due when another has seen it unchanged for two leases, longer than any order is under way; a
//	                                process that is alone looks at once too. Live reservations of its times that have no order are
//	                                taken back: first the order is recorded as Undoing, so that a driver who was only slow
//	                                cannot record it any more, then recovery releases it as any other
//	a crash after the taking back   recovery goes on with it
//	a write that fails              whether the order was recorded is not known: the leave is given up, and found as that of the dead
//	a slow driver                   it loses to the taking back, as to any other driver, and its caller is told 503
//	an Orders from an old backup    it has leaves, and knows nothing of the orders that were recorded under them later: see forgot
//	a reservation that arrives      it stays: later than a lease after its time nobody looks for it. That takes a message which outlives its
//	after all of that               sender by more than a lease; verify names it, and repairs it
//
// An Inventory that cannot be asked what it holds (over REST, an older one) gets no leave: such orders are begun first as all others.
type ahead struct {
	mu      sync.Mutex
	leave   Leave     // as far as it is durable; without Until there is none
	ends    time.Time // when it ends whatever the clock says: by one that nobody sets
	wanted  bool      // an order came since it was renewed
	entered map[ID]time.Time
}

// enter reports whether units may be reserved for o before it is recorded, and makes a note of it.
func (a *ahead) enter(o *Order, mono time.Time) bool {
	if o.State != Pending || o.Key != "" || o.Paid() {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = true
	if !a.leave.covers(o.PlacedAt) || !mono.Before(a.ends) {
		return false
	}
	a.entered[o.ID] = o.PlacedAt
	return true
}

// left forgets an order that is recorded. Of one of which that is not known the leave is left behind, for who finds it.
func (a *ahead) left(o *Order) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o.State == None {
		if _, ok := a.entered[o.ID]; ok { // and not of a leave before this one
			a.leave, a.entered = Leave{}, nil
		}
		return
	}
	delete(a.entered, o.ID)
}

// next is the leave to ask for at now, if it is time for that. What is under way stays within it, also if the clock was set. From
// here on nobody enters before its Since, so that it may become durable at any moment.
func (a *ahead) next(now, mono time.Time, lease time.Duration) (Leave, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.wanted || !now.Before(a.leave.Since) && now.Add(lease/2).Before(a.leave.Until) && mono.Add(lease/2).Before(a.ends) {
		return Leave{}, false
	}
	l := Leave{Name: a.leave.Name, Since: now, Until: now.Add(lease)}
	for _, at := range a.entered {
		if at.Before(l.Since) {
			l.Since = at
		}
		if !at.Before(l.Until) {
			l.Until = at.Add(time.Microsecond)
		}
	}
	if l.Name == "" {
		l.Name = string(IDAt(now))
		a.leave.Name, a.entered = l.Name, map[ID]time.Time{}
	}
	if l.Since.After(a.leave.Since) {
		a.leave.Since = l.Since
	}
	return l, true
}

// granted notes that a leave is durable.
func (a *ahead) granted(l Leave, ends time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leave.Name == l.Name {
		a.leave, a.ends, a.wanted = l, ends, false
	}
}

// over is the leave if it is not needed any more, and ends it: it has run out or must end, and all that entered are recorded.
func (a *ahead) over(now time.Time, must bool) (Leave, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.leave
	if l.Until.IsZero() || len(a.entered) > 0 || !must && now.Before(l.Until) {
		return Leave{}, false
	}
	a.leave = Leave{}
	return l, true
}

// placeAhead reserves for o and then records it in the state that it comes to.
func (s *Service) placeAhead(ctx context.Context, o *Order) (Result, error) {
	o.State, o.Lease = None, Lease{}
	defer s.ahead.left(o)
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Budget)
	defer cancel()
	err := s.drive(ctx, o, true)
	switch {
	case errors.Is(err, errNotTaken):
		return Result{}, untaken(err)
	case err != nil && o.State == None:
		return Result{}, err
	case err != nil:
		s.park(ctx, o, err)
	case o.Rejection != nil && o.Rejection.Code == ErrInterrupted.Code:
		return Result{}, ErrInterrupted
	}
	return Result{Order: o}, nil
}

// renewLeave asks for a leave, or for more of the one that there is, if orders came that could use it.
func (s *Service) renewLeave(ctx context.Context) {
	lister, ok := s.stock.(Lister)
	if !ok {
		return
	}
	now, mono := s.now(), s.mono()
	l, ok := s.ahead.next(now, mono, s.cfg.Lease)
	if !ok {
		if l, ok := s.ahead.over(now, false); ok {
			s.removeLeave(ctx, l)
		}
		return
	}
	// An Inventory that does not answer this could not be asked what it holds after a crash.
	_, _, err := lister.Held(ctx, FirstID(now), FirstID(now))
	if err == nil {
		err = s.store.SetLeave(ctx, l)
	}
	if err != nil {
		s.log.DebugContext(ctx, "orders are recorded before their units are reserved", "why", err)
		return
	}
	lab.Point("orders.leave_set")
	s.ahead.granted(l, mono.Add(s.cfg.Lease))
}

// endLeave gives the leave back when the process ends in order.
func (s *Service) endLeave(ctx context.Context) {
	if l, ok := s.ahead.over(s.now(), true); ok {
		s.removeLeave(ctx, l)
	}
}

func (s *Service) removeLeave(ctx context.Context, l Leave) {
	if err := s.store.EndLeave(ctx, l); err != nil {
		s.log.DebugContext(ctx, "a leave stays and will be looked through", "name", l.Name, "error", err)
	}
}

// sighting is since when a leave has been seen as it is, by a clock that nobody sets, and why the look through it failed last.
type sighting struct {
	until, at time.Time
	said      string
}

// sweep takes back what is reserved for orders that were never recorded, under leaves that nobody has renewed for two leases: nothing
// enters them any more, and nothing that entered is on its way. This process has seen that itself, because clocks jump. With all, it looks
// through the others too, and leaves them for later: what their process has sent may still arrive. It reports whether it could.
func (s *Service) sweep(ctx context.Context, all bool) (could bool) {
	lister, ok := s.stock.(Lister)
	if !ok {
		return true
	}
	leaves, err := s.store.Leaves(ctx)
	if err != nil {
		return false // recovery says so
	}
	could = true
	seen, mono := make(map[string]sighting, len(leaves)), s.mono()
	for _, l := range leaves {
		v, ok := s.seen[l.Name]
		if !ok || !v.until.Equal(l.Until) {
			v = sighting{until: l.Until, at: mono}
		}
		if due := mono.Sub(v.at) >= 2*s.cfg.Lease; due || all {
			err := s.sweepLeave(ctx, lister, l)
			if err == nil && due {
				err = s.store.EndLeave(ctx, l)
			}
			if err != nil && ctx.Err() == nil && v.said != err.Error() { // once for an outage, not once for an attempt
				s.log.WarnContext(ctx, "look for orders that were never recorded", "leave", l.Name, "error", err)
				v.said = err.Error()
			}
			could = could && err == nil
		}
		seen[l.Name] = v
	}
	s.seen = seen
	return could
}

func (s *Service) sweepLeave(ctx context.Context, lister Lister, l Leave) error {
	lost, err := s.forgot(ctx, lister, l)
	if err != nil {
		return err
	}
	if lost != "" {
		return fmt.Errorf("nothing is taken back: units are held for order %s, which came later and is not known here either: was this database restored from an old backup?", lost)
	}
	after, before := FirstID(l.Since), FirstID(l.Until)
	for {
		held, next, err := lister.Held(ctx, after, before)
		if err != nil {
			return err
		}
		if err := s.takeBack(ctx, held); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

// forgot returns an order from after a leave that units are held for, and that is neither recorded nor of any leave. After a crash there
// is none. It is what a database leaves that was restored from a backup: it has forgotten orders that were accepted, those of its
// leaves among them, and their units are not to be given away.
func (s *Service) forgot(ctx context.Context, lister Lister, l Leave) (ID, error) {
	held, _, err := lister.Held(ctx, FirstID(l.Until), lastID)
	if err != nil {
		return "", err
	}
	leaves, err := s.store.Leaves(ctx) // after it: whoever reserved had a leave before
	if err != nil {
		return "", err
	}
	missing, err := s.missing(ctx, held)
	for _, id := range missing {
		at := id.Time() // an id of no time is of somebody else's order
		if !at.IsZero() && !slices.ContainsFunc(leaves, func(l Leave) bool { return l.covers(at) }) {
			return id, err
		}
	}
	return "", err
}

func (s *Service) missing(ctx context.Context, held []Holding) ([]ID, error) {
	ids := make([]ID, len(held))
	for i, h := range held {
		ids[i] = h.ID
	}
	return s.store.Missing(ctx, ids)
}

// takeBack records those as given up that have no order.
func (s *Service) takeBack(ctx context.Context, held []Holding) error {
	missing, err := s.missing(ctx, held)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(held))
	for i, h := range held {
		if slices.Contains(missing, h.ID) {
			wg.Go(func() { errs[i] = s.takeBackOne(ctx, h) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Service) takeBackOne(ctx context.Context, h Holding) error {
	o := &Order{ID: h.ID, Lines: h.Lines, CorrelationID: h.CorrelationID, PlacedAt: h.ID.Time()}
	ctx, op := telemetry.Enter(ctx, o.CorrelationID, "", telemetry.Internal)
	telemetry.Keep(ctx)
	op.Name = "take back order"
	now := s.now()
	ok, err := s.store.Move(ctx, o, Move{
		To: Undoing, At: now, ReservedAt: o.PlacedAt, Lease: Lease{Until: now},
		Rejection: &Rejection{Kind: fault.Unavailable, Code: ErrInterrupted.Code, Detail: ErrInterrupted.Detail},
	})
	op.End(err)
	if err != nil {
		return fmt.Errorf("take back order %s: %w", o.ID, err)
	}
	if ok {
		s.log.WarnContext(ctx, "order was interrupted before it was recorded: its units go back", "orderId", o.ID)
	}
	lab.Point("orders.taken_back")
	return nil
}
