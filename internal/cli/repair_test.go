package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/orderkeep/orderkeep/internal/audit"
)

// servers answer for all contexts: of an order what orders says, and of an act its status, or 204.
type servers struct {
	mu     sync.Mutex
	orders string         // of an order: fields of its document, or "" if there is none, "archived" or "away"
	fails  map[string]int // by path
	asked  []string
}

func (s *servers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	problem := func(status int, code string) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type":"about:blank","title":"t","status":%d,"error":%q,"detail":"It is so.","correlationId":"c"}`, status, code)
	}
	switch status := s.fails[r.URL.Path]; {
	case r.Method == http.MethodGet && s.orders == "":
		problem(http.StatusNotFound, "not_found")
	case r.Method == http.MethodGet && s.orders == "archived":
		problem(http.StatusGone, "order_archived")
	case r.Method == http.MethodGet && s.orders == "away":
		problem(http.StatusServiceUnavailable, "busy")
	case r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"orderId":%q,"currency":"","totalMinor":0,"items":[],"correlationId":"c","placedAt":"2026-01-01T00:00:00Z",%s}`, first, s.orders)
	case status > 0:
		problem(status, "not_parked")
	default:
		s.asked = append(s.asked, r.Method+" "+r.URL.Path+" "+r.URL.Query().Get("actor")+" "+r.URL.Query().Get("reason"))
		w.WriteHeader(http.StatusNoContent)
	}
}

// What is to be repaired is looked at once more, in what Orders says at that moment.
func TestRepairLeavesWhatHasComeAlive(t *testing.T) {
	t.Parallel()
	release := audit.Repair{Do: audit.ReleaseUnits, Context: "inventory", Of: first}
	void := audit.Repair{Do: audit.VoidPayment, Context: "payments", Of: first}
	drive := audit.Repair{Do: audit.DriveOrder, Context: "orders", Of: first}
	redrive := audit.Repair{Do: audit.RedriveEvent, Context: "payments", Of: "e-1"}
	unknown := func(r audit.Repair) audit.Repair { r.Unknown = true; return r }
	const reservation, payment = "DELETE /v1/reservations/" + first + " ada ", "POST /v1/payments/" + first + "/void ada "
	for _, tt := range []struct {
		name, orders string
		repair       audit.Repair
		outcome      string // and its detail, if it has one
		asked        string
	}{
		{"rejected", `"status":"rejected"`, release, "done", reservation},
		{"rejected, with money", `"status":"rejected"`, void, "done", payment},
		{"cancelled and undone", `"status":"cancelled","undo":"done"`, release, "done", reservation},
		{"archived", "archived", release, "done", reservation},
		{"nobody's", "", unknown(release), "done", reservation},
		{"nobody's money", "", unknown(void), "done", payment},
		{"its units are on their way back", `"status":"cancelled","undo":"pending"`, release, "left: the order was cancelled, and its undoing is on its way", ""},
		{"alive again", `"status":"confirmed"`, release, "left: the order is confirmed", ""},
		{"alive again, with money", `"status":"pending"`, void, "left: the order is pending", ""},
		{"no order any more", `"status":"confirmed"`, unknown(release), "left: the order is confirmed", ""},
		{"another shop", "", release, "failed: ", ""},
		{"Orders is away", "away", void, "failed: ", ""},
		{"driven to an end", `"status":"rejected"`, drive, "done", "POST /v1/orders/" + first + "/drive ada "},
		{"driven in vain", `"status":"pending"`, drive, "failed: it is pending still", "POST /v1/orders/" + first + "/drive ada "},
		{"parked", "", redrive, "done", "POST /v1/events/payments/parked/e-1/redrive ada "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			at := &servers{orders: tt.orders}
			web := httptest.NewServer(at)
			defer web.Close()
			s := &session{ctx: t.Context(), url: web.URL}
			p, err := s.repairer(&repairing{Actor: "ada"})
			if err != nil {
				t.Fatal(err)
			}
			r := p.perform(proposed(audit.Report{Violations: []audit.Violation{{Rule: "a_rule", Detail: strings.Repeat("é", maxReason), Repair: tt.repair}}}, true)[0])
			if got := r.Outcome + ": " + r.Detail; !strings.HasPrefix(got, tt.outcome) || r.ended() != (r.Outcome == "done") {
				t.Errorf("%q, want %q", got, tt.outcome)
			}
			if tt.asked == "" && len(at.asked) > 0 || tt.asked != "" && (len(at.asked) != 1 || !strings.HasPrefix(at.asked[0], tt.asked+"a_rule: é")) {
				t.Errorf("asked for %q, want %q", at.asked, tt.asked)
			}
		})
	}
}

func TestRepairThatSomebodyElseHasDoneIsNone(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(&servers{fails: map[string]int{"/v1/events/parked/e-1/redrive": http.StatusNotFound}})
	defer web.Close()
	s := &session{ctx: t.Context(), url: web.URL}
	p, err := s.repairer(&repairing{})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.perform(repair{Repair: audit.RedriveEvent, Context: "orders", ID: "e-1"}); r.Outcome != "nothing_to_do" || !r.ended() {
		t.Errorf("%+v", r)
	}
}

// Without --yes nothing is asked of anybody, and one repair of an order's money stands for both records.
func TestRepairsAreProposed(t *testing.T) {
	t.Parallel()
	found := audit.Report{Violations: []audit.Violation{
		{Rule: audit.MoneyHasLiveOrder, Detail: "ours", Repair: audit.Repair{Do: audit.VoidPayment, Context: "payments", Of: "o1"}},
		{Rule: audit.MoneyHasLiveOrder, Detail: "the provider's", Repair: audit.Repair{Do: audit.VoidPayment, Context: "payments", Of: "o1"}},
		{Rule: "on_hand_is_sum_of_movements", Detail: "count it"},
	}}
	got := proposed(found, false)
	if len(got) != 1 || got[0].Reason != "ours" || got[0].Outcome != "proposed" {
		t.Errorf("%+v", got)
	}
	for _, args := range []string{"--yes", "--forgotten", "--repair --watch"} {
		if r := do(t, sound(), "", append([]string{"verify"}, strings.Fields(args)...)...); r.code != exitUsage || r.out != "" {
			t.Errorf("%s: %+v", args, r)
		}
	}
	if r := do(t, sound(), "", "verify", "--repair", "--yes"); r.code != exitOK || !strings.HasSuffix(r.out, "ok: every promise is kept\n") {
		t.Errorf("nothing is broken: %+v", r)
	}
	text, err := os.ReadFile("../../inventory/v1/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Split(string(text), "\n"), fmt.Sprintf("      schema: {type: string, maxLength: %d}", maxReason)) {
		t.Error("the contract takes reasons of another length")
	}
}
