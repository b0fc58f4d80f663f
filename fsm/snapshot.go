package fsm

import (
	"fmt"
	"iter"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/quorate/quorate/ledger"
)

// Dump calls w for every record, sorted by key. A state that Load is to make
// again must be dumped right after a seal.
func (s *State) Dump(w func(key string, value []byte) error) error {
	var err error
	s.Walk("", func(key string, value []byte) bool {
		err = w(key, value)
		return err == nil
	})
	return err
}

// Sealed reports whether the last entry is a seal, so that the state is whole
// in its records and that entry.
func (s *State) Sealed() bool { return s.next == s.sealed }

// Load makes the state right after a seal from its records, sorted by key, and
// the seal's entry. The records' digest must be the one that was sealed, so a
// state can't be smuggled in under a certified head.
func Load(records iter.Seq2[string, []byte], seal *ledger.Entry) (*State, error) {
	content, err := seal.Seal()
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	entry, err := seal.Encode()
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	t := begin(&State{records: iradix.New[any](), index: newIndex()}, seal.Stamp, nil)
	last := ""
	for key, value := range records {
		if key <= last {
			return nil, fmt.Errorf("load state: record %q is out of order", key)
		}
		last = key
		record, err := decodeRecord(key, value)
		if err != nil {
			return nil, fmt.Errorf("load state: record %q: %w", key, err)
		}
		t.put(key, record)
	}
	if t.meta == nil || t.policy == nil || t.log == nil || t.authority == nil {
		return nil, fmt.Errorf("load state: a record of the whole ledger is missing")
	}
	t.flush()
	if digest := t.trie.Root(); digest != content.Digest {
		return nil, fmt.Errorf("load state: the records' digest is %s, entry %d seals %s", digest, seal.Seq, content.Digest)
	}
	t.next, t.sealed = seal.Seq+1, seal.Seq+1
	t.prev = ledger.LeafHash(entry)
	t.digest = content.Digest
	return t.commit(), nil
}
