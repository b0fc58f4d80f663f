package sim

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/replica"
)

// The invariants. Each has a planted bug that turns it, and it alone, red.
const (
	invariantAcknowledged = "acknowledged" // an acknowledged statement is never lost and takes effect once
	invariantArchives     = "archives"     // archives are byte-identical prefixes
	invariantMinority     = "minority"     // a minority acknowledges nothing
	invariantDigests      = "digests"      // digests agree at every seal
	invariantDecisions    = "decisions"    // no decision with fewer than its threshold of distinct operators
	invariantHeads        = "heads"        // two inconsistent heads are never both certified
	invariantMembers      = "members"      // Raft's voters follow the certified replica set, one step at a time, and changes arrive
	invariantBranches     = "branches"     // a recovery loses nothing certified, and the branch that it left certifies nothing more
	invariantResumes      = "resumes"      // certification resumes after healing
	invariantClean        = "clean"        // nothing is left behind, no replica halts without a reason
)

// violation is an invariant that did not hold.
type violation struct{ invariant, detail string }

func (v *violation) Error() string { return v.invariant + ": " + v.detail }

// checks watches the invariants from outside the replicas: it reads what they
// say, sign and store, and believes none of it more than another's.
type checks struct {
	founding *founding
	report   func(*violation)

	mu       sync.Mutex
	history  []ledger.Hash                              // the leaf hash of each entry, as first seen in any archive
	ids      map[ledger.Hash][]uint64                   // the seqs of each statement
	acks     []ack                                      // not compared yet
	counted  int                                        // acknowledgements in all
	most     uint64                                     // greatest seq acknowledged
	digests  map[uint64]ledger.Hash                     // by size, at each seal
	signers  map[uint64]map[ledger.Hash]map[string]bool // by size and root
	heads    map[uint64]ledger.Head                     // certified, by size
	liars    map[string]bool
	settled  []ack         // compared
	before   []ledger.Hash // what a recovery went on from
	left     *branch
	resumed  uint64 // newest entry that was certified at every replica
	decision *decisions
}

// ack is one acknowledged statement.
type ack struct {
	id  ledger.Hash
	seq uint64
	by  string

	certified bool
}

func newChecks(f *founding, report func(*violation)) *checks {
	return &checks{founding: f, report: report, ids: map[ledger.Hash][]uint64{}, digests: map[uint64]ledger.Hash{},
		signers: map[uint64]map[ledger.Hash]map[string]bool{}, heads: map[uint64]ledger.Head{}, liars: map[string]bool{}, decision: newDecisions(f)}
}

func (c *checks) fail(invariant, format string, args ...any) {
	c.report(&violation{invariant, fmt.Sprintf(format, args...)})
}

// observe applies the rules and looks at the state after each seal.
func (c *checks) observe(n *node) func(*fsm.State, *ledger.Command, fsm.Verifier) (*fsm.State, fsm.Result) {
	return func(s *fsm.State, command *ledger.Command, v fsm.Verifier) (*fsm.State, fsm.Result) {
		next, result := fsm.Apply(s, command, v)
		if result.Sealed != nil && !n.left.Load() {
			c.sealed(n.name(), next.Next(), next.Digest(), result.Sealed.Digest)
		}
		return next, result
	}
}

func (c *checks) sealed(name string, size uint64, digest, said ledger.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.liars) > 0 {
		return // whom a liar leads astray diverges, and halts: the heads say who is right
	}
	if digest != said {
		c.fail(invariantDigests, "%s seals digest %s at size %d, its state has %s", name, said, size, digest)
	}
	if known, ok := c.digests[size]; !ok {
		c.digests[size] = digest
	} else if known != digest {
		c.fail(invariantDigests, "%s has digest %s at the seal of size %d, another has %s", name, digest, size, known)
	}
}

// signed hears of each head that a replica cosigned. Two inconsistent heads that
// enough replicas signed could both be certified by whoever collects them, so
// that counts, whether anybody did or not; a liar signs everything.
func (c *checks) signed(n *node, head ledger.Head) {
	name := n.name()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.left.Load() {
		c.leftSigned(name, head)
		return
	}
	roots := c.signers[head.Size]
	if roots == nil {
		roots = map[ledger.Hash]map[string]bool{}
		c.signers[head.Size] = roots
	}
	if roots[head.Root] == nil {
		roots[head.Root] = map[string]bool{}
	}
	roots[head.Root][name] = true
	for root, names := range roots {
		switch {
		case root == head.Root:
		case names[name] && !c.liars[name]:
			c.fail(invariantHeads, "%s cosigned two roots at size %d: %s and %s", name, head.Size, root, head.Root)
		case len(c.liars) == 0:
			c.fail(invariantHeads, "%s cosigned root %s at size %d, others cosigned %s, and nobody lies", name, head.Root, head.Size, root)
		}
	}
	if len(c.liars) == 0 || !c.certifiable(head) {
		return
	}
	if known, ok := c.heads[head.Size]; !ok {
		c.heads[head.Size] = head
	} else if known != head {
		c.fail(invariantHeads, "size %d has two roots that enough replicas cosigned: %s and %s", head.Size, known.Root, head.Root)
	}
}

func (c *checks) liar(name string) bool { return c.liars[name] }

// certifiable requires mu.
func (c *checks) certifiable(head ledger.Head) bool {
	count := len(c.liars)
	for name := range c.signers[head.Size][head.Root] {
		if !c.liars[name] {
			count++
		}
	}
	return count >= ledger.CosignThreshold(len(c.founding.replicas))
}

