package node

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"google.golang.org/grpc"
)

// Inner is how the contexts are asked from within their process.
type Inner struct {
	// HTTP asks for http://localhost/..., past the same edge as over a network. Answers are kept whole until they are read.
	HTTP *http.Client
	// Conn speaks the v1 Protobuf contract of a context, by its name. Errors are gRPC statuses; no policy of internal/call is around it.
	Conn func(context string) grpc.ClientConnInterface
}

// Within opens the contexts for f, and closes them when it returns: what was committed until then is published, if that takes no longer than
// the drain timeout. Nothing listens, so that f is all that asks; the database files are this process's own as under Run. The contexts go on when ctx
// ends, until f returns.
func Within(ctx context.Context, cfg Config, contexts []Context, log *slog.Logger, f func(context.Context, Inner) error) error {
	if err := cfg.Check(contexts); err != nil {
		return err
	}
	unlock, err := cfg.lockData(cfg.files(cfg.Here(contexts)))
	if err != nil {
		return err
	}
	defer unlock()
	n := newNode(cfg, contexts, log)
	if err = n.open(ctx); err == nil {
		n.inside.open(n.server())
		err = f(ctx, Inner{HTTP: &http.Client{Transport: &n.inside}, Conn: func(context string) grpc.ClientConnInterface { return n.locals[context] }})
	}
	return errors.Join(err, n.close(cfg.DrainTimeout))
}
