// Package audit takes a ledger away and proves it offline: Export writes what
// FORMAT.md section 12 lists, Verify proves it from the genesis hash alone.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/ledger"
)

// Source gives the files of a ledger by their C2SP path without a leading
// slash: checkpoint, log.vkey, log-mldsa44.vkey, policy, tile/…, authority/N.
// A path that does not exist gives an error that is fs.ErrNotExist.
type Source interface {
	Get(ctx context.Context, path string) ([]byte, error)
}

// SourceFunc makes a Source of a function.
type SourceFunc func(ctx context.Context, path string) ([]byte, error)

// Get calls f.
func (f SourceFunc) Get(ctx context.Context, path string) ([]byte, error) { return f(ctx, path) }

// directory reads an export from disk.
type directory struct{ root string }

func (d directory) Get(_ context.Context, path string) ([]byte, error) {
	if !fs.ValidPath(path) {
		return nil, fmt.Errorf("read %q: not a path of an export", path)
	}
	if filepath.Dir(path) == "authority" {
		path += ".json"
	}
	return readBounded(filepath.Join(d.root, filepath.FromSlash(path)), limitOf(path))
}

// limitOf is the largest size that the file at path may have.
func limitOf(path string) int64 {
	switch {
	case path == "checkpoint":
		return maxCheckpointBytes
	case path == "policy":
		return maxPolicyBytes
	case path == "genesis.cbor":
		return ledger.MaxEntryBytes
	case len(path) > 10 && path[:10] == "authority/":
		return maxLinkBytes
	case len(path) > 13 && path[:13] == "tile/entries/":
		return maxBundleBytes
	case len(path) > 5 && path[:5] == "tile/":
		return maxTileBytes
	}
	return maxVKeyBytes
}

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", name, limit)
	}
	return data, nil
}

// head is what a source claims: its authority chain and certified checkpoint,
// verified against the genesis hash.
type head struct {
	chain      *ledger.Chain
	links      [][]byte
	note       []byte
	checkpoint *ledger.Checkpoint
	authority  ledger.Authority // in force at the checkpoint
}

// readHead takes the checkpoint, walks the authority chain from the genesis
// hash up to it, and verifies the checkpoint under the chain. The checkpoint
// comes first: a server may hand over while it is being read, and the chain
// must reach at least as far. Later handovers are left out.
func readHead(ctx context.Context, src Source, genesis ledger.Hash) (*head, error) {
	note, err := src.Get(ctx, "checkpoint")
	if err != nil {
		return nil, badFile("head", "checkpoint", err)
	}
	claimed, err := ledger.ParseCheckpoint(note)
	if err != nil {
		return nil, badFile("head", "checkpoint", err)
	}
	h := &head{note: note}
	for n := 0; ; n++ {
		path := fmt.Sprintf("authority/%d", n)
		raw, err := src.Get(ctx, path)
		if errors.Is(err, fs.ErrNotExist) && n > 0 {
			break
		}
		if err == nil && n > maxLinks {
			err = fmt.Errorf("more than %d links", maxLinks)
		}
		if err != nil {
			return nil, badFile("head", path, err)
		}
		beyond, err := h.extend(genesis, raw, claimed.Head.Size)
		if err != nil {
			return nil, badFile("head", path, err)
		}
		if beyond {
			break
		}
	}
	if h.checkpoint, err = h.chain.VerifyCheckpoint(note); err != nil {
		return nil, badFile("head", "checkpoint", err)
	}
	h.authority = h.chain.ForSize(h.checkpoint.Head.Size)
	return h, nil
}

// extend adds a link, unless it hands over beyond size.
func (h *head) extend(genesis ledger.Hash, raw []byte, size uint64) (beyond bool, err error) {
	link, err := ledger.ParseLink(raw)
	if err != nil {
		return false, err
	}
	if h.chain == nil {
		h.chain, err = ledger.NewChain(genesis, link)
		h.links = append(h.links, raw)
		return false, err
	}
	handover, err := ledger.ParseCheckpoint([]byte(link.Checkpoint))
	if err != nil {
		return false, err
	}
	if handover.Head.Size > size {
		return true, nil
	}
	h.links = append(h.links, raw)
	return false, h.chain.Extend(link)
}
