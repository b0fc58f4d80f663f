package archive

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// view is the archive as it was at one moment: the whole history, and the island if there is a gap.
type view struct {
	hist   chain
	island *chain // nil without a gap
	files  *files
}

// end is the chain that Append extends.
func (v *view) end() *chain {
	if v.island != nil {
		return v.island
	}
	return &v.hist
}

func (v *view) size() uint64 { return v.end().size }

// gap is the error for what lies in it.
func (v *view) gap() error { return &GapError{From: v.hist.size, To: v.island.first} }

// chainOf is the chain that holds an entry.
func (v *view) chainOf(seq uint64) (*chain, error) {
	switch {
	case seq < v.hist.size:
		return &v.hist, nil
	case v.island == nil || seq >= v.island.size:
		return nil, notFound("entry", seq, v.size())
	case seq >= v.island.first:
		return v.island, nil
	}
	return nil, v.gap()
}

// chainFor is the chain that knows the tree of a size.
func (v *view) chainFor(size uint64) (*chain, error) {
	switch {
	case size <= v.hist.size:
		return &v.hist, nil
	case size > v.size():
		return nil, notFound("tree of size", size, v.size())
	case size >= v.island.first:
		return v.island, nil
	}
	return nil, v.gap()
}

func (v *view) entry(seq uint64) ([]byte, error) {
	c, err := v.chainOf(seq)
	if err != nil {
		return nil, err
	}
	if entry, ok := c.entry(seq); ok {
		return entry, nil
	}
	b, err := v.files.bundle(c, seq/TileWidth)
	if err != nil {
		return nil, err
	}
	return b.entries[seq%TileWidth], nil
}

func (v *view) entries(from, to uint64, fn func(seq uint64, entry []byte) error) error {
	if from > to {
		return fmt.Errorf("archive: entries from %d to %d", from, to)
	}
	if to > v.size() {
		return notFound("entry", to-1, v.size())
	}
	if v.island != nil && from < v.island.first && to > v.hist.size && from != to {
		return v.gap()
	}
	var b *bundle // the one that holds entry seq, unless that is in memory
	for seq := from; seq < to; seq++ {
		c, err := v.chainOf(seq)
		if err != nil {
			return err
		}
		entry, ok := c.entry(seq)
		if !ok {
			if b == nil || seq%TileWidth == 0 {
				if b, err = v.files.bundle(c, seq/TileWidth); err != nil {
					return err
				}
			}
			entry = b.entries[seq%TileWidth]
		}
		if err := fn(seq, entry); err != nil {
			return err
		}
	}
	return nil
}

func (v *view) leafHash(seq uint64) (tlog.Hash, error) {
	c, err := v.chainOf(seq)
	if err != nil {
		return tlog.Hash{}, err
	}
	return c.hashes(0, seq, 1, v.files.of(c))
}

func (v *view) tile(l int, n uint64, width int) ([]byte, error) {
	if l < 0 || l > maxTileLevel || width < 1 || width > TileWidth {
		return nil, fmt.Errorf("%w: no tile of level %d and width %d", ErrNotFound, l, width)
	}
	if n > maxSize/TileWidth || position(v.size(), l) < n*TileWidth+uint64(width) {
		return nil, notFound(fmt.Sprintf("tile of level %d", l), n, v.size())
	}
	c := &v.hist
	if position(c.size, l) < n*TileWidth+uint64(width) {
		if c = v.island; n*TileWidth < position(c.first, l) {
			return nil, v.gap()
		}
	}
	hashes, err := c.row(l, n*TileWidth, uint64(width), v.files.of(c))
	if err != nil {
		return nil, err
	}
	return joinHashes(hashes), nil
}

func (v *view) bundle(n uint64, width int) ([]byte, error) {
	if width < 1 || width > TileWidth {
		return nil, fmt.Errorf("%w: no bundle of width %d", ErrNotFound, width)
	}
	if n > maxSize/TileWidth || v.size() < n*TileWidth+uint64(width) {
		return nil, notFound("bundle", n, v.size())
	}
	begin := n * TileWidth
	c, err := v.chainOf(begin)
	if err != nil {
		return nil, err
	}
	if c.onDisk(0, n) {
		b, err := v.files.bundle(c, n)
		if err != nil {
			return nil, err
		}
		if width == TileWidth {
			return slices.Clone(b.raw), nil
		}
		return encodeBundle(b.entries[:width]), nil
	}
	entries := make([][]byte, 0, width)
	err = v.entries(begin, begin+uint64(width), func(_ uint64, entry []byte) error {
		entries = append(entries, entry)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return encodeBundle(entries), nil
}

func (v *view) treeHash(size uint64) (tlog.Hash, error) {
	f, err := v.frontier(size)
	if err != nil {
		return tlog.Hash{}, err
	}
	return f.Root(), nil
}

func (v *view) frontier(size uint64) (Frontier, error) {
	c, err := v.chainFor(size)
	if err != nil {
		return Frontier{}, err
	}
	return c.frontierAt(size, v.files.of(c))
}

// hashReader gives tlog the hashes of perfect subtrees: it only asks for complete ones.
func (v *view) hashReader(size uint64) (tlog.HashReader, error) {
	c, err := v.chainFor(size)
	if err != nil {
		return nil, err
	}
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			l, n := tlog.SplitStoredHashIndex(index)
			x := node{uint(l), uint64(n)}
			in := c
			if x.end() <= v.hist.size {
				in = &v.hist
			}
			h, err := in.node(x, v.files.of(in))
			if errors.Is(err, ErrGap) {
				return nil, v.gap()
			}
			if err != nil {
				return nil, err
			}
			hashes[i] = h
		}
		return hashes, nil
	}), nil
}

func (v *view) proveInclusion(seq, size uint64) ([]tlog.Hash, error) {
	if seq >= size {
		return nil, notFound("entry", seq, size)
	}
	r, err := v.hashReader(size)
	if err != nil {
		return nil, err
	}
	return tlog.ProveRecord(int64(size), int64(seq), r)
}

func (v *view) proveConsistency(old, size uint64) ([]tlog.Hash, error) {
	if old > size {
		return nil, fmt.Errorf("archive: consistency proof from %d to the smaller %d", old, size)
	}
	r, err := v.hashReader(size)
	if err != nil {
		return nil, err
	}
	if old == 0 {
		return nil, nil // every tree extends the empty one
	}
	return tlog.ProveTree(int64(size), int64(old), r)
}
