package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/explore"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// plan says how often what may happen at any moment. Who recovers does not ask for leases: a lease is there to save work, and what
// is promised holds without it.
type plan struct {
	orders     int
	lost       int // a command's caller is told that it got no answer; the command arrives later, or never
	twice      int // a command arrives again, later
	failures   int // a write fails, or is made and its caller is told that it failed
	crashes    int // whoever drives an order is gone, between any two steps
	recoveries int // somebody else takes a live order up, whether or not it is driven
	cancels    int // the first order is cancelled
	repeats    int // the first order's buyer repeats it under its key
	deadlines  int // the time that an order may be pending for passes
	sweeps     int // somebody looks for orders that were never recorded, whether or not their process is dead
	free       bool
	ahead      bool // free, without keys, and reserved for before they are recorded
	declined   bool
}

// world is all that outlives a crash: the three databases, and what is under way between them.
type world struct {
	*shop
	plan    plan
	planted string        // the mistake that is to be found, or ""
	ids     []ID          // in the order of their recording
	names   map[ID]string // of orders that are reserved for first
	late    []message
	told    map[string]string // by caller
	callers []*replica
	passed  bool
}

// message is a command or an event that has been sent.
type message struct {
	name string
	sure bool // an event: it arrives in the end
	act  func() string
}

// fate is what becomes of the call that a replica is about to make.
type fate string

const (
	answered fate = ""
	lost     fate = " (lost)"
	twice    fate = " (twice)"
	failed   fate = " (fails)"
	unsaid   fate = " (done, said to fail)"
	gone     fate = " (crashes before it)"
)

func newWorld(p plan, planted string) *world {
	w := &world{shop: newShop(1, calm), plan: p, planted: planted, told: map[string]string{}, names: map[ID]string{}}
	w.till.decline = p.declined
	if planted == "leaves are not looked through" {
		w.Service.stock = struct{ Stock }{w.shelf}
	}
	for i := range p.orders {
		w.place(string(rune('A'+i)), "")
	}
	return w
}

// place has a buyer place an order for the one unit, under a key of the buyer's name.
func (w *world) place(buyer, again string) {
	name := "buyer " + buyer + again
	if w.plan.ahead {
		_ = w.store.SetLeave(context.Background(), Leave{Name: name, Since: w.time(), Until: w.time().Add(time.Minute)})
	}
	w.start(name, "", func(r *replica) {
		p := placement(1, 500)
		if w.plan.free || w.plan.ahead {
			p = placement(1, 0)
		}
		p.Key, p.Customer = buyer, telemetry.Secret(buyer)
		if w.plan.ahead {
			p.Key = ""
			r.ahead = ahead{leave: w.store.leaves[r.Name], ends: time.Now().Add(time.Hour), entered: map[ID]time.Time{}}
		}
		res, err := r.Place(context.Background(), p)
		switch {
		case errors.Is(err, ErrNoStock), errors.Is(err, ErrInterrupted):
			w.told[r.Name] = "untaken " + r.order
		case err != nil:
			w.told[r.Name] = "an error"
		default:
			w.told[r.Name] = res.Order.State.Status() + " " + w.name(res.Order.ID)
		}
	})
}

// start adds a replica of Orders that does one thing. Each has a Service of its own, so that none knows more than a crash would
// leave it.
func (w *world) start(name string, target ID, f func(*replica)) {
	r := &replica{world: w, target: target}
	r.Service = NewService(r, r, r, r, Config{Now: r.now, Budget: time.Hour, AnswerWait: -1, Owner: name}, slog.New(slog.DiscardHandler))
	w.callers = append(w.callers, r)
	r.Actor = explore.Go(name, func(a *explore.Actor) {
		r.Actor = a
		f(r)
	})
}

// name is the order's: A2 is the second that was begun by buyer A.
func (w *world) name(id ID) string {
	if n, ok := w.names[id]; ok {
		return n
	}
	n := 0
	for _, x := range w.ids {
		if w.store.orders[x].Customer == w.store.orders[id].Customer {
			n++
		}
		if x == id {
			return fmt.Sprint(string(w.store.orders[id].Customer), n)
		}
	}
	return "-"
}

// way is one thing that can happen next: a call of a replica meets its fate, a message arrives, or somebody begins something.
type way struct {
	replica *replica
	fate    fate
	message int    // its place in late, from 1
	begin   string // what, with the order in id
	id      ID
}

