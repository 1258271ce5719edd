package outbox

import (
	"context"
	"fmt"

	"github.com/orderkeep/orderkeep/internal/db"
	"google.golang.org/protobuf/proto"
)

// Hear adds to handlers what a consumer does about the events that are messages of type M. f is a Handler that is given the
// message too. An event that holds no such message fails: a person has to look at it.
func Hear[M proto.Message](handlers map[string]Handler, f func(ctx context.Context, m M, e Event, done func(*db.Tx) error) error) {
	var none M
	kind := none.ProtoReflect().Type()
	handlers[string(kind.Descriptor().FullName())] = func(ctx context.Context, e Event, done func(*db.Tx) error) error {
		m := kind.New().Interface().(M)
		if err := proto.Unmarshal(e.Data, m); err != nil {
			return fmt.Errorf("read event %s of type %s: %w", e.ID, e.Type, err)
		}
		return f(ctx, m, e, done)
	}
}
