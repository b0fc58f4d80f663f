package agent

import (
	"runtime"
	"sync"
	"time"
)

// cores has a process that is an agent alone use one processor while little comes, and
// all that it may use when much does. At rest an agent is woken some fifty times a
// second for a little work of one goroutine; with more processors each time a second
// thread is woken to look for more, and finds none. It begins with all.
type cores struct {
	set  func(all bool) // how many processors Go uses; nil: nothing is changed
	mu   sync.Mutex
	wide bool
	from time.Time // of the span in which came is counted
	came int
	last time.Time // when much came
}

func newCores(set func(all bool)) *cores {
	return &cores{set: set, wide: true, last: time.Now()}
}

// setProcessors is for newCores. One processor is enough at rest wherever there are
// more; all is what Go takes by itself.
func setProcessors(all bool) {
	if all {
		runtime.SetDefaultGOMAXPROCS()
		return
	}
	runtime.GOMAXPROCS(1)
}

// worked takes note of a statement or an entry that came.
func (c *cores) worked(now time.Time) {
	if c.set == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.from) > busySpan {
		c.from, c.came = now, 0
	}
	if c.came++; c.came < busyAt {
		return
	}
	c.last = now
	if !c.wide {
		c.wide = true
		c.set(true)
	}
}

// rest leaves the other processors if little came lately.
func (c *cores) rest(now time.Time) {
	if c.set == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wide && now.Sub(c.last) > busyFor {
		c.wide = false
		c.set(false)
	}
}
