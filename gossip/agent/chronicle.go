package agent

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// A head is a certified head that was verified under the authority chain.
type head struct {
	ledger.Head
	signed uint64 // seconds: when its authority's threshold had signed it
	note   []byte
}

// chronicle is the ledger as far as the agent has verified it. It is the one
// gate for whatever comes from replicas, peers or the disk: links of the
// authority chain, entries and heads. Entries are replayed by the rules as
// they come, but what they give is believed only once the Merkle root over
// them is that of a certified head. It is not safe for concurrent use; its
// States are immutable.
type chronicle struct {
	genesis ledger.Hash
	least   *ledger.Head // that the ledger must contain: of a join pack; nil: none
	reached bool         // what is certified contains least
	verify  fsm.Verifier
	chain   *ledger.Chain // nil before the first link
	links   [][]byte
	founded *fsm.State // after entry 0

	// What is certified.
	state    *fsm.State // after the newest seal that could be replayed; nil before the first
	frontier archive.Frontier
	before   archive.Frontier // frontier without the last entry
	tip      ledger.Hash      // leaf hash of the last entry in frontier
	seal     []byte           // that entry; nil before the first seal
	head     *head            // nil before the first
	seals    sealRing

	// What is not yet, after state.
	replayer *fsm.Replayer
	ahead    archive.Frontier
	leaf     ledger.Hash // of the last entry in ahead
	taken    entryStore  // the newest entries before ahead, for stored
	met      bool        // what is ahead has least's root at its size
	open     []provision // the newest seals since frontier, ascending
	roots    []sealed    // of the seals since frontier
	cut      bool        // the oldest of roots were dropped
	failed   error       // why the rules do not derive what came; nil: they do
	lies     uint64      // how often what came was found to be no certified history

	diverged *DivergenceError
	stored   entryStore

	waits waiter // nil: nobody
}

// waiter waits for statements to be certified. Its methods are called in the order of
// what they tell, before anybody sees the state that follows.
type waiter interface {
	came(seq uint64, envelope []byte) // as an entry that is not certified yet
	certified(size uint64)            // so many entries are
	forgotten()                       // what came and is not certified
	jumped(state *fsm.State)          // entries before state were not shown
}

// DivergenceError says that certified entries are not what this program's rules
// give. What was enforced stays; nothing more is derived.
type DivergenceError struct {
	Size   uint64 // of the certified head that covers the entry
	Reason error
}

func (e *DivergenceError) Error() string {
	return fmt.Sprintf("certified entries below %d do not follow from the rules of this program: %v", e.Size, e.Reason)
}

func (e *DivergenceError) Unwrap() error { return e.Reason }

// ConflictError says that two certified heads contradict each other.
type ConflictError struct{ Ours, Theirs []byte }

func (e *ConflictError) Error() string {
	return "two certified heads contradict each other: at least the overlap of two quorums of replicas signed both"
}

// lieError says that a source gave what no certified head covers.
type lieError struct{ why string }

func (e *lieError) Error() string { return "the entries are not those of a certified head: " + e.why }

// errBehind says that what was given is older than what is known.
var errBehind = errors.New("it is behind what was verified")

// errUnproven says that a state may be of another history than the join pack's.
var errUnproven = errors.New("nothing shows that its history contains the join pack's head")

// errGap says that something between what is known and what was given is missing.
var errGap = errors.New("entries or links before it are missing")

func newChronicle(genesis ledger.Hash, v fsm.Verifier) *chronicle {
	return &chronicle{genesis: genesis, verify: v}
}

// size is how many entries are certified and replayed.
func (c *chronicle) size() uint64 { return c.frontier.Size }

// next is the seq of the next entry to add.
func (c *chronicle) next() uint64 { return c.ahead.Size }

