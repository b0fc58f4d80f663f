package sim

import (
	"sync"
	"syscall"
	"time"
)

// network joins the replicas in memory. Every direction between two of them has
// its own fate: cut, slow, stalled. Streams keep their order, as TCP's do: what a
// cut holds back is delivered when it heals, unless the stream was reset.
//
// Writing never blocks, so that nobody holds a lock while he waits for virtual
// time to pass, which would stop it.
type network struct {
	seed uint64

	mu       sync.Mutex
	hosts    map[string]*host // by address, the present process there
	links    map[link]*fate
	streams  map[*stream]struct{}
	changed  chan struct{} // closed and replaced when a cut or a listener changes
	recorder *recorder
}

// link is one direction.
type link struct{ from, to string }

// fate is what happens on one direction.
type fate struct {
	cut     int           // faults that cut it; open when 0
	slow    time.Duration // added to each delivery, up to it
	until   time.Time     // nothing is delivered before: a stall
	ordinal uint64        // segments sent so far
}

func newNetwork(seed uint64, r *recorder) *network {
	return &network{seed: seed, hosts: map[string]*host{}, links: map[link]*fate{}, streams: map[*stream]struct{}{},
		changed: make(chan struct{}), recorder: r}
}

// of requires mu.
func (n *network) of(l link) *fate {
	f := n.links[l]
	if f == nil {
		f = &fate{}
		n.links[l] = f
	}
	return f
}

// alter changes fates and wakes whoever waits for one.
func (n *network) alter(change func(of func(link) *fate)) {
	n.mu.Lock()
	change(n.of)
	n.wakeAll()
	n.mu.Unlock()
}

// wakeAll requires mu.
func (n *network) wakeAll() {
	close(n.changed)
	n.changed = make(chan struct{})
	for s := range n.streams {
		s.signal()
	}
}

// open says whether data passes on a direction now, and if not, when to look
// again; zero means when something changes.
func (n *network) open(l link) (bool, time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.of(l)
	if f.cut > 0 {
		return false, time.Time{}
	}
	if f.until.After(time.Now()) {
		return false, f.until
	}
	return true, time.Time{}
}

// delay is how long the next segment of a direction takes: a pure function of
// seed, direction and ordinal, so that the same traffic meets the same delays.
// No two directions share their delays, so few deliveries fall on one instant.
func (n *network) delay(l link) time.Duration {
	n.mu.Lock()
	f := n.of(l)
	f.ordinal++
	ordinal, slow := f.ordinal, f.slow
	n.mu.Unlock()
	h := mix(n.seed, l.from, l.to, ordinal)
	d := minimumDelay + time.Duration(h%uint64(ordinaryDelay))
	if slow > 0 {
		d += time.Duration((h >> 20) % uint64(slow))
	}
	return d
}

// reset breaks every stream between two replicas.
func (n *network) reset(a, b string) {
	n.mu.Lock()
	var broken []*stream
	for s := range n.streams {
		if s.from == a && s.to == b || s.from == b && s.to == a {
			broken = append(broken, s)
		}
	}
	n.mu.Unlock()
	for _, s := range broken {
		s.fail(syscall.ECONNRESET)
	}
}
