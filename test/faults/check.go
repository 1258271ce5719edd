package faults

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Violation is a broken promise, with the ids to find it by.
type Violation struct {
	Promise string `json:"promise"`
	Detail  string `json:"detail"`
}

// Promise is one that the checker holds a run against.
type Promise struct {
	Name, Says string
	holds      func(c *checker)
}

// Promises are all of them, in the order of the report.
func Promises() []Promise {
	return []Promise{
		{"no_unit_sold_twice", "What was there at first and what was adjusted is what is on hand, reserved, and has left for orders; per SKU, to the unit.", (*checker).stock},
		{"created_is_kept", "Every 201 is an order that is confirmed, as it was asked for, until a request of a client takes it back or on.", (*checker).kept},
		{"accepted_ends", "Every 202 is an order that comes to an end.", (*checker).accepted},
		{"one_key_one_outcome", "All final answers under a key are one, and one order at most is made of what a client wants.", (*checker).keys},
		{"refused_holds_nothing", "What was refused, and what was not taken, is no order, holds no units and no money.", (*checker).refused},
		{"done_is_done", "What was answered 200 is done: cancelled, fulfilled, returned, adjusted.", (*checker).done},
		{"reads_see_it", "A look at an order after its 201 sees it, confirmed or further.", (*checker).looks},
		{"units_follow_orders", "Each order's reservation is in the state of the order, with its lines.", (*checker).reservations},
		{"money_follows_orders", "Each order's money is held, taken or given back as the order is, once, and whole.", (*checker).money},
		{"provider_agrees", "The provider's record is that of Payments, order by order.", (*checker).provider},
		{"events_are_true", "Each order's events are those of its state, in their order, and no others.", (*checker).events},
		{"events_arrive", "Each event is published in its order, and consumed once by everybody who acts on it, in order for each subject.", (*checker).deliveries},
		{"comes_to_rest", "When the faults have ended, nothing is left half done.", (*checker).rest},
		{"verify_is_clean", "orderkeep verify finds nothing wrong, and nothing on its way.", (*checker).audit},
		{"nobody_dies", "No process ends or panics of what happens around it.", (*checker).deaths},
	}
}

// Check judges a run. It knows nothing of how the run was made.
func Check(history []*Request, r Records) []Violation {
	c := &checker{history: history, records: r, live: map[string][]string{}, sent: map[string]map[string]bool{}}
	for _, id := range slices.Sorted(maps.Keys(r.Orders)) {
		if o := r.Orders[id]; o.State != "rejected" && o.State != "undoing" {
			c.live[o.Customer] = append(c.live[o.Customer], id)
		}
	}
	for _, q := range history {
		if q.Order != "" {
			if c.sent[q.Order] == nil {
				c.sent[q.Order] = map[string]bool{}
			}
			c.sent[q.Order][q.Verb] = true
		}
	}
	for _, p := range Promises() {
		c.promise = p.Name
		p.holds(c)
	}
	return c.found
}

type checker struct {
	history []*Request
	records Records
	live    map[string][]string        // customer -> orders that are not rejected
	sent    map[string]map[string]bool // order -> what clients asked to be done to it

	promise string
	found   []Violation
}

func (c *checker) broken(format string, args ...any) {
	c.found = append(c.found, Violation{c.promise, fmt.Sprintf(format, args...)})
}

// each calls f for the requests with a verb.
func (c *checker) each(verb string, f func(*Request)) {
	for _, q := range c.history {
		if q.Verb == verb {
			f(q)
		}
	}
}

// sums adds what orders in a state have, by SKU.
func (c *checker) sums(state string) map[string]int {
	units := map[string]int{}
	for _, o := range c.records.Orders {
		if o.State == state {
			for _, l := range o.Lines {
				units[l.SKU] += l.Qty
			}
		}
	}
	return units
}

func (c *checker) stock() {
	adjusted := map[string]int{}
	counted := map[string]bool{}
	c.each(Adjust, func(q *Request) {
		if q.Status == http.StatusOK && !counted[q.Intent] {
			counted[q.Intent] = true
			adjusted[q.SKU] += q.Delta
		}
	})
	held, gone := c.sums("confirmed"), c.sums("fulfilled")
	for _, r := range c.records.Reservations {
		if r.Hold && r.State == "reserved" {
			for sku, units := range r.Lines {
				held[sku] += units
			}
		}
	}
	for _, sku := range slices.Sorted(maps.Keys(c.records.Opening)) {
		item, ok := c.records.Items[sku]
		if !ok {
			c.broken("%s was on the shelf, and is not known any more", sku)
			continue
		}
		want := c.records.Opening[sku] + adjusted[sku] - gone[sku]
		if item.OnHand != want {
			c.broken("%s: %d at first, %+d adjusted, %d handed over, so that %d should be on hand; there are %d", sku, c.records.Opening[sku], adjusted[sku], gone[sku], want, item.OnHand)
		}
		if item.Reserved != held[sku] {
			c.broken("%s: confirmed orders and holds have %d units, and %d are reserved", sku, held[sku], item.Reserved)
		}
		if held[sku] > want {
			c.broken("%s: %d units are sold or held, and %d are there to hand over", sku, held[sku], want)
		}
		if item.Moved != item.OnHand {
			c.broken("%s: %d on hand, and its movements come to %d", sku, item.OnHand, item.Moved)
		}
	}
}