// addLink verifies the next link of the authority chain. A link that is known
// is passed over.
func (c *chronicle) addLink(raw []byte) error {
	link, err := ledger.ParseLink(raw)
	if err != nil {
		return err
	}
	if link.Index < uint64(len(c.links)) {
		return nil
	}
	if link.Index > uint64(len(c.links)) {
		return fmt.Errorf("authority link %d: %w", link.Index, errGap)
	}
	if c.chain != nil {
		if err := c.chain.Extend(link); err != nil {
			return err
		}
		c.links = append(c.links, raw)
		c.leaveBranch(link.Index)
		return nil
	}
	chain, err := ledger.NewChain(c.genesis, link)
	if err != nil {
		return err
	}
	state, err := fsm.New(link.Genesis)
	if err != nil {
		return fmt.Errorf("read genesis: %w", err)
	}
	c.chain, c.links, c.founded = chain, append(c.links, raw), state
	c.begin()
	return nil
}

// begin goes back to entry 0.
func (c *chronicle) begin() {
	c.state, c.tip, c.seal = c.founded, c.founded.Prev(), nil
	c.before, c.frontier = archive.Frontier{}, archive.Frontier{}
	c.frontier.Append(tlog.Hash(c.tip))
	c.head, c.diverged, c.seals, c.stored, c.reached = nil, nil, sealRing{}, entryStore{}, false
	c.rewind()
}

// leaveBranch begins anew when a recovery went on from a head before ours: what
// came after it was left behind.
func (c *chronicle) leaveBranch(index uint64) {
	fork, ok := c.chain.Fork(index)
	if ok {
		c.seals.claims = nil // of what was left behind
	}
	if !ok || c.size() <= fork.Size {
		return
	}
	c.begin()
}

// provision is what will be believed if the seal that ends it turns out to be
// certified.
type provision struct {
	frontier, before archive.Frontier
	tip              ledger.Hash
	seal             []byte
	state            *fsm.State // nil: the rules do not derive it
	failed           error
}

// rewind forgets what is not certified.
func (c *chronicle) rewind() {
	c.replayer = fsm.ResumeReplayer(c.state, c.verify)
	c.ahead, c.leaf = c.frontier, c.tip
	c.taken, c.open, c.roots, c.cut, c.failed, c.met = entryStore{}, nil, nil, false, nil, false
	if c.waits != nil {
		c.waits.forgotten()
	}
}

// disown forgets what is not certified, since some of it or what comes now is a lie.
func (c *chronicle) disown(why string) error {
	c.rewind()
	c.lies++
	return &lieError{why}
}

// abandon forgets what is not certified, if a source gave the entries below top and
// then no head over them.
func (c *chronicle) abandon(top uint64) {
	if c.size() < top && c.size() < c.next() {
		c.rewind()
	}
}

// add takes the next entry, which nobody has certified yet. If it does not follow the one
// before, either may be the lie, and nothing that is not certified is kept.
func (c *chronicle) add(raw []byte) error {
	if c.chain == nil {
		return fmt.Errorf("entry without an authority chain: %w", errGap)
	}
	e, err := ledger.ParseEntry(raw)
	if err != nil {
		c.lies++
		return &lieError{err.Error()}
	}
	switch {
	case e.Seq < c.ahead.Size:
		return errBehind
	case e.Seq > c.ahead.Size:
		return fmt.Errorf("entry %d where %d is next: %w", e.Seq, c.ahead.Size, errGap)
	case e.Prev != c.leaf:
		return c.disown(fmt.Sprintf("entry %d does not follow the one before", e.Seq))
	}
	before := c.ahead
	c.leaf = ledger.LeafHash(raw)
	c.ahead.Append(tlog.Hash(c.leaf))
	if l := c.least; l != nil && l.Size == c.ahead.Size {
		c.met = ledger.Hash(c.ahead.Root()) == l.Root
	}
	c.taken.add(c.ahead.Size, [][]byte{raw})
	if c.failed == nil && c.diverged == nil {
		c.failed = c.replayer.AddKnown(&fsm.Known{Raw: raw, Leaf: c.leaf, Entry: e})
	}
	switch {
	case e.Kind == ledger.KindSeal:
		c.provide(before, raw)
	case e.Kind == ledger.KindStatement && c.waits != nil:
		c.waits.came(e.Seq, e.Content)
	}
	return nil
}