// The things that somebody may begin, and the end.
const (
	recovery = "recovery takes up "
	cancel   = "somebody cancels "
	repeat   = "buyer A repeats the order"
	deadline = "the deadline passes"
	sweep    = "somebody looks for orders that were never recorded"
	noMore   = "nothing more goes wrong"
)

// ways lists all that can happen next.
func (w *world) ways() []way {
	all := make([]way, 0, 16)
	idle := true
	for _, r := range w.callers {
		what, ok := r.Pending()
		if !ok {
			continue
		}
		idle = false
		for _, f := range fates(what) {
			if left := w.left(f); left == nil || *left > 0 {
				all = append(all, way{replica: r, fate: f})
			}
		}
	}
	for i, m := range w.late {
		if i == slices.IndexFunc(w.late, func(x message) bool { return x.name == m.name }) {
			all = append(all, way{message: i + 1})
		}
	}
	for _, id := range w.ids {
		if w.plan.recoveries > 0 && w.store.orders[id].State.Live() {
			all = append(all, way{begin: recovery, id: id})
		}
	}
	if w.plan.cancels > 0 && len(w.ids) > 0 {
		all = append(all, way{begin: cancel, id: w.ids[0]})
	}
	if w.plan.repeats > 0 {
		all = append(all, way{begin: repeat})
	}
	if w.plan.sweeps > 0 {
		all = append(all, way{begin: sweep})
	}
	if w.plan.deadlines > 0 {
		all = append(all, way{begin: deadline})
	}
	if idle {
		all = append(all, way{begin: noMore})
	}
	return all
}

// fates are those that a call may meet.
func fates(what string) []fate {
	verb, _, _ := strings.Cut(what, " ")
	switch verb {
	case "reserve", "release", "authorize", "void", "refund":
		return []fate{answered, lost, twice, gone}
	case "begin", "move", "park":
		return []fate{answered, failed, unsaid, gone}
	}
	return []fate{answered, gone}
}

// left is how often the plan still has a fate; nil for any number.
func (w *world) left(f fate) *int {
	switch f {
	case lost:
		return &w.plan.lost
	case twice:
		return &w.plan.twice
	case failed, unsaid:
		return &w.plan.failures
	case gone:
		return &w.plan.crashes
	}
	return nil
}

func (w *world) describe(x way) string {
	switch {
	case x.replica != nil:
		what, _ := x.replica.Pending()
		return x.replica.Name + ": " + what + string(x.fate)
	case x.message > 0:
		return "late: " + w.late[x.message-1].name
	case x.id != "":
		return x.begin + w.name(x.id)
	}
	return x.begin
}

