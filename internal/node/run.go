package node

import (
	"context"
	"errors"
	"log/slog"
)

// Run opens the contexts, joins and serves them, and drains them when ctx ends or the process gets SIGINT or SIGTERM; a
// second signal ends the process at once. ready, if not nil, is called with the address once it answers. A nil error is a
// clean drain; any other says what to do.
func Run(ctx context.Context, cfg Config, contexts []Context, log *slog.Logger, ready func(addr string)) error {
	return errors.New("not yet")
}