// provide takes note of the state after a seal.
func (c *chronicle) provide(before archive.Frontier, seal []byte) {
	p := provision{frontier: c.ahead, before: before, tip: c.leaf, seal: seal, failed: c.failed}
	if p.failed == nil && c.diverged == nil {
		if p.failed = c.replayer.Finish(); p.failed == nil {
			p.state = c.replayer.State()
		}
	}
	if c.open = append(c.open, p); len(c.open) > 2*keptProvisions {
		c.open = append([]provision(nil), c.open[keptProvisions:]...)
	}
	if c.roots = append(c.roots, sealed{c.ahead.Size, ledger.Hash(c.ahead.Root())}); len(c.roots) > 2*keptSeals {
		c.roots, c.cut = append([]sealed(nil), c.roots[keptSeals:]...), true
	}
}

// verifyHead checks that a note is certified by who has authority over it, and
// does not contradict what was verified before. The error of a contradiction is
// a *ConflictError.
func (c *chronicle) verifyHead(note []byte) (*head, error) {
	h, err := c.certified(note)
	if err != nil {
		return nil, err
	}
	if l := c.least; l != nil {
		switch {
		case h.Size < l.Size:
			return nil, fmt.Errorf("a head of %d entries, the join pack's has %d: %w", h.Size, l.Size, errBehind)
		case h.Size == l.Size && h.Root != l.Root:
			return nil, &lieError{"the join pack's head of that size has another root"}
		}
	}
	if other := c.seals.conflict(h); other != nil {
		return nil, &ConflictError{Ours: other, Theirs: note}
	}
	if h.Size > c.frontier.Size {
		if other := c.seals.claim(h); other != nil {
			return nil, &ConflictError{Ours: other, Theirs: note}
		}
	}
	return h, nil
}

// verifyOwn is verifyHead of a note that our client verified whole: the lines that
// certify it are enough.
func (c *chronicle) verifyOwn(note []byte) (*head, error) {
	full, err := ledger.ParseCheckpoint(note)
	if err == nil && c.chain != nil {
		if h, err := c.verifyHead(slim(full, c.chain.ForSize(full.Head.Size))); err == nil {
			return h, nil
		}
	}
	return c.verifyHead(note) // of a handover's head there are two authorities
}

// certified checks that a note is certified, and no more.
func (c *chronicle) certified(note []byte) (*head, error) {
	if c.chain == nil {
		return nil, fmt.Errorf("head without an authority chain: %w", errGap)
	}
	checkpoint, err := c.chain.VerifyCheckpoint(note)
	if err != nil {
		return nil, err
	}
	return &head{Head: checkpoint.Head, signed: checkpoint.Signed(c.chain.ForSize(checkpoint.Head.Size)), note: note}, nil
}

