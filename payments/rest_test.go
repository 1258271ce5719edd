package payments

import (
	"strings"
	"sync"
	"testing"
)

func TestPaymentsOverREST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := order()
	b.call("GET", one, "").is(404, "payment_not_found")
	b.call("POST", one+"/capture", "").is(404, "payment_not_found")
	b.call("POST", one+"/refund", "").is(404, "payment_not_found")
	first := b.call("PUT", one, newPayment("pm_card_visa")).is(200).
		has(`{"status":"authorized","currency":"EUR","provider":"simulated","authorizedMinor":1000,"capturedMinor":0,"voidedMinor":0,"refundedMinor":0}`)
	if first.body["orderId"] != strings.TrimPrefix(one, "/v1/payments/") || first.body["paymentId"] == "" || strings.Contains(first.raw, "pm_card") {
		t.Errorf("%s", first.raw)
	}
	again := b.call("PUT", one, newPayment("pm_card_mastercard")).is(200)
	if again.raw != first.raw || b.call("GET", one, "").is(200).raw != first.raw {
		t.Errorf("the repeat differs:\n%s\n%s", first.raw, again.raw)
	}
	b.call("PUT", one, strings.Replace(newPayment("pm_card_visa"), "1000", "1001", 1)).is(409, "payment_mismatch")
	b.call("PUT", one, strings.Replace(newPayment("pm_card_visa"), "EUR", "USD", 1)).is(409, "payment_mismatch")
	b.call("POST", one+"/refund", "").is(409, "not_captured")
	for range 2 {
		b.call("POST", one+"/capture", "").is(200).has(`{"status":"captured","capturedMinor":1000}`)
	}
	b.call("PUT", one, newPayment("pm_card_visa")).is(200).has(`{"status":"captured"}`)
	b.call("POST", one+"/void", "").is(409, "already_captured")
	for range 2 {
		b.call("POST", one+"/refund", "").is(200).has(`{"status":"refunded","refundedMinor":1000}`)
	}
	b.call("PUT", one, newPayment("pm_card_visa")).is(409, "payment_voided")
	b.call("POST", one+"/void", "").is(200).has(`{"status":"refunded"}`)
	b.call("GET", one, "").is(200).has(`{"status":"refunded","authorizedMinor":1000,"capturedMinor":1000,"voidedMinor":0,"refundedMinor":1000}`)

	two := order()
	b.call("PUT", two, newPayment("pm_card_visa")).is(200)
	for range 2 {
		b.call("POST", two+"/void", "").is(200).has(`{"status":"voided","voidedMinor":1000}`)
	}
	b.call("POST", two+"/capture", "").is(409, "not_authorized")
	b.call("PUT", two, newPayment("pm_card_visa")).is(409, "payment_voided")

	unseen := order()
	b.call("POST", unseen+"/void", "").is(200).has(`{"status":"voided","paymentId":"","authorizedMinor":0}`)
	b.call("PUT", unseen, newPayment("pm_card_visa")).is(409, "payment_voided")
}

func TestDeclineOverREST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := order()
	for _, token := range []string{"pm_card_chargeDeclinedInsufficientFunds", "pm_card_visa"} { // a better token is too late: one order, one outcome
		b.call("PUT", one, newPayment(token)).is(402, "payment_declined").has(`{"status":402,"items":[{"field":"token","detail":"insufficient_funds"}]}`)
	}
	b.call("GET", one, "").is(200).has(`{"status":"declined","declineCode":"insufficient_funds","authorizedMinor":0}`)
	b.call("POST", one+"/capture", "").is(409, "not_authorized")
	b.call("POST", one+"/void", "").is(200).has(`{"status":"declined"}`)
}

func TestUnknownOutcomeOverREST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lost := order()
	b.call("PUT", lost, newPayment("pm_simulated_timeout_charged")).is(202).has(`{"status":"unknown","authorizedMinor":0}`)
	b.call("PUT", lost, newPayment("pm_simulated_timeout_charged")).is(200).has(`{"status":"authorized","authorizedMinor":1000}`)
	missed := order()
	b.call("PUT", missed, newPayment("pm_simulated_timeout_not_charged")).is(202)
	b.call("PUT", missed, newPayment("pm_simulated_timeout_not_charged")).is(200).has(`{"status":"authorized"}`)
	refused := order()
	b.call("PUT", refused, newPayment("pm_simulated_timeout_declined")).is(202)
	b.call("PUT", refused, newPayment("pm_simulated_timeout_declined")).is(402, "payment_declined")

	away := order()
	for range 2 {
		b.call("PUT", away, newPayment("pm_simulated_down_1m")).is(202).has(`{"status":"unknown"}`)
	}
	b.call("POST", away+"/capture", "").is(409, "not_authorized")
	for range 2 {
		if a := b.call("POST", away+"/void", "").is(503, "provider_unavailable"); a.header.Get("Retry-After") == "" {
			t.Errorf("it does not say when to come back: %v", a.header)
		}
	}
	b.call("GET", away, "").is(200).has(`{"status":"unknown"}`) // not authorized: the provider never said so
	b.call("PUT", away, newPayment("pm_simulated_down_1m")).is(409, "payment_voided")
}

func TestConcurrentRequestsOverRESTHaveOneOutcome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := order()
	raws := make([]string, 16)
	var wg sync.WaitGroup
	for i := range raws {
		wg.Go(func() { raws[i] = b.call("PUT", one, newPayment("pm_card_visa")).is(200).raw })
	}
	wg.Wait()
	for _, raw := range raws {
		if raw != raws[0] {
			t.Errorf("two outcomes:\n%s\n%s", raws[0], raw)
		}
	}
}

