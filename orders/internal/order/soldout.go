package order

import (
	"sync"
	"sync/atomic"
)

// soldOut remembers SKUs that were refused lately, so that their next buyers are answered by a read of Inventory instead of
// three writes. It is only a hint: what it forgets costs a write, what it remembers too long costs a read.
type soldOut struct {
	n    atomic.Int64 // len(skus), to keep the usual case free of the lock
	mu   sync.Mutex
	skus map[string]struct{}
}

// maxSoldOut bounds the memory at about a megabyte; past it the hint starts anew.
const maxSoldOut = 10_000

func (s *soldOut) touches(lines []Line) bool {
	if s.n.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lines {
		if _, ok := s.skus[l.SKU]; ok {
			return true
		}
	}
	return false
}

func (s *soldOut) remember(shortages []Shortage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.skus == nil || len(s.skus)+len(shortages) > maxSoldOut {
		s.skus = map[string]struct{}{}
	}
	for _, sh := range shortages {
		s.skus[sh.SKU] = struct{}{}
	}
	s.n.Store(int64(len(s.skus)))
}

func (s *soldOut) forget(lines []Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lines {
		delete(s.skus, l.SKU)
	}
	s.n.Store(int64(len(s.skus)))
}
