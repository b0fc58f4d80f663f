package replica

import (
	"sync"

	"github.com/quorate/quorate/ledger"
)

// admission bounds what is under way. Taking a place costs nothing but a lock,
// so that a flood is refused before any signature is looked at.
//
// A peer has at most half of it: one that lies could otherwise keep every other
// writer out, with a few submissions that it never finishes.
type admission struct {
	mu      sync.Mutex
	all     underWay
	peers   map[ledger.Hash]underWay // by key id; the zero one is our own clients
	waiting map[ledger.Hash]underWay // of peers, in the lane for what is under watch
	maximum underWay

	forwards chan struct{}

	stampMu sync.Mutex
	stamp   uint64
}

// underWay is how many submissions, and their bytes.
type underWay struct {
	count int
	bytes int64
}

func newAdmission(l Limits) *admission {
	return &admission{peers: map[ledger.Hash]underWay{}, waiting: map[ledger.Hash]underWay{}, maximum: underWay{l.Pending, l.PendingBytes}, forwards: make(chan struct{}, l.Forwarded)}
}

func (u underWay) and(size int64) underWay { return underWay{u.count + 1, u.bytes + size} }

func (u underWay) within(most underWay) bool { return u.count <= most.count && u.bytes <= most.bytes }

// enter takes a place for a submission of a peer's, or of our own clients under
// the zero id.
func (a *admission) enter(from ledger.Hash, size int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	all, its, most := a.all.and(size), a.peers[from].and(size), a.maximum
	if !from.IsZero() {
		most = underWay{(most.count + 1) / 2, (most.bytes + 1) / 2}
	}
	if !all.within(a.maximum) || !its.within(most) {
		return false
	}
	a.all, a.peers[from] = all, its
	return true
}

func (a *admission) leave(from ledger.Hash, size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all.count--
	a.all.bytes -= size
	its := a.peers[from]
	its.count--
	its.bytes -= size
	if a.peers[from] = its; its.count == 0 {
		delete(a.peers, from)
	}
}

// enterWaiting takes a place in the lane for what a peer has under watch
// (censor.go), which no flood fills: an honest leader is never too busy for it.
func (a *admission) enterWaiting(from ledger.Hash, size int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	its := a.waiting[from].and(size)
	if !its.within(underWay{maxWatched, a.maximum.bytes / 2}) {
		return false
	}
	a.waiting[from] = its
	return true
}

func (a *admission) leaveWaiting(from ledger.Hash, size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	its := a.waiting[from]
	its.count--
	its.bytes -= size
	if a.waiting[from] = its; its.count == 0 {
		delete(a.waiting, from)
	}
}
