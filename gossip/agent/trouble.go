package agent

import (
	"bytes"
	"maps"
	"sync"
	"time"
)

// What may be wrong, in a closed list: the keys of Status.Trouble.
const (
	troubleReplicas   = "replicas"   // none is reached, or none proves anything
	troubleDivergence = "divergence" // certified entries do not follow from our rules
	troubleConflict   = "conflict"   // two certified heads contradict each other
	troubleDisk       = "disk"       // the state cannot be written
	troubleState      = "state"      // the state on disk was damaged, and is fetched anew
	troubleSeqs       = "seqs"       // no statement may be signed
	troubleKey        = "key"        // the node's key ends, ended, is lost, or somebody else announced its successor
	troubleRotation   = "rotation"   // a step of the rotation of the node's key fails, and is tried again
	troublePeerKey    = "peer_key"   // the peer key could not be changed, and is tried again
	troubleBackup     = "backup"     // the node's key has no backup that the policy wants, or one could not be made
	troublePack       = "pack"       // the history that is shown is not the join pack's
	troubleHook       = "hook"
	troublePublish    = "publish"
)

// troubles is what is wrong now.
type troubles struct {
	mu        sync.Mutex
	now       map[string]string
	last      time.Time // when a replica last answered
	until     time.Time // from then on no replica answers
	conflicts [][2][]byte
}

// set says what is wrong with something, or, with nil, that nothing is.
func (t *troubles) set(what string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		delete(t.now, what)
		return
	}
	if t.now == nil {
		t.now = map[string]string{}
	}
	t.now[what] = err.Error()
}

func (t *troubles) list() map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.now)
}

// reached says that a replica answered, and that one is to answer again within patience.
func (t *troubles) reached(patience time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = time.Now()
	t.until = t.last.Add(patience)
}

// failed says that none did now.
func (t *troubles) failed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if soon := t.last.Add(cutOffAfter); soon.Before(t.until) {
		t.until = soon
	}
}

// cutOff reports whether no replica answers.
func (t *troubles) cutOff() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().After(t.until)
}

// conflict keeps a pair of heads, and reports whether it is new.
func (t *troubles) conflict(ours, theirs []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conflicts {
		if bytes.Equal(c[0], ours) && bytes.Equal(c[1], theirs) {
			return false
		}
	}
	if len(t.conflicts) >= keptEquivocated {
		return false
	}
	t.conflicts = append(t.conflicts, [2][]byte{bytes.Clone(ours), bytes.Clone(theirs)})
	if t.now == nil {
		t.now = map[string]string{}
	}
	t.now[troubleConflict] = (&ConflictError{}).Error()
	return true
}

func (t *troubles) conflicting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conflicts) > 0
}
