package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/quorate/quorate/ledger"
)

// Head is a certified head that the client verified.
type Head struct {
	Origin    string
	Size      uint64
	Root      ledger.Hash
	Signed    uint64           // seconds: when the threshold of its cosigners had signed it
	Note      []byte           // the checkpoint, verbatim
	Authority ledger.Authority // who certifies it
}

// Head is the newest head that the client verified; nil before the first.
func (c *Client) Head() *Head { return c.head.Load() }

// Sync verifies what is new: every link of the authority chain, the newest
// certified checkpoint, and that it extends the head verified before. It fails
// with *EquivocationError at once; with *RollbackError when no server has a
// head that is not behind; with *StaleError, and the head, when none was
// signed within MaxHeadAge, and with an *UnkeptError, and the head, when TrustDir
// can't be written.
func (c *Client) Sync(ctx context.Context) (*Head, error) {
	if c.options.Genesis.IsZero() {
		return nil, ErrNoGenesis
	}
	head, err := c.syncAny(ctx)
	if head == nil {
		return nil, err
	}
	return head, errors.Join(err, c.learnPins(ctx, head))
}

// syncAny is Sync with one server after another.
func (c *Client) syncAny(ctx context.Context) (*Head, error) {
	c.syncing.Lock()
	defer c.syncing.Unlock()
	var head *Head // the newest that a server showed
	tries := 0
	defer func() { c.small = 0 }()
	err := c.failOver(ctx, func(server string) error {
		// Whoever stalls must not keep the others from being asked; who is slow gets more
		// time in the rounds that follow.
		c.small = min(smallTimeout<<min(tries/len(c.servers), 8), requestTimeout)
		tries++
		got, err := c.syncWith(ctx, server)
		if err != nil {
			return err
		}
		head = got
		if len(c.servers) > 1 {
			return c.fresh(head) // another server may have one that was signed later
		}
		return nil
	})
	var equivocation *EquivocationError
	if head == nil || errors.As(err, &equivocation) {
		return nil, err
	}
	return head, errors.Join(c.fresh(head), c.unkept)
}

// unkeptNow is why the newest head is not on disk.
func (c *Client) unkeptNow() error {
	c.syncing.Lock()
	defer c.syncing.Unlock()
	return c.unkept
}

// fresh says whether the head was signed recently enough.
func (c *Client) fresh(head *Head) error {
	if c.options.MaxHeadAge == 0 {
		return nil
	}
	signed := time.Unix(int64(head.Signed), 0)
	if age := time.Since(signed); age > c.options.MaxHeadAge {
		return &StaleError{Signed: signed, Age: age, Max: c.options.MaxHeadAge}
	}
	return nil
}

// syncWith takes one server as the source of everything.
func (c *Client) syncWith(ctx context.Context, server string) (*Head, error) {
	got, err := c.do(ctx, server, call{method: http.MethodGet, path: "/checkpoint", limit: ledger.MaxCheckpointBytes, timeout: max(c.small, smallTimeout)})
	var problem *Problem
	if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
		// As C2SP has it, a log without a head answers 404; another may have one.
		return nil, fmt.Errorf("%s has no certified head yet: %s", server, problem.Detail)
	}
	if err != nil {
		return nil, err
	}
	return c.adopt(ctx, server, got.body)
}

// adopt verifies a note that server gave, under the authority chain that it
// extends as far as server has it, and makes it the client's head. c.syncing
// is held.
func (c *Client) adopt(ctx context.Context, server string, note []byte) (*Head, error) {
	if c.trust == nil {
		t, err := loadTrust(c.options.TrustDir, c.options.Genesis, c.options.Links)
		if err != nil {
			return nil, err
		}
		c.trust = t
		c.head.Store(t.head)
		if t.chain != nil && t.dir != "" {
			c.left.Store(t.lastLeft())
		}
	}
	t := c.trust
	offered, err := ledger.ParseCheckpoint(note)
	if err != nil {
		return nil, &ProofError{server, "a checkpoint", err}
	}
	// Of the tree that it has, a client learns fresher signatures alone: a new authority
	// and a recovery come with entries.
	var head *Head
	if t.head != nil && t.compared && offered.Head == (ledger.Head{Origin: t.head.Origin, Size: t.head.Size, Root: t.head.Root}) {
		head, _ = t.verify(note)
	}
	if head == nil {
		if err := c.followAuthority(ctx, server, offered.Head.Size); err != nil {
			return nil, c.acrossRecovery(ctx, server, offered.Head.Size, err)
		}
		if head, err = t.verify(note); err != nil {
			return nil, c.acrossRecovery(ctx, server, offered.Head.Size, &ProofError{server, "a certified checkpoint", err})
		}
	}
	if err := c.takeLeast(ctx, server); err != nil {
		return nil, err
	}
	if err := c.checkExtends(ctx, server, head); err != nil {
		return nil, err
	}
	if t.head != nil && t.head.Size == head.Size && t.head.Signed >= head.Signed {
		return t.head, nil
	}
	c.keep(head)
	return head, nil
}