// settle believes what was added as far as h covers it, and reports whether the
// certified state changed. If the entries are not those of h it forgets them
// and gives a *lieError; if they are, and the rules give others, a
// *DivergenceError. It gives errGap while entries are missing. A change comes with
// a *ConflictError when it contradicts a certified head that was shown before.
func (c *chronicle) settle(h *head) (changed bool, err error) {
	switch {
	case h.Size < c.frontier.Size:
		return false, errBehind
	case h.Size > c.ahead.Size:
		return false, errGap
	case h.Size == c.frontier.Size:
		if ledger.Hash(c.frontier.Root()) != h.Root {
			return false, &lieError{"the root is another"}
		}
		c.freshen(h)
		return false, nil
	}
	at, found := slices.BinarySearchFunc(c.open, h.Size, func(p provision, size uint64) int { return compare(p.frontier.Size, size) })
	if !found || ledger.Hash(c.open[at].frontier.Root()) != h.Root {
		return false, c.disown(fmt.Sprintf("their root is not that of the head of %d entries", h.Size))
	}
	if l := c.least; l != nil && l.Size > c.frontier.Size && l.Size <= h.Size {
		if !c.met {
			return false, c.disown(fmt.Sprintf("their root at the join pack's %d entries is another", l.Size))
		}
		c.reached = true
	}
	p := c.open[at]
	if c.diverged == nil && p.failed != nil {
		c.diverged = &DivergenceError{Size: h.Size, Reason: p.failed}
	}
	c.frontier, c.before, c.tip, c.seal = p.frontier, p.before, p.tip, p.seal
	c.open = slices.Clone(c.open[at+1:])
	c.stored.add(h.Size, c.taken.below(h.Size))
	upTo, _ := slices.BinarySearchFunc(c.roots, h.Size+1, func(r sealed, size uint64) int { return compare(r.size, size) })
	if c.cut {
		c.seals.roots, c.cut = nil, false // what is known has no gaps: a seal that is missing in it is a contradiction
	}
	c.seals.addAll(c.roots[:upTo])
	c.roots = slices.Clone(c.roots[upTo:])
	c.freshen(h)
	if c.diverged != nil {
		return false, c.diverged
	}
	c.state = p.state
	if c.waits != nil {
		c.waits.certified(h.Size)
	}
	if ours, theirs := c.seals.passed(h.Size); ours != nil {
		return true, &ConflictError{Ours: ours, Theirs: theirs}
	}
	return true, nil
}

// freshen keeps the newest head, and the newest signature of it.
func (c *chronicle) freshen(h *head) {
	if c.head == nil || h.Size > c.head.Size || h.Size == c.head.Size && h.signed > c.head.signed {
		c.head = h
	}
	c.seals.add(h)
}

// load begins from a state that was fetched whole: the records at the seal that
// ends h, loaded against its digest, and the left siblings of the seal's inclusion
// proof. It must not be behind what is known. contains says that its history is
// known to have what stands before: the join pack's head.
func (c *chronicle) load(h *head, state *fsm.State, seal []byte, sealProof []ledger.Hash, contains bool) error {
	if h.Size < c.frontier.Size {
		return errBehind
	}
	if l := c.least; l != nil && !c.reached && !contains && h.Size != l.Size {
		return errUnproven
	}
	if state.Next() != h.Size || !state.Sealed() {
		return &lieError{"the state is not that of the head's seal"}
	}
	before, frontier, err := frontierOf(h.Size, state.Prev(), sealProof)
	if err != nil || ledger.Hash(frontier.Root()) != h.Root {
		return &lieError{"the state's seal is not in the head"}
	}
	c.before = before
	c.reached = c.reached || c.least != nil && h.Size >= c.least.Size
	if c.waits != nil && state.Next() > c.state.Next() {
		c.waits.jumped(state)
	}
	c.state, c.frontier, c.tip, c.seal, c.diverged = state, frontier, state.Prev(), seal, nil
	c.stored = entryStore{}
	c.seals.jump(h.Size)
	c.freshen(h)
	c.rewind()
	return nil
}

// sealProof is the inclusion proof of the last certified entry, for load.
func (c *chronicle) sealProof() []ledger.Hash {
	proof := make([]ledger.Hash, 0, len(c.before.Hashes))
	for i := len(c.before.Hashes) - 1; i >= 0; i-- {
		proof = append(proof, ledger.Hash(c.before.Hashes[i]))
	}
	return proof
}

// frontierOf reads the inclusion proof of the last leaf of a tree: it is made of
// the roots of the perfect subtrees of the tree without it, the smallest first
// (RFC 6962, section 2.1.1).
func frontierOf(size uint64, leaf ledger.Hash, proof []ledger.Hash) (before, after archive.Frontier, err error) {
	before = archive.Frontier{Size: size - 1}
	for i := len(proof) - 1; i >= 0; i-- {
		before.Hashes = append(before.Hashes, tlog.Hash(proof[i]))
	}
	if err := before.Validate(); err != nil {
		return before, after, err
	}
	after = before
	after.Append(tlog.Hash(leaf))
	return before, after, nil
}
