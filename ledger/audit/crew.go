package audit

import (
	"slices"
	"sync"
	"sync/atomic"
)

// crew lets workers who have nothing left to do help those who have, so that
// the last bundles don't keep one core busy and let the others wait. Its work
// is done when every worker has left.
type crew struct {
	mu      sync.Mutex
	changed sync.Cond // of what follows
	open    []*shared
	working int // workers who may open something yet

	waiting atomic.Int32 // workers without work
}

// shared is work in parts, each of which some worker takes.
type shared struct {
	parts   int64
	next    atomic.Int64
	do      func(part int)
	helpers sync.WaitGroup
}

func newCrew(workers int) *crew {
	c := &crew{working: workers}
	c.changed.L = &c.mu
	return c
}

// share does parts 0 to parts-1, with whoever waits.
func (c *crew) share(parts int, do func(part int)) {
	if parts == 0 {
		return
	}
	s := &shared{parts: int64(parts), do: do}
	c.mu.Lock()
	c.open = append(c.open, s)
	c.changed.Broadcast()
	c.mu.Unlock()
	s.work()
	c.mu.Lock()
	c.open = slices.DeleteFunc(c.open, func(other *shared) bool { return other == s })
	c.mu.Unlock()
	s.helpers.Wait()
}

func (s *shared) work() {
	for part := s.next.Add(1) - 1; part < s.parts; part = s.next.Add(1) - 1 {
		s.do(int(part))
	}
}

// leave says that the worker has no work of its own any more. It helps the
// others until none of them has.
func (c *crew) leave() {
	c.waiting.Add(1)
	c.mu.Lock()
	c.working--
	c.changed.Broadcast()
	c.mu.Unlock()
	for s := c.claim(); s != nil; s = c.claim() {
		s.work()
		s.helpers.Done()
	}
}

// claim waits for something that is shared, and joins its helpers. It gives nil
// when nobody works who could share anything.
func (c *crew) claim() *shared {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for _, s := range c.open {
			if s.next.Load() < s.parts {
				s.helpers.Add(1)
				return s
			}
		}
		if c.working == 0 {
			return nil
		}
		c.changed.Wait()
	}
}
