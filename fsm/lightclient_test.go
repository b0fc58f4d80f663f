package fsm

import (
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/ledger"
)

// checkLightClient walks the handovers of a world as one who trusts the genesis
// hash alone: each must be authorised by its statements, under the keys of the
// authority before, and lead to the very record that Apply made.
func checkLightClient(t failer, w *world) {
	t.Helper()
	tree := hashes{}
	for i, entry := range append([][]byte{w.entry0}, w.entries...) {
		more, err := tlog.StoredHashes(int64(i), entry, tree)
		if err != nil {
			t.Fatal(err)
		}
		tree = append(tree, more...)
	}
	authority := ledger.GenesisAuthority(w.genesis, ledger.LeafHash(w.entry0))
	for _, m := range w.history {
		if !m.sealed || m.after.Authority().Index == authority.Index {
			continue
		}
		next, err := ledger.Follow(ledger.LeafHash(w.entry0), authority, w.link(tree, authority, m.after))
		if err != nil {
			t.Fatalf("a light client refuses authority %d: %v", m.after.Authority().Index, err)
		}
		authority = next
	}
	if last := w.state.Authority(); string(encode(&authority)) != string(encode(&last)) {
		t.Fatalf("a light client ends at authority %d, the ledger is at %d", authority.Index, last.Index)
	}
}

// link makes the authority link of the handover seal that is the last entry of s.
func (w *world) link(tree hashes, prev ledger.Authority, s *State) *ledger.Link {
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	next := s.Authority()
	size := s.Next()
	root, err := tlog.TreeHash(int64(size), tree)
	must(err)
	head := ledger.Head{Origin: next.Origin, Size: size, Root: ledger.Hash(root)}
	cosigners := map[string]ledger.AuthorityReplica{}
	for _, r := range append(prev.Active(), next.Active()...) {
		cosigners[r.Name] = r
	}
	checkpoint := ledger.Checkpoint{Head: head}
	for _, name := range sortedKeys(cosigners) {
		r := cosigners[name]
		k := owners[string(r.Public)]
		checkpoint.Cosignatures = append(checkpoint.Cosignatures, ledger.Cosign(next.Branch(), k, k.Cosigner44(), name, head, s.Stamp()/1000))
	}
	prove := func(seq uint64) []ledger.Hash {
		p, err := tlog.ProveRecord(int64(size), int64(seq), tree)
		must(err)
		proof := []ledger.Hash{}
		for _, h := range p {
			proof = append(proof, ledger.Hash(h))
		}
		return proof
	}
	record, err := s.Prove(keyAuthority)
	must(err)
	record.Value = nil
	link := &ledger.Link{
		Checkpoint:  string(checkpoint.Note()),
		Index:       next.Index,
		Record:      &next,
		RecordProof: record,
		Seal:        w.entries[size-2],
		SealProof:   prove(size - 1),
	}
	for _, seq := range next.Causes {
		link.Statements = append(link.Statements, ledger.LinkStatement{Entry: w.entries[seq-1], Proof: prove(seq), Seq: seq})
	}
	link.Fork = w.fork(tree, prev, size, link.Statements[0].Entry)
	if !slices.IsSorted(next.Causes) || !strings.Contains(link.Checkpoint, next.Origin) {
		w.t.Fatalf("causes %v are not in order", next.Causes)
	}
	return link
}

// hashes are the stored hashes of a tree.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		list[i] = h[index]
	}
	return list, nil
}
