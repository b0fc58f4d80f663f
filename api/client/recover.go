package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/ledger"
)

// What a client sees of a recovery (ledger/FORMAT.md section 15): a council went on
// from a certified head, and heads beyond it are not the ledger's any more.

// LeftHead is a head that this client had verified and that a recovery left behind:
// it was certified beyond the head from which the council went on.
type LeftHead struct {
	Head
	Generation uint64      // that the recovery opened
	Fork       ledger.Head // from which the ledger went on
}

// Left is the newest head that a recovery left behind after this client had verified
// it, nil if there is none. With a trust folder its note is kept there as left-SIZE,
// and Left gives it, from the first Sync on, until that file is removed.
func (c *Client) Left() *LeftHead { return c.left.Load() }

// RecoveredError says that a server and this client stand on two sides of a recovery:
// their authority chains part at a link by which one of the two opens a generation. It
// wraps the *ProofError that it explains.
type RecoveredError struct {
	Server     string
	Index      uint64      // of the link
	Generation uint64      // that it opens
	Fork       ledger.Head // from which it goes on
	Kept       uint64      // size of the head that this client verified last
	Offered    uint64      // size of the head that the server offers
	Ours       bool        // the client follows the recovery, and the server serves what it left

	// Former says, if the server follows the recovery, that the council at the end of
	// the chain that this client follows did not approve of it; nil: it did.
	Former *ledger.FormerCouncilError
	Err    error
}

func (e *RecoveredError) Error() string {
	how := fmt.Sprintf("the ledger was recovered as generation %d from size %d (authority link %d)", e.Generation, e.Fork.Size, e.Index)
	switch {
	case e.Ours:
		return fmt.Sprintf("%s; %s offers a head of %d entries on the branch that was left: name another server", how, e.Server, e.Offered)
	case e.Former != nil:
		return fmt.Sprintf("%s follows a generation that governors opened who were replaced before, and not the ledger as verified here up to %d entries: %v", e.Server, e.Kept, e.Former)
	}
	return fmt.Sprintf("%s, says %s with its council's signatures; this client had followed the branch that was left through another handover, up to %d entries: keep its trust folder as evidence, and begin with an empty one from the genesis hash",
		how, e.Server, e.Kept)
}

func (e *RecoveredError) Unwrap() error { return e.Err }

// acrossRecovery makes a *RecoveredError of a *ProofError if the server's authority
// chain parts from the client's at a recovery; else it gives the error as it is.
func (c *Client) acrossRecovery(ctx context.Context, server string, offered uint64, err error) error {
	var proof *ProofError
	t := c.trust
	if !errors.As(err, &proof) || t.chain == nil {
		return err
	}
	found := &RecoveredError{Server: server, Offered: offered, Err: err}
	if t.head != nil {
		found.Kept = t.head.Size
	}
	index, theirs := c.parted(ctx, server)
	if index == 0 {
		return err
	}
	if fork, opens := t.chain.Fork(index); opens {
		a, _ := t.chain.At(index)
		found.Ours, found.Index, found.Generation, found.Fork = true, index, a.Generation, fork
		return found
	}
	if theirs == nil || theirs.Fork == nil {
		return err
	}
	links := make([]*ledger.Link, 0, index+1)
	for _, raw := range t.links[:index] {
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return err // it was parsed before it was kept
		}
		links = append(links, link)
	}
	links = append(links, theirs)
	rival, invalid := ledger.WalkChain(c.options.Genesis, links)
	if invalid != nil {
		return err
	}
	found.Index, found.Generation, found.Former = index, theirs.Record.Generation, t.chain.Outvotes(rival, links)
	found.Fork, _ = rival.Fork(index)
	return found
}

// parted gives the first link of the client's chain that is not the server's, and
// what the server has there, nil if nothing; 0 if there is none, or it can't be told.
func (c *Client) parted(ctx context.Context, server string) (uint64, *ledger.Link) {
	var theirs *ledger.Link
	last := c.trust.chain.Len() - 1
	for n := last; n > 0 && last-n < maxPartedLinks; n-- {
		_, link, err := c.fetchLink(ctx, server, int(n))
		if err != nil {
			return 0, nil
		}
		if c.hasHandover(n, link) {
			if n == last {
				return 0, nil
			}
			return n + 1, theirs
		}
		if theirs = link; n == 1 {
			return 1, theirs
		}
	}
	return 0, nil
}

// hasHandover says whether a server's link is the client's: the head of a handover
// tells, for its tree holds the rest.
func (c *Client) hasHandover(n uint64, link *ledger.Link) bool {
	if link == nil {
		return false
	}
	checkpoint, err := ledger.ParseCheckpoint([]byte(link.Checkpoint))
	ours, ok := c.trust.chain.HandoverHead(n)
	return err == nil && ok && checkpoint.Head == ours
}

// maxPartedLinks is how far below its newest link a client looks for the one at which
// a server's chain parts from its own.
const maxPartedLinks = 64

// leaves says whether a valid link opens a generation that goes on from before
// the kept head: of two branches, that of the higher generation is the ledger.
func (t *trust) leaves(link *ledger.Link) (bool, error) {
	if link.Fork == nil || t.head == nil {
		return false, nil
	}
	fork, err := ledger.ParseCheckpoint([]byte(link.Fork.Checkpoint))
	if err != nil {
		return false, err
	}
	return t.head.Size > fork.Head.Size, nil
}

// leave drops the kept head before the link of the new generation is kept, under
// which it would not verify. A crash after it leaves a trust without a head, as
// of the last handover.
func (t *trust) leave() error {
	left := t.head
	t.head = nil
	if t.dir == "" {
		return nil
	}
	if err := replaceFile(filepath.Join(t.dir, fmt.Sprintf("left-%d", left.Size)), left.Note); err != nil {
		return err
	}
	t.disk = nil
	if err := os.Remove(filepath.Join(t.dir, headName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write trust: %w", err)
	}
	d, err := os.Open(t.dir)
	if err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// lastLeft is what the trust folder keeps of the newest head that the newest recovery
// left.
func (t *trust) lastLeft() *LeftHead {
	index := t.chain.Len() - 1
	for ; index > 0; index-- {
		if _, opens := t.chain.Fork(index); opens {
			break
		}
	}
	fork, opens := t.chain.Fork(index)
	if !opens {
		return nil
	}
	a, _ := t.chain.At(index)
	names, _ := filepath.Glob(filepath.Join(t.dir, "left-*"))
	var found *LeftHead
	for _, name := range names {
		note, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		head, err := ledger.ParseCheckpoint(note)
		if err == nil && head.Head.Size > fork.Size && (found == nil || found.Size < head.Head.Size) {
			found = &LeftHead{Head: Head{Origin: head.Head.Origin, Size: head.Head.Size, Root: head.Head.Root, Note: note}, Generation: a.Generation, Fork: fork}
		}
	}
	return found
}
