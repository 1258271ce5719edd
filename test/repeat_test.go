package test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"github.com/orderkeep/orderkeep/test/stage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// late is when the third copy of a command is sent: after the order has been answered, and about when tests cancel it.
const late = 50 * time.Millisecond

// repeater stands in front of the server at addr, and sends every command on twice, and a third time when nobody expects
// it any more. What nobody expects is what networks do. The second answer is the one that goes back, and has to be the
// first one again. It returns where to call.
func repeater(t testing.TB, addr string) string {
	t.Helper()
	return stage.Between(t, addr, func(ctx context.Context, c *stage.Call) ([]byte, error) {
		first, err := c.Send(ctx)
		if status.Code(err) == codes.Unavailable {
			return nil, err // nobody was there, and what the caller does about that is to be seen
		}
		if strings.HasSuffix(c.Method, "/Check") { // a question, whose answer may change
			return first, err
		}
		second, again := c.Send(ctx)
		if err == nil && again == nil && !bytes.Equal(first, second) && !undecided(c.Method, first) {
			t.Errorf("%s is answered %x, and when it is repeated, %x", c.Method, first, second)
		}
		time.AfterFunc(late, func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_, _ = c.Send(ctx) // nobody waits for it
		})
		return second, again
	})
}

// undecided reports an answer that says that there is none yet.
func undecided(method string, answer []byte) bool {
	var a paymentsv1.AuthorizeResponse
	return strings.HasSuffix(method, "/Authorize") && proto.Unmarshal(answer, &a) == nil && a.State == paymentsv1.PaymentState_PAYMENT_STATE_UNKNOWN
}
