package faults

import (
	"maps"
	"slices"
	"strings"
)

// told is what Orders says of an order on its way to a state.
var told = map[string][]string{
	"confirmed": {"OrderConfirmed"},
	"cancelled": {"OrderConfirmed", "OrderCancelled"},
	"fulfilled": {"OrderConfirmed", "OrderFulfilled"},
	"returned":  {"OrderConfirmed", "OrderFulfilled", "OrderReturned"},
	"rejected":  {"OrderRejected"},
}

func (c *checker) events() {
	said := map[string][]string{}
	for _, f := range c.records.Outbox["orders"] {
		said[f.Subject] = append(said[f.Subject], strings.TrimPrefix(f.Type, "orderkeep.orders.v1."))
	}
	for _, id := range slices.Sorted(maps.Keys(c.records.Orders)) {
		if o := c.records.Orders[id]; !slices.Equal(said[id], told[o.State]) {
			c.broken("the order %s is %s, and Orders has said %v of it", id, o.State, said[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(said)) {
		if _, ok := c.records.Orders[id]; !ok {
			c.broken("Orders has said %v of %s, and there is no such order", said[id], id)
		}
	}
}

func (c *checker) deliveries() {
	for _, context := range slices.Sorted(maps.Keys(c.records.Outbox)) {
		c.published(context)
	}
	for _, consumer := range slices.Sorted(maps.Keys(c.records.Inbox)) {
		c.consumed(consumer)
	}
}

// published looks for events that were not published, or before another of their subject that was written first. Those of several
// subjects may change places: transactions commit in another order than they take their numbers.
func (c *checker) published(context string) {
	last := map[string]int64{} // by subject
	unique, places := map[string]bool{}, map[int64]bool{}
	for _, f := range c.records.Outbox[context] {
		switch {
		case f.Position == 0:
			c.broken("%s of %s (%s) was never published", f.Type, f.Subject, f.ID)
		case f.Position < last[f.Subject]:
			c.broken("%s of %s (%s) is published before what was written first", f.Type, f.Subject, f.ID)
		case places[f.Position]:
			c.broken("%s of %s (%s) has the place of another in the feed", f.Type, f.Subject, f.ID)
		}
		if unique[f.ID] {
			c.broken("there are two events of the id %s", f.ID)
		}
		last[f.Subject], unique[f.ID], places[f.Position] = f.Position, true, true
	}
}

// consumed holds an inbox against the outboxes: all that its consumer acts on, once, in the order of each subject.
func (c *checker) consumed(consumer string) {
	hears := Hears(consumer)
	want := map[string][]string{} // by publisher and subject
	for _, facts := range c.records.Outbox {
		for _, f := range facts {
			if slices.Contains(hears, f.Type) {
				want[f.Source+" "+f.Subject] = append(want[f.Source+" "+f.Subject], f.ID)
			}
		}
	}
	got := map[string][]string{}
	for _, r := range c.records.Inbox[consumer] {
		if r.State != "done" {
			c.broken("%s has not done with %s of %s (%s): it is %s", consumer, r.Type, r.Subject, r.ID, r.State)
		}
		got[r.Source+" "+r.Subject] = append(got[r.Source+" "+r.Subject], r.ID)
	}
	for _, subject := range slices.Sorted(maps.Keys(want)) {
		if !slices.Equal(want[subject], got[subject]) {
			c.broken("%s should have heard of %s the events %v, and has heard %v", consumer, subject, want[subject], got[subject])
		}
	}
	for _, subject := range slices.Sorted(maps.Keys(got)) {
		if want[subject] == nil {
			c.broken("%s has heard of %s the events %v, which nobody has said", consumer, subject, got[subject])
		}
	}
}
