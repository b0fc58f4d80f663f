package replica

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Refusal is what the guard refused of a peer, by rule.
type Refusal struct {
	Rule   string // halted, malformed, sender, transfer, stamp_ahead, configuration, snapshot, censor, term, election, size, snapshot_content, snapshot_configuration, snapshot_history
	Peer   string // the replica's name; "" when its certificate is pinned no more
	Reason string // of the newest
	Count  uint64
	Last   uint64 // milliseconds
}

// refusals remembers them for the status: a count of each rule and peer, with
// the newest reason.
type refusals struct {
	mu   sync.Mutex
	list map[[2]string]*refusal
}

type refusal struct {
	Refusal
	logged time.Time
}

// add files one, and says whether it is worth a line in the log: the first of
// its kind, then one a refusalLog.
func (r *refusals) add(rule, name, reason string, now uint64) (one Refusal, tell bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list == nil {
		r.list = map[[2]string]*refusal{}
	}
	key := [2]string{rule, name}
	found := r.list[key]
	if found == nil {
		if len(r.list) >= maxRefusals {
			r.dropOldest()
		}
		found = &refusal{Refusal: Refusal{Rule: rule, Peer: name}}
		r.list[key] = found
	}
	found.Reason, found.Last = reason, now
	found.Count++
	if found.logged.IsZero() || time.Since(found.logged) >= refusalLog {
		found.logged, tell = time.Now(), true
	}
	return found.Refusal, tell
}

// dropOldest requires mu.
func (r *refusals) dropOldest() {
	var oldest [2]string
	last := uint64(0)
	for key, one := range r.list {
		if last == 0 || one.Last < last {
			oldest, last = key, one.Last
		}
	}
	delete(r.list, oldest)
}

// all lists them, the newest first.
func (r *refusals) all() []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Refusal
	for _, one := range r.list {
		list = append(list, one.Refusal)
	}
	slices.SortFunc(list, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(b.Last, a.Last), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Peer, b.Peer))
	})
	return list
}

// refused counts, files and, now and then, logs what the guard refused.
func (r *Replica) refused(rule, name string, reason error) {
	r.metrics.refused(rule)
	one, tell := r.refusals.add(rule, name, reason.Error(), r.now())
	if tell {
		r.log.Warn("refused a peer's raft request", "rule", rule, "peer", name, "reason", reason.Error(), "count", one.Count)
	}
}
