package payments

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
)

// number is a card number of the test range, in the ways that people send it.
var number = []string{"4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242", "tok_4242424242424242_x", "number=4242424242424242&cvc=123"}

// A card number that is sent in place of a token, or anywhere near it, is refused; afterwards no file of the process, no
// line of its log at its most talkative, and no answer has it.
func TestCardNumbersAreRefusedAndLeaveNoTrace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	clean := order()
	id := strings.TrimPrefix(clean, "/v1/payments/")
	b.call("PUT", clean, newPayment("pm_card_visa")).is(200) // so that there is something to look through
	var answers []string
	put := func(body string, header ...string) answer {
		a := b.call("PUT", order(), body, header...)
		answers = append(answers, a.raw)
		return a
	}
	for _, n := range number {
		put(newPayment(n)).is(400, "card_number_refused")
		put(strings.Replace(newPayment("pm_card_visa"), "simulated", n, 1)).is(400, "card_number_refused")
		put(strings.Replace(newPayment("pm_card_visa"), "EUR", n, 1)).is(400, "card_number_refused")
		put(strings.Replace(newPayment("pm_card_visa"), `"token"`, `"card":"`+n+`","token"`, 1)).is(400, "invalid_request")
		put(strings.Replace(newPayment("pm_card_visa"), `"token"`, `"`+n+`":1,"token"`, 1)).is(400, "invalid_request")
		put(strings.Replace(newPayment(n), "1000", "0", 1)).is(400)
		put(newPayment(n)+n, "Content-Type", "text/plain").is(415)
		put(newPayment(n)[1:]).is(400)
		put("\""+n+"\"", "Content-Type", "application/json").is(400)
		for _, q := range []*paymentsv1.AuthorizeRequest{
			authorize(uuid.NewString(), n),
			{OrderId: uuid.NewString(), Amount: &paymentsv1.Money{AmountMinor: 1, Currency: "EUR"}, Provider: n, Token: "pm_card_visa"},
			{OrderId: uuid.NewString(), Amount: &paymentsv1.Money{AmountMinor: 1, Currency: n}, Provider: "simulated", Token: "pm_card_visa"},
			authorize(n, "pm_card_visa"),
		} {
			_, err := b.grpc.Authorize(t.Context(), q)
			if fault.KindOf(fault.FromGRPC(err)) != fault.Invalid {
				t.Errorf("%v: %v, want Invalid", q, err)
			}
			if err != nil {
				answers = append(answers, err.Error())
			}
		}
		if _, err := b.grpc.Refund(t.Context(), &paymentsv1.RefundRequest{OrderId: id, Reason: n}); err == nil {
			t.Error("it refunded what it had not captured")
		}
	}
	put(strings.Replace(newPayment("x"), `"x"`, "4242424242424242", 1)).is(400, "invalid_request") // a number, not a text
	put(newPayment("４２４２４２４２４２４２４２４２")).is(400, "card_number_refused")
	if _, err := b.grpc.Void(t.Context(), &paymentsv1.VoidRequest{OrderId: id, Reason: number[0]}); err != nil {
		t.Error(err)
	}
	b.stop()

	traces := append([]string{"４２４２"}, number[:3]...)
	look := func(where string, text []byte) {
		for _, n := range traces {
			if i := bytes.Index(text, []byte(n)); i >= 0 {
				t.Errorf("%s has the card number: ...%q...", where, text[max(0, i-100):min(len(text), i+40)])
			}
		}
	}
	look("the log", []byte(b.log.String()))
	for _, a := range answers {
		look("an answer", []byte(a))
	}
	if !strings.Contains(b.log.String(), clean) {
		t.Error("the log says nothing of the requests, so it proves nothing")
	}
	files := 0
	err := filepath.WalkDir(b.data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		look(filepath.Base(path), data)
		if bytes.Contains(data, []byte(id)) {
			files++
		}
		return err
	})
	if err != nil || files < 2 {
		t.Errorf("%v; the payment itself is in %d files, want both databases", err, files)
	}
}
