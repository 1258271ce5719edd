package audit

import (
	"context"
	"fmt"
)

// join merges the sources' claims by order id and calls visit with all claims about one order at a time, in order of
// the sources. It holds a few hundred claims of each source in memory, however many orders there are. The slice is visit's
// until it returns.
func join(ctx context.Context, sources []Source, visit func([]Claim)) error {
	ctx, stop := context.WithCancel(ctx)
	heads := make([]*head, len(sources))
	for i, s := range sources {
		heads[i] = read(ctx, s)
	}
	err := merge(heads, visit)
	stop()
	for _, h := range heads {
		h.drain() // a source is closed after this: nobody may still read it
	}
	return err
}

func merge(heads []*head, visit func([]Claim)) error {
	for _, h := range heads {
		if err := h.step(); err != nil {
			return err
		}
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

// parcel is how many claims change hands at once: enough that the handing over costs little beside the reading.
const parcel = 256

// head is the place in one source's claims.
type head struct {
	source  Source
	parcels chan []Claim // closed after the last, when err is set
	rest    []Claim      // of the parcel at hand
	claim   Claim
	more    bool
	err     error // of the source
}

// read lets a source state its claims in a goroutine of its own. It is not iter.Pull: a source may call yield from
// whatever goroutine holds its transaction.
func read(ctx context.Context, s Source) *head {
	h := &head{source: s, parcels: make(chan []Claim)}
	send := func(p []Claim) bool {
		select {
		case h.parcels <- p:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(h.parcels)
		var p []Claim
		h.err = s.Claims(ctx, func(c Claim) bool {
			if p = append(p, c); len(p) < parcel {
				return true
			}
			full := p
			p = make([]Claim, 0, parcel)
			return send(full)
		})
		if len(p) > 0 {
			send(p)
		}
		if h.err == nil {
			h.err = ctx.Err()
		}
	}()
	return h
}

// step goes on to the next claim.
func (h *head) step() error {
	last, had := h.claim.Order, h.more
	if len(h.rest) == 0 {
		h.rest = <-h.parcels
	}
	h.more = len(h.rest) > 0
	if !h.more {
		if h.err != nil {
			return fmt.Errorf("read what %s holds: %w", h.source.Name(), h.err)
		}
		return nil
	}
	h.claim, h.rest = h.rest[0], h.rest[1:]
	if had && h.claim.Order < last {
		// A merge over unsorted input would report promises broken that are kept.
		return fmt.Errorf("%s states its claims out of order: %s after %s", h.source.Name(), h.claim.Order, last)
	}
	return nil
}

// drain returns when the source has ended.
func (h *head) drain() {
	for range h.parcels {
	}
}
