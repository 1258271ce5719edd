package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/user"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/audit"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
)

// repairing are the settings of verify that repairs.
type repairing struct {
	Repair      bool   `help:"Propose the safe repairs of what is broken."`
	Yes         bool   `help:"With --repair: perform them, through the contracts of the servers."`
	Forgotten   bool   `help:"With --repair: also units and money of several orders in a row that Orders does not know, or newer ones than it knows. Only if it is certain that Orders was not restored from an old backup."`
	Actor       string `placeholder:"NAME" help:"With --yes: who does it, for the trail. Default: the user of this system."`
	InventoryAt string `name:"inventory-at" placeholder:"URL" help:"With --yes: the server that answers REST for Inventory, if not --url."`
	PaymentsAt  string `name:"payments-at" placeholder:"URL" help:"With --yes: the server that answers REST for Payments, likewise."`
}

func (c *repairing) check(watching bool) error {
	switch {
	case c.Yes && !c.Repair:
		return usage("--yes goes with --repair")
	case c.Forgotten && !c.Repair:
		return usage("--forgotten goes with --repair")
	case c.Repair && watching:
		return usage("--repair does not go with --watch: a person looks at each repair")
	}
	return nil
}

// repair is one in the output.
type repair struct {
	Repair  audit.Do `json:"repair"`
	Context string   `json:"context"`
	ID      string   `json:"id"` // of the order or the event
	Rule    string   `json:"rule"`
	Reason  string   `json:"reason"`
	Outcome string   `json:"outcome"`          // proposed, done, nothing_to_do, left or failed
	Detail  string   `json:"detail,omitempty"` // why it was left, or failed

	unknown bool
}

// ended reports whether nothing is left to do.
func (r repair) ended() bool { return r.Outcome == "done" || r.Outcome == "nothing_to_do" }

// proposed are the repairs of what a report found broken, each once. Orders that it may be Orders which forgot them are left alone, unless those
// are to be repaired too.
func proposed(r audit.Report, forgotten bool) []repair {
	all := []repair{}
	seen := map[audit.Repair]bool{}
	var leave []string
	if !forgotten {
		leave = r.Forgotten()
	}
	for _, v := range r.Violations {
		x := v.Repair
		if x.Do == "" || seen[x] {
			continue
		}
		seen[x] = true
		p := repair{Repair: x.Do, Context: x.Context, ID: x.Of, Rule: v.Rule, Reason: v.Detail, Outcome: "proposed", unknown: x.Unknown}
		if _, mayBe := slices.BinarySearch(leave, x.Of); mayBe && x.Unknown {
			p.Outcome, p.Detail = "left", forgot(x.After)
		}
		all = append(all, p)
	}
	return all
}

// forgot says why units and money that nobody seems to own are left alone.
func forgot(after string) string {
	where := "after order " + after
	if after == "" {
		where = "before all others"
	}
	return "Orders knows no order " + where + " where others hold for some: was it restored from an old backup? If it is certain that it was not, say --forgotten"
}

// operator is who runs this program.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// repairer performs repairs through the contracts of the servers.
type repairer struct {
	ctx   context.Context
	actor string
	at    map[string]*client // by context
}

