package audit

import (
	"context"
	"fmt"
	"iter"
)

// join merges the sources' claims by order id and calls visit with all claims about one order at a time, in order of
// the sources. It holds one order's claims in memory, however many orders there are. The slice is visit's
// until it returns.
func join(ctx context.Context, sources []Source, visit func([]Claim)) error {
	heads := make([]*head, len(sources))
	for i, s := range sources {
		h := &head{source: s}
		var stop func()
		h.next, stop = iter.Pull(func(yield func(Claim) bool) {
			h.err = s.Claims(ctx, yield)
		})
		defer stop()
		if err := h.step(); err != nil {
			return err
		}
		heads[i] = h
	}
	var claims []Claim
	for {
		order, some := "", false
		for _, h := range heads {
			if h.more && (!some || h.claim.Order < order) {
				order, some = h.claim.Order, true
			}
		}
		if !some {
			return nil
		}
		claims = claims[:0]
		for _, h := range heads {
			for h.more && h.claim.Order == order {
				claims = append(claims, h.claim)
				if err := h.step(); err != nil {
					return err
				}
			}
		}
		visit(claims)
	}
}

// head is the place in one source's claims.
type head struct {
	source Source
	next   func() (Claim, bool)
	claim  Claim
	more   bool
	err    error
}

func (h *head) step() error {
	last, had := h.claim.Order, h.more
	h.claim, h.more = h.next()
	if h.err != nil {
		return fmt.Errorf("read what %s holds: %w", h.source.Name(), h.err)
	}
	if h.more && had && h.claim.Order < last {
		// A merge over unsorted input would report promises broken that are kept.
		return fmt.Errorf("%s states its claims out of order: %s after %s", h.source.Name(), h.claim.Order, last)
	}
	return nil
}
