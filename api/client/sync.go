package client

import (
	"context"
	"errors"

	"github.com/quorate/quorate/ledger"
)

// Head is a certified head that the client verified.
type Head struct {
	Size   uint64
	Root   ledger.Hash
	Signed uint64 // seconds: when the threshold of its cosigners had signed it
	Note   []byte // the checkpoint, verbatim
}

// trust is what the client has verified so far.
type trust struct{}

// Head is the newest head that Sync verified; nil before.
func (c *Client) Head() *Head { return c.head.Load() }

// Sync verifies what is new: every link of the authority chain, the newest
// certified checkpoint, and that it extends the head verified before. It fails
// with *EquivocationError, *RollbackError or *StaleError; with the last, the
// head is returned too.
func (c *Client) Sync(ctx context.Context) (*Head, error) {
	return nil, errors.New("not written yet")
}

// Record is a record of the state, or its absence, proven under a verified head.
type Record struct {
	Key   string
	Value []byte // canonical JSON; nil: there is no such record
	Head  Head
}

// Record reads a record of the state and verifies its proof.
func (c *Client) Record(ctx context.Context, key string) (*Record, error) {
	return nil, errors.New("not written yet")
}

// Entry reads an entry and verifies its inclusion under a verified head.
func (c *Client) Entry(ctx context.Context, seq uint64) (*Entry, error) {
	return nil, errors.New("not written yet")
}

// Entries reads the entries [from, from+limit) and verifies them under a
// verified head; it gives fewer at the head's end.
func (c *Client) Entries(ctx context.Context, from uint64, limit int) ([]Entry, error) {
	return nil, errors.New("not written yet")
}

// WatchOptions say what to watch.
type WatchOptions struct {
	From        uint64   // first seq
	Kinds       []string // of entries; none: all
	Types       []string // of statements and effects; none: all
	Consistency string   // Certified (default) or Stale
}

// Watch calls fn for each entry from o.From on, as a server tells of it,
// resuming where it was when a server goes away. It returns when ctx ends or
// fn fails.
func (c *Client) Watch(ctx context.Context, o WatchOptions, fn func(*Entry) error) error {
	return errors.New("not written yet")
}

func (c *Client) submit(ctx context.Context, path string, envelopes [][]byte, wait Wait, out any) error {
	return errors.New("not written yet")
}

func (c *Client) confirm(ctx context.Context, envelopes [][]byte, wait Wait, answer *SubmitAnswer) error {
	return nil
}

// Genesis fetches entry 0 and checks it against the client's genesis hash; a
// client without one takes what the server says.
func (c *Client) Genesis(ctx context.Context) (*ledger.Genesis, ledger.Hash, error) {
	return nil, ledger.Hash{}, errors.New("not written yet")
}
