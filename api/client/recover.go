package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/ledger"
)

// Left is the head that this client had verified and that a recovery left
// behind, nil if there was none: it was certified beyond the head from which the
// council went on, as the next generation. What is beyond is not the ledger's;
// with a trust folder, its note is kept there as left-SIZE.
func (c *Client) Left() *Head { return c.left.Load() }

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
	if err := os.Remove(filepath.Join(t.dir, headName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write trust: %w", err)
	}
	d, err := os.Open(t.dir)
	if err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
