package console

import (
	"slices"

	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
)

// state is one of the picture in docs/order-states.md, with its place on the page.
type state struct {
	Name  string
	X, Y  int
	Mark  string // now, past or ""
	Width int
}

// step is an arrow of it.
type step struct {
	From, To, Name string
	Path           string // of the arrow, as SVG has it
	X, Y           int    // of the name
	Taken          bool
}

// picture is the machine with the way that an order has gone.
type picture struct {
	States []state
	Steps  []step
	Now    string
}

var stateBoxes = []state{
	{Name: "pending", X: 20, Y: 30}, {Name: "confirmed", X: 220, Y: 30}, {Name: "fulfilled", X: 420, Y: 30}, {Name: "returned", X: 620, Y: 30},
	{Name: "undoing", X: 20, Y: 120}, {Name: "rejected", X: 220, Y: 120}, {Name: "cancelled", X: 420, Y: 120},
}

// steps are those of the picture between states; a test holds the two together. How an order begins has no arrow here.
var stateSteps = []step{
	{From: "pending", To: "confirmed", Name: "confirm", Path: "M140 48 H216", X: 178, Y: 42},
	{From: "pending", To: "rejected", Name: "reject", Path: "M140 60 L228 117", X: 205, Y: 88},
	{From: "pending", To: "undoing", Name: "give up", Path: "M80 66 V116", X: 56, Y: 96},
	{From: "undoing", To: "rejected", Name: "undone", Path: "M140 138 H216", X: 178, Y: 154},
	{From: "confirmed", To: "cancelled", Name: "cancel", Path: "M330 66 L430 117", X: 404, Y: 92},
	{From: "confirmed", To: "fulfilled", Name: "fulfil", Path: "M340 48 H416", X: 378, Y: 42},
	{From: "fulfilled", To: "returned", Name: "return", Path: "M540 48 H616", X: 578, Y: 42},
}

// stateOf is the state behind the status that callers see: an order that is on its way out is still pending to them.
func stateOf(o *ordersapi.Order) string {
	if o.Status == ordersapi.OrderStatusPending && o.Reason.Value != "" {
		return "undoing"
	}
	return string(o.Status)
}

// wayTo is the states that an order has been in. Of a rejected one it cannot be seen whether it held something: only one that did went
// through undoing.
func wayTo(now string, held bool) []string {
	ways := map[string][]string{
		"pending": {"pending"}, "undoing": {"pending", "undoing"}, "confirmed": {"pending", "confirmed"}, "rejected": {"pending", "rejected"},
		"cancelled": {"pending", "confirmed", "cancelled"}, "fulfilled": {"pending", "confirmed", "fulfilled"}, "returned": {"pending", "confirmed", "fulfilled", "returned"},
	}
	if now == "rejected" && held {
		return []string{"pending", "undoing", "rejected"}
	}
	return ways[now]
}

func draw(now string, held bool) picture {
	way := wayTo(now, held)
	p := picture{Now: now, States: slices.Clone(stateBoxes), Steps: slices.Clone(stateSteps)}
	for i, s := range p.States {
		if s.Name == now {
			p.States[i].Mark = "now"
		} else if slices.Contains(way, s.Name) {
			p.States[i].Mark = "past"
		}
	}
	for i, s := range p.Steps {
		at := slices.Index(way, s.From)
		p.Steps[i].Taken = at >= 0 && at+1 < len(way) && way[at+1] == s.To
	}
	return p
}
