package orders

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOrdersAreFoundByCorrelationID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.place(free, "X-Correlation-ID", "storefront-7").is(201).str("orderId")
	two := b.place(free, "X-Correlation-ID", "storefront-7").is(201).str("orderId")
	b.place(free, "X-Correlation-ID", "storefront-8").is(201)
	b.call("POST", "/v1/orders/"+one+"/cancel", "").is(200)
	for query, want := range map[string][]string{
		"correlationId=storefront-7":                  {two, one},
		"correlationId=storefront-7&limit=1":          {two},
		"correlationId=storefront-7&cursor=" + two:    {one},
		"correlationId=storefront-7&status=cancelled": {one},
		"correlationId=storefront-7&customer=nobody":  {},
		"correlationId=STOREFRONT-7":                  {},
		"correlationId=storefront":                    {},
	} {
		if d := cmp.Diff(want, b.call("GET", "/v1/orders?"+query, "").is(200).ids()); d != "" {
			t.Errorf("%s: %s", query, d)
		}
	}
}

func TestWhatPeopleDoToAnOrderIsInTheTrail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.place(free).is(201).str("orderId")
	other := b.place(free).is(201).str("orderId")
	by := func(id, what, body string) {
		b.call("POST", "/v1/orders/"+id+"/"+what+"?actor=ann&reason=because", body).is(200)
	}
	by(id, "fulfil", "")
	by(id, "fulfil", "") // does nothing more
	b.call("POST", "/v1/orders/"+id+"/return?actor=ann", `{"reason":"too small"}`).is(200)
	by(other, "cancel", `{"reason":"twice"}`)
	b.call("POST", "/v1/orders/"+id+"/cancel?actor=ann", "").is(409)                         // changes nothing
	b.call("POST", "/v1/orders/"+b.place(free).is(201).str("orderId")+"/cancel", "").is(200) // by nobody
	acts := b.call("GET", "/v1/acts?subject="+id, "").is(200).shows(`{"acts":[{"actor":"ann","what":"fulfil_order","subject":"` + id + `","reason":"because"},{"what":"return_order","reason":"too small"}]}`)
	if n := len(acts.body["acts"].([]any)); n != 2 {
		t.Errorf("%d acts: %s", n, acts.raw)
	}
	if n := len(b.call("GET", "/v1/acts", "").is(200).body["acts"].([]any)); n != 3 {
		t.Errorf("%d acts in all", n)
	}
	if got := b.call("GET", "/v1/acts?subject=nobody", "").is(200).raw; strings.TrimSpace(got) != `{"acts":[]}` {
		t.Errorf("%s", got)
	}
	b.call("POST", "/v1/acts", "").is(405)
	b.call("GET", "/v1/acts/x", "").is(404)
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
