package agent

import (
	"bytes"
	"slices"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// ring is which keys this node holds, as the file keys/ring in its folder has it:
// what of a rotation is done, so that a crash between any two steps leaves exactly
// one key that signs. Which one that is the ledger says, never the ring: it names
// the key files, and what was said of them.
type ring struct {
	Active ledger.Hash `json:"active"`
	// Generation is that of the ledger in which Active was found to be in force; nil: of a
	// ring of before, or of its first key, which nothing came before.
	Generation *uint64      `json:"generation,omitempty"`
	Keys       []ringKey    `json:"keys"`           // in the order in which they came
	Line       ledger.Hash  `json:"line"`           // the first of those that followed each other by rotation: whose seqs they share
	Next       *ledger.Hash `json:"next,omitempty"` // announced, or to be
	Said       []byte       `json:"said,omitempty"` // the envelope that announces Next: it is sent until the ledger has it, the same bytes
	Writes     uint64       `json:"writes"`
}

// ringKey is a key of the ring, in force, to come, or ended.
type ringKey struct {
	Backup     *ledger.Hash `json:"backup,omitempty"`      // SHA-256 of its backup's ciphertext
	BackupFile string       `json:"backup_file,omitempty"` // in the folder backups
	Ended      *uint64      `json:"ended,omitempty"`       // the last epoch in which it was valid
	File       string       `json:"file,omitempty"`        // in the folder keys; empty: the configuration's key_file
	Gone       bool         `json:"gone,omitempty"`        // its file was destroyed, or Replaced
	Holders    ledger.Hash  `json:"holders,omitempty"`     // of the backup's shares, and how many open it
	ID         ledger.Hash  `json:"id"`
	Replaced   bool         `json:"replaced,omitempty"` // people put another in its file's place: nobody knows what became of it
}

const ringPurpose = "quorate/ring/v1\n\x00"

// newRing is the ring of a node whose only key is that of the configuration.
func newRing(id ledger.Hash) *ring {
	return &ring{Active: id, Line: id, Keys: []ringKey{{ID: id}}}
}

func (r *ring) encode() ([]byte, error) {
	content, err := canon.Marshal(r)
	if err != nil {
		return nil, err
	}
	return withSum(ringPurpose, content), nil
}

func decodeRing(name string, b []byte) (*ring, error) {
	content, err := checkSum(name, ringPurpose, b)
	if err != nil {
		return nil, err
	}
	var r ring
	if err := canon.Unmarshal(content, &r); err != nil {
		return nil, &DamagedError{File: name, Reason: err.Error()}
	}
	if r.find(r.Active) == nil || r.find(r.Line) == nil || r.Next != nil && r.find(*r.Next) == nil || r.Next == nil && r.Said != nil {
		return nil, &DamagedError{File: name, Reason: "it names a key that it has not"}
	}
	return &r, nil
}

// copy is the ring to change before it is written.
func (r *ring) copy() *ring {
	next := *r
	next.Keys = slices.Clone(r.Keys)
	return &next
}

func (r *ring) find(id ledger.Hash) *ringKey {
	for i := range r.Keys {
		if r.Keys[i].ID == id {
			return &r.Keys[i]
		}
	}
	return nil
}

func (r *ring) index(id ledger.Hash) int {
	return slices.IndexFunc(r.Keys, func(k ringKey) bool { return k.ID == id })
}

// lineage is the active key's line: the keys whose seqs it shares.
func (r *ring) lineage() []ringKey {
	at := slices.IndexFunc(r.Keys, func(k ringKey) bool { return k.ID == r.Line })
	return r.Keys[at:]
}

// former reports whether a key is of the active one's line, and came before it.
func (r *ring) former(id ledger.Hash) bool {
	return r.index(id) >= r.index(r.Line) && r.index(id) < r.index(r.Active)
}

// left reports whether the ledger went on from an earlier head since the active key was
// found to be in force: then it may have one in force that came before.
func (r *ring) left(generation uint64) bool { return r.Generation != nil && *r.Generation < generation }

// add puts a key at the end; the oldest whose file is gone gives way when there
// are too many.
func (r *ring) add(k ringKey) {
	if len(r.Keys) >= maxRingKeys {
		if i := slices.IndexFunc(r.Keys, func(k ringKey) bool { return k.Gone && k.ID != r.Line && k.ID != r.Active }); i >= 0 {
			r.Keys = slices.Delete(r.Keys, i, i+1)
		}
	}
	r.Keys = append(r.Keys, k)
}

// keyFacts is what the certified ledger says of this node's keys, and whether it is
// time for anything.
type keyFacts struct {
	Epoch, Generation uint64
	Current           ledger.Hash  // the key of the node's record
	ValidFrom         uint64       // of Current
	Next              *ledger.Hash // that of the node's record
	Able              bool         // a rotation would be taken: the head is fresh, nothing is in doubt
	Due               bool         // it is time for one
	// Taken is whether the ledger knows the ring's successor and will not have it follow: it
	// is somebody's, or revoked.
	Taken bool
	// Said is whether the ring's announcement can still be taken: its epoch is not over,
	// it is of this generation.
	Said bool
	// Lapsed reports whether a key that ended is of no more use.
	Lapsed func(k *ringKey) bool
}

// keyStep is what is to be done next about the keys.
type keyStep uint8

// The steps, in the order of a rotation.
const (
	keyRest     keyStep = iota // nothing
	keyMake                    // R1, R2 and R4: a key file, durable and read back, and the ring names it
	keyAnnounce                // R5: sign what announces it; it is in the ring before anybody hears it
	keySend                    // R6: send that until the ledger has it
	keyTurn                    // R7: the ledger has it in force
	keyDrop                    // the ledger will never have it
	keyAdopt                   // the ledger has a key in force that people put there
	keyForeign                 // somebody else announced a successor to our key
	keyDestroy                 // R9: a key file is of no more use
	keyNote                    // a ring of before learns in which generation its key is in force
	keyBack                    // the ledger went on from before the ring turned, with a former key in force
)

func (s keyStep) String() string {
	return [...]string{"rest", "make", "announce", "send", "turn", "drop", "adopt", "foreign", "destroy", "note", "back"}[s]
}

// plan is what is to be done, from what is on disk and what the ledger says, and
// nothing else: so a restart goes on wherever the crash was. Files are destroyed when
// nothing else is to be done, so that one that can't be stops no rotation.
func (r *ring) plan(f *keyFacts) keyStep {
	step := r.planKey(f)
	if step != keyRest || f.Current != r.Active {
		return step // or what we know of the ledger is from before the ring turned
	}
	for i := range r.Keys {
		if k := &r.Keys[i]; k.Ended != nil && !k.Gone && f.Lapsed(k) {
			return keyDestroy
		}
	}
	return keyRest
}

// planKey is plan for all but files that are of no more use.
func (r *ring) planKey(f *keyFacts) keyStep {
	switch {
	case r.Generation != nil && f.Generation < *r.Generation:
		return keyRest // what we know of the ledger is what it left
	case r.find(f.Current) == nil:
		return keyAdopt
	case r.index(f.Current) > r.index(r.Active) && !r.find(f.Current).Gone:
		return keyTurn
	case r.former(f.Current) && r.left(f.Generation) && !r.find(f.Current).Gone:
		return keyBack
	case f.Current != r.Active:
		return keyRest // what we know of the ledger is from before the ring turned, or people must help
	case r.Generation == nil && r.Line != r.Active:
		return keyNote
	case f.Next != nil && (r.Next == nil || *f.Next != *r.Next):
		return keyForeign
	case r.Next != nil && f.Taken:
		return keyDrop
	case f.Next != nil:
		return keyRest // until it takes effect
	case r.Next == nil && f.Due && f.Able:
		return keyMake
	case r.Next != nil && (r.Said == nil || !f.Said):
		if !f.Able {
			return keyRest
		}
		return keyAnnounce
	case r.Next != nil:
		return keySend
	}
	return keyRest
}

// named is the ring once a key file is durable (R4).
func (r *ring) named(id ledger.Hash, file string) *ring {
	next := r.copy()
	next.add(ringKey{ID: id, File: file})
	next.Next, next.Said = &id, nil
	return next
}

// recalled is the ring once the ledger has a successor that the ring had lost or given
// up, in an epoch.
func (r *ring) recalled(id ledger.Hash, file string, epoch uint64) *ring {
	next := r.copy()
	if other := next.Next; other != nil && *other != id {
		next.find(*other).Ended = &epoch
	}
	if next.find(id) == nil {
		next.add(ringKey{ID: id, File: file})
	}
	next.find(id).Ended = nil
	next.Next, next.Said = &id, nil
	return next
}

// backed is the ring once a backup of a key is written (R3), or, without a file, once it
// is known to be lost.
func (r *ring) backed(id ledger.Hash, file string, hash, holders ledger.Hash) *ring {
	next := r.copy()
	k := next.find(id)
	k.Backup, k.BackupFile, k.Holders = nil, file, holders
	if file != "" {
		k.Backup = &hash
	}
	return next
}

// announced is the ring once its announcement is signed (R5).
func (r *ring) announced(envelope []byte) *ring {
	next := r.copy()
	next.Said = bytes.Clone(envelope)
	return next
}

// dropped is the ring without a successor that the ledger will never take.
func (r *ring) dropped(epoch uint64) *ring {
	next := r.copy()
	next.find(*r.Next).Ended = &epoch
	next.Next, next.Said = nil, nil
	return next
}

// turned is the ring once a successor is in force, from an epoch on (R7), in a generation.
func (r *ring) turned(to ledger.Hash, from, generation uint64) *ring {
	next := r.copy()
	ended := from - min(from, 1)
	for i := range next.Keys {
		if k := &next.Keys[i]; k.ID == to {
			k.Ended = nil
		} else if k.Ended == nil {
			k.Ended = &ended
		}
	}
	next.Active, next.Next, next.Said = to, nil, nil
	next.Generation = &generation
	return next
}

// noted is the ring once its key was found to be in force in a generation.
func (r *ring) noted(generation uint64) *ring {
	next := r.copy()
	next.Generation = &generation
	return next
}

// wentBack is the ring once the ledger went on from a head at which a former key of the
// line was in force. Those that came after it have ended in that epoch: what announced
// them is of a generation that was left, so nobody can have them follow any more, except
// for the one that was announced up to that head. The seqs are the line's, as before.
func (r *ring) wentBack(to ledger.Hash, follows *ledger.Hash, epoch, generation uint64) *ring {
	next := r.copy()
	next.Active, next.Next, next.Said = to, nil, nil
	next.Generation = &generation
	at := next.index(to)
	next.Keys[at].Ended = nil
	for i := at + 1; i < len(next.Keys); i++ {
		next.Keys[i].Ended = &epoch
		if k := &next.Keys[i]; follows != nil && k.ID == *follows && !k.Gone {
			id := k.ID
			k.Ended, next.Next = nil, &id
		}
	}
	return next
}

// adopted is the ring once a key that people made is in force: it begins a line.
func (r *ring) adopted(id ledger.Hash, file string, from uint64) *ring {
	next := r.copy()
	ended := from - min(from, 1)
	for i := range next.Keys {
		if k := &next.Keys[i]; k.Ended == nil {
			k.Ended = &ended
			if r.Next != nil && k.ID == *r.Next {
				k.Ended = r.saidIn(ended)
			}
		}
		if file == "" && next.Keys[i].File == "" {
			next.Keys[i].Gone, next.Keys[i].Replaced = true, true
		}
	}
	next.add(ringKey{ID: id, File: file})
	next.Active, next.Line, next.Next, next.Said = id, id, nil, nil
	return next
}

// returned is the ring once people put a key at the configuration's place that it had
// before; kept says that it is at its own place still. It becomes the active one if the
// file of that is lost: of the same line, if it is of that, or else the beginning of one.
func (r *ring) returned(id ledger.Hash, kept, active bool) *ring {
	next := r.copy()
	for i := range next.Keys {
		if k := &next.Keys[i]; k.ID != id && k.File == "" && !k.Gone {
			k.Gone, k.Replaced = true, true
		}
	}
	k := next.find(id)
	if !kept {
		k.File, k.Gone, k.Replaced = "", false, false
	}
	if active {
		return next
	}
	if lost := next.find(next.Active); lost.Ended == nil {
		lost.Ended = new(uint64)
	}
	if next.Next != nil {
		next.find(*next.Next).Ended = r.saidIn(0)
	}
	k.Ended = nil
	if !slices.ContainsFunc(next.lineage(), func(one ringKey) bool { return one.ID == id }) {
		back, at := *k, next.index(id)
		next.Keys = append(slices.Delete(next.Keys, at, at+1), back)
		next.Line = id
	}
	next.Active, next.Next, next.Said = id, nil, nil
	return next
}

// saidIn is the epoch of the announcement, which is taken for an epoch or two, or another
// if that is later.
func (r *ring) saidIn(or uint64) *uint64 {
	if st, err := ledger.ParseStatement(r.Said); err == nil && st.Payload.Epoch != nil {
		or = max(or, *st.Payload.Epoch)
	}
	return &or
}

// destroying reports whether the configuration's key file is of no more use: a crash may
// have left part of it.
func (r *ring) destroying() bool {
	return slices.ContainsFunc(r.Keys, func(k ringKey) bool { return k.File == "" && k.Ended != nil && !k.Gone })
}

// destroyed is the ring once a key's file is gone (R9).
func (r *ring) destroyed(id ledger.Hash) *ring {
	next := r.copy()
	next.find(id).Gone = true
	return next
}

// replaced is the ring once people put another key's file in the place of a key's.
func (r *ring) replaced(id ledger.Hash) *ring {
	next := r.destroyed(id)
	next.find(id).Replaced = true
	return next
}