// certified hears of each checkpoint that a replica publishes.
func (c *checks) certified(n *node, note []byte) {
	name := n.name()
	checkpoint, err := ledger.ParseCheckpoint(note)
	if err != nil {
		c.fail(invariantHeads, "%s publishes what is no checkpoint: %v", name, err)
		return
	}
	head := checkpoint.Head
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.left.Load() {
		if head.Size > c.left.size {
			c.fail(invariantBranches, "%s, of the branch that was left, publishes size %d as certified", name, head.Size)
		}
		return
	}
	n.published = max(n.published, head.Size)
	if known, ok := c.heads[head.Size]; !ok {
		c.heads[head.Size] = head
	} else if known != head {
		c.fail(invariantHeads, "%s publishes root %s at size %d, another certified root is %s", name, head.Root, head.Size, known.Root)
	}
}

// acknowledged notes an answer to a client; replayed says that the same envelope
// had been acknowledged at seq before.
func (c *checks) acknowledged(a ack, before uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.liars) > 0 && !a.certified {
		return // a lying leader's word
	}
	c.counted++
	c.most = max(c.most, a.seq)
	c.acks = append(c.acks, a)
	if before != 0 && before != a.seq {
		c.fail(invariantAcknowledged, "statement %s was acknowledged at seq %d, and again at seq %d", a.id, before, a.seq)
	}
}

func (c *checks) acknowledgedTo() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}

// scan compares the archive of a process from an entry on, and gives where to go
// on from.
//
// Where somebody lies only what is certified counts: a lying leader may have a
// follower apply what was never committed, and it halts when it finds out.
func (c *checks) scan(p *process, from uint64) uint64 {
	a, name := p.replica.Archive(), p.node.name()
	if gapFrom, gapTo, gap := a.Gap(); gap && gapFrom < gapTo {
		return from
	}
	size := a.Size()
	if len(c.liars) > 0 {
		s := p.replica.Status()
		if s.Role == replica.RoleHalted {
			return from
		}
		size = min(size, s.Certified)
	}
	if from >= size {
		return from
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := from
	err := a.Entries(from, size, func(seq uint64, entry []byte) error {
		c.entry(name, seq, entry)
		next = seq + 1
		return nil
	})
	if err != nil && !errors.Is(err, archive.ErrClosed) {
		c.fail(invariantArchives, "%s: read its archive: %v", name, err)
	}
	c.settle()
	return next
}

// entry requires mu.
func (c *checks) entry(name string, seq uint64, entry []byte) {
	leaf := ledger.LeafHash(entry)
	if seq < uint64(len(c.history)) {
		if c.history[seq] != leaf {
			c.fail(invariantArchives, "entry %d of %s is not the one in another archive", seq, name)
		}
		return
	}
	if seq < uint64(len(c.before)) && c.before[seq] != leaf {
		c.fail(invariantBranches, "entry %d of %s is not the one that was certified before the recovery", seq, name)
	}
	if seq != uint64(len(c.history)) {
		c.fail(invariantArchives, "%s has entry %d, and nobody the one before", name, seq)
		return
	}
	c.history = append(c.history, leaf)
	parsed, err := ledger.ParseEntry(entry)
	if err != nil || parsed.Seq != seq {
		c.fail(invariantArchives, "entry %d of %s does not parse: %v", seq, name, err)
		return
	}
	if again, err := parsed.Encode(); err != nil || !bytes.Equal(again, entry) {
		c.fail(invariantArchives, "entry %d of %s is not canonical: %v", seq, name, err)
	}
	if parsed.Kind == ledger.KindStatement {
		if st, err := ledger.ParseStatement(parsed.Content); err != nil {
			c.fail(invariantArchives, "entry %d of %s: %v", seq, name, err)
		} else if c.ids[st.ID] = append(c.ids[st.ID], seq); len(c.ids[st.ID]) > 1 {
			c.fail(invariantAcknowledged, "statement %s took effect at %d", st.ID, c.ids[st.ID])
		}
	}
	if err := c.decision.add(parsed); err != nil {
		c.fail(invariantDecisions, "entry %d: %v", seq, err)
	}
}

// settle compares the acknowledgements that the history covers; requires mu.
func (c *checks) settle() {
	left := c.acks[:0]
	for _, a := range c.acks {
		if a.seq >= uint64(len(c.history)) {
			left = append(left, a)
			continue
		}
		if seqs := c.ids[a.id]; len(seqs) != 1 || seqs[0] != a.seq {
			c.fail(invariantAcknowledged, "%s acknowledged statement %s at seq %d; the ledger has it at %d", a.by, a.id, a.seq, seqs)
		}
		c.settled = append(c.settled, a)
	}
	c.acks = left
	if err := c.decision.members.judge(uint64(len(c.history))); err != nil {
		c.fail(invariantMembers, "%v", err)
	}
}

// finish looks once all archives were scanned whole: nothing acknowledged may be
// missing.
func (c *checks) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	for _, a := range c.acks {
		c.fail(invariantAcknowledged, "%s acknowledged statement %s at seq %d; the ledger ends at %d", a.by, a.id, a.seq, len(c.history))
	}
}

// everywhere notes an entry that is certified at every replica.
func (c *checks) everywhere(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumed = max(c.resumed, seq)
}
