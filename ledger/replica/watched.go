package replica

import (
	"crypto/sha256"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// watched is one submission under watch.
type watched struct {
	envelopes [][]byte
	run       *dryRun     // the censor loop's; nil before its first look
	from      ledger.Hash // the peer that passed it on; zero: a client of ours
	leader    raft.ServerID
	term      uint64
	since     time.Time // of the watch, under this leader
	sent      time.Time // to it, the last time
	sending   bool
	again     bool // it was given to a leader, or to the others, after the client's own try
	answered  bool // it answered since then: it can hear us
	index     uint64
	ordered   bool // and others were committed in the second half of the limit
	excused   bool // it said that it is busy, or that its disk is full
	shared    bool
	accusing  bool
}

// rules is its dry run, which is made again at each look: the signatures in it
// are verified once. The censor loop makes it, before it looks; what accuses comes
// after that.
func (w *watched) rules(r *Replica) *dryRun {
	if w.run == nil {
		w.run = r.dryRun(w.envelopes)
	}
	return w.run
}

func watchKey(envelopes [][]byte) ledger.Hash { return sha256.Sum256(frame(envelopes)) }

// watch takes a submission, if there is a place.
func (c *censorship) watch(envelopes [][]byte, from ledger.Hash) bool {
	key := watchKey(envelopes)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watched[key] != nil {
		return true
	}
	if !c.room(len(envelopes), from) {
		return false
	}
	c.watched[key] = &watched{envelopes: envelopes, from: from}
	return true
}

// place says whether a submission is under watch already, and whether there is a
// place for it.
func (c *censorship) place(envelopes [][]byte, from ledger.Hash) (known, room bool) {
	key := watchKey(envelopes)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watched[key] != nil, c.room(len(envelopes), from)
}

// room requires mu. Each look makes a dry run of all that is under watch: so the
// statements are counted too. The first submission of a source has a place
// whatever its size.
func (c *censorship) room(statements int, from ledger.Hash) bool {
	its, itsStatements, all := 0, statements, statements
	for _, one := range c.watched {
		all += len(one.envelopes)
		if one.from == from {
			its++
			itsStatements += len(one.envelopes)
		}
	}
	switch {
	case len(c.watched) >= maxWatched, all > maxWatchedStatements:
		return false
	case from.IsZero():
		return true
	}
	return its == 0 || its < maxWatchedOfPeer && itsStatements <= ledger.MaxBundle
}

// holds says whether a submission is under watch: it may then be committed yet,
// whatever its client was told.
func (c *censorship) holds(envelopes [][]byte) bool {
	c.mu.Lock()
	empty := len(c.watched) == 0
	c.mu.Unlock()
	if empty {
		return false
	}
	known, _ := c.place(envelopes, ledger.Hash{})
	return known
}

// withdraw ends the watch of a client's submission that nobody was given since
// the client's own tries, and says whether none is left.
func (c *censorship) withdraw(envelopes [][]byte) bool {
	key := watchKey(envelopes)
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.watched[key]
	if one == nil {
		return true
	}
	if one.again || !one.from.IsZero() {
		return false
	}
	delete(c.watched, key)
	return true
}

// mayTry says whether there is time for another dry run of so many statements,
// each of which may have a signature to verify.
func (c *censorship) mayTry(from ledger.Hash, statements int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	its := c.tried[from]
	if its == nil {
		if len(c.tried) >= maxTriers {
			clear(c.tried)
		}
		its = &allowance{left: dryRunBurst, filled: time.Now()}
		c.tried[from] = its
	}
	return its.take(float64(statements), dryRunBurst, dryRunRate)
}

// allowance is what may still be used of something that comes back with time.
type allowance struct {
	left   float64
	filled time.Time
}

// take uses some, if there is enough: at most burst at once, and more at a rate,
// in units a second.
func (a *allowance) take(some, burst, rate float64) bool {
	now := time.Now()
	a.left = min(burst, a.left+rate*now.Sub(a.filled).Seconds())
	a.filled = now
	if a.left < some {
		return false
	}
	a.left -= some
	return true
}

// busyAgain says whether the leader has been too busy for the same bytes for
// longer than the limit: whoever goes on asking is then given the lane that
// overload does not fill.
func (c *censorship) busyAgain(envelopes [][]byte) bool {
	key := watchKey(envelopes)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	first, known := c.busy[key]
	if known && now.Sub(first) < 2*idleLimits*c.limit {
		return now.Sub(first) >= c.limit
	}
	if len(c.busy) >= maxBusy {
		for key, first := range c.busy {
			if now.Sub(first) >= c.limit { // it did not come again, or is under watch
				delete(c.busy, key)
			}
		}
	}
	if len(c.busy) < maxBusy {
		c.busy[key] = now
	}
	return false
}

// list gives what is under watch.
func (c *censorship) list() map[ledger.Hash]*watched {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make(map[ledger.Hash]*watched, len(c.watched))
	for key, one := range c.watched {
		list[key] = one
	}
	return list
}

func (c *censorship) drop(key ledger.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watched, key)
}
