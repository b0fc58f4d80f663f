package replica

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// forkRecord is what the file forks keeps of one replica that cosigned a head
// which is not ours. With Ours, the two signatures prove that it signed two
// histories; without, it may have been misled itself.
type forkRecord struct {
	At          uint64        `json:"at"` // milliseconds, by our clock
	Consistency []ledger.Hash `json:"consistency"`
	Generation  uint64        `json:"generation"`
	Key         ledger.Hash   `json:"key"`  // id
	Ours        string        `json:"ours"` // note, or none yet
	Replica     string        `json:"replica"`
	Root        ledger.Hash   `json:"root"`   // ours, at the size of theirs
	Theirs      string        `json:"theirs"` // note

	theirs ledger.Head
}

// Fork is a replica that cosigned a head which is not ours.
type Fork struct {
	Replica    string
	Key        ledger.Hash // id
	Generation uint64
	At         uint64      // milliseconds: when it was found here
	Size       uint64      // of its head
	Root       ledger.Hash // of its head
	Ours       ledger.Hash // our root at that size
	Proven     bool        // it cosigned our history too, so that it lied
}

// forks is the durable evidence, one record a key and generation, the first one
// that was seen. It is bounded: beyond maxForks a record without a proof makes
// room. The certifier's loop alone writes; records and lists are never changed in
// place.
type forks struct {
	list  atomic.Pointer[[]*forkRecord]
	dirty bool // not on disk yet
}

