package payments

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
)

func TestRecordHasTheAttemptsAndTheProvidersView(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := order()
	b.call("GET", one+"/record", "").is(404, "payment_not_found")
	b.call("PUT", one, newPayment("pm_card_visa")).is(200)
	b.call("GET", one+"/record", "").is(200).shows(`{"step":"authorized","payment":{"status":"authorized","authorizedMinor":1000},
		"attempts":[{"step":"authorize","result":"succeeded","amountMinor":1000}],"provider":{"state":"authorized","authorizedMinor":1000,"capturedMinor":0,"agrees":true}}`)
	b.call("POST", one+"/capture", "").is(200)
	b.call("GET", one+"/record", "").is(200).shows(`{"step":"captured","attempts":[{"step":"authorize"},{"step":"capture","result":"succeeded"}],"provider":{"state":"captured","capturedMinor":1000,"agrees":true}}`)

	declined := order()
	b.call("PUT", declined, newPayment("pm_card_chargeDeclined")).is(402)
	b.call("GET", declined+"/record", "").is(200).shows(`{"step":"declined","attempts":[{"result":"declined"}],"provider":{"state":"declined","authorizedMinor":0,"agrees":true}}`)

	unseen := order()
	b.call("POST", unseen+"/void?actor=ann&reason=nobody's", "").is(200)
	b.call("GET", unseen+"/record", "").is(200).shows(`{"step":"voided","provider":null}`)
	b.call("GET", "/v1/acts/payments", "").is(200).shows(`{"acts":[{"actor":"ann","what":"void_payment"}]}`)

	t.Run("a difference is told", func(t *testing.T) {
		if _, err := dbtest.Raw(t, "sqlite:"+b.data+"/payments.db").Exec(`UPDATE payments SET captured_minor = 900 WHERE order_id = $1`, strings.TrimPrefix(one, "/v1/payments/")); err != nil {
			t.Fatal(err)
		}
		b.call("GET", one+"/record", "").is(200).shows(`{"payment":{"capturedMinor":900},"provider":{"capturedMinor":1000,"agrees":false}}`)
	})
}

func TestPaymentsAreListedNewestOrderFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var want []string
	for range 5 {
		id := uuid.Must(uuid.NewV7()).String()
		b.call("PUT", "/v1/payments/"+id, newPayment("pm_card_visa")).is(200)
		want = append([]string{id}, want...)
	}
	var got []string
	for cursor := ""; ; {
		page := b.call("GET", "/v1/payments?limit=2&provider=true"+cursor, "").is(200)
		for _, p := range page.body["payments"].([]any) {
			got = append(got, p.(map[string]any)["payment"].(map[string]any)["orderId"].(string))
			if view := p.(map[string]any)["provider"].(map[string]any); view["agrees"] != true {
				t.Errorf("%v", view)
			}
		}
		next, more := page.body["nextCursor"].(string)
		if !more {
			break
		}
		cursor = "&cursor=" + next
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%v, want\n%v", got, want)
	}
	b.call("GET", "/v1/payments?limit=1", "").is(200).shows(`{"payments":[{"provider":null}]}`)
	b.call("GET", "/v1/payments?cursor=x", "").is(400, "invalid_cursor")
}

// shows is has, with no look at what nested fields there are besides.
func (a answer) shows(fields string) answer {
	a.t.Helper()
	var want any
	if err := json.Unmarshal([]byte(fields), &want); err != nil {
		a.t.Fatal(err)
	}
	if !part(want, a.body) {
		a.t.Errorf("%s has no %s", a.raw, fields)
	}
	return a
}

// part reports whether all that is in want is in got. Lists are as long as each other.
func part(want, got any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		for name, v := range want {
			ok = ok && part(v, got[name])
		}
		return ok
	case []any:
		got, ok := got.([]any)
		ok = ok && len(got) == len(want)
		for i := range want {
			ok = ok && part(want[i], got[i])
		}
		return ok
	}
	return want == got
}
