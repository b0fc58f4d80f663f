package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// history is what replicas may certify, rightly or not.
type history struct {
	genesis   ledger.Hash
	entries   [][]byte
	handovers []handover
	logs      []*ledger.LogSigner // one after another
	last      ledger.Authority
	seconds   uint64 // time of the cosignatures
}

func (w *world) history() history {
	return history{
		genesis: ledger.LeafHash(w.entries[0]), entries: slices.Clone(w.entries), handovers: slices.Clone(w.handovers),
		logs: slices.Clone(w.logs), last: w.state.Authority(), seconds: w.now / 1000,
	}
}

// until is the history up to a size.
func (h history) until(t testing.TB, size uint64) history {
	t.Helper()
	h.entries = h.entries[:size]
	h.handovers = slices.DeleteFunc(slices.Clone(h.handovers), func(x handover) bool { return x.seal >= size })
	g, _, err := ledger.ParseGenesis(h.entries[0])
	must(t, err)
	h.last = ledger.GenesisAuthority(g, ledger.LeafHash(h.entries[0]))
	if n := len(h.handovers); n > 0 {
		h.last = h.handovers[n-1].record
	}
	return h
}

// forge is a history of other entries, chained anew: change may do to them what
// it likes, and whoever has the replicas' keys may certify it.
func (h history) forge(t testing.TB, change func([]*ledger.Entry) []*ledger.Entry) history {
	t.Helper()
	var entries []*ledger.Entry
	for _, raw := range h.entries {
		e, err := ledger.ParseEntry(raw)
		must(t, err)
		e.Content = bytes.Clone(e.Content)
		entries = append(entries, e)
	}
	entries = change(entries)
	h.entries = nil
	var prev ledger.Hash
	for i, e := range entries {
		e.Seq, e.Prev = uint64(i), prev
		raw, err := e.Encode()
		must(t, err)
		prev = ledger.LeafHash(raw)
		h.entries = append(h.entries, raw)
	}
	return h
}

// memory is a source of files. Hooks see a path before it is served.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
	hook  func(path string) error
}

func (m *memory) Get(ctx context.Context, path string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hook != nil {
		if err := m.hook(path); err != nil {
			return nil, err
		}
	}
	data, ok := m.files[path]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", path, fs.ErrNotExist)
	}
	return bytes.Clone(data), nil
}

// stored is a tree in memory, made by other code than the archive's.
type stored struct {
	size   uint64
	hashes []tlog.Hash
}

func (s *stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = s.hashes[index]
	}
	return hashes, nil
}

func (h history) tree(t testing.TB) *stored {
	t.Helper()
	s := &stored{}
	for _, e := range h.entries {
		hashes, err := tlog.StoredHashes(int64(s.size), e, s)
		must(t, err)
		s.hashes = append(s.hashes, hashes...)
		s.size++
	}
	return s
}

func (s *stored) head(t testing.TB, size uint64) ledger.Head {
	t.Helper()
	root, err := tlog.TreeHash(int64(size), s)
	must(t, err)
	return ledger.Head{Origin: worldOrigin, Size: size, Root: ledger.Hash(root)}
}

func (s *stored) inclusion(t testing.TB, seq, size uint64) []ledger.Hash {
	t.Helper()
	proof, err := tlog.ProveRecord(int64(size), int64(seq), s)
	must(t, err)
	hashes := make([]ledger.Hash, len(proof))
	for i, h := range proof {
		hashes[i] = ledger.Hash(h)
	}
	return hashes
}

// source certifies the history, as the replicas would, and serves it.
func (h history) source(t testing.TB) *memory {
	t.Helper()
	s := h.tree(t)
	m := &memory{files: map[string][]byte{}}
	must(t, eachTile(s.size, 0, func(level int, n uint64, width int) error {
		tile, err := tlog.ReadTileData(tlog.Tile{H: 8, L: level, N: int64(n), W: width}, s)
		must(t, err)
		m.files[archive.TilePath(level, n, width)] = tile
		if level == 0 {
			m.files[archive.BundlePath(n, width)] = bundleOf(h.entries[n*archive.TileWidth:][:width])
		}
		return nil
	}))
	link, err := ledger.GenesisLink(h.entries[0]).Encode()
	must(t, err)
	m.files["authority/0"] = link
	for i, x := range h.handovers {
		link, err := h.link(t, s, x).Encode()
		must(t, err)
		m.files["authority/"+strconv.Itoa(i+1)] = link
	}
	m.files["checkpoint"] = h.checkpoint(t, s.head(t, s.size), h.last, true).Note()
	return m
}