// happen has x happen.
func (w *world) happen(x way) {
	if left := w.left(x.fate); left != nil {
		*left--
	}
	switch {
	case x.fate == gone:
		x.replica.Kill()
	case x.replica != nil:
		x.replica.how = x.fate
		x.replica.Step()
	case x.message > 0:
		w.deliver(x.message - 1)
	case x.begin == recovery:
		w.plan.recoveries--
		w.start(fmt.Sprint("recovery ", len(w.callers)), x.id, func(r *replica) { r.recoverSome(context.Background()) })
	case x.begin == cancel:
		w.plan.cancels--
		w.start("canceller", x.id, func(r *replica) {
			if o, err := r.Cancel(context.Background(), x.id, ""); err == nil {
				w.told[r.Name] = o.State.Status()
			}
		})
	case x.begin == repeat:
		w.plan.repeats--
		w.place("A", " again")
	case x.begin == sweep:
		w.plan.sweeps--
		w.start(fmt.Sprint("sweeper ", len(w.callers)), "", func(r *replica) { r.sweep(context.Background(), true) })
	case x.begin == deadline:
		w.plan.deadlines--
		w.passed = true
		w.pass(16 * time.Minute)
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
	fmt.Fprintln(&b, w.plan, w.passed, w.shelf.units["BOOK-001"], w.told)
	for _, id := range w.ids {
		o := w.store.orders[id]
		code := ""
		if o.Rejection != nil {
			code = o.Rejection.Code
		}
		fmt.Fprintln(&b, w.name(id), o.State, code, o.Lease.Live(w.time()), w.store.keys[string(o.Customer)] == id,
			w.shelf.held[id] != nil, w.shelf.refused[id] != nil, w.shelf.released[id], w.till.outcome[id], w.till.charges[id])
	}
	for _, id := range slices.Sorted(maps.Keys(w.names)) {
		if _, ok := w.store.orders[id]; !ok {
			fmt.Fprintln(&b, w.names[id], w.shelf.held[id] != nil, w.shelf.refused[id] != nil, w.shelf.released[id])
		}
	}
	var late []string
	for _, m := range w.late {
		late = append(late, m.name)
	}
	slices.Sort(late)
	fmt.Fprintln(&b, late)
	for _, r := range w.callers {
		b.WriteString(r.State() + "\n")
	}
	return b.String()
}

// replica is one of many Orders, and its ports: whatever it asks of the world stops it until the run lets it go on.
type replica struct {
	*Service
	*explore.Actor
	world  *world
	target ID     // the order that it claims
	order  string // the name of the one that it began, or found
	how    fate
}

func (r *replica) now() time.Time {
	if r.world.passed {
		r.Saw("late")
	}
	return r.world.time()
}

// command sends a command to a peer.
func (r *replica) command(verb string, id ID, act func() string) error {
	w, name := r.world, verb+" "+r.world.name(id)
	r.Stop(name)
	if r.how == lost || r.how == twice {
		// A message does not outlive its sender by more than a lease: see ahead.
		sure := verb == "reserve" && w.plan.ahead
		w.late = append(w.late, message{name: name, sure: sure, act: act})
	}
	if r.how == lost {
		r.Saw(name + " lost")
		return errLost
	}
	r.Saw(act())
	return nil
}

// write makes a change in Orders' database.
func (r *replica) write(name string, act func() string) error {
	r.Stop(name)
	if r.how == failed {
		r.Saw(name + " failed")
		return errLost
	}
	did := act()
	if r.how == unsaid {
		r.Saw(name + " failed")
		return errLost
	}
	r.Saw(did)
	return nil
}

func (r *replica) Begin(_ context.Context, o *Order) (existing *Order, err error) {
	w := r.world
	was := *o
	failed := r.write("begin "+string(o.Customer), func() string {
		if w.planted == "the key is not looked at" {
			delete(w.store.keys, o.Key)
		}
		if existing, err = w.store.Begin(context.Background(), &was); existing == nil && err == nil {
			w.ids = append(w.ids, o.ID)
			r.order = w.name(o.ID)
			return "begun " + r.order
		}
		r.order = w.name(existing.ID)
		return fmt.Sprint("found ", w.name(existing.ID), existing.State, existing.Lease.Live(w.time()))
	})
	return existing, errors.Join(err, failed)
}

// Known is of a service that turns orders away, which none here does.
func (r *replica) Known(ctx context.Context, o *Order) (*Order, error) {
	return r.world.store.Known(ctx, o)
}

func (r *replica) Move(_ context.Context, o *Order, m Move) (ok bool, err error) {
	w := r.world
	was := *o
	failed := r.write(fmt.Sprint("move ", w.name(o.ID), " to ", m.To), func() string {
		if w.planted == "an order is recorded over another" && o.State == None {
			delete(w.store.orders, o.ID)
		}
		if w.planted == "a state is changed whatever it is by now" {
			row := w.store.orders[o.ID]
			row.State = o.State
			w.store.orders[o.ID] = row
		}
		ok, err = w.store.Move(context.Background(), &was, m)
		if ok && o.State == None && !slices.Contains(w.ids, o.ID) {
			w.ids = append(w.ids, o.ID)
		}
		if ok && m.To == Cancelled {
			w.late = append(w.late,
				message{"event releases " + w.name(o.ID), true, func() string { return w.release(o.ID) }},
				message{"event voids " + w.name(o.ID), true, func() string { return w.void(o.ID) }})
		}
		return fmt.Sprint(ok)
	})
	if failed != nil {
		ok = false
	}
	return ok, errors.Join(err, failed)
}

func (r *replica) Park(_ context.Context, o *Order, from time.Time) (err error) {
	was := *o
	failed := r.write("park "+r.world.name(o.ID), func() string {
		err = r.world.store.Park(context.Background(), &was, from)
		return "parked"
	})
	return errors.Join(err, failed)
}

func (r *replica) Keep(context.Context, *Order) error { return nil }

// Claim takes up the order that the replica is there for, whoever has its lease. It is the first thing that it does.
func (r *replica) Claim(_ context.Context, owner string, _, until time.Time, _ int) ([]*Order, error) {
	o := r.world.store.orders[r.target]
	o.Lease, o.Attempts = Lease{owner, until}, o.Attempts+1
	r.world.store.orders[r.target] = o
	r.Saw(string(o.State))
	return []*Order{&o}, nil
}

func (r *replica) Get(ctx context.Context, id ID) (*Order, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err() // nobody waits for the answers to a cancellation here
	}
	r.Stop("get " + r.world.name(id))
	o, err := r.world.store.Get(ctx, id)
	if err == nil {
		r.Saw(fmt.Sprint(o.State, o.Rejection))
	}
	return o, err
}