// allowed are the states that a confirmed order may be in, by what clients asked for.
func (c *checker) allowed(id string) map[string]bool {
	s := c.sent[id]
	return map[string]bool{"confirmed": true, "cancelled": s[Cancel], "fulfilled": s[Fulfil], "returned": s[Return]}
}

func (c *checker) kept() {
	c.each(Place, func(q *Request) {
		if q.Status != http.StatusCreated {
			return
		}
		o, ok := c.records.Orders[q.Got]
		switch {
		case !ok:
			c.broken("%s was answered 201 with the order %s, and there is none", q.Intent, q.Got)
		case !c.allowed(q.Got)[o.State]:
			c.broken("%s was answered 201 with the order %s, which is %s %s", q.Intent, q.Got, o.State, o.Reason)
		case o.Customer != q.Intent || o.Total != q.Wants.Total() || !slices.Equal(o.Lines, q.Wants.Lines):
			c.broken("%s was answered 201 with the order %s, which is another than was asked for: %v of %s for %d", q.Intent, q.Got, o.Lines, o.Customer, o.Total)
		}
	})
}

func (c *checker) accepted() {
	seen := map[string]bool{} // an order on its way may be answered often
	c.each(Place, func(q *Request) {
		if q.Status != http.StatusAccepted || seen[q.Got] {
			return
		}
		seen[q.Got] = true
		o, ok := c.records.Orders[q.Got]
		if !ok {
			c.broken("%s was answered 202 with the order %s, and there is none", q.Intent, q.Got)
		} else if o.State == "pending" || o.State == "undoing" {
			c.broken("%s was answered 202 with the order %s, which is still %s", q.Intent, q.Got, o.State)
		}
	})
}

func (c *checker) keys() {
	first := map[string]*Request{} // by key
	for _, q := range c.history {
		if q.Key == "" || !q.final() {
			continue
		}
		f := first[q.Key]
		if f == nil {
			first[q.Key] = q
			continue
		}
		if q.Status != f.Status || q.Code != f.Code || q.Got != f.Got && f.Status == http.StatusCreated || q.Result != f.Result {
			c.broken("under the key %s one answer is %d %s %s, and another %d %s %s", q.Key, f.Status, f.Code, f.Got, q.Status, q.Code, q.Got)
		}
	}
	for _, customer := range slices.Sorted(maps.Keys(c.live)) {
		if ids := c.live[customer]; len(ids) > 1 {
			c.broken("%s has the orders %s", customer, strings.Join(ids, " and "))
		}
	}
}

func (c *checker) refused() {
	made := map[string]bool{} // intents that were answered 201, whose second answer is a matter of the key
	c.each(Place, func(q *Request) { made[q.Intent] = made[q.Intent] || q.Status == http.StatusCreated })
	c.each(Place, func(q *Request) {
		refused := q.final() && q.Status != http.StatusCreated || q.Status == http.StatusUnprocessableEntity
		notTaken := q.Status == http.StatusServiceUnavailable && q.Key == ""
		if (refused || notTaken) && !made[q.Intent] && len(c.live[q.Intent]) > 0 {
			c.broken("%s was answered %d %s, and has the order %s", q.Intent, q.Status, q.Code, c.live[q.Intent][0])
		}
	})
	for _, id := range slices.Sorted(maps.Keys(c.records.Orders)) {
		if c.records.Orders[id].State != "rejected" {
			continue
		}
		if s := c.records.Reservations[id].State; s == "reserved" || s == "committed" {
			c.broken("the order %s is rejected, and its units are %s", id, s)
		}
		if p := c.records.Payments[id]; p.Authorized != p.Voided+p.Repaid {
			c.broken("the order %s is rejected, and %d of its money is kept", id, p.Authorized-p.Voided-p.Repaid)
		}
	}
}

func (c *checker) done() {
	states := map[string][]string{Cancel: {"cancelled"}, Fulfil: {"fulfilled", "returned"}, Return: {"returned"}}
	for _, q := range c.history {
		want := states[q.Verb]
		if want == nil || q.Status != http.StatusOK {
			continue
		}
		if o := c.records.Orders[q.Order]; !slices.Contains(want, o.State) {
			c.broken("%s of the order %s was answered 200, and it is %q", q.Verb, q.Order, o.State)
		}
	}
}

func (c *checker) looks() {
	since := map[string]*Request{} // order -> the first 201
	c.each(Place, func(q *Request) {
		if f := since[q.Got]; q.Status == http.StatusCreated && (f == nil || q.Ended < f.Ended) {
			since[q.Got] = q
		}
	})
	c.each(Look, func(q *Request) {
		f := since[q.Order]
		if f == nil || q.Began < f.Ended {
			return
		}
		if q.Status == http.StatusNotFound || q.Status == http.StatusOK && !c.allowed(q.Order)[q.State] {
			c.broken("the order %s was answered 201 at %v, and a look at %v got %d %s", q.Order, f.Ended, q.Began, q.Status, q.State)
		}
	})
}

