package model

import "time"

// clock is virtual time: what is still to happen, by time, and by when it was
// planned at one time.
type clock struct {
	now     time.Duration
	planned uint64
	heap    []event
}

type event struct {
	at    time.Duration
	order uint64
	do    func()
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.order < o.order
}

// after plans do for a while from now.
func (c *clock) after(d time.Duration, do func()) { c.at(c.now+max(d, 0), do) }

// at plans do for a moment that is not past.
func (c *clock) at(when time.Duration, do func()) {
	c.planned++
	c.heap = append(c.heap, event{at: when, order: c.planned, do: do})
	for i := len(c.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !c.heap[i].before(&c.heap[up]) {
			break
		}
		c.heap[i], c.heap[up] = c.heap[up], c.heap[i]
		i = up
	}
}

// run lets happen what is planned before end, or until stop says so.
func (c *clock) run(end time.Duration, stop func() bool) {
	for len(c.heap) > 0 && c.heap[0].at < end {
		e := c.pop()
		c.now = e.at
		e.do()
		if stop != nil && stop() {
			return
		}
	}
	c.now = max(c.now, end)
}

func (c *clock) pop() event {
	first, last := c.heap[0], len(c.heap)-1
	c.heap[0] = c.heap[last]
	c.heap[last] = event{}
	c.heap = c.heap[:last]
	for i := 0; ; {
		least := i
		for _, down := range [...]int{2*i + 1, 2*i + 2} {
			if down < last && c.heap[down].before(&c.heap[least]) {
				least = down
			}
		}
		if least == i {
			return first
		}
		c.heap[i], c.heap[least] = c.heap[least], c.heap[i]
		i = least
	}
}