func (s *session) repairer(c *repairing) (*repairer, error) {
	p := &repairer{ctx: s.ctx, actor: cmp.Or(c.Actor, operator()), at: map[string]*client{}}
	for name, at := range map[string]string{"orders": "", "inventory": c.InventoryAt, "payments": c.PaymentsAt} {
		there := *s
		there.url = cmp.Or(at, s.url)
		var err error
		if p.at[name], err = there.client(1, false); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// perform does one repair and says how it came out.
func (p *repairer) perform(r repair) repair {
	var err error
	switch r.Repair {
	case audit.ReleaseUnits, audit.VoidPayment:
		if err = p.isOff(r); err != nil {
			break
		}
		if r.Repair == audit.ReleaseUnits {
			err = p.ask(r, http.MethodDelete, "/v1/reservations/"+url.PathEscape(r.ID))
		} else {
			err = p.ask(r, http.MethodPost, "/v1/payments/"+url.PathEscape(r.ID)+"/void")
		}
	case audit.RedriveEvent:
		below := map[string]string{"orders": "", "inventory": "/inventory", "payments": "/payments"}[r.Context]
		err = p.ask(r, http.MethodPost, "/v1/events"+below+"/parked/"+url.PathEscape(r.ID)+"/redrive")
	case audit.DriveOrder:
		if err = p.ask(r, http.MethodPost, "/v1/orders/"+url.PathEscape(r.ID)+"/drive"); err == nil {
			err = p.isDriven(r)
		}
	}
	var why *problem
	var left leftAlone
	switch {
	case err == nil:
		r.Outcome = "done"
	case errors.As(err, &why) && why.Code == "not_parked":
		r.Outcome = "nothing_to_do" // somebody else was faster
	case errors.As(err, &left):
		r.Outcome, r.Detail = "left", string(left)
	default:
		r.Outcome, r.Detail = "failed", strings.ReplaceAll(err.Error(), "\n  ", "; ")
	}
	return r
}

// leftAlone is why a repair is not to be done any more.
type leftAlone string

func (l leftAlone) Error() string { return string(l) }

// isOff asks Orders whether nothing may be held for the order still: the databases were read a moment ago.
func (p *repairer) isOff(r repair) error {
	o, err := p.order(r.ID)
	var why *problem
	switch {
	case errors.As(err, &why) && why.status == http.StatusNotFound:
		if !r.unknown {
			return fmt.Errorf("%s knows no such order, and the database does: does --url name the server of these databases?", p.at["orders"].url)
		}
		return nil
	case errors.As(err, &why) && why.Code == "order_archived":
		return nil // it was off when it went, and nothing moves it any more
	case err != nil:
		return fmt.Errorf("ask Orders what became of it: %w", err)
	case o.Status != ordersapi.OrderStatusRejected && o.Status != ordersapi.OrderStatusCancelled:
		return leftAlone("the order is " + string(o.Status))
	case o.Undo.Value == ordersapi.OrderUndoPending:
		return leftAlone("the order was cancelled, and its undoing is on its way")
	}
	return nil
}

// isDriven says that the order still is where it was.
func (p *repairer) isDriven(r repair) error {
	o, err := p.order(r.ID)
	if err == nil && o.Status == ordersapi.OrderStatusPending {
		return errors.New("it is pending still: the log of Orders says, under its correlation id, what it fails on")
	}
	return err
}

func (p *repairer) order(id string) (*ordersapi.Order, error) {
	key, err := uuid.Parse(id)
	if err != nil {
		return nil, err
	}
	res, err := p.at["orders"].orders.GetOrder(p.ctx, ordersapi.GetOrderParams{OrderId: key})
	if err := answer(res, err); err != nil {
		return nil, p.at["orders"].explain(err)
	}
	o, ok := res.(*ordersapi.Order)
	if !ok {
		return nil, fmt.Errorf("an answer of another contract: %T", res)
	}
	return o, nil
}

// maxReason is the contracts'.
const maxReason = 1024

// ask makes one request of a context, in the name of the actor.
func (p *repairer) ask(r repair, method, path string) error {
	c := p.at[r.Context]
	reason := r.Rule + ": " + r.Reason
	who := url.Values{"actor": {p.actor}, "reason": {strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")}}
	q, err := http.NewRequestWithContext(p.ctx, method, c.url+path+"?"+who.Encode(), nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(q)
	if err != nil {
		return c.explain(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return readProblem(res)
	}
	return nil
}

// repair shows the repairs of what was found, and performs them if it is told to.
func (s *session) repair(c *repairing, found audit.Report) error {
	all := proposed(found, c.Forgotten)
	if c.Yes && len(all) > 0 {
		p, err := s.repairer(c)
		if err != nil {
			return err
		}
		for i, r := range all {
			if s.ctx.Err() != nil {
				break // the others stay proposed
			}
			if r.Outcome == "proposed" {
				all[i] = p.perform(r)
			}
		}
	}
	if err := s.printRepairs(found, all); err != nil {
		return err
	}
	left := slices.ContainsFunc(found.Violations, func(v audit.Violation) bool { return v.Repair.Do == "" }) ||
		slices.ContainsFunc(all, func(r repair) bool { return !r.ended() })
	if left {
		return errShown
	}
	return nil
}

func (s *session) printRepairs(found audit.Report, all []repair) error {
	if s.json {
		return s.document(struct {
			audit.Report
			Repairs []repair `json:"repairs"`
		}{found, all})
	}
	if err := printReport(s.out, found); err != nil || found.OK {
		return err
	}
	fmt.Fprintln(s.out)
	if len(all) == 0 {
		_, err := fmt.Fprintln(s.out, "nothing of this is safe to repair without looking closer")
		return err
	}
	rows := make([][]string, len(all))
	waits := 0
	for i, r := range all {
		rows[i] = []string{string(r.Repair), r.Context, r.ID, r.Rule, strings.TrimSuffix(r.Outcome+": "+r.Detail, ": ")}
		if r.Outcome == "proposed" {
			waits++
		}
	}
	if err := table(s.out, []string{"REPAIR", "CONTEXT", "OF", "BECAUSE OF", "OUTCOME"}, rows); err != nil || waits == 0 {
		return err
	}
	_, err := fmt.Fprintf(s.out, "\nread docs/cli.md on these rules, and perform the repairs with --repair --yes\n")
	return err
}
