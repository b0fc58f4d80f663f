package ledger

import (
	"fmt"
	"sort"
)

// Chain is an authority chain that was walked from genesis: who may certify
// what. Extend alone changes it; readers may share it meanwhile only if nobody
// extends it.
type Chain struct {
	Genesis Hash      // the trust that everything rests on
	Latest  Authority // of the last link

	steps []step            // by index; steps[0] has no head
	used  map[uint64]uint64 // seq of each cause: the index of its link
}

// NewChain starts a chain with link 0, whose entry must have the hash genesis.
func NewChain(genesis Hash, link0 *Link) (*Chain, error) {
	if err := link0.checkFields(); err != nil {
		return nil, &LinkError{Index: link0.Index, Reason: err}
	}
	if link0.Index != 0 {
		return nil, &LinkError{Index: link0.Index, Reason: fmt.Errorf("a chain starts with link 0")}
	}
	g, hash, err := ParseGenesis(link0.Genesis)
	if err != nil {
		return nil, &LinkError{Reason: err}
	}
	if hash != genesis {
		return nil, &LinkError{Reason: fmt.Errorf("it is the genesis of ledger %s, not of %s", hash, genesis)}
	}
	authority := GenesisAuthority(g, hash)
	certifier, err := NewCertifier(authority)
	if err != nil {
		return nil, &LinkError{Reason: err}
	}
	return &Chain{
		Genesis: genesis,
		Latest:  authority,
		steps:   []step{{authority: authority, certifier: certifier}},
		used:    map[uint64]uint64{},
	}, nil
}

// WalkChain makes a chain of links, which start with link 0.
func WalkChain(genesis Hash, links []*Link) (*Chain, error) {
	if len(links) == 0 {
		return nil, &LinkError{Reason: fmt.Errorf("there is no link at all")}
	}
	c, err := NewChain(genesis, links[0])
	if err != nil {
		return nil, err
	}
	for _, l := range links[1:] {
		if err := c.Extend(l); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Extend checks l as Follow does, and besides that its head is larger than the
// last link's and that none of its causes was a cause before: a decision is
// executed once. After an error, a *LinkError, the chain is as it was.
func (c *Chain) Extend(l *Link) error {
	last := c.steps[len(c.steps)-1]
	if len(c.steps) > MaxAuthorityLinks {
		return &LinkError{Index: l.Index, Reason: fmt.Errorf("more than %d links", MaxAuthorityLinks)}
	}
	next, err := follow(c.Genesis, last.authority, last.certifier, l)
	if err != nil {
		return &LinkError{Index: l.Index, Reason: err}
	}
	if next.head.Size <= last.head.Size {
		return &LinkError{Index: l.Index, Reason: fmt.Errorf("its size %d is not above link %d's, %d",
			next.head.Size, last.authority.Index, last.head.Size)}
	}
	if fork := next.fork; fork.Size > 0 && (fork.Size < last.head.Size || fork.Size == last.head.Size && fork.Root != last.head.Root) {
		return &LinkError{Index: l.Index, Reason: fmt.Errorf("it goes on from size %d, which is not the branch of link %d, of size %d",
			fork.Size, last.authority.Index, last.head.Size)}
	}
	for _, seq := range next.authority.Causes {
		if before, ok := c.used[seq]; ok {
			return &LinkError{Index: l.Index, Reason: fmt.Errorf("statement %d is a cause of link %d already", seq, before)}
		}
	}
	for _, seq := range next.authority.Causes {
		c.used[seq] = l.Index
	}
	c.steps = append(c.steps, next)
	c.Latest = next.authority
	return nil
}

// Len is the number of links.
func (c *Chain) Len() uint64 { return uint64(len(c.steps)) }

// At gives the authority of link index.
func (c *Chain) At(index uint64) (Authority, bool) {
	if index >= uint64(len(c.steps)) {
		return Authority{}, false
	}
	return c.steps[index].authority, true
}

// HandoverHead gives the head that link index certified; link 0 has none.
func (c *Chain) HandoverHead(index uint64) (Head, bool) {
	if index == 0 || index >= uint64(len(c.steps)) {
		return Head{}, false
	}
	return c.steps[index].head, true
}

// Fork gives the head from which link index opened its generation; false if it
// opened none.
func (c *Chain) Fork(index uint64) (Head, bool) {
	if index >= uint64(len(c.steps)) {
		return Head{}, false
	}
	fork := c.steps[index].fork
	return fork, fork.Size > 0
}

// ForSize gives the authority that certifies a head of this size. The head of a
// handover is the new authority's, and the old one's besides.
func (c *Chain) ForSize(size uint64) Authority { return c.steps[c.indexFor(size)].authority }

// indexFor gives the index of the last link whose head is not above size.
func (c *Chain) indexFor(size uint64) int {
	return sort.Search(len(c.steps)-1, func(i int) bool { return c.steps[i+1].head.Size > size })
}

// VerifyCheckpoint reads a note and checks that whoever has authority over its
// size certified it: of a handover's head, the authority before it too. The
// error wraps *NotCertifiedError or *BadSignatureError if it is about that.
func (c *Chain) VerifyCheckpoint(note []byte) (*Checkpoint, error) {
	checkpoint, err := ParseCheckpoint(note)
	if err != nil {
		return nil, err
	}
	index := c.indexFor(checkpoint.Head.Size)
	if index+1 < len(c.steps) {
		if fork := c.steps[index+1].fork; fork.Size > 0 && checkpoint.Head.Size > fork.Size {
			return nil, fmt.Errorf("size %d: the ledger goes on from size %d as generation %d: %w", checkpoint.Head.Size, fork.Size,
				c.steps[index+1].authority.Generation, ErrLeftBranch)
		}
	}
	if _, err := c.steps[index].certifier.Certifies(checkpoint); err != nil {
		return nil, fmt.Errorf("authority %d: %w", index, err)
	}
	if handover := c.steps[index].head; index > 0 && handover.Size == checkpoint.Head.Size {
		if handover.Root != checkpoint.Head.Root {
			return nil, fmt.Errorf("size %d has root %s here and %s in authority link %d: %w",
				handover.Size, checkpoint.Head.Root, handover.Root, index, ErrEquivocation)
		}
		if c.steps[index].fork.Size > 0 {
			return checkpoint, nil // the authority before has no quorum any more
		}
		if _, err := c.steps[index-1].certifier.Certifies(checkpoint); err != nil {
			return nil, fmt.Errorf("authority %d: %w", index-1, err)
		}
	}
	return checkpoint, nil
}