func bundleOf(entries [][]byte) []byte {
	var b []byte
	for _, e := range entries {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(e))), e...)
	}
	return b
}

// checkpoint is cosigned by all active replicas of the authorities.
func (h history) checkpoint(t testing.TB, head ledger.Head, authority ledger.Authority, whole bool, more ...ledger.Authority) *ledger.Checkpoint {
	c := &ledger.Checkpoint{Head: head}
	for _, authority := range append(more, authority) {
		for _, r := range authority.Active() {
			k := keyOfPublic(t, r.Public)
			cosignature := ledger.Cosign(h.genesis, k, k.Cosigner44(), r.Name, c.Head, h.seconds)
			if !whole {
				cosignature = cosignature.WithoutMLDSA44()
			}
			c.Add(cosignature)
		}
	}
	if whole {
		c.LogLines = h.logOf(t, authority).Sign(c.Head, h.seconds)
	}
	return c
}

// logOf is who signs for the log under an authority.
func (h history) logOf(t testing.TB, a ledger.Authority) *ledger.LogSigner {
	t.Helper()
	for _, log := range h.logs {
		if bytes.Equal(log.Keys().Ed25519, a.Log.Ed25519) {
			return log
		}
	}
	t.Fatal("nobody's log keys")
	return nil
}

// vkeys lists the keys that the log has had.
func (h history) vkeys(t testing.TB) []ledger.LogVKeys {
	t.Helper()
	g, _, err := ledger.ParseGenesis(h.entries[0])
	must(t, err)
	origin, of := g.Origin, g.Log
	list := []ledger.LogVKeys{{From: 1, Ed25519: ledger.LogVKey(origin, of), MLDSA44: ledger.LogMLDSA44VKey(origin, of)}}
	for _, x := range h.handovers {
		if !bytes.Equal(x.record.Log.Ed25519, of.Ed25519) {
			of = x.record.Log
			list = append(list, ledger.LogVKeys{From: x.seal + 1, Ed25519: ledger.LogVKey(origin, of), MLDSA44: ledger.LogMLDSA44VKey(origin, of)})
		}
	}
	return list
}

func (h history) link(t testing.TB, s *stored, x handover) *ledger.Link {
	t.Helper()
	size := x.seal + 1
	record := x.record
	l := &ledger.Link{
		Checkpoint: string(h.checkpoint(t, s.head(t, size), x.record, false, x.before).Note()), Index: record.Index, Record: &record,
		RecordProof: x.proof, Seal: h.entries[x.seal], SealProof: s.inclusion(t, x.seal, size),
	}
	for _, seq := range record.Causes {
		l.Statements = append(l.Statements, ledger.LinkStatement{Entry: h.entries[seq], Proof: s.inclusion(t, seq, size), Seq: seq})
	}
	return l
}

// signReceipts lets a replica sign receipts of proposals.
func (m *memory) signReceipts(t testing.TB, h history, name string) {
	t.Helper()
	s := h.tree(t)
	head := s.head(t, s.size)
	for seq, raw := range h.entries {
		c := checked{raw: raw}
		must(t, c.parse(uint64(seq), nil))
		if c.statement != nil && c.statement.Payload.Type == ledger.TypePropose {
			r := ledger.SignReceipt(keyOf(name), uint64(seq), head.Size, head.Root, s.inclusion(t, uint64(seq), head.Size))
			m.files["receipts/"+strconv.Itoa(seq)] = r.Encode()
		}
	}
}

// write puts the files of an export into a folder without any check, as a liar
// would.
func (m *memory) write(t testing.TB, h history) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "export")
	files := maps.Clone(m.files)
	var view []byte
	for seq, raw := range h.entries {
		c := checked{raw: raw, leaf: ledger.LeafHash(raw)}
		must(t, c.parse(uint64(seq), nil))
		view = appendView(view, &c)
	}
	files[viewName] = view
	files["genesis.cbor"] = h.entries[0]
	for _, f := range (&head{authority: h.last}).derivedFiles() {
		files[f.path] = f.data
	}
	files[vkeysName] = ledger.LogVKeysText(h.vkeys(t))
	for path, data := range files {
		if strings.HasPrefix(path, "receipts/") {
			continue
		}
		if strings.HasPrefix(path, "authority/") {
			path += ".json"
		}
		name := filepath.Join(dir, filepath.FromSlash(path))
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.WriteFile(name, data, 0o644))
	}
	return dir
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