func (c *checker) reservations() {
	of := map[string]string{"confirmed": "reserved", "fulfilled": "committed", "returned": "returned", "cancelled": "released"}
	for _, id := range slices.Sorted(maps.Keys(c.records.Orders)) {
		o := c.records.Orders[id]
		want := of[o.State]
		if want == "" {
			continue // nothing may be held: another promise's
		}
		r := c.records.Reservations[id]
		if r.State != want {
			c.broken("the order %s is %s, and its units are %q", id, o.State, r.State)
			continue
		}
		units := map[string]int{}
		for _, l := range o.Lines {
			if _, tracked := c.records.Items[l.SKU]; tracked {
				units[l.SKU] += l.Qty
			}
		}
		maps.DeleteFunc(r.Lines, func(sku string, _ int) bool { _, tracked := c.records.Items[sku]; return !tracked })
		if !maps.Equal(units, r.Lines) {
			c.broken("the order %s has %v, and reserved for it is %v", id, units, r.Lines)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.records.Reservations)) {
		if c.records.Reservations[id].Hold {
			continue
		}
		if _, ok := c.records.Orders[id]; !ok && c.records.Reservations[id].State == "reserved" {
			c.broken("units are reserved for %s, and there is no such order", id)
		}
	}
}

func (c *checker) money() {
	for _, id := range slices.Sorted(maps.Keys(c.records.Orders)) {
		o, p := c.records.Orders[id], c.records.Payments[id]
		held, kept := p.Authorized-p.Captured-p.Voided, p.Captured-p.Repaid
		wantHeld, wantKept := 0, 0
		switch o.State {
		case "confirmed":
			wantHeld = o.Total
		case "fulfilled":
			wantKept = o.Total
		case "pending", "undoing":
			continue // not at rest, which is said elsewhere
		}
		if held != wantHeld || kept != wantKept {
			c.broken("the order %s of %d is %s: %d of its money is held and %d kept, and should be %d and %d", id, o.Total, o.State, held, kept, wantHeld, wantKept)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.records.Payments)) {
		if p := c.records.Payments[id]; c.records.Orders[id].State == "" && p.Authorized != p.Voided+p.Repaid {
			c.broken("money is kept for %s, and there is no such order", id)
		}
	}
}

func (c *checker) provider() {
	type sum struct{ Authorized, Captured, Voided, Repaid, charges int }
	charged := map[string]sum{}
	for _, ch := range c.records.Charges {
		s := charged[ch.Order]
		s.Authorized, s.Captured, s.Voided, s.Repaid = s.Authorized+ch.Authorized, s.Captured+ch.Captured, s.Voided+ch.Voided, s.Repaid+ch.Repaid
		if ch.Authorized > 0 {
			s.charges++
		}
		charged[ch.Order] = s
	}
	for _, id := range slices.Sorted(maps.Keys(charged)) {
		s := charged[id]
		if s.charges > 1 {
			c.broken("the provider has charged the order %s %d times", id, s.charges)
		}
		p := c.records.Payments[id]
		if s.Authorized != p.Authorized || s.Captured != p.Captured || s.Voided != p.Voided || s.Repaid != p.Repaid {
			// What was held without our knowing, and voided, is nobody's loss.
			if s.Authorized-s.Voided == 0 && p.Authorized-p.Voided == 0 && s.Captured == p.Captured {
				continue
			}
			c.broken("of the order %s the provider has %+v, and Payments %+v", id, s, p)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.records.Payments)) {
		if _, ok := charged[id]; !ok && c.records.Payments[id].Authorized > 0 {
			c.broken("Payments has money of the order %s, of which the provider knows nothing", id)
		}
	}
}

func (c *checker) rest() {
	for _, what := range c.records.Restless {
		c.broken("%s", what)
	}
	for _, id := range slices.Sorted(maps.Keys(c.records.Orders)) {
		if s := c.records.Orders[id].State; s == "pending" || s == "undoing" {
			c.broken("the order %s is still %s", id, s)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.records.Reservations)) {
		if r := c.records.Reservations[id]; r.Late && r.State == "reserved" {
			c.broken("the hold %s has expired long ago, and is still there", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.records.Payments)) {
		if s := c.records.Payments[id].Status; strings.HasSuffix(s, "ing") {
			c.broken("the payment of the order %s is still %s", id, s)
		}
	}
}

func (c *checker) audit() {
	if !c.records.Audit.OK && len(c.records.Audit.Violations) == 0 {
		c.broken("it has given no verdict")
	}
	for _, v := range c.records.Audit.Violations {
		c.broken("%s: %s", v.Rule, v.Detail)
	}
	for _, w := range c.records.Audit.OnItsWay {
		c.broken("%d on their way under %s, the oldest: %s", w.Count, w.Rule, w.Oldest)
	}
}

func (c *checker) deaths() {
	for _, d := range c.records.Deaths {
		c.broken("%s", d)
	}
}
