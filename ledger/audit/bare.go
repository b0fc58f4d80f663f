package audit

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/keys"
)

// Bare is how fast the machine verifies an export's signatures if it does
// nothing else: what Verify is measured against.
type Bare struct {
	Signatures int     `json:"signatures"`
	Seconds    float64 `json:"seconds"`
}

// Rate is signatures a second.
func (b Bare) Rate() float64 { return float64(b.Signatures) / b.Seconds }

// BareSignatures are signatures of an export in memory, with their authors'
// keys unpacked.
type BareSignatures struct {
	statements []*ledger.Statement
	keys       []*keys.PublicKey
}

// ReadBare takes up to limit signatures of the export in a folder, those of its
// first statements. It verifies the tree, not the rules.
func ReadBare(ctx context.Context, path string, genesis ledger.Hash, limit int) (_ *BareSignatures, err error) {
	dir, err := OpenDirectory(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = joinSecond(err, dir.Close()) }()
	head, err := readHead(ctx, dir, genesis)
	if err != nil {
		return nil, err
	}
	raw, err := dir.Get(ctx, "genesis.cbor")
	if err != nil {
		return nil, err
	}
	g, _, err := ledger.ParseGenesis(raw)
	if err != nil {
		return nil, err
	}
	known := newKnownKeys()
	known.learnGenesis(g)
	t := newTree(func(path string) ([]byte, error) { return dir.Get(ctx, path) }, head.checkpoint.Head)
	b := &BareSignatures{}
	for seq := uint64(0); seq < head.size() && len(b.statements) < limit; {
		bundle, err := t.bundle(seq / archive.TileWidth)
		if err != nil {
			return nil, err
		}
		for i, raw := range bundle.entries {
			c := checked{raw: raw, leaf: bundle.leaves[i]}
			if err := c.parse(seq, nil); err != nil {
				return nil, badEntry(StepEntry, seq, head.size(), err)
			}
			seq++
			if c.statement == nil {
				continue
			}
			known.learn(c.statement)
			if _, key := known.get(c.statement.KeyID); key != nil {
				b.statements, b.keys = append(b.statements, c.statement), append(b.keys, key)
			}
		}
	}
	return b, nil
}

// Measure verifies all of them once, on every core.
func (b *BareSignatures) Measure() (Bare, error) {
	var group errgroup.Group
	cores := runtime.GOMAXPROCS(0)
	started := time.Now()
	for core := range cores {
		group.Go(func() error {
			for i := core; i < len(b.statements); i += cores {
				if !b.statements[i].Verify(b.keys[i]) {
					return fmt.Errorf("signature %d of the export does not verify", i)
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return Bare{Signatures: len(b.statements), Seconds: time.Since(started).Seconds()}, err
}
