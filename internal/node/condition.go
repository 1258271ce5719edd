package node

import (
	"context"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/httpd"
)

// glance is how long what the process can do without has to answer: a probe that waits for a second, as they do, has to hear
// of what hangs.
const glance = 500 * time.Millisecond

// condition asks the contexts here, their broker and their Redis, and nobody else.
func (n *node) condition(ctx context.Context) httpd.Condition {
	c := httpd.Condition{ForTests: n.cfg.ForTests}
	var asked sync.WaitGroup
	asked.Go(func() { c.Away = n.away(ctx) })
	asked.Go(func() {
		c.NotReady = n.notReady(ctx)
		c.Events = n.lag(ctx, c.NotReady)
	})
	asked.Wait()
	return c
}

// notReady is what this process cannot work without and has not, by context: their databases.
func (n *node) notReady(ctx context.Context) map[string]error {
	broken := map[string]error{}
	for _, o := range n.services {
		if o.service.Ready == nil {
			continue
		}
		if err := o.service.Ready(ctx); err != nil {
			broken[o.context.Name] = err
		}
	}
	return broken
}

// away is what this process goes on without.
func (n *node) away(ctx context.Context) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	away := map[string]error{}
	if n.rate != nil {
		if err := n.rate.Ready(ctx); err != nil {
			away["redis"] = err
		}
	}
	if n.broker != nil {
		if err := n.broker.Ready(ctx); err != nil {
			away["broker"] = err
		}
	}
	return away
}

// lag is how far behind the events of the contexts are whose database can be read; broken gets those where that fails.
func (n *node) lag(ctx context.Context, broken map[string]error) map[string]any {
	all := map[string]any{}
	for _, o := range n.services {
		if o.service.Lag == nil || broken[o.context.Name] != nil {
			continue
		}
		lag, err := o.service.Lag(ctx)
		if err != nil {
			broken[o.context.Name] = err
			continue
		}
		all[o.context.Name] = lag
	}
	return all
}
