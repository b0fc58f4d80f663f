package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"

	"github.com/quorate/quorate/ledger"
)

// keyDigest hashes the lines of an epoch's active key set.
type keyDigest struct {
	hash  hash.Hash
	line  []byte
	count uint64
}

func newKeyDigest() *keyDigest { return &keyDigest{hash: sha256.New()} }

func (d *keyDigest) add(role, name string, id ledger.Hash) {
	d.line = append(d.line[:0], role...)
	d.line = append(d.line, ' ')
	d.line = append(d.line, name...)
	d.line = append(d.line, ' ')
	d.line = hex.AppendEncode(d.line, id[:])
	d.line = append(d.line, '\n')
	d.hash.Write(d.line)
	d.count++
}

func (d *keyDigest) sum() ledger.Hash { return ledger.Hash(d.hash.Sum(nil)) }

// noArgs are the args of an action without any.
type noArgs struct{}

// advanceEpoch is epoch.advance: the next epoch begins now.
func (t *transition) advanceEpoch(_ noArgs, _ occasion) *problem {
	t.changeMeta(func(m *Meta) {
		m.Epoch++
		m.EpochStart = t.stamp
		m.Versions["epoch"] = t.next
	})
	return nil
}