// keep makes a verified head the newest, on disk too if that can be written.
func (c *Client) keep(head *Head) {
	c.unkept = nil
	if err := c.trust.setHead(head); err != nil {
		c.unkept = &UnkeptError{err}
	}
	c.head.Store(head)
}

// followAuthority fetches and verifies the links that the client lacks, up to
// the size of the offered head. The head of each link must extend what was
// verified before, like any other head.
func (c *Client) followAuthority(ctx context.Context, server string, size uint64) error {
	t := c.trust
	for {
		n := len(t.links)
		raw, link, err := c.fetchLink(ctx, server, n)
		if err != nil {
			return err
		}
		if link == nil {
			return nil
		}
		if n > 0 {
			head, err := ledger.ParseCheckpoint([]byte(link.Checkpoint))
			if err != nil {
				return &ProofError{server, "authority link " + strconv.Itoa(n), err}
			}
			if head.Head.Size > size && !link.Leaves(size) {
				return nil // of a later head than the one offered
			}
		}
		if err := c.takeLink(ctx, server, n, raw, link); err != nil {
			return err
		}
	}
}

// fetchLink gives nil when the server has no such link.
func (c *Client) fetchLink(ctx context.Context, server string, n int) ([]byte, *ledger.Link, error) {
	got, err := c.do(ctx, server, call{method: http.MethodGet, path: "/authority/" + strconv.Itoa(n), limit: ledger.MaxLinkBytes, timeout: max(c.small, smallTimeout)})
	var problem *Problem
	if errors.As(err, &problem) && problem.Status == http.StatusNotFound && n > 0 {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	link, err := ledger.ParseLink(got.body)
	if err != nil {
		return nil, nil, &ProofError{server, "authority link " + strconv.Itoa(n), err}
	}
	return got.body, link, nil
}

func (c *Client) takeLink(ctx context.Context, server string, n int, raw []byte, link *ledger.Link) error {
	t := c.trust
	what := "authority link " + strconv.Itoa(n)
	leaves := false
	if n > 0 {
		// Verified alone first: a link that contradicts the kept head is evidence
		// only if it is valid, and must not be kept then.
		previous, _ := t.chain.At(uint64(n - 1))
		if _, err := ledger.Follow(c.options.Genesis, previous, link); err != nil {
			return &ProofError{server, what, err}
		}
		checkpoint, err := ledger.ParseCheckpoint([]byte(link.Checkpoint))
		if err != nil {
			return &ProofError{server, what, err}
		}
		handover := &Head{Size: checkpoint.Head.Size, Root: checkpoint.Head.Root, Note: []byte(link.Checkpoint)}
		if err := c.consistent(ctx, server, c.lastHandover(), handover); err != nil {
			return err
		}
		if leaves, err = t.leaves(link); err != nil {
			return &ProofError{server, what, err}
		}
		if !leaves {
			if err := c.consistent(ctx, server, t.head, handover); err != nil {
				return err
			}
		}
	}
	if err := t.extend(c.options.Genesis, link); err != nil {
		return &ProofError{server, what, err}
	}
	if !leaves {
		_ = t.addLink(raw) // what can't be written now is written with the head that needs it
		return nil
	}
	fork, _ := t.chain.Fork(uint64(n))
	c.left.Store(&LeftHead{Head: *t.head, Generation: link.Record.Generation, Fork: fork})
	if err := t.leave(); err != nil {
		// The chain has a link that the links have not: the next Sync loads what is on disk.
		c.trust = nil
		return fmt.Errorf("follow the recovery of generation %d: %w", link.Record.Generation, err)
	}
	if err := t.addLink(raw); err != nil {
		return err
	}
	head, err := t.verify([]byte(link.Checkpoint))
	if err != nil {
		return &ProofError{server, what, err}
	}
	c.head.Store(head)
	return t.setHead(head)
}

// lastHandover is the head of the newest link, or nil.
func (c *Client) lastHandover() *Head {
	t := c.trust
	if len(t.links) < 2 {
		return nil
	}
	link, err := ledger.ParseLink(t.links[len(t.links)-1])
	if err != nil {
		return nil // it was parsed before it was kept
	}
	h, _ := t.chain.HandoverHead(uint64(len(t.links) - 1))
	return &Head{Size: h.Size, Root: h.Root, Note: []byte(link.Checkpoint)}
}

// takeLeast makes MinHead the kept head if it is newer, once.
func (c *Client) takeLeast(ctx context.Context, server string) error {
	t := c.trust
	if t.least || len(c.options.MinHead) == 0 {
		return nil
	}
	least, err := t.verify(c.options.MinHead)
	if err != nil {
		return &ProofError{server, "a ledger with the head that it must have reached", err}
	}
	if err := c.consistent(ctx, server, t.head, least); err != nil {
		return err
	}
	if t.head == nil || t.head.Size < least.Size {
		t.head = least // on disk once a server shows that it has it
	}
	t.least = true
	return nil
}

// checkExtends refuses a head beside or behind what was verified before. A link that
// a server gave was compared with the kept head when it was taken. One of the disk or
// of Options.Links was maybe not: so the first head must extend the newest handover's
// too, whatever the kept one is.
func (c *Client) checkExtends(ctx context.Context, server string, head *Head) error {
	t := c.trust
	if handover := c.lastHandover(); handover != nil && (!t.compared || t.head == nil || t.head.Size < handover.Size) {
		if err := c.consistent(ctx, server, handover, head); err != nil {
			return err
		}
	}
	if err := c.consistent(ctx, server, t.head, head); err != nil {
		return err
	}
	if t.head != nil && head.Size < t.head.Size {
		return &RollbackError{Server: server, Kept: t.head.Size, Offered: head.Size}
	}
	t.compared = true
	return nil
}

// consistent checks that one of two verified heads extends the other; kept may
// be nil.
func (c *Client) consistent(ctx context.Context, server string, kept, offered *Head) error {
	if kept == nil {
		return nil
	}
	if kept.Size == offered.Size {
		if kept.Root != offered.Root {
			return &EquivocationError{Server: server, Kept: kept.Note, Offered: offered.Note, PrefixRoot: offered.Root}
		}
		return nil
	}
	older, newer := kept, offered
	if offered.Size < kept.Size {
		older, newer = offered, kept
	}
	what := fmt.Sprintf("consistency of sizes %d and %d", older.Size, newer.Size)
	var answer ConsistencyProof
	path := fmt.Sprintf("/v1/proofs/consistency?from=%d&to=%d", older.Size, newer.Size)
	if err := c.try(ctx, server, call{method: http.MethodGet, path: path}, &answer); err != nil {
		var problem *Problem
		if newer == kept && errors.As(err, &problem) && problem.Status == http.StatusNotFound {
			// The server does not reach our head, so it can prove nothing about it.
			return &RollbackError{Server: server, Kept: kept.Size, Offered: offered.Size}
		}
		return err
	}
	proof, err := parseHashes(answer.Hashes)
	if err != nil {
		return &ProofError{server, what, err}
	}
	bad := ledger.VerifyConsistency(proof, older.Size, older.Root, newer.Size, newer.Root)
	if bad == nil {
		return nil
	}
	// A wrong proof proves nothing. But if the newer head's tree verifiably has
	// another prefix of that size, then the two heads contradict each other.
	prefix, err := ledger.ParseHash(answer.FromRoot)
	if err == nil && prefix != older.Root && ledger.VerifyConsistency(proof, older.Size, prefix, newer.Size, newer.Root) == nil {
		return &EquivocationError{Server: server, Kept: kept.Note, Offered: offered.Note, Proof: proof, PrefixRoot: prefix}
	}
	return &ProofError{server, what, bad}
}

func parseHashes(list []string) ([]ledger.Hash, error) {
	if len(list) > maxProofHashes {
		return nil, fmt.Errorf("%d hashes, at most %d", len(list), maxProofHashes)
	}
	out := make([]ledger.Hash, len(list))
	for i, s := range list {
		h, err := ledger.ParseHash(s)
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// Links are the links of the authority chain that the client verified, as
// proof files and exports hold them.
func (c *Client) Links() [][]byte {
	c.syncing.Lock()
	defer c.syncing.Unlock()
	if c.trust == nil {
		return nil
	}
	return slices.Clone(c.trust.links)
}