func (r *replica) List(context.Context, Filter) ([]*Order, error) { return nil, nil }
func (r *replica) Notes(context.Context, ID) ([]Note, error)      { return nil, nil }

func (r *replica) Reserve(_ context.Context, o *Order) (held bool, short []Shortage, err error) {
	w, was := r.world, *o
	if o.State == None {
		w.names[o.ID] = string(o.Customer)
		r.order = w.name(o.ID)
	}
	failed := r.command("reserve", o.ID, func() string {
		if w.planted == "a reservation is not known again" {
			delete(w.shelf.held, o.ID)
		}
		if w.planted == "more is reserved than there is" {
			w.shelf.units["BOOK-001"]++
			defer func() { w.shelf.units["BOOK-001"]-- }()
		}
		held, short, err = w.shelf.Reserve(context.Background(), &was)
		return fmt.Sprint("held ", held, len(short))
	})
	if failed != nil {
		return false, nil, failed
	}
	return held, short, err
}

// Held stops at each page, of one order.
func (r *replica) Held(ctx context.Context, after, before ID) (held []Holding, next ID, err error) {
	r.Stop("held")
	held, next, err = r.world.shelf.Held(ctx, after, before)
	for _, h := range held {
		r.Saw(r.world.name(h.ID))
	}
	return held, next, err
}

func (r *replica) SetLeave(ctx context.Context, l Leave) error { return r.world.store.SetLeave(ctx, l) }
func (r *replica) EndLeave(ctx context.Context, l Leave) error { return r.world.store.EndLeave(ctx, l) }

func (r *replica) Leaves(ctx context.Context) ([]Leave, error) { return r.world.store.Leaves(ctx) }

func (r *replica) Missing(ctx context.Context, ids []ID) ([]ID, error) {
	r.Stop("missing")
	missing, err := r.world.store.Missing(ctx, ids)
	r.Saw(fmt.Sprint(len(missing)))
	return missing, err
}

func (r *replica) Release(_ context.Context, id ID, _ string) error {
	return r.command("release", id, func() string { return r.world.release(id) })
}

func (w *world) release(id ID) string {
	held := w.shelf.held[id] != nil
	if w.planted == "units are not released" {
		return "released"
	}
	_ = w.shelf.Release(context.Background(), id, "")
	if w.planted == "a release leaves no tombstone" && !held {
		delete(w.shelf.released, id)
	}
	return "released"
}

func (r *replica) Check(context.Context, []Line) ([]Shortage, error) { return nil, nil }

func (r *replica) Authorize(_ context.Context, o *Order) (a Authorization, err error) {
	w, was := r.world, *o
	failed := r.command("authorize", o.ID, func() string {
		if w.planted == "a charge is not known again" && w.till.outcome[o.ID] == Authorized {
			w.till.charges[o.ID]++
		}
		a, err = w.till.Authorize(context.Background(), &was)
		return fmt.Sprint("outcome ", a.Outcome)
	})
	if failed != nil {
		return Authorization{}, failed
	}
	return a, err
}

func (r *replica) Void(_ context.Context, id ID, _ string) error {
	return r.command("void", id, func() string { return r.world.void(id) })
}

func (w *world) void(id ID) string {
	unseen := w.till.outcome[id] == Unknown
	if w.planted == "money is not voided" || w.planted == "a void leaves no tombstone" && unseen {
		return "voided"
	}
	_ = w.till.Void(context.Background(), id, "")
	return "voided"
}

func (r *replica) Refund(_ context.Context, id ID, _ string) error {
	return r.command("refund", id, func() string { return "refunded" })
}