func (f *forks) all() []*forkRecord {
	if list := f.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (f *forks) store(list []*forkRecord) {
	f.list.Store(&list)
	f.dirty = true
}

func (r *Replica) loadForks() error {
	var list []*forkRecord
	if _, err := r.files.readChecked(forksFile, &list); err != nil {
		return err
	}
	for _, one := range list {
		c, err := ledger.ParseCheckpoint([]byte(one.Theirs))
		if err != nil {
			return &FileError{File: forksFile, Reason: err.Error()}
		}
		one.theirs = c.Head
	}
	r.forks.list.Store(&list)
	return nil
}

// note keeps a verified cosignature of a key on a head that is not ours.
func (f *forks) note(key ledger.Hash, generation uint64, s cosigned, ours ledger.Hash, now uint64) {
	list := slices.Clone(f.all())
	if slices.ContainsFunc(list, func(one *forkRecord) bool { return one.Key == key && one.Generation == generation }) {
		return
	}
	if len(list) >= maxForks {
		unproven := slices.IndexFunc(list, func(one *forkRecord) bool { return one.Ours == "" })
		if unproven < 0 {
			return
		}
		list = slices.Delete(list, unproven, unproven+1)
	}
	f.store(append(list, &forkRecord{At: now, Consistency: []ledger.Hash{}, Generation: generation, Key: key,
		Replica: s.Replica, Root: ours, Theirs: soleNote(s), theirs: s.head}))
}

func soleNote(s cosigned) string {
	c := ledger.Checkpoint{Head: s.head}
	c.Add(s.Cosignature)
	return string(c.Note())
}

// accuse completes the evidence with what came in since, makes it durable, and
// raises the alarm for as long as an accused key is on the ledger.
func (c *certifier) accuse() {
	f := &c.r.forks
	if len(f.all()) == 0 {
		return
	}
	for i, one := range f.all() {
		if one.Ours != "" {
			continue
		}
		if whole := c.prove(*one); whole != nil {
			list := slices.Clone(f.all())
			list[i] = whole
			f.store(list)
		}
	}
	if f.dirty {
		if err := c.r.files.replaceChecked(forksFile, f.all()); err != nil {
			c.r.log.Error("keep the evidence of a fork", "error", err)
			c.r.noteDisk(err)
		} else {
			// Crash before this: the accused's other head is asked for again, or the
			// evidence is with the others who saw it.
			f.dirty = false
		}
	}
	var told []string
	for _, one := range f.all() {
		if !c.present(one) {
			continue
		}
		text := fmt.Sprintf("%s cosigned root %s at size %d, ours is %s", one.Replica, one.theirs.Root, one.theirs.Size, one.Root)
		if one.Ours != "" {
			text += ", and it cosigned ours too (operator forks)"
		}
		if told = append(told, text); len(told) == maxForksTold {
			break
		}
	}
	if len(told) > 0 {
		c.r.raise(alarmFork, strings.Join(told, "; "))
	} else {
		c.r.clear(alarmFork)
	}
}

// present says whether a record still asks for an act: its key is on the ledger,
// and it lied, or is of the generation that we are in. What a recovery left
// behind is no lie by itself. Who rotated more often than we follow stays accused.
func (c *certifier) present(one *forkRecord) bool {
	state := c.r.shell.now.Load().state
	if one.Ours == "" && one.Generation != state.Meta().Generation {
		return false
	}
	key, whole := successorOf(state.Record, one.Key)
	return !whole || slices.ContainsFunc(state.Authority().Replicas, func(r ledger.AuthorityReplica) bool { return r.KeyID() == key })
}

// successorOf follows a key over its holder's own rotations: whoever rotates is
// accused still. It follows maxRing of them, and says whether that was the whole way.
func successorOf(recordOf func(string) ([]byte, bool), key ledger.Hash) (now ledger.Hash, whole bool) {
	for range maxRing {
		value, ok := recordOf(keyTable + key.String())
		var record fsm.KeyRecord
		if !ok || canon.Unmarshal(value, &record) != nil || record.Ended != fsm.KeyRotated || record.Next == nil {
			return key, true
		}
		key = *record.Next
	}
	return key, false
}

// prove looks for a cosignature of the accused on our own history, at the size of
// its other head or beyond, and gives the whole evidence; nil if there is none.
func (c *certifier) prove(one forkRecord) *forkRecord {
	for _, s := range c.cosignaturesOf(one.Replica, one.theirs.Size) {
		if c.r.rootAt(s.head.Size) != s.head.Root {
			continue
		}
		key, generation, ok := c.signer(s)
		if !ok || key != one.Key || generation != one.Generation {
			continue
		}
		var proof []ledger.Hash
		if s.head.Size > one.theirs.Size {
			hashes, err := c.r.archive.ProveConsistency(one.theirs.Size, s.head.Size)
			if err != nil {
				continue // the history has a gap there
			}
			for _, h := range hashes {
				proof = append(proof, ledger.Hash(h))
			}
		}
		if ledger.Contradict(proof, one.Root, s.head, one.theirs) != nil {
			continue
		}
		one.Ours, one.Consistency = soleNote(s), append([]ledger.Hash{}, proof...)
		return &one
	}
	return nil
}

// cosignaturesOf lists what a replica cosigned at a size or beyond, verified or
// not, the least size first: what is collected, and the certified checkpoint's.
func (c *certifier) cosignaturesOf(replica string, size uint64) []cosigned {
	var list []cosigned
	c.mu.Lock()
	for head, byKey := range c.collected {
		for key, s := range byKey {
			if key.replica == replica && head.Size >= size {
				list = append(list, cosigned{head, s.Cosignature})
			}
		}
	}
	c.mu.Unlock()
	if now := c.now.Load(); now != nil && now.checkpoint.Head.Size >= size {
		for _, s := range now.checkpoint.Cosignatures {
			if s.Replica == replica {
				list = append(list, cosigned{now.checkpoint.Head, s})
			}
		}
	}
	slices.SortFunc(list, func(a, b cosigned) int { return cmp.Compare(a.head.Size, b.head.Size) })
	return list
}

// signer is the key that made a cosignature, and the generation that it binds.
func (c *certifier) signer(s cosigned) (key ledger.Hash, generation uint64, ok bool) {
	a := c.authorityFor(s.head.Size)
	for _, replica := range a.Active() {
		if replica.Name == s.Replica && s.Verify(a.Branch(), s.head, replica) == nil {
			return replica.KeyID(), a.Generation, true
		}
	}
	return key, 0, false
}

// Forks lists the replicas that cosigned heads which are not ours, the first one
// that was found first. It outlives a restart.
func (r *Replica) Forks() []Fork {
	var list []Fork
	for _, one := range r.forks.all() {
		list = append(list, Fork{Replica: one.Replica, Key: one.Key, Generation: one.Generation, At: one.At,
			Size: one.theirs.Size, Root: one.theirs.Root, Ours: one.Root, Proven: one.Ours != ""})
	}
	return list
}

// ForkProofs gives a file of each proven fork, in the order of Forks, which
// anybody can check with the genesis hash (ledger.ForkProof).
func (r *Replica) ForkProofs() ([][]byte, error) {
	var links []*ledger.Link
	for n := range r.AuthorityIndex() + 1 {
		b, err := r.AuthorityLink(n)
		if err != nil {
			return nil, err
		}
		link, err := ledger.ParseLink(b)
		if err != nil {
			return nil, err
		}
		links = append(links, link)
	}
	var files [][]byte
	for _, one := range r.forks.all() {
		if one.Ours == "" {
			continue
		}
		p := ledger.ForkProof{Authority: links, Consistency: one.Consistency, Ours: one.Ours, Root: one.Root, Theirs: one.Theirs}
		b, err := p.Encode()
		if err != nil {
			return nil, err
		}
		files = append(files, b)
	}
	return files, nil
}
