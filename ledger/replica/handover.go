package replica

import (
	"context"
	"fmt"

	"github.com/quorate/quorate/ledger"
	"golang.org/x/mod/sumdb/tlog"
)

// link makes the authority link of a certified handover, or takes a peer's,
// and makes it durable. Called by the certifier's loop alone.
func (c *certifier) link(ctx context.Context, s *sealedState, checkpoint *ledger.Checkpoint) error {
	link, err := c.buildLink(s, checkpoint)
	if err != nil {
		// In a gap the statements are not here; a peer's link proves itself.
		c.r.log.Info("build authority link", "index", s.seal.Handover, "error", err)
		return c.r.fetchLink(ctx, s.seal.Handover, c.extend)
	}
	return c.extend(link)
}

// extend checks a link against the chain, and makes it durable before the
// chain has it.
func (c *certifier) extend(link *ledger.Link) error {
	b, err := link.Encode()
	if err != nil {
		return err
	}
	c.chainMu.Lock()
	defer c.chainMu.Unlock()
	if link.Index < c.chain.Len() {
		return nil
	}
	if err := c.r.files.replace(linkName(link.Index), b); err != nil {
		return err
	}
	// Crash here: a link file beyond the checkpoint, which is read and checked
	// at the next start.
	if err := c.chain.Extend(link); err != nil {
		_ = c.r.files.remove(linkName(link.Index))
		return err
	}
	c.seats.follow(c.chain.Latest)
	c.r.log.Info("handover", "index", link.Index, "replicas", len(c.chain.Latest.Active()))
	return nil
}

func (c *certifier) buildLink(s *sealedState, checkpoint *ledger.Checkpoint) (*ledger.Link, error) {
	record := s.authority
	proof, err := s.state.Prove(ledger.AuthorityKey)
	if err != nil {
		return nil, err
	}
	proof.Value = nil
	size := s.head.Size
	sealProof, err := c.r.inclusion(size-1, size)
	if err != nil {
		return nil, err
	}
	link := &ledger.Link{
		Checkpoint: string(checkpoint.Note()), Index: s.seal.Handover, Record: &record, RecordProof: proof,
		Seal: s.entry, SealProof: sealProof,
	}
	if s.opens() {
		if link.Fork, err = c.forkOf(s); err != nil {
			return nil, err
		}
	}
	for _, seq := range record.Causes {
		entry, err := c.r.archive.Entry(seq)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", seq, err)
		}
		proof, err := c.r.inclusion(seq, size)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", seq, err)
		}
		link.Statements = append(link.Statements, ledger.LinkStatement{Entry: entry, Proof: proof, Seq: seq})
	}
	return link, nil
}

// inclusion is the audit path of an entry in the tree of a size.
func (r *Replica) inclusion(seq, size uint64) ([]ledger.Hash, error) {
	path, err := r.archive.ProveInclusion(seq, size)
	if err != nil {
		return nil, err
	}
	return hashes(path), nil
}

func hashes(path []tlog.Hash) []ledger.Hash {
	out := make([]ledger.Hash, len(path))
	for i, h := range path {
		out[i] = ledger.Hash(h)
	}
	return out
}

// rootAt is our own root at a size, zero when it can't be told.
func (r *Replica) rootAt(size uint64) ledger.Hash {
	if s := r.shell.sealedAt(size); s != nil {
		return s.head.Root
	}
	root, err := r.archive.TreeHash(size)
	if err != nil {
		return ledger.Hash{}
	}
	return ledger.Hash(root)
}

// AuthorityLink is link n of the authority chain, canonical JSON.
func (r *Replica) AuthorityLink(n uint64) ([]byte, error) {
	if err := r.halted(); err != nil {
		return nil, err
	}
	if n > r.certifier.authorityIndex() {
		return nil, fmt.Errorf("authority link %d: the newest is %d", n, r.certifier.authorityIndex())
	}
	if n == 0 {
		return (&ledger.Link{Genesis: r.cfg.Genesis}).Encode()
	}
	b, err := r.files.read(linkName(n))
	if err == nil && b == nil {
		err = fmt.Errorf("authority link %d is not here", n)
	}
	return b, err
}

// AuthorityIndex is the index of the newest certified handover.
func (r *Replica) AuthorityIndex() uint64 { return r.certifier.authorityIndex() }

// links gives the encoded links 1 to index, for a snapshot.
func (r *Replica) links(index uint64) ([][]byte, error) {
	var list [][]byte
	for n := uint64(1); n <= index; n++ {
		b, err := r.AuthorityLink(n)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// adoptProven takes over what a snapshot proved: the links and the checkpoint
// that this replica has not yet. Called by Raft's goroutine.
func (r *Replica) adoptProven(p *provenSnapshot) error {
	for _, link := range p.links[1:] {
		ours, ok := r.certifier.at(link.Index)
		if ok {
			theirs, _ := p.chain.At(link.Index)
			if err := sameAuthority(ours, theirs); err != nil {
				r.halt(err.Error())
				return err
			}
			continue
		}
		if err := r.certifier.extend(link); err != nil {
			return err
		}
	}
	head := p.checkpoint.Head
	r.certifier.publishing.Lock()
	defer r.certifier.publishing.Unlock()
	if head.Size <= r.certifier.size() {
		return nil
	}
	note := p.checkpoint.Note()
	if err := r.files.replace(certifiedFile, note); err != nil {
		return err
	}
	authority := p.chain.ForSize(head.Size)
	r.certifier.now.Store(&certifiedHead{checkpoint: p.checkpoint, note: note, authority: authority,
		signed: p.checkpoint.Signed(authority) * 1000})
	return nil
}

// outvotes is ledger.Chain's, of the chain that is certified here.
func (c *certifier) outvotes(rival *ledger.Chain, links []*ledger.Link) *ledger.FormerCouncilError {
	c.chainMu.RLock()
	defer c.chainMu.RUnlock()
	return c.chain.Outvotes(rival, links)
}

func (c *certifier) at(index uint64) (ledger.Authority, bool) {
	c.chainMu.RLock()
	defer c.chainMu.RUnlock()
	return c.chain.At(index)
}

// sameAuthority compares two certified records of one index: two that differ
// are an equivocation.
func sameAuthority(a, b ledger.Authority) error {
	x, errA := a.Encode()
	y, errB := b.Encode()
	if errA != nil || errB != nil || string(x) != string(y) {
		return fmt.Errorf("two certified authorities of index %d differ", a.Index)
	}
	return nil
}