func TestBadRequestsAreRefusedAndLeaveNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := order()
	good := newPayment("pm_card_visa")
	put := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s to replace", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, tc := range map[string]struct {
		body, code, field string
	}{
		"no body":                   {"", "invalid_request", ""},
		"no JSON":                   {"{", "invalid_request", ""},
		"an array":                  {"[]", "invalid_request", ""},
		"more than one object":      {good + good, "invalid_request", ""},
		"not UTF-8":                 {put("pm_card_visa", "pm_\xff"), "invalid_request", ""},
		"a field too many":          {put(`"token"`, `"cvc":"123","token"`), "invalid_request", "cvc"},
		"no amount":                 {put(`"amountMinor":1000,`, ``), "invalid_request", "amountMinor"},
		"amount 0":                  {put("1000", "0"), "invalid_request", "amountMinor"},
		"a negative amount":         {put("1000", "-1"), "invalid_request", "amountMinor"},
		"a fraction":                {put("1000", "10.5"), "invalid_request", "amountMinor"},
		"an amount past 2^63":       {put("1000", "9223372036854775808"), "invalid_request", "amountMinor"},
		"an amount as text":         {put("1000", `"1000"`), "invalid_request", "amountMinor"},
		"no currency":               {put(`"currency":"EUR",`, ``), "invalid_request", "currency"},
		"a currency in small":       {put("EUR", "eur"), "invalid_currency", ""},
		"a currency of four":        {put("EUR", "EURO"), "invalid_currency", ""},
		"an unknown provider":       {put("simulated", "bank"), "unknown_provider", ""},
		"an empty provider":         {put("simulated", ""), "invalid_request", "provider"},
		"a long provider":           {put("simulated", strings.Repeat("x", 65)), "invalid_request", "provider"},
		"no token":                  {put(`,"token":"pm_card_visa"`, ``), "invalid_request", "token"},
		"an empty token":            {put("pm_card_visa", ""), "invalid_request", "token"},
		"a null token":              {put(`"pm_card_visa"`, "null"), "invalid_request", "token"},
		"a long token":              {put("pm_card_visa", strings.Repeat("x", 256)), "invalid_request", "token"},
		"a token with a NUL":        {put("pm_card_visa", `pm\u0000`), "invalid_token", ""},
		"a token of two lines":      {put("pm_card_visa", `pm\ncard`), "invalid_token", ""},
		"a token of half a rune":    {put("pm_card_visa", `pm_\ud800`), "invalid_token", ""},
		"a token that is an object": {put(`"pm_card_visa"`, `{"number":1}`), "invalid_request", "token"},
	} {
		a := b.call("PUT", one, tc.body, "Content-Type", "application/json").is(400)
		if a.body["error"] != tc.code {
			t.Errorf("%s: error %v, want %s: %s", name, a.body["error"], tc.code, a.raw)
		}
		if items, _ := a.body["items"].([]any); tc.field != "" && (len(items) != 1 || items[0].(map[string]any)["field"] != tc.field) {
			t.Errorf("%s: the field is not named %s: %s", name, tc.field, a.raw)
		}
	}
	b.call("PUT", one, good, "Content-Type", "text/plain").is(415, "unsupported_media_type")
	b.call("PUT", one, put("pm_card_visa", strings.Repeat("x", 1<<20))).is(413, "body_too_large")
	b.call("PUT", "/v1/payments/order-1", good).is(400, "invalid_request").has(`{"items":[{"field":"orderId","detail":"Must be a UUID."}]}`)
	b.call("GET", "/v1/payments/order-1", "").is(400, "invalid_request")
	b.call("POST", "/v1/payments/order-1/void", "").is(400, "invalid_request")
	b.call("POST", "/v1/payments", "").is(405, "method_not_allowed")
	b.call("POST", one+"/charge", "").is(404, "not_found")
	for path, allowed := range map[string]string{one: "GET, PUT", one + "/capture": "POST", one + "/void": "POST", one + "/refund": "POST"} {
		if a := b.call("DELETE", path, "").is(405, "method_not_allowed"); a.header.Get("Allow") != allowed {
			t.Errorf("%s allows %q, want %q", path, a.header.Get("Allow"), allowed)
		}
	}
	b.call("GET", one, "").is(404, "payment_not_found")
	b.call("PUT", one, good).is(200)
}

func TestPaymentsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	held, unknown := order(), order()
	first := b.call("PUT", held, newPayment("pm_card_visa")).is(200)
	b.call("PUT", unknown, newPayment("pm_simulated_timeout_charged")).is(202)
	b.stop()
	b = start(t, b.data)
	if again := b.call("PUT", held, newPayment("pm_card_visa")).is(200); again.raw != first.raw {
		t.Errorf("after a restart:\n%s\n%s", first.raw, again.raw)
	}
	b.call("PUT", unknown, newPayment("pm_simulated_timeout_charged")).is(200).has(`{"authorizedMinor":1000}`)
	b.call("POST", held+"/void", "").is(200)
	b.stop()
	source, err := Context().Inspect(t.Context(), "sqlite:"+b.data+"/payments.db", "sqlite:"+b.data+"/simulated-provider.db")
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	counts, broken, err := source.Check(t.Context())
	if err != nil || len(broken) > 0 || counts["providerHolds"] != 1 || counts["authorized"] != 1 || counts["voided"] != 1 {
		t.Errorf("%v, %v, %v", counts, broken, err)
	}
}
